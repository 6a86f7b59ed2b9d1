"""Fault lines as kernels printed them, verbatim, and the log around them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.address import parse_source_id
from pagetables.dmesg import parse_fault_line, read_kernel_log, storms
from pagetables.errors import InputError
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


def test_storm_is_one_group_per_requester_and_reason() -> None:
    lines = [GENERATIONS["5.14"][0]] * 3 + [GENERATIONS["5.15 on"][0]]
    assert [len(group) for group in storms(read_kernel_log(lines).faults)] == [3, 1]


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
