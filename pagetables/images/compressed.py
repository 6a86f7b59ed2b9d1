"""Compressed files open as they are: unpacked into a sparse file, up to a limit."""

from __future__ import annotations

import zlib
from typing import IO, Any, Protocol, TypeAlias

from pagetables.address import PAGE_SIZE
from pagetables.errors import ImageError

__all__ = ["UNPACKED_LIMIT", "Readable", "compression", "unpack"]

UNPACKED_LIMIT = 16 << 30  # bytes; a few kilobytes of .gz can claim to be any number of them
CHUNK = 1 << 20
ZSTD_HEADER = 18  # bytes of the longest frame header

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz"}


class Readable(Protocol):
    """What can be read in pieces."""

    def read(self, size: int = ..., /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


_Opened: TypeAlias = tuple[Readable, tuple[type[Exception], ...]]  # and what it raises for damaged data


def compression(head: bytes) -> str | None:
    """How a file that begins with `head` is compressed: `gzip`, `zstd`, `xz`, or None."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def unpack(path: str, file: Readable, kind: str | None, target: IO[bytes], limit: int = UNPACKED_LIMIT) -> None:
    """Write what `file` holds, once unpacked, to `target`; None as the kind copies it as it is."""
    source, damage = _opened(file, kind)
    try:
        size = _copy(source, target, limit)
    except damage as error:
        raise ImageError(f"{path}: damaged {kind} data: {error}") from None
    if size > limit:
        raise ImageError(f"{path}: more than {limit:,} bytes once unpacked; unpack it into a file and give that")
    target.truncate(size)
    target.seek(0)


def _copy(source: Readable, target: IO[bytes], limit: int) -> int:
    size = 0
    zeros = bytes(PAGE_SIZE)
    while size <= limit and (chunk := source.read(CHUNK)):
        for start in range(0, len(chunk), PAGE_SIZE):
            page = chunk[start : start + PAGE_SIZE]
            if page != zeros[: len(page)]:  # the zeros stay holes
                target.seek(size + start)
                target.write(page)
        size += len(chunk)
    return size


def _opened(file: Readable, kind: str | None) -> _Opened:
    openers = {"gzip": _gzip, "zstd": _zstd, "xz": _xz}
    return openers[kind](file) if kind else (file, ())


def _gzip(file: Any) -> _Opened:
    import gzip

    return gzip.GzipFile(fileobj=file), (gzip.BadGzipFile, EOFError, zlib.error)


def _xz(file: Any) -> _Opened:
    import lzma

    return lzma.LZMAFile(file), (lzma.LZMAError, EOFError)


def _zstd(file: Any) -> _Opened:
    import zstandard

    try:
        size = max(0, zstandard.frame_content_size(file.read(ZSTD_HEADER)))  # -1: not said
    except zstandard.ZstdError:  # no header, or half of one: the reader says what is wrong, or finds nothing
        size = 1
    file.seek(0)
    reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)
    return _AtLeast(reader, size), (zstandard.ZstdError, EOFError)


class _AtLeast:
    # zstandard takes a file that is cut short for a whole one; its header often says how long it should be.

    def __init__(self, source: Readable, size: int) -> None:
        self.source = source
        self.missing = size

    def read(self, size: int = -1, /) -> bytes:
        chunk = self.source.read(size)
        self.missing -= len(chunk)
        if not chunk and self.missing > 0:
            raise EOFError(f"it ends {self.missing} bytes early")
        return chunk
