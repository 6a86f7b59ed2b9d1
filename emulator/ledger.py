"""What a trace says its software did, checked before anything is replayed: order, misuse, what is live at the end.

Event order is not program order: a range that one CPU unmaps may be mapped again on another whose event is printed
first. Such a map is put behind the unmap it overtook. What remains is misuse, judged by the trace alone: it does not
depend on what the replayed machine could or could not do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.clock import MILLISECOND
from emulator.trace.columns import Columns
from emulator.trace.event import Kind
from emulator.trace.live import Live, Range
from pagetables.address import PAGE_SHIFT

__all__ = [
    "DOUBLE_MAP",
    "DOUBLE_UNMAP",
    "NEVER_MAPPED",
    "WRONG_SIZE",
    "Ledger",
    "Misuse",
    "book_by_book",
    "clean_ledger",
    "keep_ledger",
]

Words = npt.NDArray[Any]

OVERTAKING = 1 * MILLISECOND  # how late the unmap of a range that was mapped again may be printed
MOST_PAGES = 1 << 22  # beyond that, taking apart costs more than looping
SPACE_BITS = 16
BEFORE_RECORDING = 10_000 * MILLISECOND  # from the first event on: what was mapped before may still be unmapped

DOUBLE_MAP = "double-map"
NEVER_MAPPED = "never-mapped"
DOUBLE_UNMAP = "double-unmap"
WRONG_SIZE = "wrong-size"
EMPTY = "a range of no bytes"


@dataclass(frozen=True, slots=True)
class Misuse:
    """A rule that the traced software broke (a name of `emulator.misuse.verdict.RULES`): at `row` of the columns;
    `other` is the row it collides with, or None."""

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
    return clean_ledger(columns) or book_by_book(columns)


def book_by_book(columns: Columns) -> Ledger:
    """The ledger, event by event: for traces that are not clean, and to hold `clean_ledger` against."""
    return _Bookkeeper(columns).run()


def clean_ledger(columns: Columns) -> Ledger | None:
    """The ledger of a trace in which nothing is wrong, or None: most traces, and no loop over events.

    Every map and unmap is taken apart into pages; of each page, maps and unmaps must take turns, and the pages of a
    map that the DMA API made must go together.
    """
    rows = np.flatnonzero((columns.kind == Kind.MAP) | (columns.kind == Kind.UNMAP))
    iova, size = columns.iova[rows], columns.size[rows]
    count = (size >> PAGE_SHIFT).astype(np.int64)
    if not _is_plain(iova, size, columns.space[rows]) or int(count.sum()) > MOST_PAGES:
        return None
    owner = np.repeat(rows, count)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    page = np.repeat(iova >> PAGE_SHIFT, count) + offset.astype(np.uint64)
    key = page << SPACE_BITS | columns.space[owner]
    order = np.argsort(key, kind="stable")
    owner, key = owner[order], key[order]
    maps = columns.kind[owner] == Kind.MAP
    again = np.append(False, key[1:] == key[:-1])  # the page was met before, in this space
    if np.any(maps != ~(again & np.append(False, maps[:-1]))):
        return None
    closed = np.append(again[1:], False)  # a map is followed by its unmap, if by anything
    mapped, closer = owner[maps], np.where(closed, np.append(owner[1:], 0), -1)[maps]
    return _of_pages(columns, mapped, closer)


def _is_plain(iova: Words, size: Words, space: Words) -> bool:
    if not len(iova):
        return True
    aligned = not np.any((iova | size) & np.uint64((1 << PAGE_SHIFT) - 1)) and bool(np.all(size))
    limit = np.uint64(1 << 64 - SPACE_BITS)
    return aligned and bool(np.all(iova < limit) and np.all(size < limit)) and int(space.max()) < 1 << SPACE_BITS


def _of_pages(columns: Columns, mapped: Words, closer: Words) -> Ledger | None:
    # For each mapped page: the row that mapped it and the one that unmapped it, or -1.
    first = np.full(len(columns), len(columns), np.int64)
    last = np.full(len(columns), -2, np.int64)
    np.minimum.at(first, mapped, closer)
    np.maximum.at(last, mapped, closer)
    torn = (last >= 0) & (first != last)
    if np.any(torn & (columns.access != 0)):
        return None
    live = closer < 0
    return Ledger(
        np.arange(len(columns)),
        live_mappings=len(np.unique(mapped[live])),
        live_bytes=int(np.count_nonzero(live)) << PAGE_SHIFT,
    )


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
            elif not self._size[row]:
                self._ledger.skipped.append((row, EMPTY))
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
        kind = NEVER_MAPPED if earlier is None else DOUBLE_UNMAP
        self._ledger.misuse.append(Misuse(kind, row, earlier))
        self._ledger.skipped.append((row, kind))
