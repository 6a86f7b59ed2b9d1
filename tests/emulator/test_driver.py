"""The driver against a unit that only executes its queue: what is written where, and in which order."""

from __future__ import annotations

import itertools
import struct

import pytest

from emulator.clock import Clock
from emulator.mapping.contexts import NoPage
from emulator.mapping.driver import DriverError, Mode, UnitDriver, covering_order
from emulator.mapping.pools.os import SystemSupply
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.queue import QueueFailure
from pagetables.address import Gpa, source_id
from pagetables.mapper import PageTable, Stage
from pagetables.memory import PhysicalMemory
from tests.fake_unit import CM, DRAIN, ECAP, ESRTPS, IQA, IQT, PSI, QI, RTADDR, RWBF, SMTS, FakeUnit

KERNEL = 0x10_0000
TABLE = PageTable(Stage.SECOND, Gpa(0xABC000), 4)
FIRST = PageTable(Stage.FIRST, Gpa(0xDEF000), 5)
DEVICE = source_id(0x3A, 0x1F, 2)  # devfn 0xfa: the upper half of its bus


class Bench:
    """Memory, a fake unit and a driver."""

    def __init__(self, mode: Mode = Mode.LEGACY, enable: bool = True, **unit):
        self.memory = PhysicalMemory([(0, 16 << 20)])
        self.zone = Zone(Clock(), KERNEL, 8 << 20)
        self.unit = FakeUnit(self.memory, **unit)
        self.driver = UnitDriver(self.memory, self.unit, SystemSupply(self.zone, Gfp.KERNEL), mode)
        if enable:
            self.driver.enable()
            self.unit.fetched.clear()
            self.unit.log.clear()

    def word(self, address: int, size: int) -> int:
        return int.from_bytes(self.memory.read(address, size), "little")

    def pointed(self, address: int) -> int:
        """The page that a present entry points to."""
        entry = self.word(address, 8)
        assert entry & 1, f"{entry:#x} at {address:#x} is not present"
        return entry & ~0xFFF

    def legacy_entry(self) -> int:
        return self.pointed(self.unit.registers[RTADDR] + 16 * 0x3A) + 16 * 0xFA

    def scalable_entry(self) -> int:
        root = self.unit.registers[RTADDR] & ~0xFFF
        return self.pointed(root + 16 * 0x3A + 8) + 32 * 0x7A

    def pasid_entry(self) -> int:
        return self.pointed(self.pointed(self.scalable_entry()))


def test_enabling_sets_queue_root_and_translation_in_this_order() -> None:
    bench = Bench(enable=False, cap=ESRTPS)
    bench.driver.enable()
    assert bench.unit.log == ["qie", "srtp", "te"]
    assert bench.unit.registers[RTADDR] & 0xC00 == 0


def test_without_esrtps_context_then_iotlb_are_invalidated_before_translation_starts() -> None:
    bench = Bench(enable=False)
    bench.driver.enable()
    assert bench.unit.log == ["qie", "srtp", 1, 5, 2, 5, "te"]
    assert [d.bits(5, 4) for d in bench.unit.fetched if d.type in (1, 2)] == [1, 1]


def test_without_esrtps_scalable_mode_invalidates_the_pasid_cache_too() -> None:
    bench = Bench(Mode.SCALABLE, enable=False)
    bench.driver.enable()
    assert bench.unit.log == ["qie", "srtp", 1, 5, 7, 5, 2, 5, "te"]
    assert bench.unit.of_type(7)[0].bits(5, 4) == 3
    assert bench.unit.registers[RTADDR] & 0xC00 == 0x400
    assert bench.unit.registers[IQA] & 1 << 11


def test_disabling_turns_translation_off_before_the_queue() -> None:
    bench = Bench()
    bench.driver.disable()
    assert bench.unit.log == ["te", "qie"]


@pytest.mark.parametrize("mode, ecap, missing", [(Mode.LEGACY, SMTS, "QI"), (Mode.SCALABLE, QI, "SMTS")])
def test_a_unit_that_lacks_what_the_driver_needs_is_refused(mode: Mode, ecap: int, missing: str) -> None:
    with pytest.raises(DriverError, match=missing):
        Bench(mode, ecap=ecap)


def test_a_submission_ends_in_a_wait_whose_data_is_a_new_sequence_number() -> None:
    bench = Bench()
    for _ in range(3):
        bench.driver.invalidate_domain(7)
    waits = bench.unit.of_type(5)
    assert [b.bits(63, 32) - a.bits(63, 32) for a, b in itertools.pairwise(waits)] == [1, 1]
    assert {wait.bits(127, 66) << 2 for wait in waits} == {bench.driver.queue.status}
    assert {wait.bits(8, 4) for wait in waits} == {0b00010}


def test_the_tail_wraps_at_the_end_of_the_queue() -> None:
    bench = Bench()
    for _ in range(200):
        bench.driver.invalidate_domain(7)
    assert len(bench.unit.of_type(2)) == 200
    assert bench.unit.registers[IQT] == (200 * 2 + 4) * 16 % 4096  # 4: what enabling took


def test_more_descriptors_than_slots_go_in_several_submissions() -> None:
    bench = Bench(Mode.SCALABLE)  # 128 slots of 32 bytes
    bench.driver.submit(*[bench.driver._domain_descriptor(n) for n in range(300)])
    assert [d.bits(31, 16) for d in bench.unit.of_type(2)] == list(range(300))
    assert len(bench.unit.of_type(5)) == 3


def test_a_queue_that_stands_still_is_an_error_with_its_status() -> None:
    bench = Bench()
    bench.unit.stuck = True
    bench.unit.registers[0x34] = 1 << 4
    bench.unit.registers[0xB0] = 3
    with pytest.raises(QueueFailure, match="IQE, IQEI 0x3"):
        bench.driver.invalidate_domain(7)


def test_a_slow_unit_gets_its_time_between_two_polls() -> None:
    bench = Bench()
    bench.unit.stuck = True

    def idle() -> None:
        bench.unit.stuck = False
        bench.unit.write64(IQT, bench.unit.registers[IQT])

    bench.driver.queue._idle = idle
    bench.driver.invalidate_domain(7)
    assert len(bench.unit.of_type(2)) == 1


def test_attaching_in_legacy_mode_writes_root_and_context_entry() -> None:
    bench = Bench()
    bench.driver.attach(DEVICE, 0x1234, TABLE)
    assert bench.word(bench.legacy_entry(), 16) == (0x1234 << 8 | 2) << 64 | 0xABC000 | 1
    assert bench.unit.log == []


def test_two_devices_of_a_bus_share_a_context_table() -> None:
    bench = Bench()
    bench.driver.attach(source_id(1, 0, 0), 2, TABLE)
    held = bench.zone.held
    bench.driver.attach(source_id(1, 3, 0), 2, TABLE)
    assert bench.zone.held == held


@pytest.mark.parametrize(
    "table, low, high",
    [(TABLE, 0xABC000 | 2 << 2 | 2 << 6 | 1, 0), (FIRST, 3 << 2 | 1 << 6 | 1, 0xDEF000 | 1 << 2)],
    ids=["second-stage", "first-stage"],
)
def test_attaching_in_scalable_mode_writes_every_table(table: PageTable, low: int, high: int) -> None:
    bench = Bench(Mode.SCALABLE)
    bench.driver.attach(DEVICE, 0x1234, table)
    context = bench.word(bench.scalable_entry(), 32)
    assert context & 0xFFF == 1 | 2 << 9
    assert context >> 64 == 0
    assert bench.word(bench.pasid_entry(), 64) == high << 128 | 0x1234 << 64 | low


def test_first_stage_walks_snoop_where_the_unit_can() -> None:
    bench = Bench(Mode.SCALABLE, ecap=QI | SMTS | 1 << 48)
    bench.driver.attach(DEVICE, 2, FIRST)
    assert bench.word(bench.pasid_entry(), 64) >> 87 & 1 == 1


def test_legacy_mode_has_no_first_stage() -> None:
    with pytest.raises(Exception, match="first-stage ones need scalable mode"):
        Bench().driver.attach(DEVICE, 2, FIRST)


def test_a_device_is_attached_once() -> None:
    bench = Bench()
    bench.driver.attach(DEVICE, 5, TABLE)
    with pytest.raises(DriverError, match="domain-id 5"):
        bench.driver.attach(DEVICE, 6, TABLE)


def test_detaching_in_legacy_mode_clears_p_then_invalidates_then_zeroes() -> None:
    bench = Bench()
    bench.driver.attach(DEVICE, 0x1234, TABLE)
    entry = bench.legacy_entry()
    bench.unit.watch = [entry]
    bench.driver.detach(DEVICE)
    assert bench.unit.log == [1, 2, 5]
    assert {seen[0] for seen in bench.unit.seen[-3:]} == {0xABC000}
    context, iotlb = bench.unit.of_type(1)[0], bench.unit.of_type(2)[0]
    assert (context.bits(5, 4), context.bits(31, 16), context.bits(47, 32)) == (3, 0x1234, DEVICE)
    assert (iotlb.bits(5, 4), iotlb.bits(31, 16)) == (2, 0x1234)
    assert bench.word(entry, 16) == 0


@pytest.mark.parametrize("table, tail", [(TABLE, 2), (FIRST, 6)], ids=["second-stage", "first-stage"])
def test_detaching_in_scalable_mode_goes_from_pasid_to_context(table: PageTable, tail: int) -> None:
    bench = Bench(Mode.SCALABLE)
    bench.driver.attach(source_id(0x3A, 0, 0), 9, TABLE)
    held = bench.zone.held
    bench.driver.attach(DEVICE, 0x1234, table)
    context, pasid = bench.scalable_entry(), bench.pasid_entry()
    bench.unit.watch = [context, pasid]
    bench.driver.detach(DEVICE)
    assert bench.unit.log == [7, tail, 5, 1, 5]
    assert [(seen[0] & 1, seen[1] & 1) for seen in bench.unit.seen[-5:]] == [(1, 0)] * 3 + [(0, 0)] * 2
    assert bench.unit.of_type(7)[0].bits(5, 4) == 1
    assert bench.unit.of_type(tail)[0].bits(5, 4) == 2
    assert bench.word(context, 32) == 0
    assert bench.zone.held == held + 1  # the upper half's context table stays


def test_a_device_may_come_back_after_it_was_detached() -> None:
    bench = Bench(Mode.SCALABLE)
    for domain_id in (2, 3):
        bench.driver.attach(DEVICE, domain_id, TABLE)
        assert bench.word(bench.pasid_entry(), 64) >> 64 & 0xFFFF == domain_id
        bench.driver.detach(DEVICE)
    with pytest.raises(DriverError, match="not attached"):
        bench.driver.detach(DEVICE)


def covering_by_trial(iova: int, size: int) -> int:
    """The smallest aligned block that holds the range once its length is rounded up to a power of two."""
    first = iova // 4096
    pages = -(-(iova + size) // 4096) - first
    rounded = 1
    while rounded < pages:
        rounded *= 2
    order = 0
    while (1 << order) < rounded or (first >> order) != (first + rounded - 1 >> order):
        order += 1
    return order


@pytest.mark.parametrize("first", [0, 1, 3, 0x17F, 0x7FFFF, 0xFFFFF, 0x100000])
@pytest.mark.parametrize("pages", [1, 2, 3, 4, 5, 31, 32, 33, 512, 4096])
def test_the_address_mask_equals_its_obvious_twin(first: int, pages: int) -> None:
    assert covering_order(first * 4096, pages * 4096) == covering_by_trial(first * 4096, pages * 4096)


def test_the_mask_of_a_range_that_straddles_an_aligned_block_reaches_over_it() -> None:
    assert covering_order(0x17F << 12, 3 << 12) == 8


def test_a_range_is_invalidated_by_page_with_its_hint() -> None:
    bench = Bench(cap=PSI | DRAIN)
    bench.driver.invalidate_range(0x42, Stage.SECOND, 0x17F000, 0x3000, leaves_only=True)
    iotlb = bench.unit.of_type(2)[0]
    assert (iotlb.bits(5, 4), iotlb.bits(31, 16), iotlb.bits(69, 64), iotlb.bits(70, 70)) == (3, 0x42, 8, 1)
    assert iotlb.bits(127, 76) == 0x100
    assert iotlb.bits(7, 6) == 3  # drain both


def test_a_range_that_took_tables_with_it_has_no_hint() -> None:
    bench = Bench(cap=PSI)
    bench.driver.invalidate_range(2, Stage.SECOND, 0x20_0000, 0x20_0000, leaves_only=False)
    assert bench.unit.of_type(2)[0].bits(70, 70) == 0


@pytest.mark.parametrize("cap, mamv, size", [(0, 18, 0x1000), (PSI, 4, 0x2_0000)], ids=["no PSI", "beyond MAMV"])
def test_what_cannot_be_invalidated_by_page_is_invalidated_by_domain(cap: int, mamv: int, size: int) -> None:
    bench = Bench(cap=cap, mamv=mamv)
    bench.driver.invalidate_range(0x42, Stage.SECOND, 0, size, leaves_only=True)
    iotlb = bench.unit.of_type(2)[0]
    assert (iotlb.bits(5, 4), iotlb.bits(31, 16), iotlb.word >> 64) == (2, 0x42, 0)


def test_first_stage_ranges_use_the_pasid_descriptor_which_mamv_does_not_limit() -> None:
    bench = Bench(Mode.SCALABLE, cap=PSI, mamv=4)
    bench.driver.invalidate_range(0x42, Stage.FIRST, 0x4000_0000, 0x4000_0000, leaves_only=True)
    bench.driver.invalidate_range(0x42, Stage.FIRST, 0, 1 << 64, leaves_only=True)
    pages, everything = bench.unit.of_type(6)
    assert (pages.bits(5, 4), pages.bits(31, 16), pages.bits(51, 32), pages.bits(69, 64)) == (3, 0x42, 0, 18)
    assert pages.bits(127, 76) == 0x40000
    assert (everything.bits(5, 4), everything.word >> 64) == (2, 0)


def test_a_new_mapping_costs_nothing_without_caching_mode() -> None:
    bench = Bench(cap=PSI)
    bench.driver.mapped(2, Stage.SECOND, 0x1000, 0x1000)
    assert bench.unit.log == []


def test_caching_mode_hears_of_new_mappings_and_of_new_devices() -> None:
    bench = Bench(cap=PSI | CM)
    bench.driver.attach(DEVICE, 0x42, TABLE)
    context, iotlb = bench.unit.of_type(1)[0], bench.unit.of_type(2)[0]
    assert (context.bits(5, 4), context.bits(31, 16), context.bits(47, 32)) == (3, 0, DEVICE)
    assert (iotlb.bits(5, 4), iotlb.bits(31, 16)) == (2, 0x42)
    bench.driver.mapped(0x42, Stage.SECOND, 0x1000, 0x1000)
    assert bench.unit.of_type(2)[1].bits(5, 4) == 3


def test_caching_mode_in_scalable_mode_hears_of_the_pasid_entry_too() -> None:
    bench = Bench(Mode.SCALABLE, cap=PSI | CM)
    bench.driver.attach(DEVICE, 0x42, TABLE)
    assert bench.unit.log == [7, 6, 5, 1, 2, 5]
    bench.driver.mapped(0x42, Stage.FIRST, 0x1000, 0x1000)
    assert bench.unit.log == [7, 6, 5, 1, 2, 5]  # first-stage entries are never cached absent


def test_a_unit_that_buffers_writes_is_told_to_flush_them() -> None:
    bench = Bench(cap=RWBF)
    bench.driver.attach(DEVICE, 2, TABLE)
    bench.driver.mapped(2, Stage.SECOND, 0x1000, 0x1000)
    assert bench.unit.log == ["wbf", "wbf"]


def test_invalidations_are_counted_by_granularity() -> None:
    bench = Bench(cap=PSI)
    before = bench.driver.counts.as_dict()
    bench.driver.invalidate_range(2, Stage.SECOND, 0, 0x1000, leaves_only=True)
    bench.driver.invalidate_range(2, Stage.FIRST, 0, 0x1000, leaves_only=True)
    bench.driver.invalidate_domain(2)
    bench.driver.invalidate_domain(2, Stage.FIRST)
    after = bench.driver.counts.as_dict()
    assert {key: after[key] - before[key] for key in after} == {
        "global": 0,
        "domain": 1,
        "page": 2,
        "pasid": 1,
        "context": 0,
        "pasid_cache": 0,
        "wait": 4,
    }


def test_descriptors_in_wide_slots_are_padded_with_zeros() -> None:
    bench = Bench(Mode.SCALABLE, cap=PSI)
    bench.memory.write(bench.driver.queue.base, b"\xff" * 4096)
    bench.driver.invalidate_domain(3)
    assert all(descriptor.word >> 128 == 0 for descriptor in bench.unit.fetched)


def test_no_page_for_the_units_own_structures_is_an_error() -> None:
    memory = PhysicalMemory([(0, 16 << 20)])
    zone = Zone(Clock(), KERNEL, 64 << 12, used=0, min_free_kib=64 * 4)
    with pytest.raises(NoPage, match="kernel memory"):
        UnitDriver(memory, FakeUnit(memory), SystemSupply(zone, Gfp.NOWAIT))


def test_capabilities_are_read_from_the_registers() -> None:
    bench = Bench(cap=PSI, mamv=9)
    assert bench.driver.capabilities.cap.mamv == 9
    assert bench.driver.capabilities.ecap == bench.unit.read64(ECAP)
    assert struct.pack("<Q", bench.driver.capabilities.cap) == struct.pack("<Q", bench.unit.cap)
