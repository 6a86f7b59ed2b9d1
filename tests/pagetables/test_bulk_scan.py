"""Leaf tables in batches give what entry by entry gives: runs, leaves, findings, also of damaged tables."""

from __future__ import annotations

import random
import struct

import pytest

from pagetables import bulk_scan, table_scan
from pagetables.formats import FirstStage, SecondStage
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions
from pagetables.runs import Mapping, Runs, rows
from pagetables.selection import ACCESSES, Selection
from pagetables.table_scan import TableScanner

TABLE, LEAF_RIGHTS = 3, (3, 3, 3, 1, 2)
RAM = 64 << 20
TOP = 0x1000
ROOTS = (TOP, 0x2000)


def tables(seed, form, damage=0.0, leaves=40):
    """Two 4-level roots over shared and own leaf tables, written by hand; `damage` is how much of it is odd."""
    rng = random.Random(seed)
    memory = PhysicalMemory([(0, RAM)])
    first = isinstance(form, FirstStage)
    link, rights = (0x27, (0x67, 0x67, 0x65, 0x25, 0x67 | 1 << 63, 0x63)) if first else (3, LEAF_RIGHTS)
    pages = iter(range(0x10000, RAM, 4096))
    known = []

    def leaf_table():
        table = next(pages)
        page = rng.randrange(1 << 20)
        entries = []
        sparse = rng.random() < 0.5
        right = rng.choice(rights)
        for _ in range(512):
            page = page + 1 if rng.random() < 0.9 else rng.randrange(1 << 20)
            right = right if rng.random() < 0.97 else rng.choice(rights)
            entries.append(0 if sparse and rng.random() < 0.2 else page << 12 | right)
        if rng.random() < damage:
            entries[rng.randrange(512)] |= 1 << rng.choice((51, 50))
        memory.write(table, struct.pack("<512Q", *entries))
        known.append(table)
        return table

    for root in ROOTS:
        upper = next(pages)
        memory.store(root + 8 * rng.choice((0, 255, 511)), upper | link)
        for at in (0, 3, 4):
            middle = next(pages)
            memory.store(upper + 8 * at, middle | link)
            for index in sorted(rng.sample(range(512), leaves) + list(range(20))):
                entry = (rng.choice(known) if known and rng.random() < damage else leaf_table()) | link
                if rng.random() < damage:
                    entry = rng.choice(
                        (
                            RAM | link,
                            root | link,
                            middle | link,
                            entry | 1 << 51,
                            rng.randrange(64) << 21 | 1 << 7 | link,
                        )
                    )
                memory.store(middle + 8 * index, entry)
    return memory


def found(memory, form, bulk, selection=None):
    findings = []
    options = {} if selection is None else {"selection": selection}
    scanner = TableScanner(memory, form, findings, bulk=bulk, **options)
    contents = [scanner.contents(root, 4, 1 << 48) for root in ROOTS]
    return [list(rows(one.mappings)) for one in contents], [dict(one.pages) for one in contents], findings


FORMS = [SecondStage(address_limit=1 << 46), FirstStage(address_limit=1 << 46)]


@pytest.fixture
def batches(monkeypatch):
    """How many batches were read."""
    counted = []
    read = bulk_scan.BulkReader.read

    def counting(self, *arguments):
        batch = read(self, *arguments)
        counted.append(batch is not None)
        return batch

    monkeypatch.setattr(bulk_scan.BulkReader, "read", counting)
    return counted


@pytest.fixture
def core():
    """The maker of the core's reader."""
    pytest.importorskip("emulator._core", reason="NOT RUN: the C core is not built")
    from emulator.leaf_reader import NativeLeafReader, leaf_reader

    assert isinstance(leaf_reader(PhysicalMemory([(0, RAM)]), FORMS[0], 3), NativeLeafReader)
    return leaf_reader


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
@pytest.mark.parametrize("damage", [0.0, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_core_reads_the_same_runs_leaves_and_findings(form, damage, seed, core):
    memory = tables(seed, form, damage)
    assert found(memory, form, bulk=core) == found(memory, form, bulk=False)


def test_the_core_cuts_tables_linked_too_often_at_the_same_place(monkeypatch, core):
    monkeypatch.setattr(table_scan, "ALIAS_LIMIT", 2000)
    memory = tables(1, FORMS[0], damage=0.4)
    assert found(memory, FORMS[0], bulk=core) == found(memory, FORMS[0], bulk=False)


@pytest.mark.parametrize(
    "selection", [Selection(iova=(0x20_0000, 0x60_1000)), Selection(access=ACCESSES["ro"])], ids=str
)
def test_the_core_reads_the_same_of_a_selection(selection, core):
    memory = tables(2, FORMS[0], damage=0.1)
    plain = found(memory, FORMS[0], bulk=False, selection=selection)
    assert found(memory, FORMS[0], bulk=core, selection=selection) == plain


def test_the_core_refuses_a_table_that_is_not_held_whole(core):
    reader = core(PhysicalMemory([(0x10000, 0x10000)]), FORMS[0], 3)
    assert reader.read([0x10000, 0x1F000], 0, [0, 1]) is not None
    for table in (0xF000, 0x1F008, 0x20000, 1 << 51, 0):
        assert reader.read([0x10000, table], 0, [0, 1]) is None
    assert reader.read([0x10000], 0, [64]) is None
    assert reader.read([0x10000] * 65, 0, list(range(65))) is None


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
@pytest.mark.parametrize("seed", range(4))
def test_clean_tables_read_in_batches_give_the_same(form, seed, batches):
    memory = tables(seed, form)
    assert found(memory, form, bulk=True) == found(memory, form, bulk=False)
    assert any(batches)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
@pytest.mark.parametrize("damage", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_damaged_and_shared_tables_give_the_same_findings_too(form, damage, seed):
    memory = tables(seed, form, damage)
    assert found(memory, form, bulk=True) == found(memory, form, bulk=False)


def test_tables_linked_too_often_are_cut_at_the_same_place(monkeypatch):
    monkeypatch.setattr(table_scan, "ALIAS_LIMIT", 2000)
    memory = tables(1, FORMS[0], damage=0.4)
    bulk, plain = found(memory, FORMS[0], bulk=True), found(memory, FORMS[0], bulk=False)
    assert bulk == plain
    assert any(finding.kind == "cut" for finding in plain[2])


@pytest.mark.parametrize(
    "selection",
    [
        Selection(iova=(0x20_0000, 0x60_1000)),
        Selection(iova=(0xC000_5000, 0xC123_4567)),
        Selection(iova=(0xFFFF_8000_0000_0000, 1 << 64)),
        Selection(gpa=(0x1000_0000, 0x2000_0000)),
        Selection(page_size=1 << 21),
        Selection(page_size=1 << 12, access=ACCESSES["ro"]),
        Selection(access=ACCESSES["w"], iova=(0, 1 << 40)),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_a_selection_takes_the_pages_it_names(form, selection):
    memory = tables(2, form, damage=0.1)
    every = found(memory, form, bulk=False)[0]
    taken, pages, _ = found(memory, form, bulk=True, selection=selection)
    assert taken == found(memory, form, bulk=False, selection=selection)[0]
    for one, all_of_it, leaves in zip(taken, every, pages, strict=True):
        assert sum(size for _, _, size, _ in one) == sum(size * count for size, count in leaves.items())
        wanted = pages_of(all_of_it)
        assert pages_of(one) <= wanted
        if selection.page_size is None:
            assert pages_of(one) >= {page for page in wanted if is_wanted(page, selection)}


def pages_of(runs):
    return {(iova + step, gpa + step, bits) for iova, gpa, size, bits in runs for step in range(0, size, 4096)}


def is_wanted(page, selection):
    iova, gpa, bits = page
    rights = Permissions(bits) & (Permissions.R | Permissions.W)
    return (
        (selection.iova is None or (selection.iova[0] < iova + 4096 and iova < selection.iova[1]))
        and (selection.gpa is None or (selection.gpa[0] < gpa + 4096 and gpa < selection.gpa[1]))
        and (selection.access is None or rights in selection.access)
    )


def test_very_many_mappings_are_made_when_they_are_looked_at():
    memory = tables(3, FORMS[0], leaves=30)
    mappings = TableScanner(memory, FORMS[0], []).contents(TOP, 4, 1 << 48).mappings
    plain = TableScanner(memory, FORMS[0], [], bulk=False).contents(TOP, 4, 1 << 48).mappings
    assert isinstance(mappings, Runs)
    assert isinstance(mappings[0], Mapping)
    assert mappings[-1] == plain[-1]
    assert mappings[10:13] == tuple(plain)[10:13]
    assert (mappings == plain) is True
    assert list(mappings) == list(plain)
    assert mappings[len(mappings) // 2] == plain[len(mappings) // 2]
    with pytest.raises(IndexError):
        mappings[len(mappings)]


def test_without_numpy_tables_are_read_one_by_one(monkeypatch, batches):
    monkeypatch.setattr(bulk_scan, "is_possible", lambda: False)
    memory = tables(0, FORMS[0])
    assert found(memory, FORMS[0], bulk=True) == found(memory, FORMS[0], bulk=False)
    assert batches == []


def test_pages_that_never_continue_each_other_are_listed_as_one_by_one():
    memory = PhysicalMemory([(0, RAM)])
    for at, entry in ((TOP, 0x3003), (0x3000, 0x4003)):
        memory.store(at, entry)
    for number in range(100):
        memory.store(0x4000 + 8 * number, 0x10000 + number * 4096 | 3)
        frames = range(number * 512, number * 512 + 512)
        memory.write(0x10000 + number * 4096, b"".join(struct.pack("<Q", frame << 13 | 3) for frame in frames))
    bulk, plain = found(memory, FORMS[0], bulk=True), found(memory, FORMS[0], bulk=False)
    assert bulk == plain
    mappings = TableScanner(memory, FORMS[0], []).contents(TOP, 4, 1 << 48).mappings
    assert len(mappings) == 51_200
    for at in (0, 511, 512, 33_000, 51_199):
        assert (mappings[at].iova, mappings[at].gpa, mappings[at].size) == (at << 12, at << 13, 4096)
