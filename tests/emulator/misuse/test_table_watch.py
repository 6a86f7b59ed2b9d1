"""Entries changed while a unit may read them: torn if it takes several stores, whatever the table."""

from __future__ import annotations

import struct

import pytest

from emulator.machine import Machine
from emulator.mapping.driver import UnitDriver
from emulator.mapping.pools.os import SystemSupply
from emulator.mapping.pressure import Gfp
from emulator.misuse.table_watch import WatchedTables
from emulator.settings import Settings
from emulator.unit import RemappingUnit
from pagetables.address import SourceId
from tests.units import IQT, IRE, IRTA, NIC, PASID_TABLE, SIRTP, Bench

INTERRUPTS = 0x30_0000
SS = 2


@pytest.fixture
def legacy(engine):
    """Where the context entry of a device lies, in a unit that translates, and what watches it."""
    bench = Bench(engine)
    bench.legacy((NIC, bench.table(), 5))
    entry = 0x10_1000 + 16 * (NIC & 0xFF)
    return entry, bench, WatchedTables(bench.memory, bench.unit)


def put(watch: WatchedTables, at: int, *qwords: int) -> None:
    """One store of these qwords."""
    watch.write(at, struct.pack(f"<{len(qwords)}Q", *qwords))


def test_a_present_entry_that_is_changed_word_by_word_is_torn(legacy):
    entry, bench, watch = legacy
    put(watch, entry + 8, 6 << 8 | 2)
    assert watch.findings == [], "one word alone is whole"
    put(watch, entry, bench.table() | 1)
    (finding,) = watch.findings
    assert (finding.rule, finding.access) == ("torn-entry", 2)
    assert f"context entry at {entry:#x}" in finding.says
    assert f"changed at {entry + 8:#x}, then at {entry:#x}" in finding.says


def test_what_the_unit_sees_in_between_is_neither_the_old_nor_the_new(legacy):
    entry, bench, watch = legacy
    new = bench.table()
    put(watch, entry, new | 1)
    low, high = (bench.qword(entry + at) for at in (0, 8))
    assert (low, high) == (new | 1, 5 << 8 | 2), "the new tables, under the old domain-id"
    put(watch, entry + 8, 6 << 8 | 2)
    assert [finding.rule for finding in watch.findings] == ["torn-entry"]


def right_ways(entry: int, table: int) -> dict[str, list[tuple[int, tuple[int, ...]]]]:
    """Stores (address, qwords) that change an entry as it should be changed."""
    high = 6 << 8 | 2
    return {
        "all of it in one store": [(entry, (table | 1, high))],
        "without P meanwhile": [(entry, (table,)), (entry + 8, (high,)), (entry, (table | 1,))],
        "one word only": [(entry + 8, (high,))],
        "the same as before": [(entry + 8, (5 << 8 | 2,)), (entry, (table | 1,))],
        "one word again and again": [(entry + 8, (high,)), (entry + 8, (high + 256,))],
    }


@pytest.mark.parametrize("way", right_ways(0, 0))
def test_what_is_changed_as_it_should_be_is_not_torn(legacy, way):
    entry, bench, watch = legacy
    for at, qwords in right_ways(entry, bench.table())[way]:
        put(watch, at, *qwords)
    assert watch.findings == []


def test_an_invalidation_between_two_changes_makes_them_two(legacy):
    entry, bench, watch = legacy
    put(watch, entry + 8, 6 << 8 | 2)
    watch.write64(IQT, 0)
    put(watch, entry, bench.table() | 1)
    assert watch.findings == []


def test_p_that_is_set_first_shows_the_rest_of_the_old_entry(legacy):
    entry, bench, watch = legacy
    other = entry + 16
    put(watch, other, bench.table() | 1)
    put(watch, other + 8, 7 << 8 | 2)
    assert [finding.rule for finding in watch.findings] == ["torn-entry"]


def test_zeroing_a_present_entry_from_its_end_is_torn_and_from_p_on_is_not(legacy):
    entry, _, watch = legacy
    put(watch, entry, 0)
    put(watch, entry + 8, 0)
    assert watch.findings == []
    put(watch, entry + 8, 5 << 8 | 2)
    put(watch, entry, 1)
    watch.write64(IQT, 0)
    put(watch, entry + 8, 0)
    put(watch, entry, 0)
    assert [finding.rule for finding in watch.findings] == ["torn-entry"]


def test_halves_of_a_word_are_parts_too(legacy):
    entry, _, watch = legacy
    watch.write(entry + 8, struct.pack("<I", 6 << 8 | 2))
    watch.write(entry, struct.pack("<I", 0x40_0001))
    assert [finding.rule for finding in watch.findings] == ["torn-entry"]


def test_a_unit_that_does_not_translate_reads_nothing(engine):
    bench = Bench(engine)
    watch = WatchedTables(bench.memory, bench.unit)
    entry = bench.legacy_context(NIC, bench.table(), 5)
    put(watch, entry + 8, 6 << 8 | 2)
    put(watch, entry, 1)
    assert watch.findings == []


def test_a_pasid_entry_that_is_replaced_as_a_whole_is_written_in_several_stores(engine):
    bench = Bench(engine)
    bench.scalable(NIC)
    bench.pasid_entry(0, SS, 5, second=bench.table())
    watch = WatchedTables(bench.memory, bench.unit)
    new = [bench.table() | SS << 6 | 2 << 2 | 1, 6 | 1 << 23, 0x7000, 0, 0, 0, 0, 0]
    put(watch, PASID_TABLE, *new)
    (finding,) = watch.findings
    assert f"PASID entry at {PASID_TABLE:#x}" in finding.says
    watch.write64(IQT, 0)
    put(watch, PASID_TABLE, new[0] & ~1)
    put(watch, PASID_TABLE + 8, *[0] * 7)
    assert len(watch.findings) == 1


def test_a_scalable_context_entry_is_watched(engine):
    bench = Bench(engine)
    bench.scalable(NIC)
    watch = WatchedTables(bench.memory, bench.unit)
    at = 0x10_1000 + 32 * (NIC & 0x7F)
    put(watch, at + 8, 3)
    put(watch, at, bench.qword(at) & ~8)
    assert [finding.says.partition(" at ")[0] for finding in watch.findings] == ["scalable-mode context entry"]


@pytest.mark.parametrize("remaps, found", [(False, []), (True, ["torn-entry"])])
def test_an_interrupt_entry_is_changed_in_one_store_of_16_bytes_or_torn(engine, remaps, found):
    bench = Bench(engine)
    bench.put(INTERRUPTS, 1 | 0x31 << 16, 0x4_0010)
    bench.write(IRTA, INTERRUPTS | 7, 8)
    if remaps:
        bench.command(SIRTP)
        bench.command(IRE)
    watch = WatchedTables(bench.memory, bench.unit)
    put(watch, INTERRUPTS, 1 | 0x32 << 16, 0x4_0018)
    assert watch.findings == []
    watch.write32(IQT, 0)
    put(watch, INTERRUPTS, 1 | 0x33 << 16)
    assert watch.store(INTERRUPTS + 8, 0x4_0020)
    assert [finding.rule for finding in watch.findings] == found


def test_a_watch_passes_everything_on(legacy):
    entry, bench, watch = legacy
    assert watch.load(entry) == bench.qword(entry)
    assert watch.read(entry, 16) == bench.memory.read(entry, 16)
    assert watch.read32(0) == bench.read(0)
    assert watch.read64(8) == bench.read(8, 8)
    assert not watch.store(1 << 40, 1)
    assert watch.stores == 0


def driven(engine, mode: str, backwards: bool) -> list[str]:
    """What is found while our driver attaches, detaches and attaches again; `backwards` writes entries from P on."""
    machine = Machine(Settings.of({"engine": engine.name, "mode": mode, "ram": "0-64M", "kernel.size": "16M"}))
    unit = RemappingUnit(machine.memory, machine.profile, machine.engine)
    watch = WatchedTables(machine.memory, unit)
    driver = UnitDriver(watch, watch, SystemSupply(machine.zone, Gfp.KERNEL), machine.settings.mode)
    driver.enable()
    if backwards:
        driver.contexts._write = lambda at, entry: [
            put(watch, at + 8 * index, qword) for index, qword in enumerate(entry.qwords())
        ]
    first, second = machine.layer.create_domain(), machine.layer.create_domain()
    for domain in (first, second):
        for source in (0x10, 0x18, 0x110):
            driver.attach(SourceId(source), domain.domain_id, domain.table)
        for source in (0x10, 0x18, 0x110):
            driver.detach(SourceId(source))
    assert watch.stores > 30
    return sorted({finding.says.partition(" at ")[0] for finding in watch.findings})


@pytest.mark.parametrize("mode", ["legacy", "scalable"])
def test_our_driver_tears_no_entry(engine, mode):
    assert driven(engine, mode, backwards=False) == []


@pytest.mark.parametrize("mode, torn", [("legacy", ["context entry"]), ("scalable", [])])
def test_the_same_driver_with_p_first_does_where_entries_are_linked_already(engine, mode, torn):
    # In scalable mode a new PASID entry is reached only once the context entry is there.
    assert driven(engine, mode, backwards=True) == torn
