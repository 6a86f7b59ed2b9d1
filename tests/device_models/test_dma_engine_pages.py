"""The DMA engine asks for pages: queue, responses, retries, patience, overflow."""

from __future__ import annotations

import pytest

from emulator.engine import Engine
from emulator.unit.page_requests import ResponseCode
from pagetables.request import Access
from tests.ats import PPR, PQH, PRO, PRS, group_response
from tests.device_models.dma_scene import (
    ATS,
    COPY,
    ENGINE_STATUS,
    EXE,
    FILL,
    NO_PAGES,
    NO_RIGHT,
    NOTHING_THERE,
    PAGE_FAILED,
    PAGE_REFUSED,
    PAGE_TIMEOUT,
    PM,
    PRI,
    RING,
    RUNNING,
    STILL_NO_RIGHT,
    SUCCESS,
    EngineBench,
    descriptor,
)
from tests.units import NIC

PAGE = 0x40_0000
FAILED, UNEXPECTED, STOPPED = 1, 2, 0x100


class Pager(EngineBench):
    """Scalable mode; PASID 5 has an empty first stage that software fills when it is asked to."""

    def __init__(self, engine: Engine | str = "python", options: str = "", pages: int = 32) -> None:
        super().__init__(engine, options=options)
        self.ats_scalable()
        self.start_page_requests()
        own = self.table()
        self.identity(own, RING)
        self.pasid_entry(0, 2, 9, own)
        self.process = self.table()
        self.pasid_entry(5, 1, 5, self.process, more=1 | 1 << 1 | 1 << 5)
        self.switch_on(pasid=True, pages=pages)
        self.start()

    def pri_status(self) -> int:
        return self.dma.config.get(self.capability(PRI) + 6, 2)

    def waiting(self, *descriptors: bytes) -> None:
        """Descriptors that do not get to their end."""
        self.push(*descriptors)
        self.settle()
        assert self.get(ENGINE_STATUS) & RUNNING

    def answer(self, group: int = 0, code: int = 0, pasid: int | None = 5) -> tuple[int, int]:
        """Software's answer, and what came of the descriptor."""
        self.invalidate(group_response(NIC, group, code, pasid))
        self.settle()
        return self.outcome()


def fill(value: int = 1, to: int = 0x7000, size: int = 8, **more) -> bytes:
    return descriptor(FILL, value, to, size, **{"pasid": 5, **more})


def test_a_missing_page_is_asked_for_and_used_when_it_is_there(engine: Engine) -> None:
    bench = Pager(engine)
    bench.waiting(fill(7))
    assert bench.queued(0)[:2] == (5 << 32 | NIC << 16 | 0x101, 0x7000 | 4 | 2)
    assert (bench.read(PRS), bench.pri_status() & STOPPED) == (PPR, 0)
    bench.map_first(bench.process, 0x7000, PAGE)
    assert bench.answer() == (SUCCESS, 0)
    assert bench.qword(PAGE) == 7
    assert bench.counters() == (2, 0, 1, 0)
    assert bench.pri_status() & STOPPED
    assert bench.record_of_unit() is None


@pytest.mark.parametrize(
    "job, asks",
    [
        (fill(), 0x7000 | 4 | 2),
        (descriptor(COPY, 0x9000, 0x7000, 8, pasid=5), 0x9000 | 4 | 1),
        (fill(flags=PM), 0x7000 | 4 | 2),
        (descriptor(COPY, 0x9000, 0x7000, 8, EXE, pasid=5), 0x9000 | 4 | 1),
    ],
    ids=["write", "read", "privileged", "execute"],
)
def test_a_request_says_what_the_access_needs(job: bytes, asks: int) -> None:
    bench = Pager()
    bench.waiting(job)
    low, high = bench.queued(0)[:2]
    assert high == asks
    assert (low >> 53 & 1, low >> 52 & 1) == (job[1] >> 3 & 1, job[1] >> 4 & 1)


def test_pages_without_a_pasid_are_asked_for_without_one() -> None:
    bench = Pager()
    bench.waiting(descriptor(FILL, 7, 0x7000, 8))
    assert bench.queued(0)[0] == NIC << 16 | 1
    bench.map(bench.qword(0x12_0000) & ~0xFFF, 0x7000, PAGE)
    assert bench.answer(pasid=None) == (SUCCESS, 0)


@pytest.mark.parametrize("code, outcome", [(1, PAGE_REFUSED), (15, PAGE_FAILED), (7, PAGE_FAILED)])
def test_software_may_refuse(engine: Engine, code: int, outcome: int) -> None:
    bench = Pager(engine)
    bench.waiting(fill())
    assert bench.answer(code=code) == (outcome, 0)
    assert bool(bench.pri_status() & FAILED) == (outcome == PAGE_FAILED)


def test_after_a_response_failure_nothing_is_asked_for_until_software_clears_it() -> None:
    bench = Pager()
    bench.waiting(fill())
    bench.answer(code=15)
    assert bench.run(fill()) == (NO_RIGHT, 0)
    bench.config(bench.capability(PRI) + 6, FAILED, 2)
    bench.waiting(fill())
    assert bench.counters()[2] == 2


def test_success_without_the_page_is_tried_again_and_given_up(engine: Engine) -> None:
    bench = Pager(engine, ",retries=2")
    bench.waiting(fill())
    bench.answer()
    assert bench.get(ENGINE_STATUS) & RUNNING
    assert bench.answer() == (STILL_NO_RIGHT, 0)
    assert bench.counters()[:3] == (3, 0, 2)


def test_several_pages_are_one_group(engine: Engine) -> None:
    bench = Pager(engine, ",group=4")
    bench.waiting(descriptor(COPY, 0x7000, 0x9000, 8, pasid=5))
    bench.map_first(bench.process, 0x7000, PAGE)
    bench.answer()
    assert bench.counters()[2] == 2  # 8 bytes need one page each
    bench.map_first(bench.process, 0x9000, PAGE)
    bench.answer()
    bench.waiting(descriptor(COPY, 0x2_0800, 0x9000, 0x1000, pasid=5))
    assert [bench.queued(number)[1] for number in (2, 3)] == [0x2_0000 | 1, 0x2_1000 | 4 | 1]
    for page in (0x2_0000, 0x2_1000):
        bench.map_first(bench.process, page, PAGE)
    bench.answer()
    assert (bench.outcome(), bench.counters()[2]) == ((SUCCESS, 0), 4)


def test_a_descriptor_may_forbid_to_ask() -> None:
    bench = Pager()
    assert bench.run(fill(flags=NO_PAGES)) == (NO_RIGHT, 0)
    assert bench.counters()[2] == 0


@pytest.mark.parametrize("options, pages", [("", 0), (",pri=off", 0), (",retries=0", 32)])
def test_without_page_requests_a_missing_page_ends_the_descriptor(options: str, pages: int) -> None:
    bench = Pager(options=options, pages=pages)
    assert bench.run(fill()) == (NO_RIGHT, 0)
    assert bench.read(PRS) == 0


def test_an_allocation_of_nothing_lets_nothing_be_asked_for() -> None:
    bench = Pager()
    bench.config(bench.capability(PRI) + 12, 0)
    assert bench.run(fill()) == (NO_RIGHT, 0)


def test_patience_ends_and_the_late_answer_is_unexpected(engine: Engine) -> None:
    bench = Pager(engine, ",patience=20000")
    bench.push(fill())
    bench.settle(1000 + 19_999)
    assert bench.get(ENGINE_STATUS) & RUNNING
    bench.settle(1)
    assert bench.outcome() == (PAGE_TIMEOUT, 0)
    assert bench.pri_status() & (FAILED | UNEXPECTED | STOPPED) == STOPPED
    bench.answer()
    assert bench.pri_status() & UNEXPECTED


def test_a_full_queue_fails_the_request_at_once(engine: Engine) -> None:
    bench = Pager(engine)
    bench.write(PQH, 32, 8)  # the queue is full: one more would make it empty
    assert bench.run(fill()) == (PAGE_FAILED, 0)
    assert bench.read(PRS) & PRO
    assert bench.pri_status() & FAILED


def test_a_hook_may_answer_for_software() -> None:
    bench = Pager()
    bench.unit.hooks.on_page_request(lambda request: request.iova == 0x7000, ResponseCode.INVALID_REQUEST, times=1)
    assert bench.run(fill()) == (PAGE_REFUSED, 0)
    bench.waiting(fill())


def test_a_device_that_may_not_ask_is_told_so(engine: Engine) -> None:
    bench = Pager(engine)
    at = 0x10_2000 - 0x1000 + 32 * (NIC & 0x7F)
    bench.put(at, bench.qword(at) & ~0x10)
    bench.invalidate(b"\x11".ljust(32, b"\0"))
    assert bench.run(fill()) == (PAGE_REFUSED, 0)
    assert bench.record_of_unit() == (0x47, NIC, 5)


def test_a_unit_without_page_requests_answers_nobody_and_is_not_waited_for() -> None:
    bench = EngineBench(profile="qemu-11.1", unit=",device-iotlb=on,scalable-mode=on,fsts=off")
    bench.ats_scalable(4)
    own = bench.table()
    bench.identity(own, RING)
    bench.pasid_entry(0, 2, 9, own)
    bench.switch_on(pages=32)
    bench.start()
    assert bench.run(descriptor(FILL, 1, 0x7000, 8)) == (PAGE_FAILED, 0)


def test_a_reset_stops_waiting() -> None:
    bench = Pager()
    bench.waiting(fill())
    bench.set(8, 2)
    bench.answer()
    assert bench.pri_status() & UNEXPECTED
    assert bench.memory.read(PAGE, 8) == bytes(8)


def test_a_reset_stops_being_patient() -> None:
    bench = Pager(options=",patience=20000")
    bench.push(fill())
    bench.settle(5000)
    bench.set(8, 2)
    bench.settle(100_000)
    assert (bench.outcome(), bench.machine.clock.next_due) == ((0, 0), None)


def test_bus_mastering_may_end_while_a_page_is_waited_for() -> None:
    bench = Pager()
    bench.waiting(fill())
    bench.config(4, 2)
    bench.map_first(bench.process, 0x7000, PAGE)
    assert bench.answer() == (NOTHING_THERE, 0)
    assert bench.qword(PAGE) == 0


def test_a_response_to_a_device_without_page_requests_means_nothing() -> None:
    bench = Pager(options=",pri=off", pages=0)
    bench.answer()
    assert bench.run(fill()) == (NO_RIGHT, 0)


def test_a_port_that_may_not_ask_fails_at_once() -> None:
    bench = Pager(pages=0)
    answers: list[object] = []
    bench.dma.port.ask_for([0x7000], Access.READ)(answers.append)
    assert answers == [ResponseCode.FAILURE]
    assert bench.read(PRS) == 0


def test_as_many_groups_wait_as_software_allows() -> None:
    bench = Pager(pages=2)
    answers: list[object] = []
    for page in (0x7000, 0x8000, 0x9000):
        bench.dma.port.ask_for([page], Access.READ, pasid=5)(answers.append)
    assert answers == [ResponseCode.FAILURE]
    bench.invalidate(group_response(NIC, 1, 0, 5), group_response(NIC, 0, 1, 5))
    assert answers[1:] == [ResponseCode.SUCCESS, ResponseCode.INVALID_REQUEST]
    assert [bench.queued(number)[1] >> 3 & 0x1FF for number in range(2)] == [0, 1]


def test_one_failure_ends_all_groups() -> None:
    bench = Pager()
    answers: list[object] = []
    for page in (0x7000, 0x8000):
        bench.dma.port.ask_for([page], Access.READ, pasid=5)(answers.append)
    bench.invalidate(group_response(NIC, 1, 15, 5))
    assert answers == [ResponseCode.FAILURE] * 2
    assert bench.pri_status() & (FAILED | STOPPED) == FAILED | STOPPED


def test_switching_ats_off_while_waiting_leaves_the_answer_unheard() -> None:
    bench = Pager(options=",patience=50000")
    bench.push(fill())
    bench.settle(10_000)
    bench.config(bench.capability(ATS) + 6, 0, 2)
    bench.answer()
    assert bench.outcome() == (PAGE_TIMEOUT, 0)
