"""The tree of used ranges, searched from the top down (Linux drivers/iommu/iova.c).

    allocate   from the node cached last, downwards, to the first gap that holds the run; a run starts at a multiple of
               its size rounded up to a power of two. Nothing found down to the start of the window: once more, from
               the limit down to where the first walk began. The new node becomes the cached one.
    free       the node goes. If it stood at or above a cached node, the node after it is cached: the next walk begins
               there, so that addresses are reused like a stack.

Requests below 4 GiB have a cached node of their own, and a size: a failure of any request notes how many pages it
wanted, and 32-bit requests of that many or more then fail at once, until something below 4 GiB is freed. A failed
request with a large alignment, a lower limit, or even a limit above 4 GiB leaves the same note: that is Linux's, too.

The shape of the tree never decides an address: a sorted list stands in for it. `visited` counts the nodes of the
walks, the cost that grew with the number of live ranges until the caches of `rcache` hid it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.iova.accounting import CountingAllocator, Wanted
from emulator.mapping.iova.allocator import LIMIT_32BIT, AddressAllocator, Window
from emulator.mapping.options import number_options, takes

__all__ = ["DEFAULTS", "RangeTree", "make"]

DEFAULTS = {"size_aligned": 1}
_ANCHOR = (1 << 64) - 1  # a node above every address: no walk meets an empty tree


class RangeTree(CountingAllocator):
    """Used ranges by their first page."""

    name = "rbtree"

    def __init__(self, window: Window, size_aligned: bool = True) -> None:
        super().__init__(window)
        self.size_aligned = size_aligned
        self._lows = [_ANCHOR]
        self._highs = {_ANCHOR: _ANCHOR}  # the last page of each range
        self._cached = self._cached_32bit = _ANCHOR
        self._too_many_32bit = LIMIT_32BIT

    def _search(self, wanted: Wanted) -> int | None:
        pages, limit = wanted.pages, wanted.limit
        if not self.memory():  # for the node, before the lock
            self.statistics.out_of_memory += 1
            return None
        self.statistics.lock("global")
        if limit <= LIMIT_32BIT and pages >= self._too_many_32bit:
            return None
        self.statistics.searches += 1
        order = 1 << (pages - 1).bit_length() if self.size_aligned else 1
        found = self._find(pages, limit, max(order, wanted.align))
        if found is None:
            self._too_many_32bit = pages
            return None
        self._insert(found, found + pages - 1)
        if found + pages - 1 < LIMIT_32BIT:
            self._cached_32bit = found
        else:
            self._cached = found
        return found

    def _find(self, pages: int, limit: int, align: int) -> int | None:
        start = self._cached_32bit if limit <= LIMIT_32BIT else self._cached
        found = self._walk(bisect_left(self._lows, start), pages, limit, self.window.first, align)
        if found is None and self._highs[start] < limit:
            top = bisect_left(self._lows, limit if limit <= LIMIT_32BIT else _ANCHOR)
            found = self._walk(top, pages, limit, self._highs[start] + 1, align)
        return found

    def _walk(self, index: int, pages: int, high: int, low: int, align: int) -> int | None:
        # Downwards from node `index`: the first aligned place above `low` that ends above the next node.
        while True:
            high = min(high, self._lows[index])
            place = (high - pages) // align * align
            self.statistics.visited += 1
            if index == 0 or place < low:
                break
            index -= 1
            if place > self._highs[self._lows[index]]:
                break
        return place if place >= low else None

    def _insert(self, low: int, high: int) -> None:
        insort(self._lows, low)
        self._highs[low] = high
        self.statistics.occupied += high - low + 1

    def _release(self, first: int, pages: int, cpu: int) -> None:
        self.statistics.lock("global")
        self._remove(first)

    def _remove(self, low: int) -> None:
        index = bisect_left(self._lows, low)
        high, following = self._highs[low], self._lows[index + 1]
        if low == self._cached_32bit or (high < LIMIT_32BIT and low >= self._cached_32bit):
            self._cached_32bit = following
        if low < LIMIT_32BIT:
            self._too_many_32bit = LIMIT_32BIT
        if low >= self._cached:
            self._cached = following
        del self._lows[index]
        del self._highs[low]
        self.statistics.occupied -= high - low + 1

    def _withhold(self, first: int, pages: int) -> None:
        at, end = first, first + pages
        while at < end:
            index = bisect_right(self._lows, at)
            covered = self._highs[self._lows[index - 1]] + 1 if index else 0
            if covered > at:
                at = covered
                continue
            stop = min(end, self._lows[index])
            self._insert(at, stop - 1)
            at = stop

    def largest_free_run(self) -> int:
        """The longest gap between ranges."""
        longest, at = 0, self.window.first
        for low in self._lows:
            longest = max(longest, min(low, self.window.end) - at)
            at = max(at, self._highs[low] + 1)
        return longest


@takes(DEFAULTS)
def make(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """An `rbtree` allocator; option `size_aligned` (0 or 1)."""
    return RangeTree(window, bool(number_options("iova", "rbtree", options, DEFAULTS)["size_aligned"]))
