"""Trace files in, a `Trace` out."""

from __future__ import annotations

import heapq
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emulator.trace.assembling import assemble
from emulator.trace.attribution import Attributor, Progress
from emulator.trace.event import Event, Kind
from emulator.trace.framing import Format, sniff
from emulator.trace.generations import kernel_rule
from emulator.trace.jsonl import JsonReader
from emulator.trace.opening import open_trace, pieces
from emulator.trace.parquet import ParquetReader
from emulator.trace.perf import PerfReader
from emulator.trace.qemu import QemuReader
from emulator.trace.skipped import SkippedLines
from emulator.trace.text import TextReader
from emulator.trace.trace import Trace
from pagetables.errors import TraceError

__all__ = ["read_traces"]

_SNIFFED = 1 << 16
_MOST_FILES = 1 << 16
_WANTED = "expected events of the groups iommu, dma or intel_iommu"

Watch = Callable[[int, Event], None]
Reader = TextReader | JsonReader | QemuReader | ParquetReader
_READERS: dict[Format, type[TextReader] | type[JsonReader] | type[QemuReader]] = {
    Format.FTRACE: TextReader,
    Format.TRACE_CMD: TextReader,
    Format.PERF: PerfReader,
    Format.QEMU: QemuReader,
    Format.JSON_LINES: JsonReader,
}


def read_traces(paths: Sequence[Path | str], progress: Progress | None = None, watch: Watch | None = None) -> Trace:
    """The traces in `paths`, merged by time (`-` is standard input); TraceError for what is no trace.

    `progress` is told, now and then, how many events were read so far. `watch` sees each event with its number: what is
    not replayed is not kept, and is seen nowhere else.
    """
    if not paths or len(paths) > _MOST_FILES:
        raise TraceError("no trace given" if not paths else f"{len(paths)} traces; at most {_MOST_FILES}")
    if len(paths) == 1 and str(paths[0]) != "-":
        whole = _columns(paths[0], progress)
        if whole is not None:
            return whole
    skipped, found = SkippedLines(), Attributor()
    with ExitStack() as stack:
        readers, streams = [], []
        for index, path in enumerate(paths):
            reader, events = _open(stack, path, index, skipped)
            readers.append(reader)
            streams.append(events)
        merged = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda event: event.time_ns)
        found.feed(merged if watch is None else _watched(merged, watch), progress)
    if found.events and found.kinds[Kind.OTHER] == found.events:
        first = skipped[0]
        raise TraceError(f"{first.file}:{first.line}: {first.why}, nor is any other; {_WANTED}")
    return _finish(tuple(map(str, paths)), readers, found, skipped)


def _watched(events: Iterator[Event], watch: Watch) -> Iterator[Event]:
    number = 0
    for event in events:
        if event.kind is not Kind.SPACE:  # it declares something, and is no event
            number += 1
            watch(number, event)
        yield event


def _open(stack: ExitStack, path: Path | str, index: int, skipped: SkippedLines) -> tuple[Reader, Iterator[Event]]:
    stream, name = stack.enter_context(open_trace(path)), str(path)
    start = stream.read(_SNIFFED)
    found = sniff(name, start)
    if found is Format.PARQUET:
        packed = _parquet(stream, name, start, index, skipped)
        return packed, packed.events()
    reader = _READERS[found](name, index, skipped)
    return reader, reader.events(pieces(stream, name, start))


def _parquet(stream: BinaryIO, name: str, start: bytes, index: int, skipped: SkippedLines) -> ParquetReader:
    # It is read from its end; what cannot be sought, or is compressed as a whole, is taken into memory.
    plain = isinstance(stream, io.BufferedReader) and name != "-"
    return ParquetReader(name, index, skipped, None if plain else start + stream.read())


def _columns(path: Path | str, progress: Progress | None) -> Trace | None:
    # A Parquet file alone holds the columns as they are.
    skipped = SkippedLines()
    with open_trace(path) as stream:
        start = stream.read(_SNIFFED)
        if sniff(str(path), start) is not Format.PARQUET:
            return None
        reader = _parquet(stream, str(path), start, 0, skipped)
        columns, spaces = reader.columns(progress)
    counted = np.bincount(columns.kind, minlength=max(Kind) + 1)
    kinds = {kind: int(counted[kind]) for kind in Kind if counted[kind]}
    return Trace((str(path),), columns, spaces, skipped, (), len(columns) + len(skipped), reader.kernel_rule, kinds)


def _finish(files: tuple[str, ...], readers: list[Reader], found: Attributor, skipped: SkippedLines) -> Trace:
    rule, unsure = kernel_rule(found.signs)
    told = [reader.kernel_rule for reader in readers if isinstance(reader, JsonReader | ParquetReader)]
    if told:
        rule, unsure = next((rule for rule in told if rule is not None), "7.x"), None
    columns, spaces, notes = assemble(found, files, skipped, early_4k=rule == "6.x")
    notes = [*_losses(readers), *notes, *([unsure] if unsure else [])]
    counted: dict[Kind, int] = {
        kind: found.kinds[kind] for kind in Kind if found.kinds[kind] and kind is not Kind.SPACE
    }
    caching = any(isinstance(reader, JsonReader) and reader.caching_mode for reader in readers)
    return Trace(
        files, columns, spaces, skipped, tuple(notes), found.events, rule, counted, found.descriptors,
        caching_mode=caching,
    )  # fmt: skip


def _losses(readers: list[Reader]) -> list[str]:
    notes = []
    for reader in readers:
        if not isinstance(reader, TextReader):
            continue
        if reader.losses:
            cpus = ", ".join(f"{count or 'some'} on CPU {cpu}" for cpu, count in sorted(reader.lost.items()))
            where = f"{reader.name}:{reader.losses[0]}"
            notes.append(f"{where}: events were lost while recording ({cpus}): maps or unmaps may be missing")
        if reader.overwritten:
            notes.append(f"{reader.name}: the kernel overwrote {reader.overwritten} events before they were read")
    return notes
