"""Unmaps that an event announces: dma_unmap_sg and dma_free come before the unmap they cause, in the same task."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

__all__ = ["Announcements", "Expected"]


class Expected(NamedTuple):
    """An announced unmap of `space`: from `gpa` (if known), or over exactly [start, end)."""

    space: int
    gpa: int | None
    start: int
    end: int


class Announcements:
    """Which unmaps were announced, and which domain's tag was flushed for them.

    `expected` holds, by row, what was announced for the unmaps that no stronger word explained. An announcement is not
    taken back by the unmap that follows: an interrupt's own may come between.
    """

    def __init__(self) -> None:
        self.expected: dict[int, Expected] = {}
        self._latest: dict[int, Expected] = {}
        self._fresh: set[int] = set()  # tasks whose announcement no unmap followed yet
        self._first: dict[int, int] = {}  # row of the unmap that followed one -> the announced space
        self._tags: Counter[tuple[int, int]] = Counter()

    def announce(self, task: int, expected: Expected) -> None:
        """Remember what `task` is about to unmap."""
        self._latest[task] = expected
        self._fresh.add(task)

    def unmapped(self, task: int, row: int) -> None:
        """Take note of an unmap by `task`."""
        expected = self._latest.get(task)
        if expected is None:
            return
        self.expected[row] = expected
        if task in self._fresh:
            self._fresh.remove(task)
            self._first[row] = expected.space

    def explained(self, row: int, space: int) -> None:
        """Take note that the unmap is of `space`, by the tag that was flushed or by its own dma event."""
        self.expected.pop(row, None)
        announced = self._first.pop(row, None)
        if announced is not None:
            self._tags[announced, space] += 1

    def same(self) -> list[tuple[int, int]]:
        """Pairs of announced space and explained space that are one, by the majority of the unmaps."""
        totals: Counter[int] = Counter()
        for (space, _), votes in self._tags.items():
            totals[space] += votes
        return [pair for pair, votes in self._tags.most_common() if 2 * votes > totals[pair[0]]]
