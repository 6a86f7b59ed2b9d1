"""Root tables found in images without registers, and not found where there are none."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.errors import InputError
from pagetables.images import plausible
from pagetables.images.find_root import LIKELY, find_roots
from pagetables.images.opening import open_image
from pagetables.images.registers import RegisterPage
from pagetables.layouts.values import TableMode
from pagetables.memory import PhysicalMemory

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "images"
PAGE = 4096
MIB = 1 << 20
ROOT, CONTEXT, DIRECTORY, PASIDS, TOP, MIDDLE, LEAVES = (0x100000 + 0x10000 * n for n in range(7))


def filled(ram: PhysicalMemory, words: dict[int, int]) -> PhysicalMemory:
    """`ram` with qwords written."""
    for at, value in words.items():
        ram.write(at, struct.pack("<Q", value))
    return ram


def ram(size: int = 4 * MIB) -> PhysicalMemory:
    """Memory full of noise, but for the pages of the tables."""
    memory = PhysicalMemory([(0, size)])
    memory.write(0, random.Random(3).randbytes(size))
    for page in (ROOT, CONTEXT, DIRECTORY, PASIDS, TOP, MIDDLE, LEAVES):
        memory.write(page, bytes(PAGE))
    return memory


# 3-level second-stage tables that map two pages; 4-level ones need the same again above.
TABLES = {TOP: MIDDLE | 3, MIDDLE + 8: LEAVES | 3, LEAVES: 0x5000 | 3, LEAVES + 8: 0x6000 | 1}
LEGACY = TABLES | {ROOT: CONTEXT | 1, CONTEXT + 16 * 0x18: TOP | 1, CONTEXT + 16 * 0x18 + 8: 7 << 8 | 1}
SCALABLE = TABLES | {
    ROOT + 16 * 3 + 8: CONTEXT | 1,
    CONTEXT: DIRECTORY | 1,
    DIRECTORY: PASIDS | 1,
    PASIDS: TOP | 2 << 6 | 1 << 2 | 1,
    PASIDS + 8: 7,
}


@pytest.mark.parametrize(("words", "mode"), [(LEGACY, TableMode.LEGACY), (SCALABLE, TableMode.SCALABLE)])
def test_one_device_with_mappings_is_enough_in_a_sea_of_noise(words, mode):
    (found,) = find_roots(filled(ram(), words))
    assert (found.address, found.mode) == (ROOT, mode)
    assert found.rtaddr == ROOT | mode << 10
    assert found.confidence > 0.8
    assert found.devices == 1
    assert found.reasons[0] == "1 device in 1 context table"


def test_first_stage_tables_count_as_well():
    words = {PASIDS: 1 << 6 | 1, PASIDS + 8: 7, PASIDS + 16: TOP | 1 << 4}
    third = 0x1F0000
    tables = {TOP: third | 0x27, third: MIDDLE | 0x27, MIDDLE: LEAVES | 0x27, LEAVES: 0x5000 | 0x67}
    memory = ram()
    memory.write(third, bytes(PAGE))
    (found,) = find_roots(filled(memory, SCALABLE | tables | words))
    assert found.mode is TableMode.SCALABLE
    assert found.confidence > 0.8


def test_a_unit_that_lets_everything_pass_is_found_when_it_has_some_devices():
    words = {ROOT: CONTEXT | 1}
    for device in range(10):
        words |= {CONTEXT + 128 * device: 0x9, CONTEXT + 128 * device + 8: 1 << 8 | 2}
    (found,) = find_roots(filled(ram(), words))
    assert found.confidence > LIKELY
    assert "10 spaces without translation" in found.reasons
    one = {at: value for at, value in words.items() if at < CONTEXT + 128}
    assert [one.confidence > LIKELY for one in find_roots(filled(ram(), one))] == [False]


@pytest.mark.parametrize(
    "change",
    [
        {ROOT: CONTEXT | 3},  # a reserved bit
        {ROOT: CONTEXT},  # not present
        {ROOT + 8: 1 << 40 | 1},  # a pointer out of memory, and not of legacy mode
        {CONTEXT + 16 * 0x18: TOP | 1 | 1 << 4},
        {CONTEXT + 16 * 0x18 + 8: 7 << 8 | 5},  # no such address width
        {CONTEXT + 16 * 0x18 + 8: 1 << 63 | 1},
        {CONTEXT + 16 * 0x18: 1 << 50 | 1},  # a table out of memory
        {TOP: MIDDLE | 3 | 1 << 11},  # reserved bits in tables
        {TOP: TOP | 3},  # that lead to themselves
        {LEAVES + 16: 0x7000},  # not present, and not zero
        {MIDDLE + 8: 1 << 45 | 3},
    ],
)
def test_what_makes_no_sense_is_not_likely(change):
    assert [one for one in find_roots(filled(ram(), LEGACY | change)) if one.confidence >= LIKELY] == []


def test_entries_that_make_no_sense_beside_others_lower_the_confidence():
    sound = find_roots(filled(ram(), LEGACY))[0]
    worse = find_roots(filled(ram(), LEGACY | {CONTEXT + 16: 0xDEAD}))[0]
    assert worse.confidence < sound.confidence
    assert "1 root and context entries that make no sense" in worse.reasons


def test_two_units_are_two_candidates_the_surer_first():
    second = {0x200000: 0x210000 | 1, 0x210000: 0x220000 | 1, 0x210008: 1 << 8 | 1}
    memory = ram()
    for page in (0x200000, 0x210000, 0x220000):  # its device maps nothing
        memory.write(page, bytes(PAGE))
    found = find_roots(filled(memory, LEGACY | second))
    assert [one.address for one in found] == [ROOT, 0x200000]
    assert found[0].confidence > LIKELY > found[1].confidence > 0


def test_progress_is_told_every_byte_that_was_read():
    told = []
    memory = PhysicalMemory([(0, 16 * MIB), (1 << 32, 64 * MIB)])
    memory.write(0, bytes(9 * MIB))
    find_roots(memory, told.append)
    assert sum(told) == 9 * MIB


# What other memory holds.


def x86_tables() -> PhysicalMemory:
    """A processor's own page tables: a direct map of 1 GiB pages, and 4 KiB pages below."""
    memory = PhysicalMemory([(0, 8 * MIB)])
    frames = iter(range(0x1000, 8 * MIB, PAGE))
    for _ in range(20):
        top, third, second, first = (next(frames) for _ in range(4))
        for at, table in ((top, third), (third + 8, second), (second + 16, first)):
            memory.write(at, struct.pack("<Q", table | 0x67))
        memory.write(third + 16, struct.pack("<10Q", *((n << 30) | 0x1E3 for n in range(10))))
        memory.write(first, struct.pack("<512Q", *((n << 12) | 0x8000000000000067 for n in range(512))))
    return memory


def noise() -> PhysicalMemory:
    """Random bytes, and random sparse pages of small numbers and odd pointers."""
    memory = PhysicalMemory([(0, 8 * MIB)])
    source = random.Random(4)
    memory.write(0, source.randbytes(4 * MIB))
    for page in range(4 * MIB, 8 * MIB, PAGE):
        for _ in range(source.randrange(8)):
            value = source.choice([1, 3, source.randrange(8 * MIB) & -PAGE | 1, source.randrange(1 << 32)])
            memory.write(page + 8 * source.randrange(512), struct.pack("<Q", value))
    return memory


def code() -> PhysicalMemory:
    """This interpreter."""
    data = Path(sys.executable).read_bytes()
    memory = PhysicalMemory([(0, -(-len(data) // PAGE) * PAGE)])
    memory.write(0, data)
    return memory


@pytest.mark.parametrize("memory", [x86_tables, noise, code, lambda: PhysicalMemory([(0, 1 << 38)])])
def test_nothing_is_found_where_no_tables_are(memory):
    assert [one for one in find_roots(memory()) if one.confidence >= LIKELY] == []


@pytest.mark.parametrize("name", ["a-legacy-strict", "c-scalable", "i-firststage-k72", "t-vfio-superpages"])
def test_the_recorded_root_tables_are_found_without_registers(name):
    with open_image(FIXTURES / name / "image.elf.gz") as image:
        found = find_roots(image)
        (page,) = RegisterPage.from_notes(image.notes)
    assert found[0].rtaddr == page.root_table
    assert found[0].confidence > 0.95


def test_every_recording_gives_its_root_table_away(corpus):
    for path in sorted(corpus.glob("*/image.elf")):
        with open_image(path) as image:
            found = find_roots(image)
            (page,) = RegisterPage.from_notes(image.notes)
        assert found[0].rtaddr == page.root_table, path.parent.name
        assert found[0].confidence > 0.95
        assert len([one for one in found if one.confidence >= LIKELY]) == 1


def test_memory_that_looks_like_tables_everywhere_is_given_up(monkeypatch):
    monkeypatch.setattr(plausible, "WORK", 1 << 14)
    memory = PhysicalMemory([(0, 2 * MIB)])
    for page in range(PAGE, 2 * MIB, PAGE):  # every page leads to every other
        memory.write(page, b"".join(struct.pack("<Q", at | 1) for at in range(PAGE, 2 * MIB, PAGE)))
    with pytest.raises(InputError, match="entries look like tables"):
        find_roots(memory)


PLACES = st.sampled_from([ROOT, CONTEXT, DIRECTORY, PASIDS, TOP, MIDDLE, LEAVES])
POINTERS = st.tuples(PLACES, st.integers(0, 0xFFF)).map(lambda both: both[0] | both[1])


@given(
    st.sampled_from([LEGACY, SCALABLE]),
    st.dictionaries(st.tuples(PLACES, st.integers(0, 511)), POINTERS | st.integers(0, (1 << 64) - 1), max_size=12),
)
def test_damaged_tables_end_the_search_with_candidates_or_without(words, changes):
    memory = PhysicalMemory([(0, 2 * MIB)])
    changed = {page + 8 * index: value for (page, index), value in changes.items()}
    for one in find_roots(filled(memory, words | changed)):
        assert 0 < one.confidence <= 0.99
