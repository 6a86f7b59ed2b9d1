"""A trace as a file: in which format by its name, compressed by its name, whole or not at all."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, Any, BinaryIO, Final, Protocol, cast

import zstandard

from emulator.trace.columns import Columns
from emulator.trace.event import REPLAYED, Kind
from emulator.trace.framing import Format, sniff
from emulator.trace.jsonl import JsonWriter
from emulator.trace.kernel_text import TextWriter, reframe
from emulator.trace.opening import open_trace, pieces
from emulator.trace.parquet import ParquetWriter
from emulator.trace.spaces import Space
from emulator.trace.trace import KernelRule, Trace
from pagetables.errors import InputError, near
from pagetables.images.saving import replacing

__all__ = [
    "NAMES",
    "SUFFIXES",
    "TEXT",
    "Writer",
    "convert_text",
    "format_of",
    "text_format",
    "trace_writer",
    "write_trace",
]

NAMES: Final = {
    "jsonl": Format.JSON_LINES,
    "parquet": Format.PARQUET,
    "ftrace": Format.FTRACE,
    "trace-cmd": Format.TRACE_CMD,
    "perf": Format.PERF,
}
"""The formats that can be written, by the names that `--to` takes."""

SUFFIXES: Final = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".txt": "ftrace",
    ".ftrace": "ftrace", ".trace": "ftrace", ".report": "trace-cmd", ".perf": "perf",
}  # fmt: skip
"""The ending of a file's name, before the one of its compression, and what it asks for."""

_CHUNK = 1 << 14
_SNIFFED = 1 << 16
TEXT: Final = (Format.FTRACE, Format.TRACE_CMD, Format.PERF)
"""The formats that are a kernel's own text."""

_PACKERS: Final[dict[str, Callable[[BinaryIO], Any]]] = {
    ".gz": lambda out: gzip.GzipFile(fileobj=out, mode="wb", mtime=0),
    ".xz": lambda out: lzma.LZMAFile(out, "wb"),  # noqa: SIM115  # closed by who opened it
    ".zst": lambda out: zstandard.ZstdCompressor().stream_writer(out, closefd=False),
}


class Writer(Protocol):
    """Takes columns, in order."""

    def write(self, columns: Columns) -> None:
        """Append rows."""


def format_of(path: str, asked: str | None) -> Format:
    """The format to write `path` in: the one asked for, else the one its name ends in; InputError if neither tells."""
    if asked is not None:
        if asked not in NAMES:
            raise InputError(f"no trace format is called {asked!r}; {near(asked, NAMES)}")
        return NAMES[asked]
    name = PurePath(path)
    if name.suffix in _PACKERS:
        name = name.with_suffix("")
    if name.suffix not in SUFFIXES:
        raise InputError(f"{path}: the name does not tell the format; end it in {', '.join(SUFFIXES)}, or say --to")
    return NAMES[SUFFIXES[name.suffix]]


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    pack = _PACKERS.get(PurePath(path).suffix)
    with replacing(path) as out:
        if pack is None:
            yield out
        else:
            with pack(out) as packed:
                yield packed


@contextmanager
def _text(out: BinaryIO) -> Iterator[IO[str]]:
    text = io.TextIOWrapper(cast(Any, out), encoding="utf-8", write_through=False)
    try:
        yield text
        text.flush()
    finally:
        text.detach()


@contextmanager
def trace_writer(
    path: str, style: Format, spaces: Sequence[Space], kernel_rule: KernelRule
) -> Iterator[JsonWriter | ParquetWriter | TextWriter]:
    """What takes columns and writes them to `path` (`-` is standard output); the file is there when the block ended."""
    with _opened(path) as out:
        if style is Format.PARQUET:
            table = ParquetWriter(out, spaces, kernel_rule)
            try:
                yield table
            finally:  # of a file that is dropped too: pyarrow complains on stderr about writers left open
                table.close()
            return
        with _text(out) as text:
            if style is Format.JSON_LINES:
                yield JsonWriter(text, spaces, kernel_rule)
            else:
                yield TextWriter(text.write, style, spaces, kernel_rule)


def write_trace(
    trace: Trace, path: str, style: Format, progress: Callable[[int], None] = lambda done: None
) -> list[str]:
    """Write `trace`; what its format has no place for, each as a phrase with a count."""
    with trace_writer(path, style, trace.spaces, trace.kernel_rule) as writer:
        for start in range(0, len(trace.columns), _CHUNK):
            part = trace.columns.take(slice(start, start + _CHUNK))
            writer.write(part)
            progress(len(part))
    informing = {kind: count for kind, count in trace.kinds.items() if kind not in (*REPLAYED, Kind.OTHER)}
    told = [f"{count} {kind.name.lower()} events" for kind, count in sorted(informing.items())]
    lost = writer.losses if isinstance(writer, TextWriter) else {}
    return told + [f"{count} {what}" for what, count in lost.items()]


def text_format(path: Path | str) -> Format | None:
    """The format of a trace that is a kernel's text, or None for another trace; TraceError for what is no trace."""
    with open_trace(path) as stream:
        found = sniff(str(path), stream.read(_SNIFFED))
    return found if found in TEXT else None


def convert_text(
    source: Path | str, found: Format, path: str, style: Format, progress: Callable[[int], None] = lambda done: None
) -> int:
    """Pass every event line of a kernel's text on in another frame; the number of lines written."""
    count = -1  # the header is no line of the trace
    with open_trace(source) as stream, _opened(path) as out, _text(out) as text:
        for line in reframe(pieces(stream, str(source)), found, style):
            text.write(line)
            count += 1
            if count and not count % _CHUNK:
                progress(_CHUNK)
    return count
