"""Interrupts through a whole unit: commands, the interrupt-entry cache and its invalidation, fault records, posting."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from emulator.behaviours import BEHAVIOURS
from emulator.bus import Bus
from emulator.engine import Engine
from emulator.profile import load_profile
from emulator.unit.events import EventMessage
from pagetables.fault import Fault, FaultReason
from pagetables.interrupt import Interrupt
from pagetables.interrupt_entry import InterruptRules
from tests.profiles import changed
from tests.units import (
    CFI,
    DISK,
    FEADDR,
    FECTL,
    FEDATA,
    FSTS,
    GSTS,
    IQERCD,
    IRE,
    IRTA,
    NIC,
    SIRTP,
    TE,
    Bench,
)

SPEC = load_profile("spec")
TABLE, OTHER, DESCRIPTOR = 0x30_0000, 0x31_0000, 0x32_0000
F = 1 << 63
IQE = 0x10


def entry(vector: int, apic: int = 3, sid: int = NIC, low: int = 0) -> bytes:
    """A remapped entry that serves one source."""
    return struct.pack("<QQ", apic << 40 | vector << 16 | low | 1, sid | 1 << 18)


def posted(vector: int, sid: int = NIC) -> bytes:
    """A posted entry."""
    return struct.pack("<QQ", DESCRIPTOR << 32 | vector << 16 | 0x8001, sid | 1 << 18)


def iec_global() -> bytes:
    """Descriptor 4, everything."""
    return struct.pack("<QQ", 0x4, 0)


def iec(index: int, mask: int = 0) -> bytes:
    """Descriptor 4, 2**mask entries."""
    return struct.pack("<QQ", 0x14 | mask << 27 | index << 32, 0)


class Remapped:
    """A unit that remaps interrupts by a table of 256 entries, and its queue."""

    def __init__(self, engine: Engine, profile=SPEC, eime: int = 0) -> None:
        self.bench = Bench(engine, profile)
        self.bench.start_queue()
        self.base = TABLE
        self.latch(TABLE, eime)
        self.bench.command(IRE)

    def latch(self, base: int, eime: int = 0) -> None:
        self.base = base
        self.bench.write(IRTA, base | eime << 11 | 7, 8)
        self.bench.command(SIRTP)

    def put(self, index: int, data: bytes) -> None:
        self.bench.memory.write(self.base + 16 * index, data)

    def send(self, index: int, sid: int = NIC, shv: int = 0, data: int = 0) -> Interrupt | int | None:
        """What arrived at the sink, or the fault's code."""
        return self.write(0xFEE0_0010 | index << 5 | shv << 3, data, sid)

    def write(self, address: int, data: int, sid: int = NIC) -> Interrupt | int | None:
        unit = self.bench.unit
        unit.interrupts.clear()
        fault = Bus(unit).write(sid, address, struct.pack("<I", data))
        if isinstance(fault, Fault):
            assert unit.interrupts == []
            return int(fault.reason)
        return unit.interrupts[0] if unit.interrupts else None

    def vector(self, index: int) -> int:
        """The vector that arrived, or minus the fault's code."""
        found = self.send(index)
        return -found if isinstance(found, int) else found.vector

    def cached(self) -> list[int]:
        return [known.index for known in self.bench.unit.caches().interrupts]


@pytest.fixture
def unit(engine: Engine) -> Remapped:
    unit = Remapped(engine)
    for index in range(16):
        unit.put(index, entry(0x40 + index))
    return unit


# -- commands


def test_a_message_arrives_as_the_entry_says(unit: Remapped) -> None:
    assert unit.send(5) == Interrupt(NIC, 0x45, 3, remapped=True)
    assert unit.bench.read(FSTS) == 0


def test_nothing_is_remapped_before_ire_nor_after_it_is_cleared(engine: Engine) -> None:
    unit = Remapped(engine)
    unit.put(0, entry(0x40))
    unit.bench.command(IRE, on=False)
    assert unit.send(0, data=0x31) == Interrupt(NIC, 0x31, 0, asserted=False)
    unit.bench.command(IRE)
    assert unit.send(0, data=0x31).vector == 0x40


def test_remapping_without_a_latched_table_uses_two_entries_at_address_0(engine: Engine) -> None:
    unit = Remapped(engine)
    unit.bench.unit.reset()
    unit.base = 0
    for index in (1, 2):
        unit.put(index, entry(0x40 + index))
    unit.bench.command(IRE)
    assert (unit.vector(1), unit.vector(2)) == (0x41, -0x21)


def test_interrupts_are_remapped_while_dma_is_not(unit: Remapped) -> None:
    assert not unit.bench.read(GSTS) & TE
    assert unit.vector(1) == 0x41
    unit.bench.legacy()
    assert unit.vector(1) == 0x41


def test_a_table_is_in_force_once_it_is_latched(unit: Remapped) -> None:
    unit.bench.memory.write(OTHER, entry(0x99))
    unit.bench.write(IRTA, OTHER | 7, 8)
    assert unit.vector(0) == 0x40
    unit.bench.command(SIRTP)
    assert unit.vector(0) == 0x99


def test_the_tables_size_is_latched_too(unit: Remapped) -> None:
    unit.bench.write(IRTA, TABLE | 2, 8)
    assert unit.vector(8) == 0x48
    unit.bench.command(SIRTP)
    assert (unit.vector(7), unit.vector(8)) == (0x47, -0x21)


def test_compatibility_format_passes_while_cfi_is_set(unit: Remapped) -> None:
    assert unit.write(0xFEE0_1000, 0x31) == 0x25
    unit.bench.command(CFI)
    assert unit.write(0xFEE0_1000, 0x31) == Interrupt(NIC, 0x31, 1, asserted=False)
    unit.bench.command(CFI, on=False)
    assert unit.write(0xFEE0_1000, 0x31) == 0x25


def test_in_x2apic_mode_cfi_does_not_help(engine: Engine) -> None:
    unit = Remapped(engine, eime=1)
    unit.bench.command(CFI)
    assert unit.write(0xFEE0_1000, 0x31) == 0x25
    unit.put(0, struct.pack("<QQ", 0x0102_0304_0031_0001, 0))
    assert unit.send(0) == Interrupt(NIC, 0x31, 0x0102_0304, x2apic=True, remapped=True)


def test_a_reset_ends_remapping_and_empties_the_cache(unit: Remapped) -> None:
    unit.send(0)
    unit.bench.unit.reset()
    assert (unit.cached(), unit.bench.unit.interrupt_table) == ([], 0)
    assert not unit.send(0, data=0x31).remapped


# -- fault records

CAUSES = {
    0x20: lambda unit: unit.send(5, shv=1, data=1 << 16),
    0x21: lambda unit: unit.send(256),
    0x22: lambda unit: unit.send(16),
    0x23: lambda unit: (unit.latch(64 << 20), unit.send(5))[1],
    0x24: lambda unit: (unit.put(5, entry(0x40, low=1 << 12)), unit.send(5))[1],
    0x25: lambda unit: unit.write(0xFEE0_0000, 0x31),
    0x26: lambda unit: unit.send(5, sid=DISK),
    0x27: lambda unit: (unit.put(5, struct.pack("<QQ", 0x8001, 1 << 32)), unit.send(5))[1],
    0x28: lambda unit: (unit.put(5, posted(0x31)), unit.bench.put(DESCRIPTOR + 32, 4), unit.send(5))[2],
    0x29: lambda unit: int(Bus(unit.bench.unit).write(NIC, 0xFEE0_00B0, b"12").reason),
}
INDICES = {0x21: 256, 0x22: 16} | dict.fromkeys((0x23, 0x24, 0x26, 0x27, 0x28), 5)  # the message itself has none


def test_the_causes_are_all_there_are() -> None:
    assert set(CAUSES) == {code for code in FaultReason if 0x20 <= code < 0x30}


@pytest.mark.parametrize("code", CAUSES, ids=lambda code: f"{code:02x}h")
def test_every_fault_is_recorded_with_index_source_and_nothing_else(unit: Remapped, code: int) -> None:
    assert CAUSES[code](unit) == code
    sid = DISK if code == 0x26 else NIC
    assert unit.bench.record() == (INDICES.get(code, 0) << 48, F | code << 32 | sid)
    assert unit.bench.read(FSTS) & 2


@pytest.mark.parametrize("code", CAUSES, ids=lambda code: f"{code:02x}h")
def test_a_unit_can_drop_the_faults_of_interrupts_and_of_nothing_else(engine: Engine, code: int) -> None:
    unit = Remapped(engine, dataclasses.replace(SPEC, behaviours=frozenset({"drop_interrupt_faults"})))
    unit.put(5, entry(0x45))
    assert CAUSES[code](unit) == code
    assert unit.bench.read(FSTS) == 0
    unit.bench.command(TE)
    assert unit.bench.go(0x1000) < 0
    assert unit.bench.read(FSTS) & 2


def test_a_record_holds_16_bits_of_an_index(engine: Engine) -> None:
    unit = Remapped(engine)
    unit.bench.write(IRTA, TABLE | 15, 8)
    unit.bench.command(SIRTP)
    assert unit.write(0xFEE0_0010 | 0x7FFF << 5 | 1 << 2 | 1 << 3, 0x11) == 0x21
    assert unit.bench.record()[0] == 0x10 << 48


def test_fpd_keeps_a_fault_from_the_record(unit: Remapped) -> None:
    unit.put(5, entry(0x45, low=2))
    assert unit.send(5, sid=DISK) == 0x26
    assert unit.bench.read(FSTS) == 0
    unit.put(6, entry(0x46))
    assert unit.send(6, sid=DISK) == 0x26
    assert unit.bench.read(FSTS) & 2


def test_the_units_own_messages_are_not_remapped(unit: Remapped) -> None:
    unit.bench.write(FEADDR, 0xFEE0_0010)
    unit.bench.write(FEDATA, 0x55)
    unit.bench.write(FECTL, 0)
    assert unit.send(16) == 0x22
    assert unit.bench.unit.messages == [EventMessage(0xFEE0_0010, 0x55)]


# -- the cache


def test_a_changed_entry_is_used_after_its_invalidation_and_not_before(unit: Remapped) -> None:
    assert unit.vector(5) == 0x45
    unit.put(5, entry(0x99))
    assert unit.vector(5) == 0x45
    unit.bench.invalidate(iec(4))
    assert unit.vector(5) == 0x45
    unit.bench.invalidate(iec(5))
    assert unit.vector(5) == 0x99


def test_an_entry_that_was_not_present_is_seen_at_once(unit: Remapped) -> None:
    unit.put(5, bytes(16))
    assert unit.vector(5) == -0x22
    assert unit.cached() == []
    unit.put(5, entry(0x99))
    assert unit.vector(5) == 0x99


@pytest.mark.parametrize("cm, behaviours", [(1, ()), (0, ("cache_not_present",))])
def test_an_entry_that_was_not_present_is_kept_only_by_a_unit_that_may_and_does(
    engine: Engine, cm: int, behaviours: tuple[str, ...]
) -> None:
    unit = Remapped(engine, changed(SPEC, {"cm": cm}, behaviours=frozenset(behaviours)))
    assert unit.vector(5) == -0x22
    assert unit.cached() == []


def test_with_caching_mode_an_entry_that_was_not_present_needs_an_invalidation(engine: Engine) -> None:
    unit = Remapped(engine, changed(SPEC, {"cm": 1}, behaviours=frozenset({"cache_not_present"})))
    assert unit.vector(5) == -0x22
    assert unit.cached() == [5]
    unit.put(5, entry(0x99))
    assert unit.vector(5) == -0x22
    unit.bench.invalidate(iec(5))
    assert unit.vector(5) == 0x99


@pytest.mark.parametrize(
    "descriptor, left",
    [
        (iec_global(), []),
        (iec(5), [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        (iec(6, 1), [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15]),
        (iec(7, 2), [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15]),
        (iec(8, 3), [0, 1, 2, 3, 4, 5, 6, 7]),
        (iec(0xFFFF, 15), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        (iec(0x7FFF, 15), []),
    ],
)
def test_an_invalidation_removes_what_it_names_and_nothing_else(
    unit: Remapped, descriptor: bytes, left: list[int]
) -> None:
    for index in range(16):
        unit.send(index)
    assert unit.cached() == list(range(16))
    unit.bench.invalidate(descriptor)
    assert unit.cached() == left


def test_a_mask_beyond_mhmv_stops_the_queue(engine: Engine) -> None:
    unit = Remapped(engine, changed(SPEC, ecap={"mhmv": 3}))
    unit.put(0, entry(0x40))
    unit.send(0)
    unit.bench.submit(iec(8, 3), iec(8, 4))
    assert unit.bench.read(FSTS) & IQE
    assert unit.bench.read(IQERCD, 8) & 0xF == 4
    assert unit.cached() == [0]


@pytest.mark.parametrize("esirtps", [0, 1])
def test_a_new_table_empties_the_cache_only_with_esirtps(engine: Engine, esirtps: int) -> None:
    unit = Remapped(engine, changed(SPEC, {"esirtps": esirtps}))
    unit.put(0, entry(0x40))
    unit.send(0)
    unit.bench.memory.write(OTHER, entry(0x99))
    unit.latch(OTHER)
    assert unit.vector(0) == (0x99 if esirtps else 0x40)
    unit.bench.invalidate(iec_global())
    assert unit.vector(0) == 0x99


@pytest.mark.parametrize("esirtps", [0, 1])
def test_the_end_of_remapping_empties_the_cache_only_with_esirtps(engine: Engine, esirtps: int) -> None:
    unit = Remapped(engine, changed(SPEC, {"esirtps": esirtps}))
    unit.put(0, entry(0x40))
    unit.send(0)
    unit.bench.command(CFI)
    assert unit.cached() == [0]
    unit.bench.command(IRE, on=False)
    assert unit.cached() == ([] if esirtps else [0])


def test_what_dma_remapping_invalidates_leaves_interrupts_alone(unit: Remapped) -> None:
    unit.send(0)
    unit.bench.legacy()
    unit.bench.command(TE, on=False)
    unit.bench.invalidate(struct.pack("<QQ", 0x11, 0), struct.pack("<QQ", 0x12, 0))
    assert unit.cached() == [0]


def test_a_full_cache_drops_its_oldest_entry(engine: Engine) -> None:
    unit = Remapped(engine, dataclasses.replace(SPEC, interrupt_cache=2))
    for index in (0, 1, 2):
        unit.put(index, entry(0x40 + index))
        unit.send(index)
    assert unit.cached() == [1, 2]


def test_a_unit_without_a_cache_sees_every_change(engine: Engine) -> None:
    unit = Remapped(engine, dataclasses.replace(SPEC, interrupt_cache=0))
    for vector in (0x40, 0x41):
        unit.put(0, entry(vector))
        assert (unit.vector(0), unit.cached()) == (vector, [])


@pytest.mark.parametrize("events, counted", [(1, 5), (2, 2), (4, 1), (7, 8)])
def test_lookups_and_hits_of_the_cache_are_counted(unit: Remapped, events: int, counted: int) -> None:
    unit.bench.write(0x500, 4 << 8 | events << 32, 8)
    unit.bench.write(0x400, 0xF0, 8)  # enable counter 0
    unit.put(2, posted(0x31))
    for index in (1, 1, 1, 2, 2):
        unit.send(index)
    unit.write(0xFEE0_0000, 0)  # compatibility format, and an index beyond the table, are not looked up
    unit.send(256)
    assert unit.bench.read(0x800, 8) == counted


# -- posting


def test_a_posted_interrupt_is_memory_first_and_a_notification_once(unit: Remapped) -> None:
    unit.put(5, posted(0x31))
    unit.put(6, posted(0x82))
    unit.bench.put(DESCRIPTOR, 0, 0, 0, 0, 0xF2 << 16 | 0x0700 << 32)
    assert unit.send(5) == Interrupt(NIC, 0xF2, 7, remapped=True)
    assert unit.send(6) is None
    assert unit.bench.qword(DESCRIPTOR) == 1 << 0x31
    assert unit.bench.qword(DESCRIPTOR + 16) == 1 << 2
    assert unit.bench.qword(DESCRIPTOR + 32) == 1 | 0xF2 << 16 | 0x0700 << 32
    unit.bench.put(DESCRIPTOR + 32, 0xF2 << 16 | 0x0700 << 32)  # the processor took them: ON is cleared
    assert unit.send(6).vector == 0xF2
    assert unit.bench.read(FSTS) == 0


# -- behaviours


def test_every_rule_of_interrupts_is_a_behaviour() -> None:
    assert {rule.name for rule in dataclasses.fields(InterruptRules)} <= set(BEHAVIOURS)


def test_a_profiles_behaviour_reaches_the_rules(engine: Engine) -> None:
    unit = Remapped(engine, dataclasses.replace(SPEC, behaviours=frozenset({"pass_compatibility_format"})))
    unit.bench.command(CFI)
    assert not unit.bench.read(GSTS) & CFI
    assert unit.write(0xFEE0_1000, 0x4031) == Interrupt(NIC, 0x31, 1)


@pytest.mark.parametrize("behaviours, kept", [((), 0), (("writable_eime",), 1 << 11)])
def test_eime_can_be_set_only_with_eim(engine: Engine, behaviours: tuple[str, ...], kept: int) -> None:
    profile = dataclasses.replace(changed(SPEC, ecap={"eim": 0}), behaviours=frozenset(behaviours))
    unit = Remapped(engine, profile, eime=1)
    assert unit.bench.read(IRTA, 8) == TABLE | 7 | kept
    unit.put(0, struct.pack("<QQ", 0x0102_0300_0031_0001, 0))
    assert unit.send(0) == (Interrupt(NIC, 0x31, 0x0102_0300, x2apic=True, remapped=True) if kept else 0x24)


@pytest.mark.parametrize("behaviours, answer, status", [((), -0x29, 2), (("read_interrupt_range",), 0xFEE0_0000, 0)])
def test_reads_of_the_range_can_succeed(engine: Engine, behaviours: tuple[str, ...], answer: int, status: int) -> None:
    unit = Remapped(engine, dataclasses.replace(SPEC, behaviours=frozenset(behaviours)))
    assert unit.bench.go(0xFEE0_0000) == answer
    assert unit.bench.read(FSTS) == status
    assert unit.bench.go(0xFEE0_0000, "rw") == -0x29
    assert unit.bench.read(FSTS) == 2
