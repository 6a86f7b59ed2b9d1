"""The invalidation queue: order, wrap, both widths, and every way to stop it."""

from __future__ import annotations

import struct

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from emulator.unit.device_tlb import DeviceTlb
from emulator.unit.events import EventMessage
from tests.profiles import changed
from tests.units import (
    FECTL,
    FSTS,
    ICS,
    IEADDR,
    IECTL,
    IEDATA,
    IEUADDR,
    IQA,
    IQERCD,
    IQH,
    IQT,
    NIC,
    QIE,
    QUEUE,
    ROOT,
    RTADDR,
    SRTP,
    STATUS,
    Bench,
    context_global,
    iotlb_domain,
    iotlb_global,
    iotlb_pages,
    pasid_cache,
    pasid_iotlb,
    wait_flags,
    wait_status,
)

IQE = 0x10
SPEC = load_profile("spec")


@pytest.fixture
def bench(engine: Engine) -> Bench:
    """A 128-bit queue, running."""
    bench = Bench(engine)
    bench.start_queue()
    return bench


@pytest.fixture
def wide(engine: Engine) -> Bench:
    """A 256-bit queue, running."""
    bench = Bench(engine)
    bench.slot = 32
    bench.start_queue()
    return bench


def status(bench: Bench, address: int = STATUS) -> int:
    return struct.unpack("<I", bench.memory.read(address, 4))[0]


def stopped(bench: Bench) -> tuple[int, int]:
    """IQEI and the head, of a queue that must be in error."""
    assert bench.read(FSTS) & IQE, "the queue is not in error"
    return bench.read(IQERCD, 8) & 0xF, bench.read(IQH, 8)


def test_a_wait_writes_exactly_its_32_bits(bench: Bench) -> None:
    bench.put(STATUS, 0xFFFF_FFFF_FFFF_FFFF)
    bench.submit(wait_status(STATUS, 0x1234_5678))
    assert bench.qword(STATUS) == 0xFFFF_FFFF_1234_5678
    assert bench.read(IQH, 8) == 16


def test_descriptors_are_executed_in_order(bench: Bench) -> None:
    bench.submit(wait_status(STATUS, 1), iotlb_global(), wait_status(STATUS, 2), wait_status(STATUS + 4, 3))
    assert (status(bench), status(bench, STATUS + 4)) == (2, 3)


def test_a_wait_comes_after_the_invalidations_before_it(engine: Engine) -> None:
    bench = Bench(engine)
    table = bench.table()
    leaf = bench.map(table, 0x1000, 0x5000)
    bench.legacy((NIC, table, 5))
    bench.start_queue()
    assert bench.go(0x1000) == 0x5000
    bench.put(leaf, 0)
    # A bad descriptor between the wait and the invalidation: the wait before it is done, what follows is not.
    bench.submit(wait_status(STATUS, 1), bytes(16), iotlb_domain(5), wait_status(STATUS, 2))
    assert status(bench) == 1
    assert bench.go(0x1000) == 0x5000
    bench.memory.write(QUEUE + 16, wait_flags(0x40))
    bench.write(FSTS, IQE)
    assert status(bench) == 2
    assert bench.go(0x1000) == -0x6


@pytest.mark.parametrize("order", [0, 1, 3])
def test_the_queue_wraps_after_its_last_slot(engine: Engine, order: int) -> None:
    bench = Bench(engine)
    bench.start_queue(order)
    slots = (0x1000 << order) // 16
    for round_ in range(3):
        bench.submit(*[iotlb_domain(1)] * (slots - 2))
        bench.submit(wait_status(STATUS, round_ + 1))
        assert status(bench) == round_ + 1
    assert bench.read(IQH, 8) == bench.read(IQT, 8) == 3 * (slots - 1) % slots * 16


def test_a_256_bit_queue_wraps_at_half_as_many_slots(wide: Bench) -> None:
    for round_ in range(5):
        wide.submit(*[pasid_iotlb(2, 1, 1)] * 100, wait_status(STATUS, round_ + 1))
        assert status(wide) == round_ + 1
    assert wide.read(IQH, 8) == 505 % 128 * 32


def test_a_256_bit_queue_takes_every_descriptor(wide: Bench) -> None:
    device_tlb = struct.pack("<QQ", 0x3 | NIC << 32, 0x7FFF_FFFF_FFFF_F001)
    interrupt_entries = struct.pack("<QQ", 0x4, 0)
    pasid_device_tlb = struct.pack("<QQQQ", 0x8 | NIC << 16 | 5 << 32, 0x7FFF_FFFF_FFFF_F800, 0, 0)
    response = struct.pack("<QQQQ", 0x19 | NIC << 16 | 5 << 32, 0x1FF << 3, 0, 0)
    wide.unit.attach_device_tlb(NIC, DeviceTlb())
    wide.submit(context_global(), iotlb_global(), device_tlb, interrupt_entries, response)
    wide.submit(pasid_iotlb(2, 1, 5), pasid_cache(3, 0, 0), pasid_device_tlb, wait_status(STATUS, 7, 0xC0))
    assert wide.read(FSTS) == 0
    assert status(wide) == 7


def test_an_empty_queue_stays_empty(bench: Bench) -> None:
    bench.write(IQT, 0, 8)
    assert (bench.read(IQH, 8), bench.read(FSTS)) == (0, 0)


def test_a_tail_written_as_two_dwords_acts_on_the_lower_one(bench: Bench) -> None:
    bench.memory.write(QUEUE, wait_status(STATUS, 1))
    bench.write(IQT + 4, 0)
    assert status(bench) == 0
    bench.write(IQT, 16)
    assert status(bench) == 1


# -- waits


@pytest.mark.parametrize("flags", [0, 0x40, 0x80, 0xC0])
def test_a_wait_without_a_status_write_only_waits(bench: Bench, flags: int) -> None:
    bench.submit(struct.pack("<QQ", 0x5 | flags | 0xDEAD << 32, 0x7777_0000))
    assert bench.read(FSTS) == 0
    assert bench.read(IQH, 8) == 16
    assert bench.read(ICS) == 0


def test_a_status_write_to_where_no_memory_is_gets_lost(bench: Bench) -> None:
    bench.submit(wait_status(0x8000_0000, 1), wait_status(STATUS, 2))
    assert bench.read(FSTS) == 0
    assert status(bench) == 2


def test_an_interrupt_flag_sets_iwc_and_leaves_the_event_pending_while_masked(bench: Bench) -> None:
    bench.submit(wait_status(STATUS, 1, 0x10))
    assert status(bench) == 1
    assert bench.read(ICS) == 1
    assert bench.read(IECTL) == 0xC000_0000
    assert bench.unit.messages == []


def test_clearing_the_mask_sends_the_pending_event(bench: Bench) -> None:
    bench.write(IEDATA, 0x4031)
    bench.write(IEADDR, 0xFEE0_1000)
    bench.write(IEUADDR, 0x0000_0200)
    bench.submit(wait_flags(0x10))
    bench.write(IECTL, 0)
    assert bench.unit.messages == [EventMessage(0x200_FEE0_1000, 0x4031)]
    assert bench.read(IECTL) == 0


def test_an_unmasked_event_is_sent_at_once_and_not_again_while_iwc_stands(bench: Bench) -> None:
    bench.write(IECTL, 0)
    bench.submit(wait_flags(0x10))
    bench.submit(wait_flags(0x10))
    assert len(bench.unit.messages) == 1
    bench.write(ICS, 1)
    assert bench.read(ICS) == 0
    bench.submit(wait_flags(0x10))
    assert len(bench.unit.messages) == 2


def test_clearing_iwc_withdraws_a_pending_event(bench: Bench) -> None:
    bench.submit(wait_flags(0x10))
    bench.write(ICS, 1)
    assert bench.read(IECTL) == 0x8000_0000
    bench.write(IECTL, 0)
    assert bench.unit.messages == []


def test_the_status_is_written_before_the_interrupt(bench: Bench) -> None:
    seen: list[int] = []
    bench.unit.message_sink = lambda message: seen.append(status(bench))
    bench.write(IECTL, 0)
    bench.submit(wait_status(STATUS, 5, 0x10))
    assert seen == [5]


# -- errors


@pytest.mark.parametrize("tail", [0x1000, 0x1010, 0x7FFF0])
def test_a_tail_beyond_the_queue_is_error_1(bench: Bench, tail: int) -> None:
    bench.write(IQT, tail, 8)
    assert stopped(bench) == (1, 0)


def test_a_bad_tail_is_found_when_the_queue_is_enabled(engine: Engine) -> None:
    bench = Bench(engine)
    bench.write(IQA, QUEUE, 8)
    bench.write(IQT, 0x1000, 8)
    bench.command(QIE)
    assert stopped(bench) == (1, 0)


def test_a_queue_outside_memory_is_error_2(engine: Engine) -> None:
    bench = Bench(engine)
    bench.write(IQA, 0x8000_0000, 8)
    bench.command(QIE)
    bench.write(IQT, 16, 8)
    assert stopped(bench) == (2, 0)


def test_a_queue_half_outside_memory_stops_where_memory_ends(engine: Engine) -> None:
    bench = Bench(engine, size=0x10_3000)
    bench.start_queue(order=1)
    bench.submit(*[iotlb_domain(1)] * 256)
    assert bench.read(FSTS) == 0
    bench.write(IQT, 0x1010, 8)
    assert stopped(bench) == (2, 0x1000)


@pytest.mark.parametrize("kind", [0x0, 0xA, 0xB, 0xF, 0x205, 0xE02])
def test_an_unknown_type_is_error_3(bench: Bench, kind: int) -> None:
    bench.submit(wait_status(STATUS, 1), struct.pack("<QQ", kind, 0))
    assert stopped(bench) == (3, 16)


@pytest.mark.parametrize("descriptor", [pasid_iotlb(2, 1, 1)[:16], pasid_cache(3, 0, 0)[:16], struct.pack("<QQ", 8, 0)])
def test_wide_descriptors_are_unknown_in_a_128_bit_queue(bench: Bench, descriptor: bytes) -> None:
    bench.submit(descriptor)
    assert stopped(bench) == (3, 0)


@pytest.mark.parametrize("descriptor", [struct.pack("<QQ", 3, 0), struct.pack("<QQ", 8, 0)])
def test_device_tlb_descriptors_are_unknown_without_device_tlbs(engine: Engine, descriptor: bytes) -> None:
    bench = Bench(engine, "default")
    bench.slot = 32
    bench.start_queue()
    bench.submit(descriptor)
    assert stopped(bench) == (3, 0)


@pytest.mark.parametrize(
    "low, high",
    [
        (0x01, 0),  # context-cache: granularity 0
        (0x11 | 1 << 6, 0),
        (0x11 | 1 << 50, 0),
        (0x11, 1),
        (0x02, 0),  # IOTLB: granularity 0
        (0x12 | 1 << 32, 0),
        (0x32, 19),  # AM beyond MAMV
        (0x32, 1 << 7),
        (0x4 | 1 << 5, 0),  # interrupt entries
        (0x14 | 16 << 27, 0),  # IM beyond MHMV
        (0x3, 2),  # device-TLB
        (0x25 | 1 << 12, STATUS),  # wait
        (0x25, STATUS | 1),
        (0x25, 1 << 52),  # status address above the host address width
    ],
)
def test_reserved_fields_and_bad_values_are_error_4(bench: Bench, low: int, high: int) -> None:
    bench.submit(struct.pack("<QQ", low, high))
    assert stopped(bench) == (4, 0)


@pytest.mark.parametrize(
    "qwords",
    [
        (0x06, 0, 0, 0),  # PASID-IOTLB: granularity 0
        (0x16, 0, 0, 0),
        (0x26 | 1 << 52, 0, 0, 0),
        (0x26, 0, 1, 0),
        (0x27, 0, 0, 0),  # PASID-cache: granularity 2
        (0x07, 1, 0, 0),
        (0x07, 0, 0, 1 << 63),
        (0x08, 1 << 1, 0, 0),
        (0x12, 0, 1, 0),  # the upper half of a short descriptor
        (0x25, STATUS, 0, 1),
        (0x11, 0, 1 << 20, 0),
    ],
)
def test_reserved_fields_and_bad_values_are_error_4_in_a_256_bit_queue(wide: Bench, qwords: tuple) -> None:
    wide.submit(struct.pack("<QQQQ", *qwords))
    assert stopped(wide) == (4, 0)


def test_a_page_request_drain_is_error_4_where_it_is_not_supported(engine: Engine) -> None:
    bench = Bench(engine, "default")
    bench.start_queue()
    bench.submit(wait_status(STATUS, 1, 0x80))
    assert stopped(bench) == (4, 0)
    assert status(bench) == 0


def test_a_throttling_source_is_error_4_where_it_is_not_supported(engine: Engine) -> None:
    bench = Bench(engine, changed(SPEC, ecap={"dit": 0}))
    bench.start_queue()
    bench.submit(struct.pack("<QQ", 0x3 | 1 << 12, 0))
    assert stopped(bench) == (4, 0)


def test_a_128_bit_queue_in_scalable_mode_is_error_5(bench: Bench) -> None:
    bench.write(RTADDR, ROOT | 1 << 10, 8)
    bench.command(SRTP)
    bench.submit(iotlb_global())
    assert stopped(bench) == (5, 0)


def test_a_256_bit_queue_without_scalable_mode_is_error_5(engine: Engine) -> None:
    bench = Bench(engine, changed(load_profile("qemu-7.2"), behaviours=frozenset()))
    bench.slot = 32
    bench.start_queue()
    bench.submit(iotlb_global())
    assert stopped(bench) == (5, 0)


def test_a_256_bit_queue_in_legacy_mode_is_fine_on_a_scalable_unit(wide: Bench) -> None:
    wide.write(RTADDR, ROOT, 8)
    wide.command(SRTP)
    wide.submit(struct.pack("<QQ", 0x4, 0), wait_status(STATUS, 1))
    assert status(wide) == 1


def test_a_unit_that_can_abort_dma_takes_a_256_bit_queue_without_scalable_mode(engine: Engine) -> None:
    bench = Bench(engine, changed(SPEC, ecap={"smts": 0, "adms": 1}))
    bench.slot = 32
    bench.start_queue()
    bench.submit(struct.pack("<QQ", 0x4, 0), wait_status(STATUS, 1))
    assert (bench.read(FSTS), status(bench)) == (0, 1)


@pytest.mark.parametrize("mode, adms, stops", [(2, 1, True), (3, 0, True), (3, 1, False), (0, 1, False)])
def test_a_root_table_of_no_mode_is_error_7(engine: Engine, mode: int, adms: int, stops: bool) -> None:
    bench = Bench(engine, changed(SPEC, ecap={"adms": adms}))
    bench.slot = 32
    bench.start_queue()
    bench.write(RTADDR, ROOT | mode << 10, 8)
    bench.command(SRTP)
    bench.submit(iotlb_global())
    if stops:
        assert stopped(bench) == (7, 0)
    else:
        assert (bench.read(FSTS), bench.read(IQH, 8)) == (0, 32)


@pytest.mark.parametrize(
    "tail, width, stops", [(16, 1, True), (48, 1, True), (32, 1, False), (0, 1, False), (16, 0, False)]
)
def test_a_unit_may_look_at_the_tail_of_a_disabled_queue(engine: Engine, tail: int, width: int, stops: bool) -> None:
    bench = Bench(engine, changed(SPEC, behaviours=frozenset({"check_idle_tail"})))
    bench.write(IQA, QUEUE | width << 11, 8)
    bench.write(IQT, tail, 8)
    assert bench.read(FSTS) == (IQE if stops else 0)


def test_a_misaligned_tail_is_error_6(wide: Bench) -> None:
    wide.write(IQT, 16, 8)
    assert stopped(wide) == (6, 0)


@pytest.mark.parametrize("mask", [0, 18])
def test_masks_up_to_mamv_are_fine(bench: Bench, mask: int) -> None:
    bench.submit(iotlb_pages(1, 0, mask))
    assert bench.read(FSTS) == 0


def test_nothing_is_fetched_while_the_error_stands(bench: Bench) -> None:
    bench.submit(bytes(16))
    bench.submit(wait_status(STATUS, 1))
    assert stopped(bench) == (3, 0)
    assert status(bench) == 0


def test_clearing_the_error_resumes_at_the_offender_without_another_tail_write(bench: Bench) -> None:
    bench.submit(bytes(16), wait_status(STATUS, 1))
    bench.memory.write(QUEUE, wait_flags(0))
    bench.write(FSTS, IQE)
    assert (bench.read(FSTS), bench.read(IQH, 8)) == (0, 32)
    assert status(bench) == 1


def test_clearing_the_error_alone_stops_at_the_same_descriptor_again(bench: Bench) -> None:
    bench.submit(bytes(16))
    bench.write(FSTS, IQE)
    assert stopped(bench) == (3, 0)


def test_writing_0_to_the_error_changes_nothing(bench: Bench) -> None:
    bench.submit(bytes(16), wait_status(STATUS, 1))
    bench.memory.write(QUEUE, wait_flags(0))
    bench.write(FSTS, 0)
    assert stopped(bench) == (3, 0)
    assert status(bench) == 0


def test_the_queue_can_be_disabled_in_the_middle_of_an_error(bench: Bench) -> None:
    bench.submit(wait_flags(0), bytes(16))
    assert stopped(bench) == (3, 16)
    bench.command(QIE, on=False)
    assert bench.read(IQH, 8) == 0
    bench.write(FSTS, IQE)
    assert bench.read(FSTS) == 0


def test_an_error_raises_the_fault_event(bench: Bench) -> None:
    bench.write(FECTL, 0)
    bench.submit(bytes(16))
    assert len(bench.unit.messages) == 1


def test_an_empty_page_of_zeros_is_an_unknown_type_not_a_hang(bench: Bench) -> None:
    bench.write(IQT, 0xFF0, 8)
    assert stopped(bench) == (3, 0)
