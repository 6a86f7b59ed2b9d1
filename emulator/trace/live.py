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
    """Live ranges ordered by address. Several may begin at one address; the oldest is answered first."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._at: dict[int, list[Range]] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, live: Range) -> None:
        """Make a range live."""
        ranges = self._at.get(live.start)
        if ranges is None:
            self._at[live.start] = [live]
            insort(self._starts, live.start)
        else:
            ranges.append(live)

    def remove(self, live: Range) -> None:
        """Remove a range that `at` or `overlapping` answered."""
        ranges = self._at[live.start]
        if len(ranges) == 1:
            del self._at[live.start]
            del self._starts[bisect_left(self._starts, live.start)]
        else:
            ranges.remove(live)

    def at(self, start: int) -> list[Range]:
        """The ranges that begin at `start`, oldest first."""
        return self._at.get(start, [])

    def overlapping(self, start: int, end: int) -> list[Range]:
        """The ranges that meet [start, end), by address. Of those that begin before it only the nearest are seen."""
        first = bisect_left(self._starts, start)
        found: list[Range] = []
        if first and (first == len(self._starts) or self._starts[first] != start):
            found += [live for live in self._at[self._starts[first - 1]] if live.end > start]
        for at in self._starts[first : bisect_left(self._starts, end)]:
            found += self._at[at]
        return found

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte of [start, end) is live."""
        for live in self.overlapping(start, end):
            if live.start > start:
                return False
            start = max(start, live.end)
        return start >= end

    def fits(self, start: int, end: int) -> bool:
        """Whether [start, end) is live and consists of whole ranges."""
        found = self.overlapping(start, end)
        return bool(found) and found[0].start == start and found[-1].end == end and self.covers(start, end)

    def take(self, start: int, end: int) -> list[Range]:
        """Remove what is live in [start, end); the pieces removed, by address. What sticks out stays live."""
        exact = self._at.get(start)
        if exact is not None and len(exact) == 1 and exact[0].end == end:
            self.remove(exact[0])
            return [exact[0]]
        taken: list[Range] = []
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
