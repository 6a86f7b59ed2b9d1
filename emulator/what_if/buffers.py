"""What became of each buffer: its address, and what of it is mapped now."""

from __future__ import annotations

import numpy as np

from emulator.trace.event import Kind
from emulator.trace.live import Live, Range
from emulator.what_if.operations import Operations

__all__ = ["UNPLACED", "Buffers"]

UNPLACED = -1


class Buffers:
    """Addresses and live parts, by the number of the buffer.

    Most buffers are mapped by one operation and unmapped as a whole: for these the address is all there is to know. Of
    the others (`parts`) it is kept which bytes are mapped. `direct` buffers are mapped to themselves for good, as
    regions the firmware reserved are: no allocator hands out their addresses.
    """

    def __init__(self, ops: Operations, reallocates: bool) -> None:
        number = len(ops.buffer_size)
        self.address = [UNPLACED] * number
        self.live_bytes = [0] * number
        self.direct = _direct(ops) if reallocates else [False] * number
        self.parts: dict[int, Live] = {buffer: Live() for buffer in _taken_apart(ops)}
        self.unmapped_at: dict[tuple[int, int], int] = {}  # when a page that a device used was unmapped
        self.used: dict[int, set[int]] = {}  # pages of a live buffer that a device used
        self._owed: dict[int, list[int]] = {}  # unmaps of a buffer whose map waits

    def direct_ranges(self, ops: Operations) -> list[tuple[int, int]]:
        """Start and size of every direct buffer."""
        return [
            (ops.buffer_start[buffer], ops.buffer_size[buffer]) for buffer, is_it in enumerate(self.direct) if is_it
        ]

    def use(self, buffer: int, page: int) -> None:
        """A device used this page of the buffer: a cache may hold it."""
        self.used.setdefault(buffer, set()).add(page)

    def waits(self, buffer: int) -> None:
        """A map of the buffer waits."""
        self._owed.setdefault(buffer, [])

    def owe(self, buffer: int, unmap: int) -> bool:
        """True if a map of the buffer waits: its unmap is put off until that is settled."""
        owed = self._owed.get(buffer)
        if owed is not None:
            owed.append(unmap)
        return owed is not None

    def settle(self, buffer: int) -> list[int]:
        """The map waits no more; the unmaps that were put off."""
        return self._owed.pop(buffer, [])

    def add(self, buffer: int, offset: int, size: int) -> None:
        """[offset, offset + size) of the buffer is mapped."""
        self.live_bytes[buffer] += size
        if buffer in self.parts:
            self.parts[buffer].add(Range(offset, offset + size, buffer))

    def take(self, buffer: int, offset: int, size: int) -> list[tuple[int, int]]:
        """What was mapped of [offset, offset + size), as offsets and sizes; it counts as unmapped now."""
        if buffer not in self.parts:
            if not self.live_bytes[buffer]:
                return []
            self.live_bytes[buffer] = 0
            return [(offset, size)]
        taken = _joined(self.parts[buffer].take(offset, offset + size))
        self.live_bytes[buffer] -= sum(length for _, length in taken)
        return taken


def _taken_apart(ops: Operations) -> list[int]:
    # Buffers that more than one operation maps, or that are not unmapped as a whole by one.
    kind, buffer = np.array(ops.kind, np.int64), np.array(ops.buffer, np.int64)
    size, whole = np.array(ops.size, np.int64), np.array(ops.buffer_size, np.int64)
    odd = np.zeros(len(whole), bool)
    for which in (Kind.MAP, Kind.UNMAP):
        those = (kind == which) & (buffer >= 0)
        odd |= np.bincount(buffer[those], minlength=len(whole)) > 1
        odd[buffer[those][size[those] != whole[buffer[those]]]] = True
    return [int(number) for number in np.flatnonzero(odd)]


def _direct(ops: Operations) -> list[bool]:
    direct = [True] * len(ops.buffer_size)
    for index, kind in enumerate(ops.kind):
        buffer = ops.buffer[index]
        if kind == Kind.MAP and direct[buffer]:
            first = ops.first[index]
            same = ops.piece_gpa[first] == ops.buffer_start[buffer] + ops.offset[index]
            direct[buffer] = same and ops.end_ns[index] < 0
    return direct


def _joined(ranges: list[Range]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for piece in ranges:
        if joined and sum(joined[-1]) == piece.start:
            joined[-1] = (joined[-1][0], joined[-1][1] + piece.end - piece.start)
        else:
            joined.append((piece.start, piece.end - piece.start))
    return joined
