"""What stands around an event on its line, and by what a trace file is recognised.

ftrace text        `      insmod-155     [001] d..1.     2.405925: map: IOMMU: ...`       flags of 4 to 8 characters
trace-cmd report   `      insmod-155   [001]     2.405925: map:         IOMMU: ...`       first line `cpus=N`
perf script        `      insmod   155 [001]     2.405925: iommu:map: IOMMU: ...`         a period before it
QEMU log           `vtd_dmar_fault sid 0x28 ...`        `13963@1795228305.288159:` or an ISO time before it

The first two are one pattern with optional flags. The task's name may hold spaces, dashes, slashes and parentheses: it
ends at the last dash before the process number and the CPU. Formats are told by content, never by a file's name.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from pagetables.errors import TraceError

__all__ = ["FRAME", "PERF_FRAME", "QEMU_FRAME", "Format", "lost_events", "overwritten_events", "sniff", "time_ns"]

FRAME = re.compile(
    r" *+(.{1,32})-([0-9]{1,10}) +(?:\([- 0-9]+\) +)?\[([0-9]{1,4})\] +(?:[^ 0-9]\S{3,7} +)?"
    r"(?:([0-9]{1,10})\.([0-9]{1,9})|([0-9]{1,19})): (\w+): *(.*)",
    re.ASCII,
)
"""Groups: task, pid, cpu, seconds and fraction or ticks, event name, text."""

PERF_FRAME = re.compile(
    r" *(.{1,32}?) +(?:[0-9]{1,10}/ *)?([0-9]{1,10}) +(?:\[([0-9]{1,4})\] +)?"
    r"(?:([0-9]{1,10})\.([0-9]{1,9})): +(?:[0-9]{1,20} +)?([\w-]+):(\w+): *(.*)",
    re.ASCII,
)
"""Groups: task, thread, cpu or None, seconds and fraction, group of events, event name, text."""

QEMU_FRAME = re.compile(
    r"(?:[0-9]+@([0-9]{1,11})\.([0-9]{1,9}):|([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]{1,9})Z )?"
    r"(vtd_\w+) ?(.*)",
    re.ASCII,
)
"""Groups: seconds and fraction, or time in UTC and fraction, or None, event name, text."""

_LOST = re.compile(r"CPU:([0-9]+) \[(?:LOST )?(?:([0-9]+) )?EVENTS(?: DROPPED)?\]", re.ASCII)
_WRITTEN = re.compile(r"# entries-in-buffer/entries-written: ([0-9]{1,19})/([0-9]{1,19})", re.ASCII)
_RAW = re.compile(r"(?:map|unmap): +iova=|qi_submit: +qw0=|dma_\w+: +device=|cache_tag_\w+: +iommu=", re.ASCII)

_BINARIES = {
    b"\x17\x08\x44tracing": "is trace-cmd's binary file; run `trace-cmd report FILE` and give its text",
    b"\x7fELF": "is an ELF file; `vtd inspect` and `vtd walk` read images, a trace is text",
    b"PERFILE2": "is perf's binary file; run `perf script -i FILE` and give its text",
}
_PARQUET = b"PAR1"
_EXPECTED = (
    "expected ftrace text, the text of `trace-cmd report` or `perf script`, a QEMU vtd_* log, JSON Lines or Parquet"
)
_LATEST = (1 << 64) - 1
_SCALE: Final[list[int]] = [10 ** (9 - digits) for digits in range(10)]


class Format(enum.Enum):
    """How a trace file is written."""

    FTRACE = "ftrace text"
    TRACE_CMD = "trace-cmd report"
    PERF = "perf script"
    QEMU = "QEMU log"
    JSON_LINES = "JSON Lines"
    PARQUET = "Parquet"


def time_ns(seconds: str | None, fraction: str, ticks: str) -> int:
    """A time stamp in nanoseconds. One without a point comes from a counting clock and is taken as it is."""
    if seconds is None:
        return min(int(ticks), _LATEST)
    return int(seconds) * 1_000_000_000 + int(fraction) * _SCALE[len(fraction)]


def lost_events(line: str) -> tuple[int, int] | None:
    """The CPU and number of events that this line reports lost (0: not told), or None."""
    match = _LOST.match(line)
    return (int(match[1]), int(match[2] or 0)) if match else None


def overwritten_events(line: str) -> int:
    """How many events the kernel overwrote before this text was read, by its header line."""
    match = _WRITTEN.match(line)
    return max(int(match[2]) - int(match[1]), 0) if match else 0


def sniff(name: str, start: bytes) -> Format:
    """The format of a trace that begins with `start`; TraceError says what was found instead."""
    if not start:
        raise TraceError(f"{name}: the file is empty; {_EXPECTED}")
    for magic, what in _BINARIES.items():
        if start.startswith(magic):
            raise TraceError(f"{name}: this {what}")
    if start.startswith(_PARQUET):
        return Format.PARQUET
    if b"\0" in start:
        raise TraceError(f"{name}: this is binary; {_EXPECTED}")
    if next((line for line in start.split(b"\n") if line.strip()[:1] not in (b"", b"#")), b"").lstrip()[:1] == b"{":
        return Format.JSON_LINES
    return _sniff_text(name, start.decode("utf-8", "replace"))


def _sniff_text(name: str, text: str) -> Format:
    lines = [line for line in text.split("\n") if line.strip()]
    frames = [match for match in map(FRAME.match, lines) if match]
    if frames:
        if any(_RAW.match(f"{match[7]}: {match[8]}") for match in frames):
            raise TraceError(
                f"{name}: these are the raw fields of `trace-cmd report -R`; run `trace-cmd report` without -R"
            )
        return Format.TRACE_CMD if lines[0].startswith("cpus=") else Format.FTRACE
    if text.startswith(("# tracer:", "cpus=")):
        return Format.TRACE_CMD if text.startswith("cpus=") else Format.FTRACE
    if any(map(QEMU_FRAME.fullmatch, lines)):
        return Format.QEMU
    if any(map(PERF_FRAME.match, lines)):
        return Format.PERF
    first = lines[0].strip() if lines else ""
    shown = repr(first[:60] + ("..." if len(first) > 60 else ""))
    raise TraceError(f"{name}: this is no trace, it begins with {shown}; {_EXPECTED}")
