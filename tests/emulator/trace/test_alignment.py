"""Accesses of a QEMU log between the events of a trace: placed where their page is mapped, told where they are not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from emulator.replay import Replay
from emulator.settings import Settings
from emulator.trace import Kind, read_traces
from emulator.trace.alignment import merge_accesses
from pagetables.address import parse_source_id
from pagetables.errors import TraceError
from tests.traces import Script

NIC = "00:03.0"
SID = parse_source_id(NIC)
FIRST, SECOND = (0x100E2, 0x1000), (0x100E2, 0x2000)
HOME = {
    "a-legacy-strict": {},
    "c-scalable": {"mode": "scalable"},
    "h-fault": {},
    "i-firststage-k72": {"mode": "scalable", "stage": "first"},
    "t-vfio-superpages": {},
}
HOMES = ["a-legacy-strict", *(pytest.param(name, marks=pytest.mark.slow) for name in HOME if name[0] != "a")]


class Log:
    """A log of QEMU, line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def descriptor(self, words: tuple[int, int], kind: str = "iotlb") -> Log:
        self.lines.append(f"vtd_inv_desc invalidate desc type {kind} high {words[1]:#x} low {words[0]:#x}")
        return self

    def access(self, iova: int, gpa: int, device: str = NIC) -> Log:
        bus, slot, function = device.replace(".", ":").split(":")
        page = f"iova {iova & -4096:#x} -> gpa {gpa & -4096:#x} mask 0xfff"
        lookup = f"sid {parse_source_id(device):#x} iova {iova:#x} slpte {gpa & -4096 | 3:#x} domain 0x1"
        self.lines.append(f"vtd_iotlb_page_hit IOTLB page hit {lookup}")
        self.lines.append(f"vtd_dmar_translate dev {bus}:{slot}.0{function} {page}")
        return self

    def fault(self, iova: int, write: int = 0, device: str = NIC) -> Log:
        self.lines.append(f"vtd_dmar_fault sid {parse_source_id(device):#x} fault 6 addr {iova:#x} write {write}")
        return self

    def write(self, folder: Path) -> Path:
        path = folder / "qemu.log"
        path.write_text("\n".join(self.lines) + "\n")
        return path


def submit(script: Script, words: tuple[int, int], **who) -> Script:
    """qi_submit."""
    return script.line(f"qi_submit: iotlb_inv dmar0: {words[0]:#x} {words[1]:#x} 0x0 0x0", **who)


@pytest.fixture
def script() -> Script:
    """A page is mapped, unmapped and flushed, twice, at the same address to different pages."""
    script = Script().attach(NIC, 1)
    for gpa, words in ((0x5000, FIRST), (0x7000, SECOND)):
        script.map(0x1000, gpa).dma_map(NIC, 0x1000, gpa)
        submit(script.unmap(0x1000), words).dma_unmap(NIC, 0x1000)
    return script


def order(trace) -> list[str]:
    """The rows as words."""
    return [Kind(kind).name.lower() for kind in trace.columns.kind]


def test_access_lies_between_the_map_and_the_unmap_that_it_saw(script: Script, tmp_path: Path) -> None:
    log = Log().access(0x1008, 0x5008).descriptor(FIRST).access(0x1010, 0x7010).access(0x1020, 0x7020)
    trace, found = merge_accesses(script.read(tmp_path), log.descriptor(SECOND).write(tmp_path))
    assert order(trace) == ["attach", "map", "access", "unmap", "map", "access", "access", "unmap"]
    assert (found.matched, found.only_trace, found.only_log, found.fraction) == (2, 0, 0, 1.0)
    assert (found.accesses, found.placed, found.faults) == (3, 3, 0)
    rows = [row for row in trace.columns.rows() if row["kind"] == Kind.ACCESS]
    assert [(row["iova"], row["gpa"], row["source"], row["space"]) for row in rows] == [
        (0x1008, 0x5008, SID, 0),
        (0x1010, 0x7010, SID, 0),
        (0x1020, 0x7020, SID, 0),
    ]
    assert [(trace.files[row["file"]], row["line"]) for row in rows] == [
        (str(tmp_path / "qemu.log"), n) for n in (2, 5, 7)
    ]
    assert (trace.columns.time_ns[1:] >= trace.columns.time_ns[:-1]).all()
    assert "2 of 2 descriptors match; 3 of 3 accesses lie where their page is mapped" in trace.notes[-1]


def test_waits_of_the_log_are_no_descriptors_of_the_trace(script: Script, tmp_path: Path) -> None:
    log = Log().descriptor(FIRST).descriptor((0x2_0000_0025, 0x1000), "wait").descriptor(SECOND)
    assert merge_accesses(script.read(tmp_path), log.write(tmp_path)).alignment.only_log == 0


def test_access_to_another_page_than_the_trace_maps_is_not_placed(script: Script, tmp_path: Path) -> None:
    log = Log().access(0x1000, 0x9000).descriptor(FIRST).descriptor(SECOND)
    trace, found = merge_accesses(script.read(tmp_path), log.write(tmp_path))
    assert (found.accesses, found.placed) == (1, 0)
    assert order(trace)[0] == "access"


def test_blocked_access_is_replayed_too_and_blocked_again(script: Script, tmp_path: Path) -> None:
    log = Log().access(0x1000, 0x5000).descriptor(FIRST).fault(0x1000).descriptor(SECOND)
    trace, found = merge_accesses(script.read(tmp_path), log.write(tmp_path))
    assert order(trace) == ["attach", "map", "access", "unmap", "access", "map", "unmap"]
    assert found.faults == 1
    run = Replay(trace, Settings.of({"engine": "python"}))
    run.run()
    assert [(one.fault.request.iova, one.line) for one in run.faults] == [(0x1000, 4)]


def test_descriptor_printed_too_early_does_not_hide_a_later_map(tmp_path: Path) -> None:
    script = Script().attach(NIC, 1)
    submit(script, FIRST, task="early-7", cpu=1)  # in the queue only after the map
    script.map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000)
    submit(script.unmap(0x1000), SECOND)
    log = Log().access(0x1000, 0x5000).descriptor(FIRST).descriptor(SECOND)
    trace, found = merge_accesses(script.read(tmp_path), log.write(tmp_path))
    assert (found.placed, order(trace)) == (1, ["attach", "map", "access", "unmap"])


def test_requester_that_uses_a_space_without_being_attached_is_an_alias(script: Script, tmp_path: Path) -> None:
    log = Log().access(0x1000, 0x5000, "00:04.0").fault(0x9000, device="00:06.0")
    trace, found = merge_accesses(script.read(tmp_path), log.descriptor(FIRST).descriptor(SECOND).write(tmp_path))
    alias = parse_source_id("00:04.0")
    assert found.aliases == {alias: 0}
    assert found.as_dict()["aliases"] == {"00:04.0": 0}
    assert trace.spaces[0].devices == (SID, alias)
    assert order(trace)[:4] == ["attach", "map", "attach", "access"]
    assert "00:04.0 is an alias" in trace.notes[-1]


def test_map_that_no_event_claims_is_of_the_device_that_uses_it(tmp_path: Path) -> None:
    script = Script().attach(NIC, 1).map(0x8000, 0x8000).dma_map(NIC, 0x8000, 0x8000)
    script.map(0x1000, 0x5000, task="x-9").map(0x2000, 0x6000, task="x-9")
    script.map(0x3000, 0x6000, task="x-9").unmap(0x1000, 0x2000, task="y-8")
    submit(script, FIRST)
    before = script.read(tmp_path)
    assert any(not space.attributed for space in before.spaces)
    trace, found = merge_accesses(before, Log().access(0x1000, 0x5000).descriptor(FIRST).write(tmp_path))
    moved = {row["iova"]: row["space"] for row in trace.columns.rows() if row["kind"] in (Kind.MAP, Kind.UNMAP)}
    own = moved[0x8000]
    assert (found.placed, found.claimed) == (1, 2)  # the one map used, and its neighbour under the same unmap
    assert moved[0x1000] == moved[0x2000] == own != moved[0x3000]


def test_map_of_unknown_access_to_which_a_write_was_blocked_is_for_reading(tmp_path: Path) -> None:
    script = Script().attach(NIC, 1).map(0x1000, 0x5000).map(0x2000, 0x6000).attach(NIC, 1)
    script = Script().attach(NIC, 1, task="vmm-5").map(0x1000, 0x5000, task="vmm-5")
    script.map(0x2000, 0x6000, task="vmm-5")
    submit(submit(script, FIRST), SECOND)
    log = Log().descriptor(FIRST).access(0x2000, 0x6000).fault(0x1004, write=1).fault(0x2000).descriptor(SECOND)
    trace, _ = merge_accesses(script.read(tmp_path), log.write(tmp_path))
    access = {row["iova"]: row["access"] for row in trace.columns.rows() if row["kind"] == Kind.MAP}
    assert access == {0x1000: 1, 0x2000: 0}


def test_log_of_another_machine_is_refused(script: Script, tmp_path: Path) -> None:
    with pytest.raises(
        TraceError, match=r"no invalidation descriptor of the log is one of the trace: 2 .* 1 in the log"
    ):
        merge_accesses(script.read(tmp_path), Log().descriptor((0xD2, 0)).write(tmp_path))


def test_what_is_no_log_is_refused(script: Script, tmp_path: Path) -> None:
    trace = script.read(tmp_path)
    with pytest.raises(TraceError, match="no log of QEMU's vtd_"):
        merge_accesses(trace, tmp_path / "trace.txt")


@pytest.mark.parametrize("variant", HOMES)
def test_recorded_accesses_are_placed_and_faults_are_found_again(variant: str, corpus: Path) -> None:
    folder = corpus / variant
    trace, found = merge_accesses(read_traces([folder / "trace.txt.gz"]), folder / "qemu-vtd.log.gz")
    after_the_end = variant == "c-scalable"  # one more access, after tracing stopped
    assert found.accesses - found.placed == after_the_end
    assert found.fraction > 0.999
    logged = Counter()
    for event in read_log(folder / "qemu-vtd.log.gz"):
        logged[parse_source_id(event.device), event.iova, event.access] += 1
    run = Replay(trace, Settings.of(HOME[variant]))
    run.run()
    requests = [one.fault.request for one in run.faults]
    blocked = Counter(
        (request.source_id, request.iova, 2 if request.access.name == "WRITE" else 1) for request in requests
    )
    assert blocked - logged == Counter({(0x400, 0xFFE78DC6, 1): 1} if after_the_end else {})
    assert logged - blocked == Counter()


def read_log(path: Path):
    """The faults of a log."""
    from emulator.trace.opening import open_trace, pieces
    from emulator.trace.qemu import QemuReader
    from emulator.trace.skipped import SkippedLines

    with open_trace(path) as stream:
        events = QemuReader("log", 0, SkippedLines()).events(pieces(stream, "log"))
        return [event for event in events if event.kind is Kind.FAULT]
