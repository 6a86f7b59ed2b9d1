"""What cannot be attributed is kept apart, in spaces of its own.

A map whose address is already live opens the next space; an unmap closes the oldest space in which its range is live,
one where it closes whole maps if there is any. The maps of one scatterlist stay together: maps of a task that continue
each other are placed as one. Where an unmap finds its range only in pieces, because an earlier one took a piece of what
another space had whole, the maps of these pieces are moved to a space of their own.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from emulator.trace.columns import NO_SPACE
from emulator.trace.event import Kind
from emulator.trace.live import Live, Range
from emulator.trace.settling import Row
from emulator.trace.spaces import SpaceBook

__all__ = ["MOST_SPACES", "Apart"]

MOST_SPACES = 256
"""An address that is mapped more often than this at one time, without an unmap, is no address any more."""


_MOST_MOVES = 4096
_NEAR = 64  # rows between two maps of one scatterlist, at most


class _Run:
    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.last = 0
        self.space = NO_SPACE


class _Lifetime(NamedTuple):
    start: int
    end: int
    first: int
    last: int


class Apart:
    """Places rows whose space is NO_SPACE.

    `unknown` are the unmaps of what is live nowhere, `crowded` the maps for which there was no room, `moved` counts
    the unmaps that found their range in pieces.
    """

    def __init__(self, book: SpaceBook, rows: list[Row], space: list[int], tasks: dict[int, int]) -> None:
        self.unknown: list[int] = []
        self.crowded: list[int] = []
        self.moved = 0
        self._book = book
        self._rows = rows
        self._space = space
        self._runs = self._find_runs(tasks)
        self._live: dict[int, Live] = {}
        self._depth: Counter[int] = Counter()  # maps live at an address
        self._moved: dict[int, list[_Lifetime]] = {}  # spaces of maps that were moved

    def _find_runs(self, tasks: dict[int, int]) -> dict[int, _Run]:
        runs: dict[int, _Run] = {}
        latest: dict[int, _Run] = {}
        for n, row in enumerate(self._rows):
            if row.kind != Kind.MAP or self._space[n] != NO_SPACE:
                continue
            run = latest.get(tasks[n])
            if run is None or run.end != row.start or n - run.last > _NEAR:
                run = latest[tasks[n]] = _Run(row.start)
            run.end, run.last = row.end, n
            runs[n] = run
        return runs

    def place(self) -> None:
        """Give each row without a space one of the spaces apart."""
        for n, row in enumerate(self._rows):
            if self._space[n] != NO_SPACE:
                continue
            if row.kind == Kind.MAP:
                self._map(n, row)
            elif row.kind == Kind.UNMAP:
                self._unmap(n, row)

    def _map(self, n: int, row: Row) -> None:
        run = self._runs[n]
        if self._depth[row.start] >= MOST_SPACES:
            self.crowded.append(n)
            return
        if run.space == NO_SPACE or self._live[run.space].overlapping(row.start, row.end):
            run.space = self._free(run.start, run.end)
        if run.space == NO_SPACE:
            self.crowded.append(n)
            return
        self._space[n] = run.space
        self._live[run.space].add(Range(row.start, row.end, n))
        self._depth[row.start] += 1

    def _free(self, start: int, end: int) -> int:
        for space, live in self._live.items():
            if not live.overlapping(start, end):
                return space
        if len(self._live) == MOST_SPACES:
            return NO_SPACE
        space = self._open()
        self._live[space] = Live()
        return space

    def _open(self) -> int:
        number = len(self._live) + len(self._moved)
        return self._book.open(attributed=False, name=f"unattributed {number}")

    def _unmap(self, n: int, row: Row) -> None:
        for question in (Live.fits, Live.covers):
            for space, live in self._live.items():
                if question(live, row.start, row.end):
                    self._close(n, row, space)
                    return
        tiles = self._tiles(row) if self.moved < _MOST_MOVES else []
        if tiles:
            self._move(n, tiles)
            return
        sizes = {space: _size(live.overlapping(row.start, row.end)) for space, live in self._live.items()}
        space = max(sizes, key=lambda space: sizes[space], default=NO_SPACE)
        if space == NO_SPACE or not sizes[space]:
            self.unknown.append(n)
            return
        self._close(n, row, space)

    def _close(self, n: int, row: Row, space: int) -> None:
        self._space[n] = space
        self._depth.subtract(live.start for live in self._live[space].take(row.start, row.end))

    def _tiles(self, row: Row) -> list[tuple[int, Range]]:
        # Whole maps of any spaces that tile the range exactly, of the oldest spaces where there is a choice.
        whole = [
            (live.start, space, live)
            for space, ranges in self._live.items()
            for live in ranges.overlapping(row.start, row.end)
            if live.start >= row.start and live.end <= row.end and self._is_whole(live)
        ]
        last: dict[int, tuple[int, Range] | None] = {row.end: None}
        for start, space, live in sorted(whole, reverse=True):
            if live.end in last:
                last[start] = (space, live)
        tiles, step = [], last.get(row.start)
        while step is not None:
            tiles.append(step)
            step = last[step[1].end]
        return tiles

    def _is_whole(self, live: Range) -> bool:
        # A part of a map cannot move: the other part was closed where it stood.
        row = self._rows[live.row]
        return (live.start, live.end) == (row.start, row.end)

    def _move(self, n: int, tiles: list[tuple[int, Range]]) -> None:
        lifetimes = [_Lifetime(live.start, live.end, live.row, n) for _, live in tiles]
        space = next((s for s, held in self._moved.items() if not _meet(held, lifetimes)), None)
        if space is None:
            space = self._open()
            self._moved[space] = []
        self._moved[space] += lifetimes
        self.moved += 1
        self._space[n] = space
        for old, live in tiles:
            self._live[old].remove(live)
            self._depth[live.start] -= 1
            self._space[live.row] = space


def _size(ranges: list[Range]) -> int:
    return sum(live.end - live.start for live in ranges)


def _meet(some: list[_Lifetime], others: list[_Lifetime]) -> bool:
    return any(
        a.start < b.end and b.start < a.end and a.first < b.last and b.first < a.last for a in some for b in others
    )
