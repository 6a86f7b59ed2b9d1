"""The text of `perf script`: the same tracepoints as ftrace's, framed otherwise."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

import pytest

from emulator.trace import Kind, read_traces
from emulator.trace.perf import PerfReader
from emulator.trace.skipped import SkippedLines
from pagetables.errors import TraceError

TEXT = "IOMMU: iova=0x0000000000001000 - 0x0000000000002000 paddr=0x0000000000005000 size=4096"
CHAIN = """\
\tffffffffa5c41f2a iommu_map+0x8a ([kernel.kallsyms])
\tffffffffa5c4b0e1 __iommu_dma_map+0x91 ([kernel.kallsyms])
            7f1c2 main+0x12 (/usr/bin/dd)

"""


def read(text: str):
    """Events and skipped lines."""
    skipped = SkippedLines()
    reader = PerfReader("t", 0, skipped)
    return list(reader.events([text.encode()])), skipped, reader


@pytest.mark.parametrize(
    "head, task, thread, cpu, ns",
    [
        ("              perf   232 [000]    66.846217: iommu:map: ", "perf", 232, 0, 66_846_217_000),
        ("            insmod   155/155   [003]    66.846217: iommu:map: ", "insmod", 155, 3, 66_846_217_000),
        ("              perf   232/240   [001]    66.846217:          1 iommu:map: ", "perf", 240, 1, 66_846_217_000),
        ("   Web Content 5 77    232 [011]    66.846217123: iommu:map: ", "Web Content 5 77", 232, 11, 66_846_217_123),
        ("kworker/u8:1-ev     34 [000]     2.467681: iommu:map: ", "kworker/u8:1-ev", 34, 0, 2_467_681_000),
        (":-1    -1 [000]     2.467681: iommu:map: ", None, 0, 0, 0),
        ("              perf   232    66.846217: iommu:map: ", "perf", 232, 0, 66_846_217_000),
        ("swapper     0 [000] 1.000001:  iommu:map:  ", "swapper", 0, 0, 1_000_001_000),
    ],
)
def test_frame_is_read_in_every_form_of_the_columns(head, task, thread, cpu, ns) -> None:
    events, skipped, _ = read(head + TEXT + "\n")
    if task is None:
        assert (events, len(skipped)) == ([], 1)
        return
    (event,) = events
    assert (event.task, event.pid, event.cpu, event.time_ns) == (task, thread, cpu, ns)
    assert (event.kind, event.iova, event.gpa, event.size, event.gfp) == (Kind.MAP, 0x1000, 0x5000, 4096, 0)
    assert not skipped


def test_call_chains_and_comments_are_no_events_and_not_skipped() -> None:
    line = f"dd   7 [000]     1.000001: iommu:map: {TEXT}\n"
    events, skipped, _ = read("# ========\n# captured on    : today\n#\n" + line + CHAIN + line + CHAIN)
    assert [event.line for event in events] == [4, 9]
    assert not skipped


def test_other_events_are_counted_and_said_to_be_skipped() -> None:
    events, skipped, _ = read("dd 7 [000] 1.0: sched:sched_switch: prev_comm=dd\nnonsense\n")
    assert [event.kind for event in events] == [Kind.OTHER]
    assert sorted(((one.line, one.why) for one in skipped), reverse=True) == [
        (2, "not an event line"),
        (1, "not an IOMMU or DMA event"),
    ]


def test_lost_events_are_counted() -> None:
    _, skipped, reader = read("perf 1 [000] 1.0: PERF_RECORD_LOST lost 12\n")
    assert (reader.lost, reader.losses) == ({0: 12}, [1])
    assert not skipped


def as_perf(text: str) -> str:
    """What perf would print for ftrace text: made with one substitution."""
    groups = {"map": "iommu", "unmap": "iommu", "qi_submit": "intel_iommu"}

    def line(found: re.Match[str]) -> str:
        name = found[5]
        group = groups.get(name) or next((g for p, g in (("dma_", "dma"), ("cache_", "intel_iommu")) if p in name), "x")
        return f"{found[1]:>16} {found[2]:>7} {found[3]} {found[4]}: {group}:{name}: {found[6]}"

    text = re.sub(r"(?m)^#.*\n", "", text)
    return re.sub(r"(?m)^ *(.+)-(\d+) +(\[\d+\]) \S+ +([\d.]+): (\w+): (.*)$", line, text)


def test_recording_is_read_like_its_ftrace_text(fixture_traces: Path, tmp_path: Path) -> None:
    path = fixture_traces / "t-vfio-superpages.txt.xz"
    (tmp_path / "perf.txt").write_text(as_perf(lzma.decompress(path.read_bytes()).decode()))
    perf, ftrace = read_traces([tmp_path / "perf.txt"]), read_traces([path])
    assert perf.events == ftrace.events == 27578
    assert perf.spaces == ftrace.spaces
    for name in ("kind", "space", "source", "iova", "gpa", "size", "access", "cpu", "time_ns", "leaf_levels", "gfp"):
        assert (perf.columns[name] == ftrace.columns[name]).all(), name
    assert not perf.skipped


def test_perf_text_without_any_event_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("perf 232 [000] 66.846217: sched:sched_switch: prev_comm=perf\n")
    with pytest.raises(TraceError, match="t:1: not an IOMMU or DMA event"):
        read_traces([tmp_path / "t"])
