"""Traces of DMA mappings: read, attributed to devices, turned into columns that can be replayed.

event        one event model for all formats            framing, tracepoints, text   ftrace and trace-cmd report
attribution  whose map is it, while reading             settling, apart              the same, once all is known
columns      what is replayed, one row an event         jsonl, parquet               the project's own formats
perf, qemu   perf script, QEMU's log of its unit        alignment, lifetimes, claims that log's accesses in a trace
kernel_text  columns as a kernel prints them            writing, recording           files out; how to record one
"""

from emulator.trace.columns import NO_PASID, NO_SOURCE, Columns
from emulator.trace.event import Event, Kind
from emulator.trace.jsonl import write_json_lines
from emulator.trace.reading import read_traces
from emulator.trace.skipped import Skipped, SkippedLines
from emulator.trace.spaces import Space
from emulator.trace.trace import KernelRule, Trace

__all__ = [
    "NO_PASID",
    "NO_SOURCE",
    "Columns",
    "Event",
    "KernelRule",
    "Kind",
    "Skipped",
    "SkippedLines",
    "Space",
    "Trace",
    "read_traces",
    "write_json_lines",
]
