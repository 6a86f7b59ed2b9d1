"""Device-TLBs: what a device keeps, and what device-TLB invalidations make it forget, answered or not."""

from __future__ import annotations

import random
import struct

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from emulator.unit.device_tlb import DeviceTlb, DeviceTlbInvalidation, encode_range, range_of
from pagetables.layouts.page_request import AtsTranslationCompletion
from pagetables.request import Access
from tests.ats import DTE, EVERYTHING, ICE, ITE, PASIDE, AtsBench, Recorder, device_tlb, pasid_device_tlb
from tests.profiles import changed
from tests.units import DISK, FECTL, FSTS, IQERCD, IQH, IQT, NIC, QIE, STATUS, iotlb_global, wait_flags, wait_status

IQE = 0x10
SPEC = load_profile("spec")


@pytest.fixture
def bench(engine: Engine) -> AtsBench:
    """Legacy mode with a device-TLB at NIC, a 128-bit queue, and no time to wait in."""
    bench = AtsBench(engine)
    bench.ats_legacy(bench.table())
    bench.start_queue()
    return bench


@pytest.fixture
def wide(engine: Engine) -> AtsBench:
    """Scalable mode, a 256-bit queue."""
    bench = AtsBench(engine)
    bench.ats_scalable()
    return bench


def status(bench: AtsBench, at: int = STATUS) -> int:
    return struct.unpack("<I", bench.memory.read(at, 4))[0]


def record(bench: AtsBench) -> tuple[int, int, int]:
    """IQEI, ITESID and ICESID."""
    value = bench.read(IQERCD, 8)
    return value & 0xF, value >> 32 & 0xFFFF, value >> 48


def word(value: int) -> AtsTranslationCompletion:
    return AtsTranslationCompletion(value)


# -- ranges and descriptors


@pytest.mark.parametrize(
    "address, s, start, size",
    [
        (0x6000, 0, 0x6000, 0x1000),
        (0x6000, 1, 0x6000, 0x2000),
        (0x5000, 1, 0x4000, 0x4000),
        (0x400F_F000, 1, 0x4000_0000, 0x20_0000),
        (0x9FFF_F000, 1, 0x8000_0000, 0x4000_0000),
        (EVERYTHING, 1, 0, 1 << 64),
        (0xFFFF_FFFF_FFFF_F000, 1, 0, 1 << 64),
    ],
)
def test_the_lowest_zero_bit_says_how_large_a_range_is(address: int, s: int, start: int, size: int) -> None:
    assert range_of(address >> 12, s) == (start, size)


@pytest.mark.parametrize("shift", range(12, 64))
def test_every_range_is_encoded_as_it_is_read(shift: int) -> None:
    start = random.Random(shift).getrandbits(64) >> shift << shift
    number, s = encode_range(start + (1 << shift) - 1, shift)
    assert range_of(number, s) == (start, 1 << shift)


def test_descriptor_3_asks_the_device_of_its_source_id(bench: AtsBench) -> None:
    bench.invalidate(device_tlb(NIC, 0x6000), device_tlb(NIC, EVERYTHING, s=1, mip=31))
    assert bench.device.asked == [
        DeviceTlbInvalidation(NIC, 0x6000, 0x1000),
        DeviceTlbInvalidation(NIC, 0, 1 << 64),
    ]


def test_descriptor_8_names_a_pasid_or_all_of_them(wide: AtsBench) -> None:
    wide.invalidate(
        struct.pack("<QQQQ", 0x0001_2345_0010_0008, 0x6800, 0, 0),
        pasid_device_tlb(NIC, 0, EVERYTHING, s=1, g=1, mip=31),
    )
    assert wide.device.asked == [
        DeviceTlbInvalidation(NIC, 0x6000, 0x2000, 0x12345),
        DeviceTlbInvalidation(NIC, 0, 1 << 64, 0, all_pasids=True),
    ]


def test_pfsid_is_reserved_without_dit(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"dit": 0}))
    bench.ats_scalable()
    for descriptor in (device_tlb(NIC, 0, pfsid=1), pasid_device_tlb(NIC, 1, 0, pfsid=0x10)):
        bench.submit(descriptor)
        assert (bench.read(FSTS) & IQE, record(bench)[0]) == (IQE, 4)
        bench.memory.write(0x10_2000 + bench.read(IQH, 8), wait_flags(0x40).ljust(32, b"\0"))
        bench.write(FSTS, IQE)
    assert bench.device.asked == []


@pytest.mark.parametrize("descriptor", [device_tlb(NIC, 0), pasid_device_tlb(NIC, 1, 0)])
def test_without_dt_both_descriptors_are_unknown(engine: Engine, descriptor: bytes) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"dt": 0, "dit": 0, "nwfs": 0, "prs": 0, "pds": 0, "sms": 0}))
    bench.slot = 32
    bench.start_queue()
    bench.submit(descriptor)
    assert record(bench)[0] == 3


def test_a_profile_may_accept_descriptor_3_without_dt(engine: Engine) -> None:
    ecap = {"dt": 0, "dit": 0, "nwfs": 0, "prs": 0, "pds": 0, "sms": 0}
    bench = AtsBench(engine, changed(SPEC, ecap=ecap, behaviours=frozenset({"device_tlb_without_dt"})))
    bench.slot = 32
    bench.start_queue()
    bench.invalidate(device_tlb(NIC, 0))
    assert (bench.read(FSTS), bench.device.asked) == (0, [])


@pytest.mark.parametrize("low", [0x3 | 1 << 4, 0x3 | 1 << 21, 0x3 | 1 << 48])
def test_reserved_bits_of_descriptor_3_stop_the_queue(bench: AtsBench, low: int) -> None:
    bench.submit(struct.pack("<QQ", low, 0))
    assert record(bench)[0] == 4


@pytest.mark.parametrize("high", [1 << 1, 1 << 10])
def test_reserved_bits_of_descriptor_8_stop_the_queue(wide: AtsBench, high: int) -> None:
    wide.submit(struct.pack("<QQQQ", 0x8, high, 0, 0))
    assert record(wide)[0] == 4


# -- devices that do not answer, in no time


def test_a_device_that_does_not_answer_has_timed_out_when_something_waits(bench: AtsBench) -> None:
    bench.device.answers = False
    bench.submit(device_tlb(NIC, 0x1000))
    assert bench.read(FSTS) == 0
    bench.submit(wait_status(STATUS, 1), wait_status(STATUS, 2))
    assert bench.read(FSTS) == ITE
    assert record(bench) == (0, NIC, 0)
    assert status(bench) == 0
    assert bench.read(IQH, 8) == 32  # past the wait, which will never finish


def test_after_ite_the_queue_goes_on_when_it_is_cleared(bench: AtsBench) -> None:
    bench.device.answers = False
    bench.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 1), iotlb_global(), wait_status(STATUS, 2))
    assert (status(bench), bench.read(IQH, 8)) == (0, 32)
    bench.write(FSTS, ITE)
    assert (status(bench), bench.read(IQH, 8)) == (2, 64)
    assert bench.read(FSTS) == 0


def test_ite_keeps_the_first_source_id(bench: AtsBench) -> None:
    bench.submit(device_tlb(DISK, 0x1000), device_tlb(NIC + 8, 0x1000), wait_status(STATUS, 1))
    assert record(bench) == (0, DISK, 0)
    bench.write(FSTS, ITE)
    bench.submit(device_tlb(NIC + 8, 0x1000), wait_status(STATUS, 1))
    assert record(bench) == (0, NIC + 8, 0)


def test_a_profile_may_answer_for_devices_that_are_not_there(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, behaviours=frozenset({"missing_devices_complete"})))
    bench.start_queue()
    bench.invalidate(device_tlb(DISK, 0x1000))
    assert bench.read(FSTS) == 0


def test_a_device_that_was_detached_does_not_answer(bench: AtsBench) -> None:
    bench.unit.attach_device_tlb(NIC, None)
    bench.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 1))
    assert (bench.read(FSTS), bench.device.asked) == (ITE, [])


def test_more_invalidations_than_mip_have_to_wait(bench: AtsBench) -> None:
    bench.device.answers = False
    bench.submit(device_tlb(NIC, 0x1000, mip=2), device_tlb(NIC, 0x2000, mip=2))
    assert bench.read(FSTS) == 0
    bench.submit(device_tlb(NIC, 0x3000, mip=2))
    assert (bench.read(FSTS), bench.read(IQH, 8)) == (ITE, 32)
    bench.device.answers = True
    bench.write(FSTS, ITE)
    assert [asked.start for asked in bench.device.asked] == [0x1000, 0x2000, 0x3000]
    assert bench.read(IQH, 8) == bench.read(IQT, 8)


def test_mip_0_means_32(bench: AtsBench) -> None:
    bench.device.answers = False
    bench.submit(*[device_tlb(NIC, 0x1000)] * 32)
    assert bench.read(FSTS) == 0
    bench.submit(device_tlb(NIC, 0x1000))
    assert bench.read(FSTS) == ITE


def test_an_unexpected_completion_sets_ice_and_the_queue_goes_on(bench: AtsBench) -> None:
    bench.unit.invalidation_completed(DISK)
    assert (bench.read(FSTS), record(bench)) == (ICE, (0, 0, DISK))
    bench.unit.invalidation_completed(NIC)
    assert record(bench) == (0, 0, DISK)
    bench.invalidate(device_tlb(NIC, 0x1000))
    bench.write(FSTS, ICE)
    assert bench.read(FSTS) == 0
    bench.unit.invalidation_completed(NIC)
    assert record(bench) == (0, 0, NIC)


def test_a_unit_without_dt_takes_no_completions(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"dt": 0, "prs": 0, "pds": 0, "sms": 0, "dit": 0}))
    bench.unit.invalidation_completed(NIC)
    assert (bench.read(FSTS), record(bench), bench.read(FECTL)) == (0, (0, 0, 0), 1 << 31)


# -- devices that take their time


@pytest.fixture
def patient(bench: AtsBench) -> AtsBench:
    """A unit that waits 1000 ns for devices, and a device that answers when the test says so."""
    bench.unit.timing.device_answer = 1000
    bench.device.answers = False
    return bench


def test_a_wait_finishes_with_the_last_completion(patient: AtsBench) -> None:
    patient.submit(device_tlb(NIC, 0x1000), device_tlb(NIC, 0x2000), wait_status(STATUS, 1, 0x10))
    patient.unit.invalidation_completed(NIC)
    assert (status(patient), patient.read(IQH, 8)) == (0, 48)
    patient.unit.invalidation_completed(NIC)
    assert (status(patient), patient.read(0x9C)) == (1, 1)
    patient.unit.clock.advance(10_000)
    assert patient.read(FSTS) == 0


def test_descriptors_behind_an_open_wait_are_done_unless_it_is_a_fence(patient: AtsBench) -> None:
    patient.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 1), iotlb_global(), wait_status(STATUS + 8, 3))
    assert patient.read(IQH, 8) == 64
    patient.submit(wait_status(STATUS, 2, 0x40), iotlb_global())
    assert patient.read(IQH, 8) == 80
    patient.unit.invalidation_completed(NIC)
    assert (status(patient), status(patient, STATUS + 8), patient.read(IQH, 8)) == (2, 3, 96)


def test_a_time_out_aborts_every_open_wait(patient: AtsBench) -> None:
    patient.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 1), wait_status(STATUS, 2, 0x10))
    patient.unit.clock.advance(999)
    assert patient.read(FSTS) == 0
    patient.unit.clock.advance(1)
    assert (patient.read(FSTS), record(patient)) == (ITE, (0, NIC, 0))
    patient.submit(wait_status(STATUS, 3))
    assert status(patient) == 0  # nothing is fetched until ITE is cleared
    patient.write(FSTS, ITE)
    assert (status(patient), patient.read(0x9C)) == (3, 0)


def test_a_time_out_aborts_the_wait_that_takes_its_time_too(patient: AtsBench) -> None:
    patient.unit.latency = 800
    patient.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 1, 0x10), wait_status(STATUS, 2))
    patient.unit.clock.advance(1799)  # the wait would be done at 1600 ns, but is open
    patient.unit.clock.advance(1)
    assert (patient.read(FSTS), patient.read(IQH, 8)) == (ITE, 48)
    patient.write(FSTS, ITE)
    patient.unit.clock.advance(10_000)
    assert (status(patient), patient.read(0x9C)) == (0, 0)


def test_what_stands_behind_an_aborted_wait_is_done_when_ite_is_cleared(bench: AtsBench) -> None:
    bench.device.answers = False
    bench.unit.latency, bench.unit.timing.device_answer = 1000, 500
    bench.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 1, 0x10), wait_status(STATUS, 2))
    bench.unit.clock.advance(1500)
    assert (bench.read(FSTS), bench.read(IQH, 8)) == (ITE, 32)
    bench.unit.clock.advance(1000)
    assert (status(bench), bench.read(0x9C)) == (0, 0)
    bench.write(FSTS, ITE)
    bench.unit.clock.advance(1000)
    assert (status(bench), bench.read(IQH, 8)) == (2, 48)


def test_a_time_out_lets_the_invalidation_that_takes_its_time_finish(bench: AtsBench) -> None:
    bench.device.answers = False
    bench.unit.latency, bench.unit.timing.device_answer = 1000, 500
    bench.submit(device_tlb(NIC, 0x1000), iotlb_global(), wait_status(STATUS, 1))
    bench.unit.clock.advance(1500)
    assert (bench.read(FSTS), bench.read(IQH, 8)) == (ITE, 16)
    bench.unit.clock.advance(500)
    assert (bench.read(FSTS), bench.read(IQH, 8)) == (ITE, 32)


@pytest.mark.parametrize("latency", [0, 400])
def test_a_queue_switched_off_sends_no_descriptor_for_which_the_device_has_no_room(
    patient: AtsBench, latency: int
) -> None:
    patient.unit.latency = latency
    patient.submit(device_tlb(NIC, 0x1000, mip=1), device_tlb(NIC, 0x2000, mip=1))
    patient.unit.clock.advance(900)
    patient.command(QIE, on=False)
    assert (patient.read(FSTS), len(patient.device.asked)) == (0, 1)


def test_a_descriptor_takes_its_time_when_its_device_has_room(patient: AtsBench) -> None:
    patient.unit.latency = 400
    patient.submit(device_tlb(NIC, 0x1000, mip=1), device_tlb(NIC, 0x2000, mip=1))
    patient.unit.clock.advance(900)
    patient.unit.invalidation_completed(NIC)
    patient.unit.clock.advance(399)
    assert (len(patient.device.asked), patient.read(IQH, 8)) == (1, 16)
    patient.unit.clock.advance(1)
    assert (len(patient.device.asked), patient.read(IQH, 8)) == (2, 32)


def test_an_answer_after_the_time_out_is_unexpected(patient: AtsBench) -> None:
    patient.submit(device_tlb(NIC, 0x1000))
    patient.unit.clock.advance(1000)
    patient.unit.invalidation_completed(NIC)
    assert patient.read(FSTS) == ITE | ICE
    assert record(patient) == (0, NIC, NIC)


def test_a_full_device_holds_the_queue_until_it_answers(patient: AtsBench) -> None:
    patient.submit(device_tlb(NIC, 0x1000, mip=1), device_tlb(NIC, 0x2000, mip=1), wait_status(STATUS, 1))
    assert patient.read(IQH, 8) == 16
    patient.unit.invalidation_completed(NIC)
    assert patient.read(IQH, 8) == 48
    patient.unit.invalidation_completed(NIC)
    assert status(patient) == 1


def test_a_held_descriptor_is_sent_after_the_time_out_is_cleared(patient: AtsBench) -> None:
    patient.submit(device_tlb(NIC, 0x1000, mip=1), device_tlb(NIC, 0x2000, mip=1))
    patient.unit.clock.advance(1000)
    assert (patient.read(FSTS), patient.read(IQH, 8)) == (ITE, 16)
    patient.write(FSTS, ITE)
    assert [asked.start for asked in patient.device.asked] == [0x1000, 0x2000]


def test_functions_of_one_physical_function_share_its_limit(patient: AtsBench) -> None:
    patient.submit(device_tlb(NIC, 0x1000, mip=1, pfsid=0x20), device_tlb(DISK, 0x2000, mip=1, pfsid=0x20))
    assert patient.read(IQH, 8) == 16
    patient.unit.invalidation_completed(NIC)
    assert patient.read(IQH, 8) == 32


def test_switching_the_queue_off_gives_up_what_is_open(patient: AtsBench) -> None:
    patient.submit(device_tlb(NIC, 0x1000, mip=1), wait_status(STATUS, 1), device_tlb(NIC, 0x1000, mip=1))
    patient.command(QIE, on=False)
    patient.unit.clock.advance(10_000)
    assert (patient.read(FSTS), patient.read(IQH, 8), status(patient)) == (0, 0, 0)


# -- what a device keeps


def test_a_device_keeps_what_a_completion_grants() -> None:
    tlb = DeviceTlb()
    tlb.fill(0x1234, word(0x5003))
    found = tlb.lookup(0x1238, Access.WRITE)
    assert found is not None
    assert found[0] == 0x5238
    assert tlb.lookup(0x2000, Access.READ) is None
    assert tlb.lookup(0x1000, Access.READ, pasid=1) is None
    assert tlb.lookup(0x1000, Access.READ, privileged=True) is None
    assert tlb.lookup(0x1000, Access.EXECUTE) is None


@pytest.mark.parametrize("value", [0x0, 0xFEE0_1006])
def test_a_device_keeps_nothing_without_rights_or_for_untranslated_access(value: int) -> None:
    tlb = DeviceTlb()
    assert tlb.fill(0x1000, word(value)) is None
    assert len(tlb) == 0


def test_a_large_page_answers_for_all_of_it() -> None:
    tlb = DeviceTlb()
    tlb.fill(0x3F_F000, word(0x400F_F803))
    found = tlb.lookup(0x20_1234, Access.READ)
    assert found is not None
    assert found[0] == 0x4000_1234


@pytest.mark.parametrize("value, access", [(0x5001, Access.WRITE), (0x5002, Access.READ), (0x5001, Access.ATOMIC)])
def test_rights_that_were_not_granted_are_no_hit(value: int, access: Access) -> None:
    tlb = DeviceTlb()
    tlb.fill(0x1000, word(value))
    assert tlb.lookup(0x1000, access) is None


def test_execute_permission_is_a_hit() -> None:
    tlb = DeviceTlb()
    tlb.fill(0x1000, word(0x5009))
    assert tlb.lookup(0x1000, Access.EXECUTE) is not None


def test_a_device_tlb_of_no_capacity_keeps_nothing() -> None:
    tlb = DeviceTlb(0)
    assert tlb.fill(0x1000, AtsTranslationCompletion(0x5003)) is None
    assert len(tlb) == 0


def test_a_full_device_tlb_drops_what_was_used_longest_ago() -> None:
    tlb = DeviceTlb(capacity=2)
    tlb.fill(0x1000, word(0x1003))
    tlb.fill(0x2000, word(0x2003))
    tlb.lookup(0x1000, Access.READ)
    tlb.fill(0x3000, word(0x3003))
    assert [entry.iova for entry in tlb.entries()] == [0x1000, 0x3000]
    tlb.fill(0x3000, word(0x4003))
    assert [entry.gpa for entry in tlb.entries()] == [0x1000, 0x4000]
    tlb.clear()
    assert tlb.entries() == []


def test_a_global_entry_answers_for_every_pasid() -> None:
    tlb = DeviceTlb()
    tlb.fill(0x1000, word(0x5023), pasid=1)
    assert tlb.lookup(0x1000, Access.READ, pasid=2) is not None
    tlb.invalidate(DeviceTlbInvalidation(NIC, 0x1000, 0x1000, 1))
    assert len(tlb) == 1
    tlb.invalidate(DeviceTlbInvalidation(NIC, 0x1000, 0x1000, 0, all_pasids=True))
    assert len(tlb) == 0


@pytest.mark.parametrize(
    "invalidation, left",
    [
        (DeviceTlbInvalidation(NIC, 0x1000, 0x1000), [1, 2]),
        (DeviceTlbInvalidation(NIC, 0x1000, 0x1000, 1), [None, 2]),
        (DeviceTlbInvalidation(NIC, 0x1000, 0x1000, 0, all_pasids=True), [None]),
        (DeviceTlbInvalidation(NIC, 0x2000, 0x1000, 1), [None, 1, 2]),
        (DeviceTlbInvalidation(NIC, 0, 1 << 64, 2), [None, 1]),
    ],
)
def test_an_invalidation_removes_its_range_of_its_pasid(
    invalidation: DeviceTlbInvalidation, left: list[int | None]
) -> None:
    tlb = DeviceTlb()
    for pasid in (None, 1, 2):
        tlb.fill(0x1000, word(0x5003), pasid)
    assert tlb.invalidate(invalidation)
    assert [entry.pasid for entry in tlb.entries()] == left


def test_one_page_of_a_large_one_removes_it_whole() -> None:
    tlb = DeviceTlb()
    tlb.fill(0x20_0000, word(0x400F_F803))
    tlb.invalidate(DeviceTlbInvalidation(NIC, 0x3F_F000, 0x1000))
    assert len(tlb) == 0


def test_a_device_uses_a_stale_translation_until_it_is_told(engine: Engine) -> None:
    bench = AtsBench(engine)
    table = bench.table()
    leaf = bench.map_first(table, 0x1000, 0x5000)
    bench.ats_scalable(DTE | PASIDE)
    bench.pasid_entry(1, 1, 9, table)
    bench.device.fill(0x1000, bench.ask(0x1000, pasid=1).entries[0], pasid=1)
    bench.put(leaf, 0)
    bench.invalidate(iotlb_global())
    assert bench.words(0x1000, pasid=1) == [0x0]
    found = bench.device.lookup(0x1000, Access.READ, pasid=1)
    assert found is not None
    assert bench.translated(found[0]) == 0x5000
    bench.invalidate(pasid_device_tlb(NIC, 1, 0x1000))
    assert bench.device.lookup(0x1000, Access.READ, pasid=1) is None


# -- devices and handlers that come back at once


def test_a_device_may_complete_while_it_is_asked(bench: AtsBench) -> None:
    class Eager:
        asked = 0

        def invalidate(self, invalidation: DeviceTlbInvalidation) -> bool:
            self.asked += 1
            bench.unit.invalidation_completed(invalidation.source_id)
            return False

    eager = Eager()
    bench.unit.attach_device_tlb(NIC, eager)
    bench.invalidate(device_tlb(NIC, 0x1000), device_tlb(NIC, 0x2000))
    assert (eager.asked, bench.read(FSTS), bench.read(IQH, 8)) == (2, 0, 48)


def test_a_handler_may_move_the_tail_while_a_wait_finishes(bench: AtsBench) -> None:
    bench.write(0xA0, 0)  # IECTL: not masked
    more = [wait_status(STATUS, 7)]
    bench.unit.message_sink = lambda message: bench.submit(more.pop()) if more else None
    bench.submit(wait_flags(0x10))
    assert (status(bench), bench.read(IQH, 8), bench.read(IQT, 8)) == (7, 32, 32)


def test_a_handler_may_switch_the_queue_off_while_a_wait_finishes(bench: AtsBench) -> None:
    bench.write(0xA0, 0)
    bench.unit.message_sink = lambda message: bench.command(QIE, on=False)
    bench.submit(wait_flags(0x10), wait_status(STATUS, 7))
    assert (status(bench), bench.read(IQH, 8)) == (0, 0)


def test_a_handler_may_restart_the_queue_while_a_wait_finishes(bench: AtsBench) -> None:
    def restart(message: object) -> None:
        bench.command(QIE, on=False)
        bench.command(QIE)

    bench.write(0xA0, 0)
    bench.unit.message_sink = restart
    bench.submit(wait_flags(0x10), wait_status(STATUS, 7))
    assert (status(bench), bench.read(IQH, 8)) == (7, 32)


def test_a_handler_may_repair_the_queue_while_its_error_is_told(bench: AtsBench) -> None:
    def repair(message: object) -> None:
        bench.memory.write(0x10_2000, wait_flags(0x40))
        bench.write(FSTS, IQE)

    bench.write(0x38, 0)  # FECTL: not masked
    bench.unit.message_sink = repair
    bench.submit(bytes(16), wait_status(STATUS, 7))
    assert (status(bench), bench.read(IQH, 8), bench.read(FSTS)) == (7, 32, 0)


@pytest.mark.parametrize("what", ["completes", "switches the queue off", "resets"])
def test_a_device_may_act_on_the_unit_before_it_says_that_it_obeyed(bench: AtsBench, what: str) -> None:
    class Meddler(Recorder):
        def invalidate(self, invalidation: DeviceTlbInvalidation) -> bool:
            if what == "completes":
                bench.unit.invalidation_completed(NIC)
            elif what == "resets":
                bench.unit.reset()
            else:
                bench.command(QIE, on=False)
            return True

    bench.unit.attach_device_tlb(NIC, Meddler())
    bench.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 7))
    assert (status(bench), bench.read(FSTS)) == (7 if what == "completes" else 0, 0)
    assert bench.read(IQH, 8) == (32 if what == "completes" else 0)
