"""Ranges that are live, to find what an unmap closes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple

__all__ = ["Live", "Range"]


class Range(NamedTuple):
    """What is left, [start, end), of the mapping that `row` made."""

    start: int
    end: int
    row: int


class Live:
    """Live ranges. Several may begin at one address; the oldest is answered first.

    Most unmaps close exactly what one or several maps made live; they are found by following the ends, and addresses
    are put in order only when a question first needs it.
    """

    def __init__(self) -> None:
        self._at: dict[int, list[Range]] = {}
        self._order: list[int] | None = None

    def __len__(self) -> int:
        return len(self._at)

    @property
    def _starts(self) -> list[int]:
        if self._order is None:
            self._order = sorted(self._at)
        return self._order

    def add(self, live: Range) -> None:
        """Make a range live."""
        ranges = self._at.get(live.start)
        if ranges is not None:
            ranges.append(live)
            return
        self._at[live.start] = [live]
        if self._order is not None:
            insort(self._order, live.start)

    def remove(self, live: Range) -> None:
        """Remove a range that `at` or `overlapping` answered."""
        ranges = self._at[live.start]
        if len(ranges) > 1:
            ranges.remove(live)
            return
        del self._at[live.start]
        if self._order is not None:
            del self._order[bisect_left(self._order, live.start)]

    def at(self, start: int) -> list[Range]:
        """The ranges that begin at `start`, oldest first."""
        return self._at.get(start, [])

    def overlapping(self, start: int, end: int) -> list[Range]:
        """The ranges that meet [start, end), by address. Of those that begin before it only the nearest are seen."""
        starts = self._starts
        first = bisect_left(starts, start)
        found: list[Range] = []
        if first and (first == len(starts) or starts[first] != start):
            found += [live for live in self._at[starts[first - 1]] if live.end > start]
        for at in starts[first : bisect_left(starts, end)]:
            found += self._at[at]
        return found

    def _chain(self, start: int, end: int) -> list[Range]:
        # Ranges that continue each other from `start` to exactly `end`, or nothing.
        found = []
        while start < end:
            ranges = self._at.get(start)
            if ranges is None or len(ranges) > 1 or ranges[0].end > end:
                return []
            found.append(ranges[0])
            start = ranges[0].end
        return found

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte of [start, end) is live."""
        for live in self._chain(start, end) or self.overlapping(start, end):
            if live.start > start:
                return False
            start = max(start, live.end)
        return start >= end

    def fits(self, start: int, end: int) -> bool:
        """Whether [start, end) is live and consists of whole ranges."""
        found = self._chain(start, end) or self.overlapping(start, end)
        return bool(found) and found[0].start == start and found[-1].end == end and self.covers(start, end)

    def take(self, start: int, end: int) -> list[Range]:
        """Remove what is live in [start, end); the pieces removed, by address. What sticks out stays live."""
        taken = self._chain(start, end)
        if taken:
            for live in taken:
                self.remove(live)
            return taken
        for live in self.overlapping(start, end):
            self.remove(live)
            if live.start < start:
                self.add(Range(live.start, start, live.row))
            if live.end > end:
                self.add(Range(end, live.end, live.row))
            taken.append(Range(max(live.start, start), min(live.end, end), live.row))
        return taken

    def next_start(self, after: int) -> int | None:
        """The lowest start above `after`, or None."""
        index = bisect_right(self._starts, after)
        return self._starts[index] if index < len(self._starts) else None
