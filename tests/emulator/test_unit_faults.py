"""Fault recording: the record's words, one record or many, overflow, and the fault event."""

from __future__ import annotations

import dataclasses

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from emulator.unit.events import EventMessage
from emulator.unit.faults import fault_record
from pagetables.address import Iova, Pasid, SourceId
from pagetables.fault import Fault, FaultReason
from pagetables.request import Access, AddressType, Request
from tests.units import CONTEXT, FEADDR, FECTL, FEDATA, FEUADDR, FRCD, FSTS, IQT, NIC, Bench, wait_flags

PFO, PPF, IQE = 0x1, 0x2, 0x10
F = 1 << 63


def words(record: int) -> tuple[int, int]:
    return record & (1 << 64) - 1, record >> 64


def fault(reason: FaultReason, access: str = "r", pasid: int | None = None, iova: int = 0x7000, **more) -> Fault:
    wanted = None if pasid is None else Pasid(pasid)
    return Fault(reason, Request(SourceId(0x300), Iova(iova), Access(access), wanted, **more))


def interrupt_fault(index: int) -> Fault:
    return Fault(FaultReason.IR_NOT_PRESENT, Request(SourceId(0x300), Iova(0xFEE0_0210), Access.WRITE), index=index)


# -- the record


@pytest.mark.parametrize(
    "record, low, high",
    [
        (fault_record(fault(FaultReason.WRITE_DENIED, "w"), 57, True), 0x7000, 0x8000_0005_0000_0300),
        (fault_record(fault(FaultReason.FS_NOT_PRESENT, pasid=0x12345), 57, True), 0x7000, 0xC123_4571_8000_0300),
        (fault_record(interrupt_fault(0x10), 57, True), 0x10 << 48, 0x8000_0022_0000_0300),
    ],
    ids=["write", "read-with-pasid", "interrupt"],
)
def test_records_worked_out_by_hand(record: int, low: int, high: int) -> None:
    assert words(record) == (low, high)


@pytest.mark.parametrize("access, t1, t2", [("w", 0, 0), ("r", 1, 0), ("rw", 1, 1), ("x", 1, 0)])
def test_the_type_of_a_request_stands_in_bits_126_and_92(access: str, t1: int, t2: int) -> None:
    record = fault_record(fault(FaultReason.WRITE_DENIED, access), 57, True)
    assert (record >> 126 & 1, record >> 92 & 1) == (t1, t2)


def test_only_requests_with_pasid_tell_privilege_and_execution() -> None:
    with_pasid = fault_record(fault(FaultReason.EXECUTE_DENIED, "x", 5, privileged=True), 57, True)
    without = fault_record(fault(FaultReason.EXECUTE_DENIED, "x", privileged=True), 57, True)
    assert (with_pasid >> 93 & 7, with_pasid >> 104 & 0xFFFFF) == (0b111, 5)
    assert (without >> 93 & 7, without >> 104 & 0xFFFFF) == (0, 0)


def test_the_address_type_is_recorded_where_there_are_device_tlbs() -> None:
    translated = fault(FaultReason.TRANSLATION_TYPE_BLOCKED, address_type=AddressType.TRANSLATED)
    assert fault_record(translated, 57, True) >> 124 & 3 == 2
    assert fault_record(translated, 57, False) >> 124 & 3 == 0


def test_the_address_loses_its_offset_and_what_the_unit_does_not_implement() -> None:
    assert words(fault_record(fault(FaultReason.READ_DENIED, iova=0xFFFF_8000_1234_5678), 39, True))[0] == 0x1234_5000


# -- recording


class Scene:
    """A device whose table maps nothing, and others without a context entry."""

    def __init__(self, engine: Engine, profile="default", low: int = 0) -> None:
        self.bench = Bench(engine, profile)
        table = self.bench.table()
        self.bench.legacy((NIC, table, 5))
        self.bench.legacy_context(NIC, table, 5, low=low)

    def status(self) -> int:
        return self.bench.read(FSTS)

    def recorded(self, index: int = 0) -> int | None:
        """Reason of a pending record."""
        high = self.bench.record(index)[1]
        return high >> 32 & 0xFF if high & F else None

    def clear(self, index: int = 0) -> None:
        """As drivers do: 1 to F, by the top dword."""
        self.bench.write(FRCD + 16 * index + 12, 1 << 31)


@pytest.fixture
def scene(engine: Engine) -> Scene:
    """One record."""
    return Scene(engine)


@pytest.fixture
def eight(engine: Engine) -> Scene:
    """Eight records."""
    return Scene(engine, "spec")


def test_a_fault_is_recorded_with_address_requester_and_reason(scene: Scene) -> None:
    assert scene.bench.go(0x1_2345_6789, "w") == -0x5
    assert scene.bench.record() == (0x1_2345_6000, 0x8000_0005_0000_0010)
    assert scene.status() == PPF


def test_a_second_fault_overflows_a_single_record(scene: Scene) -> None:
    scene.bench.go(0x1000, "w")
    scene.bench.go(0x2000)
    assert scene.status() == PPF | PFO
    assert scene.recorded() == 5
    assert scene.bench.record()[0] == 0x1000


def test_while_overflow_stands_nothing_is_recorded(scene: Scene) -> None:
    scene.bench.go(0x1000)
    scene.bench.go(0x2000)
    scene.clear()
    assert scene.status() == PFO
    scene.bench.go(0x3000)
    assert scene.recorded() is None
    scene.bench.write(FSTS, PFO)
    scene.bench.go(0x4000)
    assert scene.bench.record()[0] == 0x4000
    assert scene.status() == PPF


def test_clearing_f_clears_ppf_and_leaves_the_rest_of_the_record(scene: Scene) -> None:
    scene.bench.go(0x1000)
    before = scene.bench.record()
    scene.clear()
    assert scene.bench.record() == (before[0], before[1] & ~F)
    assert scene.status() == 0


def test_f_can_be_cleared_by_a_qword_too(scene: Scene) -> None:
    scene.bench.go(0x1000)
    scene.bench.write(FRCD + 8, F, 8)
    assert scene.status() == 0


def test_writing_0_to_f_or_1_to_ppf_clears_nothing(scene: Scene) -> None:
    scene.bench.go(0x1000)
    scene.bench.write(FRCD + 12, 0)
    scene.bench.write(FRCD, 0xFFFF_FFFF_FFFF_FFFF, 8)
    scene.bench.write(FSTS, PPF)
    assert scene.status() == PPF
    assert scene.bench.record() == (0x1000, 0xC000_0006_0000_0010)


def test_records_are_filled_round_robin(eight: Scene) -> None:
    for n in range(8):
        eight.bench.go(n << 12)
    assert [eight.bench.record(n)[0] >> 12 for n in range(8)] == list(range(8))
    assert eight.status() == PPF
    eight.clear(0)
    eight.bench.go(8 << 12)
    assert eight.bench.record(0)[0] == 8 << 12
    eight.bench.go(9 << 12)
    assert eight.status() & PFO


def test_a_free_record_behind_a_pending_one_is_not_used(eight: Scene) -> None:
    for n in range(8):
        eight.bench.go(n << 12)
    eight.clear(3)
    eight.bench.go(0x9000)
    assert eight.status() & PFO
    assert eight.recorded(3) is None


def test_fri_is_the_record_that_raised_ppf_and_does_not_move(eight: Scene) -> None:
    for n in range(3):
        eight.bench.go(n << 12)
        eight.clear(n)
    eight.bench.go(0x3000)
    eight.bench.go(0x4000)
    assert eight.status() == PPF | 3 << 8
    eight.clear(3)
    assert eight.status() == PPF | 3 << 8
    eight.clear(4)
    assert eight.status() & PPF == 0
    eight.bench.go(0x5000)
    assert eight.status() == PPF | 5 << 8


def test_disabling_translation_does_not_reset_the_record_index(eight: Scene) -> None:
    eight.bench.go(0x1000)
    eight.clear(0)
    eight.bench.command(1 << 31, on=False)
    eight.bench.command(1 << 31)
    eight.bench.go(0x2000)
    assert eight.recorded(1) == 6


def test_fpd_silences_qualified_faults_and_blocks_all_the_same(engine: Engine) -> None:
    scene = Scene(engine, low=2)
    assert scene.bench.go(0x1000) == -0x6
    assert scene.status() == 0
    assert scene.bench.go(0x1000, sid=0x1234) == -0x1  # an absent root entry is not a matter of FPD
    assert scene.recorded() == 1


def test_fpd_counts_in_an_entry_that_is_not_present(scene: Scene) -> None:
    scene.bench.put(CONTEXT + 16 * 0x20, 2, 0)
    assert scene.bench.go(0x1000, sid=0x20) == -0x2
    assert scene.status() == 0
    assert scene.bench.go(0x1000, sid=0x21) == -0x2
    assert scene.recorded() == 2


def test_faults_of_one_requester_may_be_compressed(engine: Engine) -> None:
    profile = dataclasses.replace(load_profile("spec"), behaviours=frozenset({"compress_faults"}))
    scene = Scene(engine, profile)
    scene.bench.go(0x1000)
    scene.bench.go(0x2000)
    scene.bench.go(0x3000, sid=0x33)
    assert [scene.recorded(n) for n in range(3)] == [6, 2, None]
    scene.clear(0)
    scene.bench.go(0x4000)
    assert scene.bench.record(2)[0] == 0x4000


def test_a_rid_pasid_is_never_reported(engine: Engine) -> None:
    bench = Bench(engine)
    bench.scalable(NIC)
    bench.scalable_context(NIC, rid_pasid=5)
    bench.pasid_entry(5, 1, 1, bench.table())
    assert bench.go(0x1000) == -0x71
    assert bench.record() == (0x1000, 0xC000_0071_0000_0010)


# -- the fault event


def test_an_unmasked_fault_sends_its_message(scene: Scene) -> None:
    scene.bench.write(FEDATA, 0x4045)
    scene.bench.write(FEADDR, 0xFEE0_0000)
    scene.bench.write(FECTL, 0)
    scene.bench.go(0x1000)
    assert scene.bench.unit.messages == [EventMessage(0xFEE0_0000, 0x4045)]
    assert scene.bench.read(FECTL) == 0


def test_address_and_upper_address_may_be_written_as_one_qword(eight: Scene) -> None:
    eight.bench.write(FEADDR, 0x0000_0100_FEE0_2000, 8)
    assert eight.bench.read(FEUADDR) == 0x100
    eight.bench.write(FECTL, 0)
    eight.bench.go(0x1000)
    assert eight.bench.unit.messages == [EventMessage(0x100_FEE0_2000, 0)]


def test_a_masked_fault_waits_for_the_mask_to_be_cleared(scene: Scene) -> None:
    scene.bench.go(0x1000)
    assert scene.bench.read(FECTL) == 0xC000_0000
    assert scene.bench.unit.messages == []
    scene.bench.write(FECTL, 0)
    assert len(scene.bench.unit.messages) == 1
    assert scene.bench.read(FECTL) == 0


def test_while_a_status_is_pending_there_is_no_other_event(eight: Scene) -> None:
    eight.bench.write(FECTL, 0)
    for n in range(12):
        eight.bench.go(n << 12)
    assert eight.status() & PFO
    assert len(eight.bench.unit.messages) == 1


def test_clearing_every_status_withdraws_the_pending_event(scene: Scene) -> None:
    scene.bench.go(0x1000)
    scene.bench.go(0x2000)
    scene.clear()
    assert scene.bench.read(FECTL) == 0xC000_0000
    scene.bench.write(FSTS, PFO)
    assert scene.bench.read(FECTL) == 0x8000_0000
    scene.bench.write(FECTL, 0)
    assert scene.bench.unit.messages == []


def test_after_clearing_the_next_fault_is_an_event_again(scene: Scene) -> None:
    scene.bench.write(FECTL, 0)
    scene.bench.go(0x1000)
    scene.clear()
    scene.bench.go(0x2000)
    assert len(scene.bench.unit.messages) == 2


def test_a_fault_after_a_queue_error_is_no_event_of_its_own(scene: Scene) -> None:
    scene.bench.write(FECTL, 0)
    scene.bench.start_queue()
    scene.bench.write(IQT, 16, 8)
    assert scene.status() == IQE
    scene.bench.go(0x1000)
    assert scene.status() == IQE | PPF
    assert len(scene.bench.unit.messages) == 1
    scene.bench.memory.write(0x10_2000, wait_flags(0))
    scene.bench.write(FSTS, IQE)
    assert scene.status() == PPF


def test_messages_go_to_the_sink_that_was_set_last(scene: Scene) -> None:
    seen: list[EventMessage] = []
    scene.bench.unit.message_sink = seen.append
    scene.bench.write(FECTL, 0)
    scene.bench.go(0x1000)
    assert len(seen) == 1
    assert scene.bench.unit.messages == []
