"""Page requests: the queue in memory, its event, overflow, responses, and who may not ask."""

from __future__ import annotations

import struct

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from emulator.unit.events import EventMessage
from emulator.unit.page_requests import PageGroupResponse, PageRequestOutcome, ResponseCode
from tests.ats import (
    DTE,
    PASIDE,
    PEADDR,
    PECTL,
    PEDATA,
    PEUADDR,
    PPR,
    PQA,
    PQH,
    PQT,
    PRE,
    PRO,
    PRS,
    REQUESTS,
    AtsBench,
    group_response,
)
from tests.profiles import changed
from tests.units import FSTS, IQERCD, IQH, NIC, ROOT, RTADDR, SRTP, TE, Bench, wait_flags, wait_status

SPEC = load_profile("spec")
QUEUED, DROPPED, REFUSED = PageRequestOutcome.QUEUED, PageRequestOutcome.DROPPED, PageRequestOutcome.REFUSED
INVALID, FAILURE = ResponseCode.INVALID_REQUEST, ResponseCode.FAILURE


@pytest.fixture
def bench(engine: Engine) -> AtsBench:
    """Scalable mode, a device that may ask for pages, a queue of one page (128 requests)."""
    bench = AtsBench(engine)
    bench.ats_scalable()
    bench.start_page_requests()
    return bench


def recorded(bench: Bench) -> int:
    """The reason of the only fault record, 0 for none. Its type must be page request (T1 0, T2 1)."""
    if not bench.read(FSTS) & 2:
        return 0
    _, high = bench.record()
    assert (high >> 62 & 1, high >> 28 & 1) == (0, 1), "T1, T2"
    return high >> 32 & 0xFF


# -- what software finds


def test_a_request_is_written_at_the_tail(bench: AtsBench) -> None:
    assert bench.page_request(0x7000, group=5, sid=NIC) is QUEUED
    assert bench.queued(0) == (0x0001_2345_0010_0101, 0x702D, 0, 0)
    assert (bench.read(PQT, 8), bench.read(PQH, 8), bench.read(PRS)) == (32, 0, PPR)
    assert bench.responses == []


@pytest.mark.parametrize(
    "more, low, high",
    [
        ({"pasid": None}, 0x0000_0000_0010_0001, 0x7005),
        ({"write": True}, 0x0001_2345_0010_0101, 0x7007),
        ({"read": False, "write": True, "last": False}, 0x0001_2345_0010_0101, 0x7002),
        ({"execute": True}, 0x0011_2345_0010_0101, 0x7005),
        ({"privileged": True}, 0x0021_2345_0010_0101, 0x7005),
        ({"group": 0x1FF}, 0x0001_2345_0010_0101, 0x7FFD),
        ({"read": False}, 0x0001_2345_0010_0101, 0x7004),  # a stop marker
    ],
)
def test_every_field_of_a_request_has_its_bits(bench: AtsBench, more: dict, low: int, high: int) -> None:
    assert bench.page_request(0x7ABC, **more) is QUEUED
    assert bench.queued(0) == (low, high, 0, 0)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_the_queue_wraps_and_one_slot_stays_empty(engine: Engine, order: int) -> None:
    bench = AtsBench(engine)
    bench.ats_scalable()
    bench.start_page_requests(order)
    slots = 128 << order
    for number in range(slots - 1):
        assert bench.page_request(number << 12) is QUEUED
    assert bench.page_request() is DROPPED
    assert (bench.read(PRS), bench.read(PQT, 8)) == (PPR | PRO, 32 * (slots - 1))
    bench.write(PQH, 64, 8)
    bench.write(PRS, PRO)
    assert bench.page_request(0xABC000) is QUEUED
    assert bench.page_request(0xDEF000) is QUEUED
    assert bench.page_request() is DROPPED
    assert bench.read(PQT, 8) == 32
    assert bench.queued(slots - 1)[1] >> 12 == 0xABC
    assert bench.queued(0)[1] >> 12 == 0xDEF


def test_a_queue_that_lies_nowhere_loses_the_request(bench: AtsBench) -> None:
    bench.write(PQA, 0x7FFF_F000, 8)
    assert bench.page_request() is QUEUED
    assert (bench.read(PQT, 8), bench.read(PRS)) == (32, PPR)


# -- overflow


def test_while_pro_is_set_every_request_is_dropped(bench: AtsBench) -> None:
    bench.write(PQH, 32, 8)
    assert bench.page_request(last=False) is DROPPED
    assert (bench.read(PRS), bench.responses) == (PRO, [])
    bench.write(PQH, 64, 8)
    assert bench.page_request(group=3) is DROPPED
    assert bench.responses == [PageGroupResponse(NIC, 3, FAILURE, 0x12345)]
    bench.write(PRS, PRO)
    assert bench.page_request() is QUEUED


def test_a_stop_marker_without_room_is_dropped_without_response(bench: AtsBench) -> None:
    bench.write(PQH, 32, 8)
    assert bench.page_request(read=False) is DROPPED
    assert bench.responses == []


def test_without_sms_a_stop_marker_is_answered_like_any_request(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"sms": 0}))
    bench.ats_scalable()
    bench.start_page_requests()
    bench.write(PQH, 32, 8)
    assert bench.page_request(read=False) is DROPPED
    assert bench.responses == [PageGroupResponse(NIC, 0, FAILURE, 0x12345)]


# -- the event


@pytest.fixture
def told(bench: AtsBench) -> AtsBench:
    """The event's message is set up, and not masked."""
    bench.write(PEDATA, 0x41)
    bench.write(PEADDR, 0xFEE0_1000)
    bench.write(PEUADDR, 0x200)
    bench.write(PECTL, 0)
    return bench


def test_the_first_pending_request_raises_the_event_once(told: AtsBench) -> None:
    told.page_request()
    told.page_request()
    assert told.unit.messages == [EventMessage(0x200_FEE0_1000, 0x41)]
    told.write(PRS, PPR)
    told.page_request()
    assert len(told.unit.messages) == 2


def test_an_overflow_is_an_event_where_nothing_was_pending(told: AtsBench) -> None:
    told.write(PQH, 32, 8)
    told.page_request()
    assert (told.read(PRS), len(told.unit.messages)) == (PRO, 1)
    told.write(PQH, 0, 8)
    told.write(PRS, PRO)
    told.page_request()
    told.write(PQH, 64, 8)
    told.page_request()
    assert (told.read(PRS), len(told.unit.messages)) == (PPR | PRO, 2)


def test_a_masked_event_waits_and_is_withdrawn_with_its_cause(bench: AtsBench) -> None:
    assert bench.read(PECTL) == 0x8000_0000
    bench.page_request()
    assert bench.read(PECTL) == 0xC000_0000
    bench.write(PRS, PPR)
    assert bench.read(PECTL) == 0x8000_0000
    bench.page_request()
    bench.write(PECTL, 0)
    assert (bench.read(PECTL), len(bench.unit.messages)) == (0, 1)


def test_clearing_one_of_two_causes_leaves_the_event_pending(bench: AtsBench) -> None:
    bench.page_request()
    bench.write(PQH, 64, 8)
    bench.page_request()
    bench.write(PRS, PPR)
    assert (bench.read(PRS), bench.read(PECTL)) == (PRO, 0xC000_0000)


# -- who may not ask


def test_fault_32_page_request_in_legacy_mode(engine: Engine) -> None:
    bench = AtsBench(engine)
    bench.ats_legacy(bench.table())
    bench.start_page_requests()
    assert bench.page_request(pasid=None, group=9) is REFUSED
    assert recorded(bench) == 0x32
    assert bench.record() == (0x7000, 0x8000_0032_1000_0010)
    assert bench.responses == [PageGroupResponse(NIC, 9, INVALID)]
    assert bench.page_request() is REFUSED  # 32h comes before 31h
    assert bench.record(1) == (0x7000, 0x8123_4532_9000_0010)
    assert bench.read(PQT, 8) == 0


def test_fault_30_page_request_under_an_unusable_table_mode(bench: AtsBench) -> None:
    bench.write(RTADDR, ROOT | 2 << 10, 8)
    bench.command(SRTP)
    assert bench.page_request() is REFUSED
    assert recorded(bench) == 0x30


def test_abort_mode_answers_page_requests_and_records_nothing(bench: AtsBench) -> None:
    bench.write(RTADDR, ROOT | 3 << 10, 8)
    bench.command(SRTP)
    assert bench.page_request() is REFUSED
    assert bench.responses == [PageGroupResponse(NIC, 0, INVALID, 0x12345)]
    assert recorded(bench) == 0


def test_fault_38_page_request_with_a_root_table_nowhere(bench: AtsBench) -> None:
    bench.write(RTADDR, 0x7FFF_F400, 8)
    bench.command(SRTP)
    assert bench.page_request() is REFUSED
    assert recorded(bench) == 0x38


@pytest.mark.parametrize(
    "qword, reason",
    [(0, 0x39), (0x10_1000 | 1 | 2, 0x3A), (0x7FFF_F001, 0x40)],
)
def test_faults_39_3a_and_40_of_page_requests(bench: AtsBench, qword: int, reason: int) -> None:
    bench.put(ROOT, qword)
    assert bench.page_request() is REFUSED
    assert recorded(bench) == reason


@pytest.mark.parametrize(
    "low, high, reason",
    [(0, 0, 0x41), (1 | 1 << 5, 0, 0x42), (1 | PRE | PASIDE | 2, 1 << 63, 0x42)],
)
def test_faults_41_and_42_of_page_requests(bench: AtsBench, low: int, high: int, reason: int) -> None:
    bench.put(0x10_1000 + 32 * NIC, low, high)
    assert bench.page_request() is REFUSED
    assert recorded(bench) == (0 if low & 2 else reason)  # FPD silences it


def test_fault_45_page_request_with_pasid_where_pasids_are_disabled(engine: Engine) -> None:
    bench = AtsBench(engine)
    bench.ats_scalable(DTE | PRE)
    bench.start_page_requests()
    assert bench.page_request() is REFUSED
    assert recorded(bench) == 0x45
    assert bench.page_request(pasid=None) is QUEUED


def test_fault_46_page_request_with_a_pasid_beyond_the_directory(bench: AtsBench) -> None:
    bench.put(0x10_1000 + 32 * NIC, 0x11_0000 | PRE | PASIDE | 1)  # PDTS 0: 8192 PASIDs
    assert bench.page_request(pasid=8192) is REFUSED
    assert recorded(bench) == 0x46
    assert bench.page_request(pasid=8191) is QUEUED


@pytest.mark.parametrize("pasid", [None, 0x12345])
def test_fault_47_page_request_where_they_are_disabled(engine: Engine, pasid: int | None) -> None:
    bench = AtsBench(engine)
    bench.ats_scalable(DTE | PASIDE)
    bench.start_page_requests()
    assert bench.page_request(pasid=pasid, last=False) is REFUSED
    assert (recorded(bench), bench.responses) == (0x47, [])
    assert bench.page_request(pasid=pasid) is REFUSED
    assert bench.responses == [PageGroupResponse(NIC, 0, INVALID, pasid)]


def test_fault_47_obeys_fpd(engine: Engine) -> None:
    bench = AtsBench(engine)
    bench.ats_scalable(DTE | PASIDE | 2)
    assert bench.page_request() is REFUSED
    assert recorded(bench) == 0


def test_page_requests_are_refused_while_translation_is_off(bench: AtsBench) -> None:
    bench.command(TE, on=False)
    assert bench.page_request() is REFUSED
    assert (recorded(bench), len(bench.responses)) == (0, 1)


def test_a_unit_without_page_requests_says_nothing(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"prs": 0, "pds": 0, "sms": 0}))
    bench.ats_scalable(DTE | PASIDE)
    assert bench.page_request() is REFUSED
    assert (bench.responses, bench.read(FSTS), bench.read(PRS)) == ([], 0, 0)


# -- responses


@pytest.mark.parametrize(
    "descriptor, response",
    [
        (
            struct.pack("<QQQQ", 0x0001_2345_0010_0019, 0xFF8, 0, 0),
            PageGroupResponse(NIC, 0x1FF, ResponseCode.SUCCESS, 0x12345),
        ),
        (group_response(NIC, 5, code=1), PageGroupResponse(NIC, 5, INVALID)),
        (group_response(NIC, 5, code=15, pasid=7), PageGroupResponse(NIC, 5, FAILURE, 7)),
        (group_response(NIC, 5, code=6), PageGroupResponse(NIC, 5, FAILURE)),
    ],
)
def test_a_response_reaches_its_device(bench: AtsBench, descriptor: bytes, response: PageGroupResponse) -> None:
    bench.invalidate(descriptor)
    assert bench.responses == [response]


def test_a_response_to_nobody_is_lost(bench: AtsBench) -> None:
    bench.unit.on_page_response(NIC, None)
    bench.invalidate(group_response(NIC, 5), group_response(0xFFFF, 5))
    assert (bench.responses, bench.read(FSTS)) == ([], 0)


@pytest.mark.parametrize("low, high", [(1 << 5, 0), (1 << 8, 0), (1 << 52, 0), (0, 1 << 2), (0, 1 << 12)])
def test_reserved_bits_of_a_response_stop_the_queue(bench: AtsBench, low: int, high: int) -> None:
    bench.submit(struct.pack("<QQQQ", 0x9 | NIC << 16 | low, high, 0, 0))
    assert bench.read(IQERCD, 8) & 0xF == 4


def test_without_page_requests_a_response_is_unknown(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"prs": 0, "pds": 0, "sms": 0}))
    bench.ats_scalable(DTE)
    bench.submit(group_response(NIC, 5))
    assert bench.read(IQERCD, 8) & 0xF == 3


def test_a_response_has_no_room_in_a_128_bit_queue(engine: Engine) -> None:
    bench = AtsBench(engine)
    bench.start_queue()
    bench.submit(group_response(NIC, 5)[:16])
    assert bench.read(IQERCD, 8) & 0xF == 3


# -- draining


def test_the_recipe_for_draining_completes(bench: AtsBench) -> None:
    # A fence, what is to be forgotten, and a wait that drains page requests, as drivers do it.
    bench.submit(struct.pack("<QQ", 0x0000_0002_0000_0045, 0), group_response(NIC, 1, pasid=3))
    bench.submit(struct.pack("<QQ", 1 << 32 | 0xA5, 0x10_8000))
    assert bench.read(FSTS) == 0
    assert bench.read(IQH, 8) == 96
    assert bench.qword(0x10_8000) == 1
    assert len(bench.responses) == 1


def test_without_pds_a_drain_is_a_reserved_bit(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"pds": 0}))
    bench.start_queue()
    bench.submit(wait_flags(0x80))
    assert bench.read(IQERCD, 8) & 0xF == 4


# -- what a request has forgotten


@pytest.mark.parametrize("stage", [1, 2])
def test_a_request_removes_what_its_device_had_cached_of_the_page(bench: AtsBench, stage: int) -> None:
    table = bench.table()
    if stage == 1:
        bench.pasid_entry(1, 1, 9, table)
        leaves = [bench.map_first(table, iova, 0x5000) for iova in (0x1000, 0x2000)]
    else:
        bench.pasid_entry(1, 2, 9, second=table)
        leaves = [bench.map(table, iova, 0x5000) for iova in (0x1000, 0x2000)]
    assert [bench.go(iova, pasid=1) for iova in (0x1000, 0x2000)] == [0x5000, 0x5000]
    for leaf in leaves:
        bench.put(leaf, bench.qword(leaf) + 0x3000)
    assert bench.page_request(0x1008, pasid=2) is QUEUED
    assert bench.go(0x1000, pasid=1) == 0x5000
    assert bench.page_request(0x1008, pasid=1) is QUEUED
    assert [bench.go(iova, pasid=1) for iova in (0x1000, 0x2000)] == [0x8000, 0x5000]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_request_removes_the_rights_that_were_cached_above_its_page(bench: AtsBench, stage: int) -> None:
    # Software widens the rights of a directory and answers: nothing else tells the unit, and the device asks again.
    table, second = bench.table(), bench.table()
    for page in range(0x20_0000, 0x40_0000, 0x1000):
        bench.map(second, page, page)
    bench.pasid_entry(1, stage, 9, table, second=0 if stage == 1 else second if stage == 3 else table)
    if stage == 2:
        bench.map(table, 0x1000, 0x5000)
    else:
        bench.map(second, 0x5000, 0x5000)
        bench.map_first(table, 0x1000, 0x5000)
    directory = bench.entry_at(table, 0x1000, 2)
    bench.put(directory, bench.qword(directory) & ~2)
    assert bench.words(0x1000, pasid=1)[0] & 3 == 1
    bench.put(directory, bench.qword(directory) | 2)
    assert bench.words(0x1000, pasid=1)[0] & 3 == 1
    assert bench.page_request(0x1000, pasid=1, write=True) is QUEUED
    assert bench.words(0x1000, pasid=1)[0] & 3 == 3


def test_a_page_is_asked_for_given_and_used(bench: AtsBench) -> None:
    table = bench.table()
    bench.pasid_entry(1, 1, 9, table)
    bench.map_first(table, 0x2000, 0x6000)
    assert bench.words(0x1000, pasid=1) == [0x0]
    bench.page_request(0x1000, pasid=1, group=4)
    low, high, *_ = bench.queued(0)
    bench.map_first(table, high & -0x1000, 0x5000)
    bench.invalidate(group_response(low >> 16 & 0xFFFF, high >> 3 & 0x1FF, pasid=low >> 32))
    assert bench.responses == [PageGroupResponse(NIC, 4, ResponseCode.SUCCESS, 1)]
    assert bench.words(0x1000, pasid=1) == [0x5003]


def test_page_requests_and_waits_share_nothing(bench: AtsBench) -> None:
    bench.page_request()
    bench.submit(wait_status(0x10_8000, 7, 0xC0))
    assert bench.qword(0x10_8000) == 7
    assert (bench.read(PQH, 8), bench.read(PQT, 8), bench.queued(0)[0] & 0xFF) == (0, 32, 1)
    assert bench.qword(REQUESTS + 32) == 0


def test_queued_page_requests_are_counted(bench: AtsBench) -> None:
    bench.write(0x500, 1 << 8 | 0x40 << 32, 8)  # counter 0: group 1, page requests
    bench.write(0x400, 0xF0, 8)
    bench.page_request()
    bench.page_request(0x8000)
    bench.page_request(sid=NIC + 1)
    assert bench.read(0x800, 8) == 2
