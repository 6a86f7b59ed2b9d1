"""Reading ELF cores: true ones, those of other programs, and those that lie."""

from __future__ import annotations

import resource
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagetables.errors import ImageError, NoMemory
from pagetables.images.elf_format import Note
from pagetables.images.opening import open_image
from tests.pagetables.images.elf_bytes import PAGE, Core, Load, note


@pytest.fixture
def opened(tmp_path):
    """Opens the bytes given as a file."""

    def open_bytes(data):
        path = tmp_path / "image.elf"
        path.write_bytes(bytes(data))
        return open_image(path)

    return open_bytes


def qwords(*values):
    return struct.pack(f"<{len(values)}Q", *values).ljust(PAGE, b"\0")


def test_memory_lies_at_the_physical_address(opened):
    image = opened(Core([Load(0x5000, qwords(1, 2), virtual=0xFFFF_8880_0000_5000), Load(1 << 40, qwords(3))]))
    assert (image.load(0x5000), image.load(0x5008), image.load(1 << 40)) == (1, 2, 3)
    assert image.container == "ELF core"
    assert image.regions == ((0x5000, PAGE), (1 << 40, PAGE))


def test_what_the_file_does_not_hold_is_not_there(opened):
    image = opened(Core([Load(0x5000, qwords(1)), Load(0x9000, qwords(2))]))
    for address in (0, 0x4FF8, 0x6000, 0x8FF8, 0xA000, 1 << 63):
        assert image.load(address) is None
        assert not image.contains(address, 8)
    with pytest.raises(NoMemory) as error:
        image.read(0x5FFC, 8)
    assert error.value.address == 0x5FFC


def test_a_segment_that_is_longer_in_memory_ends_in_zeros(opened):
    image = opened(Core([Load(0x1000, b"\xff" * 12, size=0x3000)]))
    assert image.load(0x1000) == 0xFFFF_FFFF_FFFF_FFFF
    assert image.load(0x1008) == 0xFFFF_FFFF
    assert image.load(0x3FF8) == 0
    assert image.read(0x1000, 0x3000) == b"\xff" * 12 + bytes(0x3000 - 12)
    assert image.load(0x4000) is None


def test_a_read_crosses_segments_that_touch(opened):
    image = opened(Core([Load(0x2000, b"b" * PAGE), Load(0x1000, b"a" * PAGE)]))
    assert image.read(0x1FFC, 8) == b"aaaabbbb"
    assert image.load(0x1FFC) == int.from_bytes(b"aaaabbbb", "little")
    assert image.regions == ((0x1000, 0x2000),)


def test_notes_keep_owner_type_and_bytes(opened):
    notes = note(b"CORE", 1, b"abc") + note(b"VTD", 1, b"") + note(b"", 7, b"12345")
    image = opened(Core([Load(0, qwords(1))], notes=notes))
    assert image.notes == (Note("CORE", 1, b"abc"), Note("VTD", 1, b""), Note("", 7, b"12345"))


def test_the_last_note_may_lack_its_padding(opened):
    image = opened(Core([Load(0, qwords(1))], notes=note(b"CORE", 1, b"abc")[:-1]))
    assert image.notes == (Note("CORE", 1, b"abc"),)


def test_more_headers_than_16_bits_count_are_counted_in_section_header_0(opened):
    loads = [Load(index << 13, struct.pack("<Q", index)) for index in range(70_000)]
    image = opened(Core(loads, count=0xFFFF, section_info=70_000))
    assert len(image.segments) == 70_000
    assert image.load(69_999 << 13) == 69_999


def test_what_qemu_left_out_and_what_is_no_ram_is_skipped(opened):
    nowhere = (1 << 64) - 1
    image = opened(
        Core([Load(0x1000, qwords(5)), Load(0x8000, offset=nowhere, size=PAGE), Load(nowhere, b"", size=PAGE)])
    )
    assert image.regions == ((0x1000, PAGE),)


def test_segments_that_overlap_and_agree_are_one(opened):
    page = qwords(1, 2, 3)
    image = opened(Core([Load(0x1000, page + page), Load(0x2000, page), Load(0x1000, page, virtual=0xFFFF_0000)]))
    assert image.regions == ((0x1000, 0x2000),)
    assert image.load(0x2008) == 2


def test_segments_that_share_their_bytes_are_not_compared(opened):
    image = opened(
        Core([Load(0x1000, qwords(9)), *(Load(0x1000, offset=64 + 56 * 4, held=PAGE, size=PAGE) for _ in "abc")])
    )
    assert image.load(0x1000) == 9


LIES = {
    "class": (Core([Load(0, qwords(1))], file_class=1), r"class 1 at offset 4; expected 2"),
    "encoding": (Core([Load(0, qwords(1))], encoding=2), r"encoding 2 at offset 5; expected 1"),
    "program": (Core([Load(0, qwords(1))], kind=3), r"type 3 .*shared object.*; expected 4 \(a core\)"),
    "type": (Core([Load(0, qwords(1))], kind=0xFE00), r"unknown kind"),
    "entry size": (Core([Load(0, qwords(1))], entry_size=32), r"headers of 32 bytes.*expected 56"),
    "no memory": (Core([]), r"holds no memory"),
    "only notes": (Core([], notes=note(b"VTD", 1, b"")), r"holds no memory"),
    "table beyond the file": (Core([Load(0, qwords(1))], table=1 << 40), r"1 program headers at 0x1"),
    "count beyond the file": (Core([Load(0, qwords(1))], count=5000), r"5000 program headers .* cut short\?"),
    "extended count without sections": (Core([Load(0, qwords(1))], count=0xFFFF), r"in section header 0"),
    "sections beyond the file": (
        Core([Load(0, qwords(1))], count=0xFFFF, sections=1 << 50),
        r"section header 0, at 0x4",
    ),
    "extended count": (
        Core([Load(0, qwords(1))], count=0xFFFF, section_info=0xFFFF_FFFF),
        r"4294967295 program headers",
    ),
    "offset": (Core([Load(0, qwords(1), offset=1 << 62)]), r"header 0: bytes 0x4.* beyond the end of the file"),
    "offset wraps": (Core([Load(0, qwords(1), offset=(1 << 64) - 8)]), r"beyond the end of the file"),
    "size in file": (Core([Load(0, qwords(1), held=1 << 40, size=1 << 40)]), r"beyond the end"),
    "less memory than file": (Core([Load(0, qwords(1), size=16)]), r"0x1000 bytes in the file but 0x10 in memory"),
    "memory of 2^63 bytes": (Core([Load(0, qwords(1), size=1 << 63)]), r"memory up to 0x8000000000000000"),
    "address": (Core([Load(1 << 63, qwords(1))]), r"physical addresses end at"),
    "address wraps": (Core([Load((1 << 64) - PAGE, qwords(1), size=2 * PAGE)]), r"physical addresses end at"),
    "overlap": (Core([Load(0x1000, qwords(1)), Load(0x1800, qwords(2))]), r"two segments claim 0x1800-0x2000"),
    "overlap of zeros": (Core([Load(0, qwords(1), size=0x3000), Load(0x2000, qwords(2))]), r"claim 0x2000-0x3000"),
    "note name": (
        Core([Load(0, qwords(1))], notes=struct.pack("<III", 1 << 31, 0, 1)),
        r"the note at 0xb0 does not end",
    ),
    "note data": (Core([Load(0, qwords(1))], notes=struct.pack("<III", 0, 0xFFFF_FFF0, 1)), r"the note at 0xb0"),
    "note header": (Core([Load(0, qwords(1))], notes=b"1234"), r"the note at 0xb0"),
    "note segment": (
        Core([Load(0, qwords(1)), Load(0, kind=4, offset=0, held=1 << 40)]),
        r"header 1: .* beyond the end",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_named(opened, lie):
    core, message = LIES[lie]
    with pytest.raises(ImageError, match=message) as error:
        opened(core)
    assert "\n" not in str(error.value)
    assert "image.elf: " in str(error.value)


@pytest.mark.parametrize("size", [1, 4, 5, 63])
def test_a_header_that_is_cut_short_is_an_error(opened, size):
    with pytest.raises(ImageError, match=r"cut short|no whole number of pages"):
        opened(bytes(Core([Load(0, qwords(1))]))[:size])


def test_every_truncation_is_an_error(opened):
    whole = bytes(Core([Load(0x1000, qwords(1)), Load(0x5000, b"tail")], notes=note(b"VTD", 1, b"x" * 20)))
    for size in [*range(1, 300, 7), len(whole) - 1]:
        with pytest.raises(ImageError):
            opened(whole[:size])


def test_a_note_segment_that_is_claimed_a_thousand_times_is_read_within_a_limit(opened):
    notes = note(b"X", 1, bytes(1 << 17))
    loads = [Load(0, qwords(1)), *(Load(0, kind=4, offset=64 + 56 * 1002, held=len(notes)) for _ in range(1000))]
    with pytest.raises(ImageError, match="at most 0x4000000 are read"):
        opened(Core(loads, notes=notes))


def test_segments_that_overlap_a_thousand_times_do_not_keep_us(opened):
    zeros = bytes(1 << 20)
    first = 64 + 56 * 1001
    shifted = [Load(0, offset=first + 8 * index, held=len(zeros) // 2, size=1 << 19) for index in range(1000)]
    with pytest.raises(ImageError, match="overlap more often than the file has bytes"):
        opened(Core([Load(0, zeros), *shifted]))


def test_a_huge_segment_without_bytes_costs_nothing(opened):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = opened(Core([Load(0, qwords(1), size=1 << 51)]))
    assert image.load((1 << 51) - 8) == 0
    assert image.regions == ((0, 1 << 51),)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # KiB


CORE = bytes(Core([Load(0x1000, qwords(1)), Load(0x5000, b"tail")], notes=note(b"VTD", 1, b"x" * 20)))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 64 + 56 * 3 + 40), st.binary(min_size=1, max_size=8)), max_size=4))
def test_damaged_headers_open_or_are_refused(opened, changes):
    data = bytearray(CORE)
    for position, new in changes:
        data[position : position + len(new)] = new
    message = ""
    try:
        with opened(data) as image:
            for segment in image.segments[:4]:
                image.load(segment.start)
                image.load(segment.end - 8)
    except ImageError as error:
        message = str(error)
    assert "\n" not in message
