"""Hooks: a test drops, delays, reorders and fails chosen descriptors, and refuses pages."""

from __future__ import annotations

import struct

import pytest

from emulator.engine import Engine
from emulator.unit.hooks import Delay, Drop, Fail, NoAnswer, Reorder
from emulator.unit.page_requests import PageGroupResponse, PageRequestOutcome, ResponseCode
from emulator.unit.queue_errors import QueueError
from pagetables.bits import Word
from pagetables.errors import VtdError
from pagetables.layouts import DeviceTlbInvalidate, InvalidationWait, IotlbInvalidate
from tests.ats import ITE, AtsBench, device_tlb
from tests.units import FSTS, IQERCD, IQH, NIC, QIE, STATUS, iotlb_domain, iotlb_global, wait_status


@pytest.fixture
def bench(engine: Engine) -> AtsBench:
    """NIC in domain 5 with a page at 1000h that is cached and gone; a running queue."""
    bench = AtsBench(engine)
    table = bench.table()
    leaf = bench.map(table, 0x1000, 0x5000)
    bench.ats_legacy(table)
    bench.start_queue()
    assert bench.go(0x1000) == 0x5000
    bench.put(leaf, 0)
    return bench


def status(bench: AtsBench) -> int:
    return struct.unpack("<I", bench.memory.read(STATUS, 4))[0]


def of_domain(number: int):
    def match(descriptor: Word) -> bool:
        return isinstance(descriptor, IotlbInvalidate) and descriptor.did == number

    return match


def test_a_dropped_invalidation_is_never_done(bench: AtsBench) -> None:
    rule = bench.unit.hooks.on_descriptor(IotlbInvalidate, Drop())
    bench.invalidate(iotlb_global(), iotlb_domain(5))
    assert (bench.go(0x1000), rule.hits) == (0x5000, 2)
    rule.cancel()
    bench.invalidate(iotlb_domain(5))
    assert (bench.go(0x1000), rule.hits) == (-0x06, 2)


def test_a_dropped_wait_writes_nothing(bench: AtsBench) -> None:
    bench.unit.hooks.on_descriptor(InvalidationWait, Drop(), times=1)
    bench.submit(wait_status(STATUS, 1))
    assert (status(bench), bench.read(IQH, 8)) == (0, 16)
    bench.submit(wait_status(STATUS, 2))
    assert status(bench) == 2


def test_a_match_chooses_among_descriptors_of_a_type(bench: AtsBench) -> None:
    rule = bench.unit.hooks.on_descriptor(of_domain(5), Drop())
    bench.invalidate(iotlb_domain(4), iotlb_domain(5))
    assert (rule.hits, bench.go(0x1000)) == (1, 0x5000)
    bench.invalidate(iotlb_global())
    assert bench.go(0x1000) == -0x06


def test_a_delayed_descriptor_holds_up_those_behind_it(bench: AtsBench) -> None:
    bench.unit.hooks.on_descriptor(IotlbInvalidate, Delay(50))
    bench.submit(iotlb_domain(5), wait_status(STATUS, 1))
    bench.unit.clock.advance(49)
    assert (bench.go(0x1000), status(bench), bench.read(IQH, 8)) == (0x5000, 0, 0)
    bench.unit.clock.advance(1)
    assert (bench.go(0x1000), status(bench), bench.read(IQH, 8)) == (-0x06, 1, 32)


def test_a_reordered_invalidation_is_done_after_the_wait_behind_it(bench: AtsBench) -> None:
    bench.unit.hooks.on_descriptor(IotlbInvalidate, Reorder(past=2), times=1)
    bench.submit(iotlb_domain(5), wait_status(STATUS, 1))
    assert (bench.go(0x1000), status(bench)) == (0x5000, 1)  # told to be done, and it is not
    bench.submit(wait_status(STATUS, 2))
    assert (bench.go(0x1000), status(bench)) == (-0x06, 2)


def test_two_descriptors_swap_places(bench: AtsBench) -> None:
    bench.unit.hooks.on_descriptor(InvalidationWait, Reorder(), times=1)
    bench.submit(wait_status(STATUS, 1), wait_status(STATUS, 2))
    assert (status(bench), bench.read(IQH, 8)) == (1, 32)


def test_switching_the_queue_off_does_what_was_reordered(bench: AtsBench) -> None:
    bench.unit.hooks.on_descriptor(IotlbInvalidate, Reorder())
    bench.submit(iotlb_domain(5))
    assert bench.go(0x1000) == 0x5000
    bench.command(QIE, on=False)
    assert bench.go(0x1000) == -0x06


def test_switching_the_queue_off_finishes_a_wait_that_was_reordered(bench: AtsBench) -> None:
    bench.unit.hooks.on_descriptor(InvalidationWait, Reorder())
    bench.submit(wait_status(STATUS, 1))
    assert status(bench) == 0
    bench.command(QIE, on=False)
    assert status(bench) == 1


def test_switching_the_queue_off_finishes_no_wait_for_a_device(bench: AtsBench) -> None:
    bench.device.answers = False
    bench.unit.hooks.on_descriptor(InvalidationWait, Reorder())
    bench.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 1))
    bench.command(QIE, on=False)
    assert (status(bench), bench.read(FSTS)) == (0, 0)


def test_a_descriptor_is_reordered_past_one_at_least() -> None:
    with pytest.raises(VtdError, match="at least 1"):
        Reorder(past=0)


@pytest.mark.parametrize("reason", list(QueueError))
def test_a_failed_descriptor_stops_the_queue_with_the_reason(bench: AtsBench, reason: QueueError) -> None:
    bench.unit.hooks.on_descriptor(IotlbInvalidate, Fail(reason), times=1)
    bench.submit(wait_status(STATUS, 1), iotlb_domain(5), wait_status(STATUS, 2))
    assert (bench.read(FSTS), bench.read(IQERCD, 8), bench.read(IQH, 8)) == (0x10, reason, 16)
    assert (status(bench), bench.go(0x1000)) == (1, 0x5000)
    bench.write(FSTS, 0x10)
    assert (status(bench), bench.go(0x1000)) == (2, -0x06)


def test_a_device_tlb_invalidation_without_answer_times_out(bench: AtsBench) -> None:
    bench.unit.hooks.on_descriptor(DeviceTlbInvalidate, NoAnswer(), times=1)
    bench.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 1))
    assert (bench.read(FSTS), bench.read(IQERCD, 8), status(bench)) == (ITE, NIC << 32, 0)
    assert bench.device.asked == []
    bench.write(FSTS, ITE)
    bench.invalidate(device_tlb(NIC, 0x1000))
    assert len(bench.device.asked) == 1


def test_a_rule_decides_about_a_descriptor_when_its_device_has_room(bench: AtsBench) -> None:
    # The second one is held, and fetched again after the time-out: the rule is for the time that it is sent.
    bench.device.answers = False
    bench.unit.timing.device_answer = 1000
    bench.submit(device_tlb(NIC, 0x1000, mip=1))
    rule = bench.unit.hooks.on_descriptor(DeviceTlbInvalidate, NoAnswer(), times=1)
    bench.submit(device_tlb(NIC, 0x2000, mip=1))
    bench.unit.clock.advance(1000)
    assert (bench.read(FSTS), rule.hits) == (ITE, 0)
    bench.write(FSTS, ITE)
    assert (len(bench.device.asked), rule.hits) == (1, 1)


def test_no_answer_means_nothing_to_other_descriptors(bench: AtsBench) -> None:
    bench.unit.hooks.on_descriptor(lambda descriptor: True, NoAnswer())
    bench.invalidate(iotlb_domain(5))
    assert bench.go(0x1000) == -0x06


def test_the_first_rule_that_matches_decides(bench: AtsBench) -> None:
    first = bench.unit.hooks.on_descriptor(of_domain(5), Drop(), times=1)
    second = bench.unit.hooks.on_descriptor(IotlbInvalidate, Fail())
    bench.invalidate(iotlb_domain(5))
    assert (first.hits, second.hits, first.spent, second.spent) == (1, 0, True, False)
    bench.submit(iotlb_domain(5))
    assert (second.hits, bench.read(IQERCD, 8)) == (1, QueueError.BAD_DESCRIPTOR)


def test_native_code_gets_no_queue_while_hooks_decide(bench: AtsBench) -> None:
    assert bench.unit.queue_state is not None
    rule = bench.unit.hooks.on_descriptor(IotlbInvalidate, Drop(), times=1)
    assert bench.unit.queue_state is None
    rule.cancel()
    assert bench.unit.queue_state is not None
    bench.unit.hooks.on_descriptor(IotlbInvalidate, Drop())
    bench.unit.hooks.clear()
    assert bench.unit.queue_state is not None


def test_a_page_is_refused(engine: Engine) -> None:
    bench = AtsBench(engine)
    bench.ats_scalable()
    bench.start_page_requests()
    rule = bench.unit.hooks.on_page_request(lambda r: r.iova == 0x7000, ResponseCode.FAILURE, times=2)
    assert bench.page_request(0x7000, last=False) is PageRequestOutcome.REFUSED
    assert bench.responses == []
    assert bench.page_request(0x7000, group=3) is PageRequestOutcome.REFUSED
    assert bench.responses == [PageGroupResponse(NIC, 3, ResponseCode.FAILURE, 0x12345)]
    assert bench.page_request(0x8000) is PageRequestOutcome.QUEUED
    assert bench.page_request(0x7000) is PageRequestOutcome.QUEUED
    assert (rule.hits, bench.read(FSTS)) == (2, 0)
