"""One interrupt through message, remapping entry and posted descriptor; every word is written by hand."""

from __future__ import annotations

import struct

import pytest

from pagetables.address import Iova, Pasid, SourceId
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault, FaultReason
from pagetables.interrupt import Interrupt, InterruptEntry, PostedInterrupt, remap
from pagetables.interrupt_entry import InterruptRules
from pagetables.layouts.registers import (
    Capability,
    ExtendedCapability,
    GlobalStatus,
    InterruptRemappingTableAddress,
)
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, AddressType, Request

TABLE, DESCRIPTOR, SIZE = 0x10_0000, 0x20_0040, 0x40_0000
NIC, NIC_1, NIC_5, DISK = 0x0300, 0x0301, 0x0305, 0x00F8
IRES, CFIS, TES = 1 << 25, 1 << 23, 1 << 31
GOLDEN = (0x0000_0300_0031_0001, 0x0000_0000_0004_0300)  # vector 31h to APIC id 3, of 03:00.0 only
POSTED = (DESCRIPTOR << 32 | 0x31_8001, 0x4_0300)
URGENT = 1 << 14


class Table:
    """A table of 2^(s+1) entries in memory, and a unit's registers."""

    def __init__(self, s: int = 7, eime: int = 0, base: int = TABLE) -> None:
        self.memory = PhysicalMemory([(0, SIZE)])
        self.irta = InterruptRemappingTableAddress(base | eime << 11 | s)
        self.status = IRES
        self.cap, self.ecap, self.haw = 1 << 59, 0b11000, 46  # PI; EIM and IR
        self.rules = InterruptRules()
        self.cache = None
        self.steps = ()

    def put(self, index: int, low: int, high: int) -> None:
        """An entry."""
        self.memory.write(TABLE + 16 * index, struct.pack("<QQ", low, high))

    def post_to(self, control: int = 0, high: int = 0, low: int = 0, pir: int = 0) -> None:
        """The posted interrupt descriptor: PIR, then its bits 319:256, 383:320 and 511:448."""
        self.memory.write(DESCRIPTOR, pir.to_bytes(32, "little") + struct.pack("<4Q", control, low, 0, high))

    def send(self, address: int = 0xFEE0_0010, data: int = 0, sid: int = NIC, update: bool = False, **more):
        """What becomes of a dword that a device writes."""
        request = Request(SourceId(sid), Iova(address), Access.WRITE, **more)
        return self.send_bytes(request, struct.pack("<I", data), update)

    def send_bytes(self, request: Request, data: bytes, update: bool = False):
        """What becomes of any request."""
        found = remap(
            self.memory,
            self.irta,
            request,
            data,
            Capabilities(Capability(self.cap), ExtendedCapability(self.ecap), self.haw),
            GlobalStatus(self.status),
            rules=self.rules,
            cache=self.cache,
            update=update,
        )
        self.steps = found.steps
        return found.outcome


@pytest.fixture
def table() -> Table:
    table = Table()
    table.put(0, *GOLDEN)
    return table


def handle(index: int, shv: int = 0) -> int:
    """The address of a remappable message."""
    return 0xFEE0_0010 | (index & 0x7FFF) << 5 | index >> 15 << 2 | shv << 3


def reason(outcome) -> int:
    assert isinstance(outcome, Fault), outcome
    return int(outcome.reason)


def message(outcome) -> tuple[int, int]:
    assert isinstance(outcome, Interrupt), outcome
    return outcome.message()


# -- compatibility format


def test_without_remapping_a_message_says_all_by_itself(table: Table) -> None:
    table.status = 0
    found = table.send(0xFEE0_700C, 0xC331)
    assert found == Interrupt(NIC, 0x31, 7, 1, 3, 1, redirection_hint=True, asserted=True)
    assert not found.remapped
    assert table.steps == ()
    assert message(found) == (0xFEE0_700C, 0xC331)


def test_without_remapping_address_bits_above_the_message_say_nothing(table: Table) -> None:
    table.status = 0
    assert message(table.send(0xFFFF_0000_FEE0_7000, 0x31)) == (0xFEE0_7000, 0x31)


def test_without_remapping_a_remappable_address_means_nothing_special(table: Table) -> None:
    table.status = 0
    assert table.send(handle(0), 0x44) == Interrupt(NIC, 0x44, 0, asserted=False)


def test_fault_25_compatibility_format_is_blocked_unless_cfis_lets_it_pass(table: Table) -> None:
    assert reason(table.send(0xFEE0_1000, 0x31)) == 0x25
    table.status |= CFIS
    assert message(table.send(0xFEE0_1000, 0x31)) == (0xFEE0_1000, 0x31)


def test_fault_25_comes_from_eime_whatever_cfis_says() -> None:
    table = Table(eime=1)
    table.status |= CFIS
    outcome = table.send(0xFEE0_1000, 0x31)
    assert (reason(outcome), outcome.index, outcome.at) == (0x25, 0, None)
    table.rules = InterruptRules(pass_compatibility_format=True)
    assert message(table.send(0xFEE0_1000, 0x31)) == (0xFEE0_1000, 0x31)


def test_bit_3_of_a_compatibility_message_is_a_hint_and_no_subhandle(table: Table) -> None:
    table.status |= CFIS
    assert message(table.send(0xFEE0_1008, 0xFFFF_0031)) == (0xFEE0_1008, 0x31)


# -- the message


def test_the_golden_entry_is_delivered_as_it_says(table: Table) -> None:
    found = table.send(handle(0))
    assert found == Interrupt(NIC, 0x31, 3, remapped=True)
    assert message(found) == (0xFEE0_3000, 0x4031)
    [step] = table.steps
    assert (step.structure, step.index, step.at, step.entry, step.note) == (
        "irte-remapped",
        0,
        TABLE,
        GOLDEN[1] << 64 | GOLDEN[0],
        "",
    )


def test_every_field_of_an_entry_reaches_the_processor(table: Table) -> None:
    table.put(1, 0x0000_8100_00FE_003D, 0)  # logical, redirection hint, level, lowest priority
    assert table.send(handle(1)) == Interrupt(NIC, 0xFE, 0x81, 1, 1, 1, redirection_hint=True, remapped=True)
    assert message(table.send(handle(1))) == (0xFEE8_100C, 0xC1FE)


@pytest.mark.parametrize("mode", [0, 1, 2, 4, 5, 7])
def test_every_delivery_mode_that_has_a_meaning_is_delivered(table: Table, mode: int) -> None:
    table.put(0, 1 | mode << 5 | 0x31 << 16, 0)
    assert table.send(handle(0)).delivery_mode == mode


def test_x2apic_destinations_have_32_bits() -> None:
    table = Table(eime=1)
    table.put(0, 0x1234_5678_0031_0001, 0)
    found = table.send(handle(0))
    assert (found.destination, found.x2apic) == (0x1234_5678, True)
    assert message(found) == (0x1234_5600_FEE7_8000, 0x4031)


def test_without_subhandle_the_data_says_nothing(table: Table) -> None:
    assert table.send(handle(0), 0xFFFF_FFFF).vector == 0x31


def test_a_subhandle_is_added_to_the_handle(table: Table) -> None:
    table.put(0x25, 0x0000_0300_0077_0001, 0)
    assert table.send(handle(0x20, shv=1), 5).vector == 0x77
    assert reason(table.send(handle(0x20), 5)) == 0x22


def test_the_handle_has_its_highest_bit_in_address_bit_2() -> None:
    table = Table(s=15)
    table.put(0x8123, 0x0000_0300_0078_0001, 0)
    assert table.send(0xFEE0_2474).vector == 0x78
    assert table.send(0xFEE0_247C, 0).vector == 0x78


def test_fault_20_is_a_reserved_data_bit_next_to_a_subhandle(table: Table) -> None:
    outcome = table.send(handle(3, shv=1), 0x1_0000)  # entry 3 is not present: the message is looked at first
    assert (reason(outcome), outcome.index) == (0x20, 0)
    table.put(3, *GOLDEN)
    assert table.send(handle(3, shv=1), 0).vector == 0x31


def test_fault_20_can_come_after_the_entry(table: Table) -> None:
    table.rules = InterruptRules(check_subhandle_late=True)
    assert reason(table.send(handle(3, shv=1), 0x1_0000)) == 0x22
    table.put(3, *GOLDEN)
    outcome = table.send(handle(3, shv=1), 0x1_0000)
    assert (reason(outcome), outcome.index) == (0x20, 0)


@pytest.mark.parametrize("address", [0x1_FEE0_0010, 0xFED0_0010, 0xFEF0_0010])
def test_fault_20_is_an_address_outside_the_range(table: Table, address: int) -> None:
    assert reason(table.send(address)) == 0x20


def test_fault_29_is_anything_but_a_dword(table: Table) -> None:
    for data in (b"", b"12", b"12345678"):
        outcome = table.send_bytes(Request(SourceId(NIC), Iova(handle(0)), Access.WRITE), data)
        assert (reason(outcome), outcome.silent) == (0x29, False)
    assert reason(table.send(handle(0) + 2)) == 0x29
    for access in (Access.READ, Access.ATOMIC, Access.EXECUTE):
        assert reason(table.send_bytes(Request(SourceId(NIC), Iova(handle(0)), access), bytes(4))) == 0x29
    assert reason(table.send(handle(0), pasid=Pasid(1))) == 0x29
    assert reason(table.send(handle(0), address_type=AddressType.TRANSLATED)) == 0x29
    assert table.send(handle(0)).vector == 0x31


def test_fault_29_is_silent_in_a_unit_that_remaps_nothing(table: Table) -> None:
    table.status = 0
    assert table.send(0xFEE0_0001).silent
    table.status = TES
    assert not table.send(0xFEE0_0001).silent


# -- the index and the table


def test_fault_21_is_an_index_that_the_table_does_not_have() -> None:
    table = Table(s=3)
    for index in (15, 16):
        table.put(index, *GOLDEN)
    assert table.send(handle(15)).vector == 0x31
    outcome = table.send(handle(16))
    assert (reason(outcome), outcome.index, outcome.at) == (0x21, 16, None)
    assert reason(table.send(handle(15, shv=1), 1)) == 0x21


def test_fault_21_is_a_sum_beyond_16_bits_unless_it_starts_over() -> None:
    table = Table(s=15)
    table.put(1, *GOLDEN)
    outcome = table.send(handle(0xFFFF, shv=1), 2)
    assert (reason(outcome), outcome.index) == (0x21, 0x1_0001)
    table.rules = InterruptRules(wrap_interrupt_index=True)
    assert table.send(handle(0xFFFF, shv=1), 2).vector == 0x31


def test_fault_21_is_an_entry_beyond_the_host_address_width() -> None:
    table = Table(base=(1 << 46) - 0x1000, s=15)
    assert reason(table.send(handle(255))) == 0x23
    assert reason(table.send(handle(256))) == 0x21


def test_fault_23_is_a_table_outside_memory() -> None:
    table = Table(base=SIZE)
    outcome = table.send(handle(2))
    assert (reason(outcome), outcome.at, outcome.index) == (0x23, SIZE + 32, 2)
    assert table.steps == ()


# -- the entry


def test_fault_22_is_an_entry_that_is_not_present(table: Table) -> None:
    table.put(2, 1 << 12, 1 << 40)  # nothing else of it is looked at
    outcome = table.send(handle(2))
    assert (reason(outcome), outcome.at, outcome.index, outcome.recorded) == (0x22, TABLE + 32, 2, True)
    table.put(2, 0, NIC | 1 << 18)
    assert reason(table.send(handle(2), sid=DISK)) == 0x22
    assert table.steps[0].note == ""  # whom it would serve says nothing
    table.put(2, *GOLDEN)
    assert table.send(handle(2)).vector == 0x31


@pytest.mark.parametrize("low, high", [(1 << bit, 0) for bit in (12, 13, 14, 24, 31)] + [(0, 1 << 20), (0, 1 << 63)])
def test_fault_24_is_a_reserved_bit_of_a_remapped_entry(table: Table, low: int, high: int) -> None:
    table.put(0, GOLDEN[0] | low, GOLDEN[1] | high)
    assert reason(table.send(handle(0), sid=DISK)) == 0x24  # before the source is looked at


@pytest.mark.parametrize("bit", [8, 9, 10, 11])
def test_bits_for_software_are_ignored(table: Table, bit: int) -> None:
    table.put(0, GOLDEN[0] | 1 << bit, GOLDEN[1])
    assert table.send(handle(0)).vector == 0x31


@pytest.mark.parametrize("bit", [32, 39, 48, 63])
def test_fault_24_is_a_wide_destination_without_eime(bit: int) -> None:
    narrow, wide = Table(), Table(eime=1)
    for table in (narrow, wide):
        table.put(0, GOLDEN[0] | 1 << bit, GOLDEN[1])
    assert reason(narrow.send(handle(0))) == 0x24
    assert wide.send(handle(0)).destination == 0x300 | 1 << bit - 32
    narrow.rules = InterruptRules(ignore_wide_destination=True)
    assert narrow.send(handle(0)).destination == 3


@pytest.mark.parametrize("mode", [3, 6])
def test_fault_24_is_a_delivery_mode_without_a_meaning(table: Table, mode: int) -> None:
    table.put(0, GOLDEN[0] | mode << 5, GOLDEN[1])
    assert reason(table.send(handle(0))) == 0x24
    table.rules = InterruptRules(ignore_delivery_mode=True)
    assert table.send(handle(0)).delivery_mode == mode


def test_fault_24_is_a_posted_entry_where_nothing_is_posted(table: Table) -> None:
    table.put(0, *POSTED)
    table.post_to()
    assert isinstance(table.send(handle(0)), PostedInterrupt)
    table.cap = 0
    assert reason(table.send(handle(0))) == 0x24


def test_a_posted_entry_can_be_taken_for_a_remapped_one(table: Table) -> None:
    table.rules, table.cap = InterruptRules(ignore_posted_mode=True), 0
    table.put(0, GOLDEN[0] | 1 << 15, GOLDEN[1])
    assert table.send(handle(0)) == Interrupt(NIC, 0x31, 3, remapped=True)


# -- the source


@pytest.mark.parametrize(
    "svt, sq, sid, source, passes",
    [
        (0, 0, 0, 0xFFFF, True),
        (1, 0, NIC, NIC, True),
        (1, 0, NIC, NIC_1, False),
        (1, 1, NIC, NIC | 4, True),
        (1, 1, NIC, NIC_1, False),
        (1, 2, NIC, NIC | 6, True),
        (1, 2, NIC, NIC_1, False),
        (1, 3, NIC_5, NIC, True),
        (1, 3, NIC_5, NIC | 8, False),
        (2, 0, 0x0305, 0x0300, True),
        (2, 0, 0x0305, 0x05FF, True),
        (2, 0, 0x0305, 0x02FF, False),
        (2, 0, 0x0305, 0x0600, False),
        (2, 0, 0x0503, 0x0400, False),
        (3, 0, NIC, NIC, False),
    ],
)
def test_fault_26_is_a_source_that_the_entry_does_not_serve(
    table: Table, svt: int, sq: int, sid: int, source: int, passes: bool
) -> None:
    table.put(0, GOLDEN[0], sid | sq << 16 | svt << 18)
    outcome = table.send(handle(0), sid=source)
    if passes:
        assert (outcome.vector, outcome.source_id) == (0x31, source)
    else:
        assert (reason(outcome), outcome.at, outcome.index) == (0x26, TABLE, 0)
        assert "does not serve" in table.steps[0].note


def test_a_bus_range_can_be_taken_the_other_way_round(table: Table) -> None:
    table.rules = InterruptRules(swap_bus_range=True)
    table.put(0, GOLDEN[0], 0x0503 | 2 << 18)
    assert table.send(handle(0), sid=0x0400).vector == 0x31
    table.put(0, GOLDEN[0], 0x0305 | 2 << 18)
    assert reason(table.send(handle(0), sid=0x0400)) == 0x26


def test_source_type_3_can_be_a_reserved_field(table: Table) -> None:
    table.rules = InterruptRules(reserve_source_type=True)
    table.put(0, GOLDEN[0], NIC | 3 << 18)
    assert reason(table.send(handle(0))) == 0x24
    table.put(0, *GOLDEN)
    assert table.send(handle(0)).vector == 0x31


# -- fault processing disabled


@pytest.mark.parametrize(
    "low, high, code",
    [
        (2, 0, 0x22),
        (3 | 1 << 12, 0, 0x24),
        (3, 1 << 18 | DISK, 0x26),
        (SIZE << 32 | 0x8003, 0, 0x27),
        (DESCRIPTOR << 32 | 0x8003, 0, 0x28),
    ],
)
def test_fpd_hides_what_comes_after_the_entry_was_read(table: Table, low: int, high: int, code: int) -> None:
    table.post_to(control=1 << 2)
    for fpd, recorded in ((2, False), (0, True)):
        table.put(0, low & ~2 | fpd, high)
        outcome = table.send(handle(0))
        assert (reason(outcome), outcome.recorded) == (code, recorded)


# -- posting


@pytest.mark.parametrize(
    "control, urgent, notified",
    [(0, 0, True), (1, 0, False), (2, 0, False), (3, 0, False), (2, 1, True), (1, 1, False), (3, 1, False)],
)
def test_a_posted_interrupt_notifies_unless_outstanding_or_suppressed(
    table: Table, control: int, urgent: int, notified: bool
) -> None:
    table.put(0, POSTED[0] | urgent * URGENT, POSTED[1])
    table.post_to(control | 0xF2 << 16 | 0x0500 << 32, pir=1 << 255)
    found = table.send(handle(0), update=True)
    assert (found.vector, found.at, found.urgent) == (0x31, DESCRIPTOR, bool(urgent))
    assert found.notification == (Interrupt(NIC, 0xF2, 5, remapped=True) if notified else None)
    data = table.memory.read(DESCRIPTOR, 64)
    assert int.from_bytes(data[:32], "little") == 1 << 255 | 1 << 0x31
    assert struct.unpack("<Q", data[32:40])[0] == control | notified | 0xF2 << 16 | 0x0500 << 32
    assert data == found.descriptor.pack()
    assert [(step.structure, step.index) for step in table.steps] == [
        ("irte-posted", 0),
        ("posted-interrupt-descriptor", 0),
    ]
    assert bool(table.steps[1].note) is not notified


@pytest.mark.parametrize("vector", [0, 63, 64, 127, 128, 255])
def test_the_bit_of_the_vector_is_set_wherever_it_is(table: Table, vector: int) -> None:
    table.put(0, DESCRIPTOR << 32 | vector << 16 | 0x8001, 0)
    table.post_to()
    table.send(handle(0), update=True)
    assert int.from_bytes(table.memory.read(DESCRIPTOR, 32), "little") == 1 << vector


def test_a_look_at_a_posted_interrupt_writes_nothing(table: Table) -> None:
    table.put(0, *POSTED)
    table.post_to()
    assert table.send(handle(0)).descriptor.on == 1
    assert table.memory.read(DESCRIPTOR, 64) == bytes(64)


def test_notifications_have_32_bit_destinations_with_eime() -> None:
    table = Table(eime=1)
    table.put(0, *POSTED)
    table.post_to(0xF2 << 16 | 0x1234_5678 << 32)
    told = table.send(handle(0)).notification
    assert (told.destination, told.x2apic, told.vector) == (0x1234_5678, True, 0xF2)


def test_the_descriptor_can_lie_above_4_gib(table: Table) -> None:
    table.memory = PhysicalMemory([(0, SIZE), (0x1234_5678_9000 & (1 << 45) - 1, 0x1000)])
    low, high = 0x56789AC0 << 32 | 0x31_8001, 0x0234 << 32 | NIC | 1 << 18
    table.put(0, low, high)
    assert table.send(handle(0), update=True).at == 0x0234_5678_9AC0


def test_fault_27_is_a_descriptor_outside_memory(table: Table) -> None:
    table.put(0, SIZE << 32 | 0x31_8001, NIC | 1 << 18)
    outcome = table.send(handle(0))
    assert (reason(outcome), outcome.at, outcome.index) == (0x27, SIZE, 0)
    table.put(0, SIZE - 64 << 32 | 0x31_8001, NIC | 1 << 18)
    assert table.send(handle(0)).at == SIZE - 64


class ReadOnly(PhysicalMemory):
    """Memory that refuses every store."""

    def store(self, address: int, value: int) -> bool:
        return False


def test_fault_27_is_a_descriptor_that_cannot_be_written(table: Table) -> None:
    table.put(0, *POSTED)
    memory = ReadOnly([(0, SIZE)])
    memory.write(TABLE, table.memory.read(TABLE, 16))
    table.memory = memory
    assert reason(table.send(handle(0), update=True)) == 0x27
    assert isinstance(table.send(handle(0)), PostedInterrupt)


@pytest.mark.parametrize("bit", [2, 15, 24, 31])
def test_fault_28_is_a_reserved_bit_of_the_descriptor(table: Table, bit: int) -> None:
    table.put(0, *POSTED)
    table.post_to(1 << bit, pir=1)
    outcome = table.send(handle(0), update=True)
    assert (reason(outcome), outcome.at) == (0x28, DESCRIPTOR)
    assert table.memory.read(DESCRIPTOR, 1) == b"\1"


@pytest.mark.parametrize("low, high", [(1, 0), (0, 1 << 63)])
def test_fault_28_is_a_bit_of_the_tail_unless_it_is_softwares(table: Table, low: int, high: int) -> None:
    table.put(0, *POSTED)
    table.post_to(low=low, high=high)
    assert reason(table.send(handle(0))) == 0x28
    table.rules = InterruptRules(ignore_descriptor_tail=True)
    assert table.send(handle(0)).vector == 0x31


@pytest.mark.parametrize("low, high", [(1 << bit, 0) for bit in (2, 7, 12, 13, 24, 37)] + [(0, 1 << 20), (0, 1 << 31)])
def test_fault_24_is_a_reserved_bit_of_a_posted_entry(table: Table, low: int, high: int) -> None:
    table.post_to()
    table.put(0, POSTED[0] | low, POSTED[1] | high)
    assert reason(table.send(handle(0))) == 0x24


def test_fault_26_is_looked_at_before_anything_is_posted(table: Table) -> None:
    table.put(0, *POSTED)
    table.post_to()
    assert reason(table.send(handle(0), sid=DISK, update=True)) == 0x26
    assert table.memory.read(DESCRIPTOR, 64) == bytes(64)


# -- with a cache


class Kept(dict):
    """A cache that keeps everything it is given."""

    def lookup(self, index: int) -> InterruptEntry | None:
        return self.get(index)

    def fill(self, entry: InterruptEntry) -> None:
        self[entry.index] = entry


def test_only_valid_entries_are_offered_to_a_cache(table: Table) -> None:
    table.cache = Kept()
    table.put(1, GOLDEN[0] | 1 << 12, 0)
    for index in (0, 1, 2):
        table.send(handle(index), sid=DISK)
    assert list(table.cache) == [0]  # also where the source is refused: that is the request's fault


def test_entries_that_are_not_present_are_offered_with_caching_mode(table: Table) -> None:
    table.cache, table.cap = Kept(), 1 << 59 | 1 << 7
    table.put(1, GOLDEN[0] | 1 << 12, 0)
    assert [reason(table.send(handle(index))) for index in (1, 2)] == [0x24, 0x22]
    assert list(table.cache) == [2]
    table.put(2, *GOLDEN)
    assert reason(table.send(handle(2))) == 0x22


def test_a_cached_entry_answers_for_any_source_and_says_so(table: Table) -> None:
    table.cache = Kept()
    table.send(handle(0))
    table.put(0, 0, 0)
    assert table.send(handle(0)).vector == 0x31
    assert "cache" in table.steps[0].note
    assert reason(table.send(handle(0), sid=DISK)) == 0x26


def test_a_posted_descriptor_is_never_cached(table: Table) -> None:
    table.cache = Kept()
    table.put(0, *POSTED)
    table.post_to()
    assert table.send(handle(0), update=True).notification is not None
    assert table.send(handle(0), update=True).notification is None
    table.post_to()
    assert table.send(handle(0), update=True).notification is not None


# -- all of it


def test_every_reason_of_interrupt_remapping_has_a_test_of_its_name() -> None:
    names = {int(name.split("_")[2], 16) for name in globals() if name.startswith("test_fault_")}
    assert names == {code for code in FaultReason if 0x20 <= code < 0x30}
