"""What the events around a row did not tell: settled once all events are known.

In order of strength: an unmap whose space is known closes, besides what is known to be live there, maps that nobody
claimed; an announced unmap (dma_unmap_sg, dma_free) is believed if what it announced is live; a task that attached one
space only maps there. What remains is kept apart, by `emulator.trace.apart`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from emulator.trace.announced import Expected
from emulator.trace.attribution import Attributor
from emulator.trace.columns import NO_SPACE
from emulator.trace.event import Kind
from emulator.trace.live import Live, Range

__all__ = ["Row", "Settler", "Votes"]

Votes = defaultdict[int, Counter[int]]
"""How often the maps of a task were ascribed to a space without doubt."""

_CANDIDATES = 64  # the oldest of several maps of one address
_SPACES = 1024  # that are searched for an unmap of which nothing is known


class Row(NamedTuple):
    """What settling needs of a row."""

    kind: int
    start: int
    end: int
    gpa: int


class Settler:
    """Goes through all rows in order, with what is live in each space and what is live but unclaimed.

    `space` is the space of each row, NO_SPACE where still unknown; `unknown` are the unmaps that close nothing.
    """

    def __init__(self, found: Attributor, rows: list[Row], tasks: dict[int, int]) -> None:
        self.space = [space if space == NO_SPACE else found.book.resolve(space) for space in found.rows.space]
        self.unknown: list[int] = []
        self.doubtful = 0  # claims for which there were several candidates
        self.votes: Votes = defaultdict(Counter)
        self._found = found
        self._rows = rows
        self._tasks = tasks
        self._known: Votes = defaultdict(Counter)
        self._live: dict[int, Live] = {}
        self._pool = Live()

    def run(self, known: Votes) -> None:
        """Settle every row; `known` are the votes of an earlier run, for choices between candidates."""
        self._known = known
        space, pool = self.space, self._pool
        for n, row in enumerate(self._rows):
            if row.kind == Kind.MAP:
                live = pool if space[n] == NO_SPACE else self._live_in(space[n])
                live.add(Range(row.start, row.end, n))
            elif row.kind == Kind.UNMAP:
                if space[n] == NO_SPACE:
                    space[n] = self._space_of_unmap(n, row)
                if space[n] != NO_SPACE:
                    self._close(n, row, space[n])

    def _live_in(self, space: int) -> Live:
        live = self._live.get(space)
        if live is None:
            live = self._live[space] = Live()
        return live

    def _close(self, n: int, row: Row, space: int) -> None:
        taken = self._live_in(space).take(row.start, row.end)
        if len(taken) == 1 and taken[0].start == row.start and taken[0].end == row.end:
            return
        found, at = bool(taken), row.start
        for piece in [*taken, Range(row.end, row.end, n)]:
            if piece.start > at:
                found |= self._claim(space, at, piece.start)
            at = max(at, piece.end)
        if not found:
            self.unknown.append(n)

    def _claim(self, space: int, start: int, end: int) -> bool:
        # Unclaimed maps in [start, end) belong to `space`: its unmap closed them.
        claimed = self._take(start, end, lambda candidates: self._choose(candidates, space), self._live_in(space))
        for live in claimed:
            self.space[live.row] = space
        return bool(claimed)

    def _take(self, start: int, end: int, choose: Callable[[list[Range]], Range], rest: Live) -> list[Range]:
        # Unclaimed maps that cover [start, end) once; what sticks out of the range goes to `rest`.
        taken: list[Range] = []
        at: int | None = start
        while at is not None and at < end:
            candidates = (self._pool.at(at) or self._pool.overlapping(at, at + 1))[:_CANDIDATES]
            if not candidates:
                at = self._pool.next_start(at)
                continue
            live = choose([live for live in candidates if live.end <= end] or candidates)
            self._pool.remove(live)
            for first, last in ((live.start, at), (end, live.end)):
                if first < last:
                    rest.add(Range(first, last, live.row))
            taken.append(live)
            at = live.end
        return taken

    def _choose(self, candidates: list[Range], space: int) -> Range:
        if len(candidates) == 1:
            self.votes[self._tasks[candidates[0].row]][space] += 1
            return candidates[0]
        self.doubtful += 1
        return max(candidates, key=lambda live: (self._share(self._tasks[live.row], space), -live.row))

    def _share(self, task: int, space: int) -> float:
        known = self._known.get(task)
        return known[space] / known.total() if known else 0.5

    def _space_of_unmap(self, n: int, row: Row) -> int:
        expected = self._found.announced.expected.get(n)
        if expected is not None and self._holds(expected, row):
            return expected.space
        if self._pool.fits(row.start, row.end):
            self._take(row.start, row.end, _oldest, self._pool)
            return NO_SPACE
        searched = islice(self._live.items(), _SPACES)
        fitting = [space for space, live in searched if live.fits(row.start, row.end)]
        if fitting:
            return min(fitting, key=lambda space: self._live[space].at(row.start)[0].row)
        self._take(row.start, row.end, _oldest, self._pool)
        return NO_SPACE

    def _holds(self, expected: Expected, row: Row) -> bool:
        live = self._live_in(self._found.book.resolve(expected.space))
        if expected.gpa is None:
            return (expected.start, expected.end) == (row.start, row.end) and live.covers(row.start, row.end)
        return any(self._rows[held.row].gpa == expected.gpa for held in live.at(row.start)) and live.fits(
            row.start, row.end
        )

    def follow_attachers(self) -> None:
        """Ascribe unclaimed maps of a task to the one space that this task attached devices to (VFIO)."""
        for n, task in self._tasks.items():
            spaces = self._found.attachers.get(task, {})
            if self.space[n] != NO_SPACE or len(spaces) != 1:
                continue
            ((space, since),) = spaces.items()
            space = self._found.book.resolve(space)
            others = self.votes[task].keys() - {space}
            row = self._rows[n]
            if n < since or others or not self._found.book.has_domain(space):
                continue
            if not self._live_in(space).overlapping(row.start, row.end):
                self.space[n] = space
                self._live_in(space).add(Range(row.start, row.end, n))


def _oldest(candidates: list[Range]) -> Range:
    return min(candidates, key=lambda live: live.row)
