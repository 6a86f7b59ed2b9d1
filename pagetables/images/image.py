"""An image: physical memory as a file holds it. What the file does not hold is not there."""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from pagetables.errors import NoMemory
from pagetables.images.elf_format import Note
from pagetables.images.holes import data_runs
from pagetables.memory import Stretch

__all__ = ["Image", "Segment"]

_QWORD = struct.Struct("<Q")


class Segment(NamedTuple):
    """Physical memory from `start` on: `held` bytes in the file at `offset`, zeros up to `size`."""

    start: int
    size: int
    offset: int
    held: int

    @property
    def end(self) -> int:
        """The first address behind the segment."""
        return self.start + self.size


class Image:
    """Memory in a file, mapped and never copied. A `Memory`: `load` gives None, `read` raises NoMemory in the gaps.

    `segments` are ascending and disjoint. `container` says what kind of file it is, `notes` what else it holds.
    `descriptor` is the file's, where it may have holes; the image closes it.
    """

    def __init__(
        self,
        path: str,
        container: str,
        data: mmap.mmap | bytes,
        segments: Sequence[Segment],
        notes: Sequence[Note] = (),
        descriptor: int = -1,
    ) -> None:
        self._descriptor = descriptor
        self.path = path
        self.container = container
        self.segments = tuple(segments)
        self.notes = tuple(notes)
        self._data = data
        self._starts = [segment.start for segment in self.segments]

    def load(self, address: int) -> int | None:
        """The little-endian qword at `address`, or None where the image has no memory."""
        segment = self._segment(address)
        if segment is None:
            return None
        position = address - segment.start
        if position + 8 <= segment.held:
            value: int = _QWORD.unpack_from(self._data, segment.offset + position)[0]
            return value
        try:
            return int.from_bytes(self.read(address, 8), "little")
        except NoMemory:
            return None

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`; NoMemory where the image has a gap."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0:  # most reads lie within what one segment holds
            start, _, offset, held = self.segments[index]
            if address - start + size <= held:
                offset += address - start
                return self._data[offset : offset + size]
        return b"".join(self._pieces(address, size))

    def contains(self, address: int, size: int) -> bool:
        """True if the image has all `size` bytes at `address`."""
        end = address + size
        while address < end:
            segment = self._segment(address)
            if segment is None:
                return False
            address = segment.end
        return True

    @property
    def buffer(self) -> mmap.mmap | bytes:
        """The file, which cannot be closed while somebody else holds its bytes."""
        return self._data

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Where in it the memory stands that it holds."""
        return tuple(Stretch(one.start, one.held, one.offset) for one in self.segments if one.held)

    @property
    def regions(self) -> tuple[tuple[int, int], ...]:
        """(start, size) of what the image has, ascending; segments that touch are one region."""
        joined: list[tuple[int, int]] = []
        for segment in self.segments:
            if joined and sum(joined[-1]) == segment.start:
                joined[-1] = (joined[-1][0], joined[-1][1] + segment.size)
            else:
                joined.append((segment.start, segment.size))
        return tuple(joined)

    def touched(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each run that the file holds, ascending; the rest of the regions reads as zero."""
        for segment in self.segments:
            for offset, size in data_runs(self._descriptor, segment.offset, segment.held):
                yield segment.start + offset - segment.offset, size

    def close(self) -> None:
        """Give the file back."""
        if isinstance(self._data, mmap.mmap):
            self._data.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)  # the mapping ends by itself

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _segment(self, address: int) -> Segment | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self.segments[index].end:
            return None
        return self.segments[index]

    def _pieces(self, address: int, size: int) -> Iterator[bytes]:
        if not self.contains(address, size):
            raise NoMemory(address, size)
        end = address + size
        while address < end:
            segment = self._segment(address)
            if segment is None:
                raise NoMemory(address, end - address)
            position, length = address - segment.start, min(end, segment.end) - address
            held = max(0, min(length, segment.held - position))
            yield self._data[segment.offset + position : segment.offset + position + held] + bytes(length - held)
            address += length
