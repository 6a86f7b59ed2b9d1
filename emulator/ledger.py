"""What a trace says its software did, checked before anything is replayed: order, misuse, what is live at the end.

Event order is not program order: a range that one CPU unmaps may be mapped again on another whose event is printed
first. Such a map is put behind the unmap it overtook. What remains is misuse, judged by the trace alone: it does not
depend on what the replayed machine could or could not do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.mapping.clock import MILLISECOND
from emulator.trace.columns import Columns
from emulator.trace.event import Kind
from emulator.trace.live import Live, Range

__all__ = ["Ledger", "Misuse", "keep_ledger"]

OVERTAKING = 1 * MILLISECOND  # how late the unmap of a range that was mapped again may be printed
BEFORE_RECORDING = 10_000 * MILLISECOND  # from the first event on: what was mapped before may still be unmapped

DOUBLE_MAP = "double map"
NEVER_MAPPED = "unmap of what is not mapped"
WRONG_SIZE = "unmap of another size"


@dataclass(frozen=True, slots=True)
class Misuse:
    """A rule that the traced software broke: at `row` of the columns; `other` is the row it collides with, or None."""

    kind: str
    row: int
    other: int | None = None


@dataclass(slots=True)
class Ledger:
    """`order`: rows to apply, in order. `skipped`: rows that are not, with the reason."""

    order: npt.NDArray[np.int64]
    misuse: list[Misuse] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    reordered: int = 0
    live_mappings: int = 0
    live_bytes: int = 0


def keep_ledger(columns: Columns) -> Ledger:
    """The ledger of these events."""
    return _Bookkeeper(columns).run()


class _Bookkeeper:
    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._kind: list[int] = columns.kind.tolist()
        self._space: list[int] = columns.space.tolist()
        self._start: list[int] = columns.iova.tolist()
        self._size: list[int] = columns.size.tolist()
        self._live: dict[int, Live] = {}
        self._order: list[int] = []
        self._postponed: dict[int, list[int]] = {}
        self._remaining: dict[int, int] = {}  # rows of maps of which a part is unmapped
        self._unmapped_by: dict[tuple[int, int], int] = {}
        self._ledger = Ledger(np.zeros(0, np.int64))

    def run(self) -> Ledger:
        apply = {int(Kind.MAP): self._map, int(Kind.UNMAP): self._unmap}
        for row, kind in enumerate(self._kind):
            handle = apply.get(kind)
            if handle is None:
                self._order.append(row)
            else:
                handle(row)
        self._ledger.order = np.array(self._order, np.int64)
        return self._ledger

    def _live_in(self, row: int) -> Live:
        space = self._space[row]
        live = self._live.get(space)
        if live is None:
            live = self._live[space] = Live()
        return live

    def _map(self, row: int, may_wait: bool = True) -> None:
        live, start, size = self._live_in(row), self._start[row], self._size[row]
        met = live.overlapping(start, start + size)
        if met:
            late = self._late_unmap(row, met) if may_wait else None
            if late is None:
                self._ledger.misuse.append(Misuse(DOUBLE_MAP, row, met[0].row))
                self._ledger.skipped.append((row, DOUBLE_MAP))
            else:
                self._postponed.setdefault(late, []).append(row)
                self._ledger.reordered += 1
            return
        live.add(Range(start, start + size, row))
        self._ledger.live_mappings += 1
        self._ledger.live_bytes += size
        self._order.append(row)

    def _late_unmap(self, row: int, met: list[Range]) -> int | None:
        # The unmap of what is in the way, if it comes soon and from another CPU.
        time, cpu = self._columns.time_ns, self._columns.cpu
        start, end = min(live.start for live in met), max(live.end for live in met)
        limit = int(time[row]) + OVERTAKING
        for later in range(row + 1, len(self._kind)):
            if int(time[later]) > limit:
                return None
            if (
                self._kind[later] == Kind.UNMAP
                and self._space[later] == self._space[row]
                and cpu[later] != cpu[row]
                and self._start[later] <= start
                and self._start[later] + self._size[later] >= end
            ):
                return later
        return None

    def _unmap(self, row: int) -> None:
        start, size = self._start[row], self._size[row]
        key = (self._space[row], start)
        taken = self._live_in(row).take(start, start + size)
        removed = sum(piece.end - piece.start for piece in taken)
        if removed:
            self._order.append(row)
        else:
            self._nothing_there(row, key)
        broken = self._settle(taken, removed)
        if removed and (removed != size or broken):
            self._ledger.misuse.append(Misuse(WRONG_SIZE, row, taken[0].row))
        self._unmapped_by[key] = row
        for waiting in self._postponed.pop(row, ()):
            self._map(waiting, may_wait=False)

    def _settle(self, taken: list[Range], removed: int) -> bool:
        # Takes pieces off the books; True if one of them is a part of what the DMA API mapped as a whole. Parts of
        # other maps may be unmapped: the IOMMU API (VFIO) allows it. A map whose access is known is the DMA API's.
        broken = False
        self._ledger.live_bytes -= removed
        for piece in taken:
            size = piece.end - piece.start
            left = self._remaining.pop(piece.row, self._size[piece.row]) - size
            broken = broken or (size != self._size[piece.row] and bool(self._columns.access[piece.row]))
            if left:
                self._remaining[piece.row] = left
            else:
                self._ledger.live_mappings -= 1
        return broken

    def _nothing_there(self, row: int, key: tuple[int, int]) -> None:
        time = self._columns.time_ns
        earlier = self._unmapped_by.get(key)
        if earlier is None and int(time[row]) - int(time[0]) <= BEFORE_RECORDING:
            self._ledger.skipped.append((row, "unmap of what was mapped before the recording began"))
            return
        self._ledger.misuse.append(Misuse(NEVER_MAPPED, row, earlier))
        self._ledger.skipped.append((row, NEVER_MAPPED))
