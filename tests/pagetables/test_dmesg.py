"""Fault lines as kernels printed them, verbatim, and the log around them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.address import parse_source_id
from pagetables.dmesg import FaultLine, fault_of_record, parse_fault_line, read_kernel_log, storms
from pagetables.errors import InputError
from pagetables.layouts.registers import FaultRecord
from pagetables.request import Access

GENERATIONS = {
    "up to 5.0": (
        "[DMA Read] Request device [86:05.6] fault addr 0 [fault reason 06] PTE Read access is not set",
        ("86:05.6", Access.READ, 0, None, 6),
    ),
    "5.1 to 5.13": (
        "DMAR: [DMA Read] Request device [03:00.0] PASID ffffffff fault addr fffd3000 [fault reason 06] PTE Read",
        ("03:00.0", Access.READ, 0xFFFD3000, None, 6),
    ),
    "5.1 to 5.13 with a PASID": (
        "DMAR: [DMA Write] Request device [6a:01.0] PASID 1 fault addr 7f0000 [fault reason 129] SM: ...",
        ("6a:01.0", Access.WRITE, 0x7F0000, 1, 129),
    ),
    "5.14": (
        "DMAR: [DMA Write NO_PASID] Request device [0x00:0x02.0] fault addr 0x7cd80000 [fault reason 0x05] PTE Write",
        ("00:02.0", Access.WRITE, 0x7CD80000, None, 5),
    ),
    "5.15 on": (
        "[   12.5] DMAR: [DMA Read NO_PASID] Request device [03:00.0] fault addr 0x100000 [fault reason 0x71] "
        "SM: Present bit in first-level paging entry is clear",
        ("03:00.0", Access.READ, 0x100000, None, 0x71),
    ),
    "5.15 on with a PASID": (
        "DMAR: [DMA Read PASID 0x12] Request device [00:02.0] fault addr 0x7cd80000 [fault reason 0x59] SM: ...",
        ("00:02.0", Access.READ, 0x7CD80000, 0x12, 0x59),
    ),
}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_fault_line_of_every_generation_is_read(generation: str) -> None:
    text, (device, access, address, pasid, reason) = GENERATIONS[generation]
    fault = parse_fault_line(text)
    assert (fault.source_id, fault.access, fault.address, fault.pasid, fault.reason) == (
        parse_source_id(device),
        access,
        address,
        pasid,
        reason,
    )


def test_interrupt_fault_has_an_index_and_no_address() -> None:
    fault = parse_fault_line(
        "[INTR-REMAP] Request device [42:00.2] fault index 1600 [fault reason 37] Blocked a compatibility request"
    )
    assert (fault.index, fault.address, fault.access, fault.reason) == (0x1600, None, None, 0x25)


def test_oldest_form_takes_its_reason_from_the_next_line() -> None:
    log = read_kernel_log(
        [
            "DMAR:[DMA Write] Request device [00:02.0] fault addr 6df084000",
            "DMAR:[fault reason 05] PTE Write access is not set",
        ]
    )
    (fault,) = log.faults
    assert (fault.reason, fault.address, fault.text) == (5, 0x6DF084000, "PTE Write access is not set")


def test_time_stamp_is_seconds_since_boot() -> None:
    assert parse_fault_line("[   14.998092] " + GENERATIONS["5.14"][0]).time == pytest.approx(14.998092)
    assert parse_fault_line(GENERATIONS["5.14"][0]).time is None


def test_line_without_a_fault_teaches_the_form() -> None:
    with pytest.raises(InputError, match="fault reason 0x05"):
        parse_fault_line("DMAR: Host address width 39")


def test_unit_line_gives_the_words_that_configure_a_unit() -> None:
    log = read_kernel_log(
        ["DMAR: Host address width 39", "DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap d2008c22260206 ecap f00f4a"]
    )
    (unit,) = log.units
    assert (unit.base, unit.cap, unit.ecap, log.host_address_width) == (0xFED90000, 0xD2008C22260206, 0xF00F4A, 39)


def line(address: int, time: float = 1.0, device: str = "00:02.0", kind: str = "Write", reason: int = 5) -> str:
    return (
        f"[{time:12.6f}] DMAR: [DMA {kind} NO_PASID] Request device [{device}] fault addr {address:#x} "
        f"[fault reason {reason:#04x}] PTE"
    )


def faults(*lines: str) -> list[FaultLine]:
    return read_kernel_log(lines).faults


def test_storm_is_one_group_per_requester_and_reason() -> None:
    lines = [GENERATIONS["5.14"][0]] * 3 + [GENERATIONS["5.15 on"][0]]
    assert [len(group.faults) for group in storms(read_kernel_log(lines).faults)] == [3, 1]


@pytest.mark.parametrize(
    "other", [{"device": "00:03.0"}, {"reason": 6}, {"kind": "Read"}, {"address": 0x1000 + (1 << 21) + 1}]
)
def test_requester_reason_access_and_distance_tell_storms_apart(other) -> None:
    second = line(**{"address": 0x2000} | other)
    assert len(list(storms(faults(line(0x1000), second, line(0x1000))))) == 2


def test_storm_says_when_it_began_and_ended_and_where() -> None:
    (storm,) = storms(faults(line(0x5000, 1.5), line(0x1000, 1.75), line(0x5000, 4.0)))
    assert (storm.first.address, storm.times, storm.addresses) == (0x5000, (1.5, 4.0), (0x1000, 0x5000))
    assert storm.first.line == 1


def test_storms_of_faults_without_time_have_no_times() -> None:
    (storm,) = storms([parse_fault_line(GENERATIONS["5.14"][0])])
    assert storm.times is None


def test_storm_reaches_as_far_as_steps_of_2_mib_lead() -> None:
    steps = [line(step << 21) for step in (3, 0, 2, 1)]
    (storm,) = storms(faults(*steps))
    assert [fault.line for fault in storm.faults] == [1, 2, 3, 4]


def test_interrupt_faults_have_no_addresses() -> None:
    text = "DMAR: [INTR-REMAP NO_PASID] Request device [f0:1f.7] fault index 0x1b [fault reason 0x22] Present field"
    (storm,) = storms(faults(text, text))
    assert (len(storm.faults), storm.first.index, storm.addresses) == (2, 0x1B, ())


def test_ten_faults_in_five_seconds_are_the_limit() -> None:
    assert read_kernel_log([line(0x1000, 1 + n / 10) for n in range(10)]).is_limited
    assert not read_kernel_log([line(0x1000, 1 + n / 10) for n in range(9)]).is_limited
    assert not read_kernel_log([line(0x1000, 1 + n) for n in range(20)]).is_limited


def test_suppressed_lines_are_counted() -> None:
    log = read_kernel_log(["[1.0] dmar_fault: 37 callbacks suppressed", "[2.0] net_ratelimit: 5 callbacks suppressed"])
    assert (log.suppressed, log.is_limited) == (37, True)


def test_status_line_without_a_fault_behind_it_is_remembered() -> None:
    status = "DMAR: DRHD: handling fault status reg "
    log = read_kernel_log([status + "2", line(0x1000), status + "40", status + "2", "eth0: link is up", status + "3"])
    assert (log.statuses, log.silent) == ([2, 0x40, 2, 3], [4, 6])  # 40h: a time-out, no fault


def test_record_is_the_fault_that_the_kernel_would_print() -> None:
    record = FaultRecord(0x80FFFF05_00000028 << 64 | 0xABCDE000)  # as QEMU leaves it: PASID ffffh with PP=0
    fault = fault_of_record(record)
    assert (fault.source_id, fault.access, fault.reason) == (0x28, Access.WRITE, 5)
    assert (fault.address, fault.pasid, fault.time) == (0xABCDE000, None, None)


@pytest.mark.parametrize("t1, t2, access", [(0, 0, Access.WRITE), (1, 0, Access.READ), (1, 1, Access.ATOMIC)])
def test_record_tells_the_access_by_two_type_bits(t1: int, t2: int, access: Access) -> None:
    high = 1 << 63 | t1 << 62 | 0x71 << 32 | t2 << 28 | 1 << 31 | 0x12 << 40 | 0x10
    fault = fault_of_record(FaultRecord(high << 64 | 0x7000))
    assert (fault.access, fault.pasid, fault.reason) == (access, 0x12, 0x71)


def test_record_of_an_interrupt_has_an_index() -> None:
    fault = fault_of_record(FaultRecord((1 << 63 | 0x22 << 32 | 0xF0FF) << 64 | 0x1B << 48))
    assert (fault.index, fault.address, fault.access) == (0x1B, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "DMAR: [DMA Write NO_PASID] Request device [00:02.9] fault addr 0x1000 [fault reason 0x05] PTE",
        "DMAR: [DMA Write NO_PASID] Request device [::::] fault addr 0x1000 [fault reason 0x05] PTE",
        "DMAR: [DMA Write NO_PASID] Request device [00:02.0] fault addr 0x10000000000000000 [fault reason 0x05] PTE",
    ],
)
def test_what_no_kernel_prints_is_passed_over(text: str) -> None:
    assert read_kernel_log([text]).faults == []


def test_endless_numbers_are_passed_over() -> None:
    digits = "9" * 5000
    log = read_kernel_log(
        [
            f"DMAR: Host address width {digits}",
            f"handling fault status reg {digits}",
            f"dmar_fault: {digits} callbacks suppressed",
            f"dmar0: reg_base_addr {digits} ver 1:0 cap 1 ecap 1",
            f"[{digits}.1] " + GENERATIONS["5.14"][0],
        ]
    )
    assert (log.units, log.suppressed, log.statuses) == ([], 0, [])
    assert [fault.time for fault in log.faults] == [None]


def test_every_fault_of_the_recordings_is_found(corpus: Path) -> None:
    counts = {
        folder.name: len(read_kernel_log((folder / "dmesg.txt").read_text().splitlines()).faults)
        for folder in sorted(corpus.iterdir())
        if folder.is_dir()
    }
    for name, count in counts.items():
        assert count == (corpus / name / "dmesg.txt").read_text().count("fault addr")


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    read_kernel_log(text.splitlines())


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, (1 << 64) - 1),
    st.integers(1, 0x91),
    st.none() | st.integers(0, (1 << 20) - 1),
    st.sampled_from(["Read", "Write"]),
)
def test_a_printed_fault_is_read_back(source: int, address: int, reason: int, pasid: int | None, kind: str) -> None:
    device = f"{source >> 8:02x}:{source >> 3 & 31:02x}.{source & 7}"
    who = "NO_PASID" if pasid is None else f"PASID {pasid:#x}"
    text = f"DMAR: [DMA {kind} {who}] Request device [{device}] fault addr {address:#x} [fault reason {reason:#04x}] x"
    fault = parse_fault_line(text)
    assert (fault.source_id, fault.address, fault.reason, fault.pasid) == (source, address, reason, pasid)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 25)), max_size=30))
def test_storms_lose_and_invent_nothing(found: list[tuple[int, int]]) -> None:
    lines = faults(*(line(address, device=f"00:0{device}.0") for device, address in found))
    grouped = [fault for storm in storms(lines) for fault in storm.faults]
    assert sorted(grouped, key=lambda fault: fault.line) == lines
