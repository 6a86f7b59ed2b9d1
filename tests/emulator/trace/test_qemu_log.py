"""QEMU's log of its emulated unit: what devices accessed, what was blocked, what software told the unit."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from emulator.trace import NO_PASID, Kind, read_traces
from emulator.trace.event import READ, WRITE, Descriptor, RegisterWrite
from emulator.trace.qemu import QemuReader, is_wait
from emulator.trace.skipped import SkippedLines

LOGS = ("a-legacy-strict", "c-scalable", "h-fault", "i-firststage-k72", "t-vfio-superpages")
HIT = "vtd_iotlb_page_hit IOTLB page hit sid 0x40 iova 0xffffda44 slpte 0x1fdf2003 domain 0x8"
TRANSLATE = "vtd_dmar_translate dev 00:08.00 iova 0xffffd000 -> gpa 0x1fdf2000 mask 0xfff"


def read(text: str):
    """Events, skipped lines and the reader."""
    skipped = SkippedLines()
    reader = QemuReader("log", 0, skipped)
    return list(reader.events([text.encode()])), skipped, reader


def test_translation_is_an_access_at_the_address_of_the_lookup_before_it() -> None:
    (event,), skipped, reader = read(f"{HIT}\n{TRANSLATE}\n")
    assert (event.kind, event.device, event.line, event.access) == (Kind.ACCESS, "0000:00:08.0", 2, 0)
    assert (event.iova, event.gpa, event.size) == (0xFFFF_DA44, 0x1FDF_2A44, 1)
    assert not skipped
    assert not reader.timed


def test_lookup_of_another_device_or_page_says_nothing_about_the_address() -> None:
    other = HIT.replace("sid 0x40", "sid 0x48")
    page = HIT.replace("0xffffda44", "0xffffca44")
    for before in (other, page, f"{HIT}\n{TRANSLATE}"):  # the last: a lookup counts once
        event = read(f"{before}\n{TRANSLATE}\n")[0][-1]
        assert (event.iova, event.gpa) == (0xFFFF_D000, 0x1FDF_2000)


def test_page_that_can_only_be_written_was_written() -> None:
    (event,), _, _ = read(f"{HIT.replace('1fdf2003', '1fdf2002')}\n{TRANSLATE}\n")
    assert event.access == WRITE


def test_large_page_keeps_all_bits_of_the_address() -> None:
    hit = "vtd_iotlb_page_update IOTLB page update sid 0xf8 iova 0x40123456 slpte 0x80000083 domain 0x8"
    translate = "vtd_dmar_translate dev 00:1f.00 iova 0x40000000 -> gpa 0x80000000 mask 0x1fffff"
    (event,), _, _ = read(f"{hit}\n{translate}\n")
    assert (event.iova, event.gpa, event.device) == (0x4012_3456, 0x8012_3456, "0000:00:1f.0")


@pytest.mark.parametrize("write, access", [(0, READ), (1, WRITE)])
def test_fault_keeps_reason_and_direction(write: int, access: int) -> None:
    (event,), _, _ = read(f"vtd_dmar_fault sid 0x300 fault 5 addr 0xdeadb004 write {write}\n")
    assert (event.kind, event.device, event.iova) == (Kind.FAULT, "0000:03:00.0", 0xDEAD_B004)
    assert (event.access, event.detail) == (access, 5)


def test_descriptors_and_register_writes_are_kept_as_words() -> None:
    events, _, _ = read(
        "vtd_inv_desc invalidate desc type context-cache high 0x0 low 0x11\n"
        "vtd_inv_desc invalidate desc type wait high 0x10debc04 low 0x200000025\n"
        "vtd_reg_write addr 0x90 size 0x8 value 0x79ae000\n"
    )
    assert [event.kind for event in events] == [Kind.QI_SUBMIT, Kind.QI_SUBMIT, Kind.REGISTER_WRITE]
    assert events[0].detail == Descriptor("", (0x11, 0, 0, 0))
    assert events[1].detail == Descriptor("", (0x2_0000_0025, 0x10DE_BC04, 0, 0))
    assert [is_wait(event.detail) for event in events[:2]] == [False, True]
    assert events[2].detail == RegisterWrite(0x90, 8, 0x79AE000)


@pytest.mark.parametrize(
    "stamp, ns",
    [
        ("13963@1795228305.288159:", 1_795_228_305_288_159_000),
        ("2026-11-21T02:14:29.378096Z ", 1_795_227_269_378_096_000),
        ("2026-13-21T02:14:29.378096Z ", 378_096_000),
    ],
)
def test_both_styles_of_time_stamp_are_read(stamp: str, ns: int) -> None:
    (event,), skipped, reader = read(f"{stamp}vtd_dmar_fault sid 0x28 fault 6 addr 0x1000 write 0\n")
    assert event.time_ns == ns
    assert reader.timed
    assert not skipped


def test_lines_that_cannot_be_used_are_listed_and_others_passed_over() -> None:
    text = "vtd_dmar_fault sid zz\nqemu-system-x86_64: warning: x\n\nvtd_inv_qi_fetch \nvtd_iotlb_reset IOTLB reset\n"
    events, skipped, _ = read(text + "vtd_dmar_translate x\nvtd_inv_desc x\nvtd_reg_write x\nvtd_iotlb_page_hit x\n")
    assert [event.kind for event in events] == [Kind.OTHER] * 5
    assert [(one.line, one.why.partition(":")[0]) for one in skipped] == [
        (2, "not a vtd_* event of QEMU"),
        (1, "vtd_dmar_fault"),
        (6, "vtd_dmar_translate"),
        (7, "vtd_inv_desc"),
        (9, "vtd_iotlb_page_hit"),
        (8, "vtd_reg_write"),
    ]


def test_log_is_a_trace_of_accesses(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"{HIT}\n{TRANSLATE}\n")
    trace = read_traces([tmp_path / "log"])
    assert trace.applied_counts == {"map": 0, "unmap": 0, "access": 1, "attach": 1, "detach": 0}
    row = list(trace.columns.rows())[1]
    assert (row["source"], row["pasid"], row["iova"], row["gpa"]) == (0x40, NO_PASID, 0xFFFF_DA44, 0x1FDF_2A44)


@pytest.mark.parametrize("variant", LOGS)
def test_every_event_of_a_recorded_log_is_read(variant: str, corpus: Path) -> None:
    trace = read_traces([corpus / variant / "qemu-vtd.log.gz"])
    counted = Counter(json.loads((corpus / variant / "qemu-vtd-check.json").read_text())["qemu_events"])
    found = {kind.name: count for kind, count in trace.kinds.items()}
    assert found["ACCESS"] == counted["vtd_dmar_translate"]
    assert found.get("FAULT", 0) == counted["vtd_dmar_fault"]
    assert found["QI_SUBMIT"] == counted["vtd_inv_desc"]
    assert found["REGISTER_WRITE"] == counted["vtd_reg_write"]
    assert not trace.skipped


def test_addresses_of_a_recorded_log_keep_their_offset_in_the_page(corpus: Path) -> None:
    with gzip.open(corpus / "a-legacy-strict" / "qemu-vtd.log.gz", "rt") as log:
        text = "".join(log.readlines()[:20_000])
    accesses = [event for event in read(text)[0] if event.kind is Kind.ACCESS]
    assert sum(bool(event.iova & 0xFFF) for event in accesses) > len(accesses) // 2
    assert all((event.iova - event.gpa) % 4096 == 0 for event in accesses)
