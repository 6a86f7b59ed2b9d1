"""The books every allocator of ours keeps: what is live, what is stale, and the hazard of handing out a stale page.

A class of this kind adds two methods: `_search` finds a run, `_release` takes one back. It calls `_demand_flush` when
its algorithm wants everything invalidated. Those that search a bitmap of the window share `BitmapAllocator`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

from emulator.mapping.iova.allocator import IovaStatistics, NotAllocated, Window
from emulator.mapping.iova.bitmap import NO_BOUNDARY, Bitmap
from pagetables.errors import InputError

__all__ = ["BitmapAllocator", "CountingAllocator", "Wanted"]


@dataclass(slots=True)
class Wanted:
    """One request; `limit` never lies beyond the window."""

    pages: int
    limit: int
    cpu: int = 0
    align: int = 1
    after: int | None = None
    reclaim: bool = True


class CountingAllocator(abc.ABC):
    """An allocator that knows which runs are out, so that misuse is told and hazards are counted."""

    name = ""
    flushes_itself = False

    def __init__(self, window: Window) -> None:
        self.window = window
        self.statistics = IovaStatistics()
        self.flush: Callable[[], None] = lambda: None
        self.memory: Callable[[], bool] = lambda: True
        self._live: dict[int, int] = {}
        self._stale: set[int] = set()

    @abc.abstractmethod
    def _search(self, wanted: Wanted) -> int | None: ...

    @abc.abstractmethod
    def _release(self, first: int, pages: int, cpu: int) -> None: ...

    @abc.abstractmethod
    def _withhold(self, first: int, pages: int) -> None: ...

    @abc.abstractmethod
    def largest_free_run(self) -> int:
        """The longest run of free pages in the window."""

    def allocate(
        self,
        pages: int,
        limit: int | None = None,
        cpu: int = 0,
        align: int = 1,
        after: int | None = None,
        reclaim: bool = True,
    ) -> int | None:
        """The first page of a run, or None; counted, and held against what is stale."""
        if pages < 1 or align < 1 or align & (align - 1):
            raise InputError(f"a run needs at least one page and an alignment that is a power of two: {pages}, {align}")
        end = self.window.end if limit is None else min(limit, self.window.end)
        first = self._search(Wanted(pages, end, cpu, align, after, reclaim))
        statistics = self.statistics
        if first is None:
            statistics.failed += 1
            return None
        self._live[first] = pages
        statistics.allocated += 1
        statistics.live += pages
        statistics.live_highest = max(statistics.live_highest, statistics.live)
        if self._stale and not self._stale.isdisjoint(range(first, first + pages)):
            statistics.reused_before_flush += 1
        return first

    def free(self, first: int, pages: int, cpu: int = 0, stale: bool = False) -> None:
        """Take back a run as it was handed out; `stale`: not invalidated yet."""
        held = self._live.get(first)
        if held != pages:
            raise NotAllocated("never handed out" if held is None else f"handed out as {held} pages", first, pages)
        del self._live[first]
        self.statistics.freed += 1
        self.statistics.live -= pages
        if stale:
            self._stale.update(range(first, first + pages))
        self._release(first, pages, cpu)

    def reserve(self, first: int, pages: int) -> None:
        """Never hand these pages out; NotAllocated once addresses are out, since a run may occupy more than it is."""
        if self._live:
            raise NotAllocated(f"too late to reserve, {self.statistics.live} pages are handed out", first, pages)
        low, high = max(first, self.window.first), min(first + pages, self.window.end)
        if low < high:
            self._withhold(low, high - low)

    def flushed(self) -> None:
        """Nothing freed so far is stale any more."""
        self._stale.clear()

    def close(self) -> None:  # noqa: B027  # most allocators run nothing in the background
        """Nothing runs in the background."""

    def _demand_flush(self) -> None:
        self.statistics.flushes += 1
        self.flush()
        self.flushed()


class BitmapAllocator(CountingAllocator):
    """One bit for each page of the window. No run crosses a multiple of `boundary` pages; 0 for none.

    Indices count from the start of the window. `occupied` and `visited` of the statistics follow the bitmap.
    """

    def __init__(self, window: Window, boundary: int = 0) -> None:
        super().__init__(window)
        self._bitmap = Bitmap(window.pages, window.first)
        self._boundary = boundary or NO_BOUNDARY

    def largest_free_run(self) -> int:
        """The longest run of free entries, pools or not."""
        return self._bitmap.longest_free_run()

    def _find_area(self, start: int, limit: int, wanted: Wanted) -> int | None:
        # As Linux's helper does: see `Bitmap.find_area`.
        self.statistics.searches += 1
        found = self._bitmap.find_area(start, limit, wanted.pages, wanted.align, self._boundary)
        self.statistics.visited = self._bitmap.scanned
        return found

    def _take(self, index: int, pages: int) -> None:
        self._bitmap.take(index, pages)
        self.statistics.occupied = self._bitmap.used

    def _give_back(self, index: int, pages: int) -> None:
        self._bitmap.give_back(index, pages)
        self.statistics.occupied = self._bitmap.used

    def _withhold(self, first: int, pages: int) -> None:
        self._take(first - self.window.first, pages)
