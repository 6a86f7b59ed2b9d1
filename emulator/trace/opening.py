"""The bytes of a trace: plain, compressed or from standard input, in pieces of bounded size."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from pagetables.errors import TraceError

__all__ = ["LONGEST_LINE", "PIECE", "open_trace", "pieces"]

PIECE = 1 << 20
LONGEST_LINE = 1 << 20

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_XZ = b"\xfd7zXZ\x00"
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zstandard.ZstdError)


class _Zstd(io.RawIOBase):
    # zstandard's own reader ends a truncated stream in silence; a frame object knows whether it came to its end.
    _STEP = 1024  # what one step of input may become is bounded by 128 KiB for each 4 bytes

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._input = b""
        self._output = b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the stubs ask for any buffer
        while not self._output:
            if not self._fill():
                return 0
        n = min(len(buffer), len(self._output))
        buffer[:n] = self._output[:n]
        self._output = self._output[n:]
        return n

    def _fill(self) -> bool:
        if not self._input:
            self._input = self._source.read(1 << 16)
            if not self._input:
                if self._begun and not self._frame.eof:
                    raise EOFError("the last frame is cut")
                return False
        if self._frame.eof:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = True
        step, self._input = self._input[: self._STEP], self._input[self._STEP :]
        self._output = self._frame.decompress(step)
        self._input = self._frame.unused_data + self._input
        return True


def _unpacked(stream: io.BufferedReader[Any]) -> BinaryIO:
    start = stream.peek(8)
    if start.startswith(_GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if start.startswith(_XZ):
        return cast(BinaryIO, lzma.LZMAFile(stream))
    if start.startswith(_ZSTD):
        return cast(BinaryIO, io.BufferedReader(_Zstd(cast(BinaryIO, stream))))
    return cast(BinaryIO, stream)


@contextmanager
def open_trace(path: Path | str) -> Iterator[BinaryIO]:
    """The bytes of `path` (`-` is standard input), unpacked if its first bytes say gzip, xz or zstd."""
    try:
        if str(path) == "-":
            reader = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
            try:
                yield _unpacked(reader)
            finally:
                reader.detach()  # else its end would close standard input
            return
        with open(path, "rb") as stream:
            yield _unpacked(stream)
    except _BROKEN as why:
        raise TraceError(f"{path}: the compressed data is broken or cut short: {why}") from None
    except OSError as why:
        raise TraceError(f"{path}: {why.strerror or why}") from None


def pieces(stream: BinaryIO, name: str, first: bytes = b"") -> Iterator[bytes]:
    """Pieces of whole lines, about a MiB each; the last one may end without a newline."""
    rest = first
    while True:
        read = stream.read(PIECE)
        if not read:
            break
        cut = read.rfind(b"\n") + 1
        if cut:
            yield rest + read[:cut]
            rest = read[cut:]
        else:
            rest += read
        if len(rest) > LONGEST_LINE:
            raise TraceError(f"{name}: a line longer than {LONGEST_LINE} bytes; this is not a text trace")
    if rest:
        yield rest
