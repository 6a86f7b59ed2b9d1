"""Translation requests and translated requests: what a device with ATS is told, and what is recorded of it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from emulator.bus import Bus
from emulator.engine import Engine
from emulator.profile import load_profile
from emulator.unit.ats import CompletionStatus
from pagetables.address import Iova
from pagetables.errors import VtdError
from pagetables.request import Access, AddressType, Request
from tests.ats import DTE, PASIDE, AtsBench
from tests.profiles import changed
from tests.units import FSTS, NIC, ROOT, RTADDR, SRTP, TE, Bench, R, W

SPEC = load_profile("spec")
UR, CA = CompletionStatus.UNSUPPORTED_REQUEST, CompletionStatus.COMPLETER_ABORT
UNKNOWN = 0x0100  # 01:00.0, of a bus without a root entry


@pytest.fixture
def bench(engine: Engine) -> AtsBench:
    return AtsBench(engine)


def recorded(bench: Bench) -> int:
    """The reason of the only fault record, 0 for none. Its AT must say translation request."""
    if not bench.read(FSTS) & 2:
        return 0
    _, high = bench.record()
    assert high >> 60 & 3 == 1, "AT"
    assert bench.record(1)[1] >> 63 == 0, "one record"
    return high >> 32 & 0xFF


# -- what a completion says


@pytest.mark.parametrize("permissions, word", [(R | W, 0x5003), (R, 0x5001), (W, 0x5002)])
def test_a_completion_has_the_page_and_its_rights(bench: AtsBench, permissions: int, word: int) -> None:
    table = bench.table()
    bench.map(table, 0x1000, 0x5000, permissions)
    bench.ats_legacy(table)
    assert bench.words(0x1234) == [word]
    assert recorded(bench) == 0


@pytest.mark.parametrize(
    "level, gpa, word",
    [(2, 0x4000_0000, 0x400F_F803), (3, 0x8000_0000, 0x9FFF_F803)],
)
def test_a_large_page_is_encoded_in_s_and_the_address(bench: AtsBench, level: int, gpa: int, word: int) -> None:
    table = bench.table()
    bench.map(table, 0, gpa, level=level)
    bench.ats_legacy(table)
    assert bench.words(0x3000) == [word]


@pytest.mark.parametrize(
    "mapped, word",
    [(0x1000, 0x0), (0x20_0000, 0x000F_F800), (0x4000_0000, 0x1FFF_F800), (1 << 39, 0x3F_FFFF_F800)],
)
def test_a_hole_is_success_without_rights_and_says_how_large_it_is(bench: AtsBench, mapped: int, word: int) -> None:
    table = bench.table()
    bench.map(table, mapped, 0x5000)
    bench.ats_legacy(table)
    completion = bench.ask(0x2000)
    assert [int(entry) for entry in completion.entries] == [word]
    assert completion.fault is not None
    assert completion.fault.reason == 0x06
    assert recorded(bench) == 0


def test_several_pages_are_answered_until_one_is_missing(bench: AtsBench) -> None:
    table = bench.table()
    for page in (1, 2, 3, 5):
        bench.map(table, page << 12, 0x9000 - (page << 12))
    bench.ats_legacy(table)
    assert bench.words(0x1000, pages=8) == [0x8003, 0x7003, 0x6003]
    assert bench.words(0x1000, pages=2) == [0x8003, 0x7003]
    assert recorded(bench) == 0


def test_entries_of_one_completion_have_one_size(bench: AtsBench) -> None:
    table = bench.table()
    bench.map(table, 0x1FF000, 0x5000)
    bench.map(table, 0x20_0000, 0x4000_0000, level=2)
    bench.ats_legacy(table)
    assert bench.words(0x1FF000, pages=3) == [0x5003]


def test_only_what_a_completion_grants_is_marked_as_written(bench: AtsBench) -> None:
    table = bench.table()
    leaves = [bench.map(table, page << 12, page << 12) for page in (0x1FD, 0x1FE, 0x1FF)]
    leaves.append(bench.map(table, 0x20_0000, 0x4000_0000, level=2))
    entry = bench.pasid_entry(7, 2, 9, second=table)
    bench.put(entry, bench.qword(entry) | 1 << 9)  # SSADE
    bench.ats_scalable()
    assert bench.words(0x1FE_000, pasid=7, pages=4) == [0x1F_E003, 0x1F_F003]
    assert [bench.qword(leaf) >> 9 & 1 for leaf in leaves] == [0, 1, 1, 0]


def test_a_page_that_can_only_be_written_ends_the_answer(bench: AtsBench) -> None:
    table = bench.table()
    for page, rights in ((1, 3), (2, 2), (3, 3)):
        bench.map(table, page << 12, page << 12, rights)
    bench.ats_legacy(table)
    assert bench.words(0x1000, pages=3) == [0x1003]
    assert bench.words(0x2000, pages=2) == [0x2002, 0x3003]
    assert recorded(bench) == 0


def test_pages_are_answered_up_to_the_interrupt_range(bench: AtsBench) -> None:
    table = bench.table()
    bench.map(table, 0xFEDF_F000, 0x5000)
    bench.map(table, 0xFEE0_0000, 0x6000)
    bench.ats_legacy(table)
    assert bench.words(0xFEDF_F000, pages=2) == [0x5003]


def test_pages_of_a_pasid_are_answered_in_the_interrupt_range_too(bench: AtsBench) -> None:
    table = bench.table()
    for page, gpa in ((0xFEDF_F000, 0x5000), (0xFEE0_0000, 0x6000)):
        bench.map(table, page, gpa)
    bench.ats_scalable()
    bench.pasid_entry(7, 2, 9, second=table)
    assert bench.words(0xFEDF_F000, pasid=7, pages=2) == [0x5003, 0x6003]


def test_a_request_within_a_large_page_goes_on_after_it(bench: AtsBench) -> None:
    table = bench.table()
    bench.map(table, 0x20_0000, 0x4000_0000, level=2)
    bench.map(table, 0x40_0000, 0x6000_0000, level=2)
    bench.ats_legacy(table)
    assert bench.words(0x3F_F000, pages=2) == [0x400F_F803, 0x600F_F803]
    assert bench.words(0x3F_F000, pages=1) == [0x400F_F803]


def test_a_request_for_no_page_is_the_callers_mistake(bench: AtsBench) -> None:
    bench.ats_legacy(bench.table())
    with pytest.raises(VtdError, match="at least 1"):
        bench.ask(0x1000, pages=0)


def test_pass_through_with_device_tlb_is_identity(bench: AtsBench) -> None:
    bench.ats_scalable()
    bench.pasid_entry(0, 4, 9)
    assert bench.words(0x7000) == [0x7003]


def test_a_granted_write_sets_the_dirty_bit_and_no_write_keeps_it(bench: AtsBench) -> None:
    bench.ats_scalable()
    table = bench.table()
    bench.pasid_entry(1, 1, 9, table)
    kept = bench.map_first(table, 0x1000, 0x5000, 0x7)
    written = bench.map_first(table, 0x2000, 0x6000, 0x7)
    assert bench.words(0x1000, pasid=1, no_write=True) == [0x5001]
    assert bench.words(0x2000, pasid=1) == [0x6003]
    assert bench.qword(kept) == 0x5027
    assert bench.qword(written) == 0x6067


def test_without_nwfs_no_write_is_not_heard(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"nwfs": 0}))
    table = bench.table()
    bench.map(table, 0x1000, 0x5000)
    bench.ats_legacy(table)
    assert bench.words(0x1000, no_write=True) == [0x5003]


def test_no_write_of_a_write_only_page_grants_nothing(bench: AtsBench) -> None:
    table = bench.table()
    bench.map(table, 0x1000, 0x5000, W)
    bench.ats_legacy(table)
    assert bench.words(0x1000, no_write=True) == [0x0]


def test_execute_is_granted_only_to_who_asks(bench: AtsBench) -> None:
    bench.ats_scalable()
    table = bench.table()
    bench.pasid_entry(1, 1, 9, table, more=1 << 1 | 1 << 5)  # ERE, NXE
    bench.map_first(table, 0x1000, 0x5000)
    bench.map_first(table, 0x2000, 0x6000, 0x67 | 1 << 63)
    assert bench.words(0x1000, pasid=1) == [0x5003]
    assert bench.words(0x1000, "x", pasid=1) == [0x500B]
    assert bench.words(0x2000, "x", pasid=1) == [0x6003]


def test_a_privileged_request_is_echoed(bench: AtsBench) -> None:
    bench.ats_scalable()
    table = bench.table()
    bench.pasid_entry(1, 1, 9, table, more=1)  # SRE
    bench.map_first(table, 0x1000, 0x5000, 0x63)  # a supervisor page
    assert bench.words(0x1000, pasid=1, privileged=True) == [0x5013]
    completion = bench.ask(0x1000, pasid=1)
    assert [int(entry) for entry in completion.entries] == [0x0]
    assert completion.fault is not None
    assert completion.fault.reason == 0x81


def test_without_supervisor_requests_a_privileged_one_is_granted_nothing(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"srs": 0, "rprivs": 0}))
    bench.ats_scalable()
    table = bench.table()
    bench.pasid_entry(1, 1, 9, table)
    bench.map_first(table, 0x1000, 0x5000)
    assert bench.words(0x1000, pasid=1, privileged=True) == [0x10]
    assert bench.ask(0x1000, pasid=2, privileged=True).fault is not None
    assert recorded(bench) == 0


def test_the_interrupt_range_may_only_be_written_untranslated(bench: AtsBench) -> None:
    bench.ats_legacy(bench.table())
    assert bench.words(0xFEE0_1000) == [0xFEE0_1006]


@pytest.mark.parametrize("scalable, reason", [(False, 0x0E), (True, 0x87)])
def test_a_profile_may_refuse_the_interrupt_range(engine: Engine, scalable: bool, reason: int) -> None:
    bench = AtsBench(engine, changed(SPEC, behaviours=frozenset({"ats_interrupt_range_faults"})))
    if scalable:
        bench.ats_scalable()
        bench.pasid_entry(0, 4, 9)
    else:
        bench.ats_legacy(bench.table())
    assert bench.ask(0xFEE0_1000).status is UR
    assert recorded(bench) == reason


def test_a_refused_interrupt_range_leaves_no_record_where_fault_processing_is_disabled(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, behaviours=frozenset({"ats_interrupt_range_faults"})))
    bench.ats_legacy(bench.table(), low=4 | 2)  # TT 01, FPD
    assert bench.ask(0xFEE0_1000).status is UR
    assert recorded(bench) == 0


def test_a_nested_translation_is_as_small_as_its_smaller_page(bench: AtsBench) -> None:
    bench.ats_scalable()
    first, second = bench.table(), bench.table()
    for at in range(0, 0x40_0000, 0x20_0000):  # guest memory where it is, 2 MiB a page
        bench.map(second, at, at, level=2)
    bench.map(second, 0x4000_0000, 0x200_0000, level=2)
    bench.pasid_entry(1, 3, 9, first, second)
    bench.map_first(first, 0x1000, 0x4000_5000)
    assert bench.words(0x1000, pasid=1) == [0x200_5003]
    assert bench.words(0x2000, pasid=1) == [0x0]


def test_a_hole_of_a_nested_translation_is_said_to_be_one_page(bench: AtsBench) -> None:
    # The level of its fault may be of either stage, so that more cannot be promised.
    bench.ats_scalable()
    first, second = bench.table(), bench.table()
    for at in range(0, 0x40_0000, 0x20_0000):
        bench.map(second, at, at, level=2)
    bench.pasid_entry(1, 3, 9, first, second)
    bench.map_first(first, 0x1000, 0x5000)
    completion = bench.ask(0x20_0000, pasid=1)
    assert completion.fault is not None
    assert (completion.fault.reason, completion.fault.level) == (0x71, 2)
    assert [int(entry) for entry in completion.entries] == [0]


# -- faults of translation requests


def test_fault_01_of_a_translation_request_is_unsupported(bench: AtsBench) -> None:
    bench.ats_legacy(bench.table())
    assert bench.ask(0x1000, sid=UNKNOWN).status is UR
    assert recorded(bench) == 0x01


def test_fault_02_of_a_translation_request_is_unsupported(bench: AtsBench) -> None:
    bench.ats_legacy(bench.table())
    assert bench.ask(0x1000, sid=NIC + 1).status is UR
    assert recorded(bench) == 0x02


def test_fault_04_of_a_translation_request_is_unsupported(bench: AtsBench) -> None:
    bench.ats_legacy(bench.table())
    assert bench.ask(1 << 48).status is UR
    assert recorded(bench) == 0x04


@pytest.mark.parametrize("low", [0, 8])  # TT 00, TT 10
def test_fault_0d_a_translation_request_needs_tt_01(bench: AtsBench, low: int) -> None:
    table = bench.table(5)
    bench.map(table, 0x1000, 0x5000)
    bench.ats_legacy(table, low=low)
    assert bench.ask(0x1000).status is UR
    assert recorded(bench) == 0x0D


def test_fault_0c_of_a_translation_request_aborts(bench: AtsBench) -> None:
    table = bench.table()
    at = bench.entry_at(table, 0x2000, 2)
    bench.put(at, bench.page() + 0x1000 | R | W | 1 << 7)  # a 2 MiB page that is not aligned
    bench.ats_legacy(table)
    assert bench.ask(0x2000).status is CA
    assert recorded(bench) == 0x0C


def test_fault_0e_of_a_translation_request_is_unsupported(bench: AtsBench) -> None:
    table = bench.table()
    bench.map(table, 0x1000, 0xFEE0_0000)
    bench.ats_legacy(table)
    assert bench.ask(0x1000).status is UR
    assert recorded(bench) == 0x0E


@pytest.mark.parametrize("access, exe", [("r", 0), ("x", 1)])
def test_a_record_says_that_execute_permission_was_asked_for(bench: AtsBench, access: str, exe: int) -> None:
    bench.ats_scalable()
    bench.pasid_entry(7, 4, 9, more=2)  # pass-through, ERE
    assert bench.ask(0xFEE0_0000, access, pasid=7).fault is not None
    assert (bench.record()[1] >> 32 & 0xFF, bench.record()[1] >> 30 & 1) == (0x87, exe)


def test_fault_44_a_translation_request_needs_dte(bench: AtsBench) -> None:
    bench.ats_scalable(PASIDE)
    bench.pasid_entry(1, 1, 9, bench.table())
    assert bench.ask(0x1000, pasid=1).status is UR
    assert recorded(bench) == 0x44


def test_fault_45_of_a_translation_request_is_unsupported(bench: AtsBench) -> None:
    bench.ats_scalable(DTE)
    assert bench.ask(0x1000, pasid=1).status is UR
    assert recorded(bench) == 0x45


def test_fault_5a_of_a_translation_request_aborts(bench: AtsBench) -> None:
    bench.ats_scalable()
    at = bench.pasid_entry(1, 1, 9, bench.table())
    bench.put(at, bench.qword(at) | 1 << 10)
    assert bench.ask(0x1000, pasid=1).status is CA
    assert recorded(bench) == 0x5A


def test_fault_5c_and_5d_of_translation_requests_are_unsupported(bench: AtsBench) -> None:
    bench.ats_scalable()
    bench.pasid_entry(1, 1, 9, bench.table())
    assert bench.ask(0x1000, "x", pasid=1).status is UR
    assert bench.ask(0x1000, pasid=1, privileged=True).status is UR
    assert [bench.record(index)[1] >> 32 & 0xFF for index in (0, 1)] == [0x5C, 0x5D]


@pytest.mark.parametrize("pasid, reason", [(2, 0x59), (64, 0x51)])
def test_faults_51_and_59_of_a_translation_request_can_be_recovered(bench: AtsBench, pasid: int, reason: int) -> None:
    bench.ats_scalable()
    bench.pasid_entry(1, 1, 9, bench.table())
    completion = bench.ask(0x1000, pasid=pasid)
    assert completion.succeeded
    assert [int(entry) for entry in completion.entries] == [0x0]
    assert completion.fault is not None
    assert completion.fault.reason == reason
    assert recorded(bench) == 0


@pytest.mark.parametrize(
    "iova, reason",
    [(0x3000, 0x71), (0x40_0000, 0x72), (0x20_0000, 0x70), (1 << 47, 0x80)],
)
def test_faults_70_to_80_of_a_first_stage_can_be_recovered(bench: AtsBench, iova: int, reason: int) -> None:
    bench.ats_scalable()
    table = bench.table()
    bench.pasid_entry(1, 1, 9, table)
    bench.map_first(table, 0x1000, 0x5000)
    bench.put(bench.entry_at(table, 0x20_0000, 2), 0x7FFF_F000 | 0x27)  # a table where no memory is
    bench.put(bench.entry_at(table, 0x40_0000, 2), 0x2000 | 0xE7)  # a 2 MiB page that is not aligned
    completion = bench.ask(iova, pasid=1)
    assert completion.succeeded
    assert completion.fault is not None
    assert completion.fault.reason == reason
    assert recorded(bench) == 0


def test_fault_79_of_a_scalable_second_stage_can_be_recovered(bench: AtsBench) -> None:
    bench.ats_scalable()
    table = bench.table()
    bench.pasid_entry(1, 2, 9, second=table)
    bench.map(table, 0x1000, 0x5000)
    assert bench.words(0x1000, pasid=1) == [0x5003]
    completion = bench.ask(0x2000, pasid=1)
    assert completion.fault is not None
    assert completion.fault.reason == 0x79
    assert recorded(bench) == 0


def test_nothing_is_answered_and_nothing_recorded_while_translation_is_off(bench: AtsBench) -> None:
    completion = bench.ask(0x1000)
    assert (completion.status, completion.entries) == (UR, ())
    assert bench.translated(0x5000) < 0
    assert bench.read(FSTS) == 0


def test_abort_mode_refuses_translation_requests_silently(bench: AtsBench) -> None:
    bench.write(RTADDR, ROOT | 3 << 10, 8)
    bench.command(SRTP)
    bench.command(TE)
    assert bench.ask(0x1000).status is UR
    assert recorded(bench) == 0


# -- translated requests


def test_a_translated_request_is_used_as_it_is(bench: AtsBench) -> None:
    bench.ats_legacy(bench.table())
    assert bench.translated(0x7777_7008) == 0x7777_7008
    assert bench.translated(0x7777_7008, "w") == 0x7777_7008


@pytest.mark.parametrize("low", [0, 8])
def test_fault_0d_a_translated_request_needs_tt_01(bench: AtsBench, low: int) -> None:
    bench.ats_legacy(bench.table(5), low=low)
    assert bench.translated(0x5000) == -0x0D
    assert bench.record()[1] >> 60 & 3 == 2


def test_fault_44_a_translated_request_needs_dte(bench: AtsBench) -> None:
    bench.ats_scalable(PASIDE)
    assert bench.translated(0x5000) == -0x44


def test_faults_04_and_0e_of_translated_requests(bench: AtsBench) -> None:
    bench.ats_legacy(bench.table())
    assert bench.translated(1 << 52) == -0x04
    assert bench.translated(0xFEE0_0000, "w") == -0x0E


def test_faults_83_and_87_of_translated_requests(bench: AtsBench) -> None:
    bench.ats_scalable()
    assert bench.translated(0x5000) == 0x5000
    assert bench.translated(1 << 52) == -0x83
    assert bench.translated(0xFEE0_0000, "w") == -0x87


def test_without_device_tlb_support_tt_01_is_programmed_wrongly(engine: Engine) -> None:
    bench = AtsBench(engine, changed(SPEC, ecap={"dt": 0, "dit": 0, "nwfs": 0, "prs": 0, "pds": 0, "sms": 0}))
    bench.ats_legacy(bench.table())
    assert bench.ask(0x1000).status is CA
    assert bench.record()[1] >> 32 & 0xFF == 0x03


def test_translation_requests_are_counted(bench: AtsBench) -> None:
    bench.ats_legacy(bench.table())
    bench.write(0x500, 2 << 32, 8)  # counter 0: group 0, requests
    bench.write(0x400, 0xF0, 8)
    bench.ask(0x1000)
    bench.ask(0x2000)
    assert bench.read(0x800, 8) == 2


# -- a completion promises what untranslated requests get


def build(engine: Engine, stage: int, seed: int) -> tuple[AtsBench, list[int]]:
    """PASID 1 with random pages of random rights and sizes; addresses in and around them."""
    draw, bench = random.Random(seed), AtsBench(engine)
    bench.ats_scalable()
    table = bench.table()
    bench.pasid_entry(1, stage, 9, table if stage == 1 else 0, 0 if stage == 1 else table)
    addresses = []
    for region in range(12):
        level = draw.choice([1, 1, 2])
        iova = region << 21 | (draw.randrange(512) << 12 if level == 1 else 0)
        gpa = draw.randrange(1, 64) << 21
        if stage == 1:
            bits = draw.choice([0x01, 0x03, 0x05, 0x07, 0x65, 0x67]) | (0x80 if level == 2 else 0)
            bench.put(bench.entry_at(table, iova, level, link=0x27), gpa | bits)
        else:
            bench.map(table, iova, gpa, draw.choice([R, W, R | W]), level)
        addresses += [iova, iova + 0x1000 * draw.randrange(512), iova ^ 1 << draw.randrange(12, 36)]
    return bench, addresses


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_rights_and_address_are_those_of_untranslated_requests(engine: Engine, stage: int, seed: int) -> None:
    asking, addresses = build(engine, stage, seed)
    plain, _ = build(engine, stage, seed)
    granted = 0
    for iova in addresses:
        (entry,) = asking.ask(iova, pasid=1).entries
        size = 1 << 12 if not entry.s else 1 << 13 + (~entry.addr & entry.addr + 1).bit_length() - 1
        where = (int(entry) & -size) + iova % size
        for access, right in (("r", entry.r), ("w", entry.w)):
            answer = plain.go(iova, access, pasid=1)
            assert (answer == where) if right else (answer < 0), f"{access} of {iova:#x}"
            granted += right
    assert granted > 10
    assert recorded(asking) == 0


def test_a_device_reads_and_writes_with_what_it_was_told(bench: AtsBench) -> None:
    table = bench.table()
    leaf = bench.map(table, 0x1000, 0x5000)
    bench.ats_legacy(table)
    bench.device.fill(0x1000, bench.ask(0x1000).entries[0])
    bench.put(leaf, 0)  # the device is trusted until its device-TLB is told
    found = bench.device.lookup(0x1010, Access.WRITE)
    assert found is not None
    request = Request(NIC, Iova(found[0]), Access.WRITE, address_type=AddressType.TRANSLATED)
    bus = Bus(bench.unit)
    assert bus.store(request, b"by the device") is None
    assert bench.memory.read(0x5010, 13) == b"by the device"
    assert bus.load(replace(request, access=Access.READ), 13) == b"by the device"


def test_a_translated_request_does_not_look_at_rid_pasid(engine: Engine) -> None:
    bench = AtsBench(engine)
    bench.ats_scalable()
    at = bench.scalable_context(NIC, DTE, rid_pasid=1 << 13)
    bench.put(at, bench.qword(at) & ~(7 << 9))  # a directory of 2**13 PASIDs
    assert (bench.go(0x5000), bench.translated(0x5000)) == (-0x48, 0x5000)


def test_translated_requests_with_ever_new_pasids_fill_no_memory(engine: Engine) -> None:
    bench = AtsBench(engine)
    bench.ats_scalable()
    for pasid in range(10_000):
        assert bench.translated(0x5000, pasid=pasid) == 0x5000
    assert len(bench.unit._sources._decoded) < 5_000
