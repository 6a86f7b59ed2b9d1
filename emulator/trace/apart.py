"""What cannot be attributed is kept apart, in spaces of its own.

A map whose address is already live opens the next space; an unmap closes the oldest space in which its range is live.
The maps of one scatterlist stay together: maps of a task that continue each other are placed as one.
"""

from __future__ import annotations

from emulator.trace.columns import NO_SPACE
from emulator.trace.event import Kind
from emulator.trace.live import Live, Range
from emulator.trace.settling import Row
from emulator.trace.spaces import SpaceBook

__all__ = ["MOST_SPACES", "Apart"]

MOST_SPACES = 256
"""An address that is mapped more often than this at one time, without an unmap, is no address any more."""


class _Run:
    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.space = NO_SPACE


class Apart:
    """Places rows whose space is NO_SPACE; `crowded` are the maps for which there was no room."""

    def __init__(self, book: SpaceBook, rows: list[Row], space: list[int], tasks: dict[int, int]) -> None:
        self.unknown: list[int] = []
        self.crowded: list[int] = []
        self._book = book
        self._rows = rows
        self._space = space
        self._runs = self._find_runs(tasks)
        self._live: dict[int, Live] = {}

    def _find_runs(self, tasks: dict[int, int]) -> dict[int, _Run]:
        runs: dict[int, _Run] = {}
        latest: dict[int, _Run] = {}
        for n, row in enumerate(self._rows):
            if row.kind != Kind.MAP or self._space[n] != NO_SPACE:
                continue
            run = latest.get(tasks[n])
            if run is None or run.end != row.start:
                run = latest[tasks[n]] = _Run(row.start)
            run.end = row.end
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
        if run.space == NO_SPACE or self._live[run.space].overlapping(row.start, row.end):
            run.space = self._free(run.start, run.end)
        if run.space == NO_SPACE:
            self.crowded.append(n)
            return
        self._space[n] = run.space
        self._live[run.space].add(Range(row.start, row.end, n))

    def _free(self, start: int, end: int) -> int:
        for space, live in self._live.items():
            if not live.overlapping(start, end):
                return space
        if len(self._live) == MOST_SPACES:
            return NO_SPACE
        space = self._book.open(attributed=False, name=f"unattributed {len(self._live)}")
        self._live[space] = Live()
        return space

    def _unmap(self, n: int, row: Row) -> None:
        for question in (Live.fits, Live.covers, Live.overlapping):
            for space, live in self._live.items():
                if question(live, row.start, row.end):
                    self._space[n] = space
                    live.take(row.start, row.end)
                    return
        self.unknown.append(n)
