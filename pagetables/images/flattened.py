"""Flattened dumps (makedumpfile -F; QEMU's dump-guest-memory -z): a file cut into records, each with its offset.

Whoever writes into a pipe cannot seek. The file is put together again by looking, not by copying.
"""

from __future__ import annotations

import heapq
import mmap
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from pagetables.errors import ImageError
from pagetables.images.image import Segment

__all__ = ["MAGIC", "Flattened"]

MAGIC = b"makedumpfile"
HEADER_SIZE = 4096
HOLES = 16  # times its own size: what a file may claim to be
BEYOND = 1 << 63

_HEADER = struct.Struct(">16sqq")  # signature, type, version
_RECORD = struct.Struct(">qq")  # offset, size; both -1 at the end
_END = (-1, -1)


class _Piece(NamedTuple):
    offset: int  # in the dump that was flattened
    size: int
    at: int  # in the file


class Flattened:
    """The dump in the flattened file `data`, to be read by slices as if it were whole. What no record has is zero."""

    def __init__(self, path: str, data: mmap.mmap | bytes) -> None:
        self._path = path
        self._data = data
        self._offsets = array("Q")
        self._sizes = array("Q")
        self._positions = array("Q")
        for piece in _latest(sorted(self._records())):
            self._offsets.append(piece.offset)
            self._sizes.append(piece.size)
            self._positions.append(piece.at)
        self._size = self._offsets[-1] + self._sizes[-1] if self._offsets else 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        pieces = (
            bytes(piece.size) if piece.at < 0 else self._data[piece.at : piece.at + piece.size]
            for piece in self.pieces(start, stop)
        )
        return b"".join(pieces)

    def pieces(self, start: int, stop: int) -> Iterator[_Piece]:
        """Where the bytes [start, stop) are in the file; at -1 what no record has."""
        index = max(0, bisect_right(self._offsets, start) - 1)
        while start < stop and index < len(self._offsets):
            offset, end = self._offsets[index], self._offsets[index] + self._sizes[index]
            if start < offset:
                yield _Piece(start, min(offset, stop) - start, -1)
                start = min(offset, stop)
            if start < min(end, stop):
                yield _Piece(start, min(end, stop) - start, self._positions[index] + start - offset)
                start = min(end, stop)
            index += 1
        if start < stop:
            yield _Piece(start, stop - start, -1)

    def placed(self, segment: Segment) -> Iterator[Segment]:
        """`segment` of the dump as segments of the file."""
        address = segment.start - segment.offset
        for offset, size, at in self.pieces(segment.offset, segment.offset + segment.held):
            yield Segment(address + offset, size, max(at, 0), size if at >= 0 else 0)
        if segment.size > segment.held:
            yield Segment(segment.start + segment.held, segment.size - segment.held, 0, 0)

    def _records(self) -> Iterator[tuple[int, int, int]]:
        # (offset, position, size): sorted, a later record of the same offset comes later.
        if len(self._data) < HEADER_SIZE:
            raise ImageError(f"{self._path}: {len(self._data)} bytes, a flattened dump's header has {HEADER_SIZE}")
        _, kind, version = _HEADER.unpack(self._data[: _HEADER.size])
        if (kind, version) != (1, 1):
            raise ImageError(f"{self._path}: flattened dump of type {kind}, version {version}; expected 1 and 1")
        position = HEADER_SIZE
        while True:
            head = self._data[position : position + _RECORD.size]
            if len(head) < _RECORD.size:
                raise ImageError(f"{self._path}: no end mark after the record at {position:#x}: cut short?")
            offset, size = _RECORD.unpack(head)
            if (offset, size) == _END:
                return
            at = position + _RECORD.size
            if size <= 0 or at + size > len(self._data) or not 0 <= offset <= HOLES * len(self._data):
                raise ImageError(
                    f"{self._path}: record at {position:#x}: {size} bytes for offset {offset:#x} of the dump; "
                    f"the file ends at {len(self._data):#x}: cut short?"
                )
            yield offset, at, size
            position = at + size


def _latest(records: list[tuple[int, int, int]]) -> Iterator[_Piece]:
    # Disjoint pieces, ascending. Where records overlap the one written last counts: headers are written twice.
    active: list[tuple[int, int, int]] = []  # (-position, offset, end): the latest first
    now = 0
    for offset, at, size in [*records, (BEYOND, 0, 0)]:
        while active and now < offset:
            position, begin, end = active[0]
            if end <= now:
                heapq.heappop(active)
                continue
            stop = min(end, offset)
            yield _Piece(now, stop - now, now - begin - position)
            now = stop
        now = max(now, offset)
        heapq.heappush(active, (-at, offset, offset + size))
