"""The stale bitmap (Herrenschmidt, linuxppc-dev, March 2015: "keep an additional bitmap of stale entries").

    allocate   next fit in the CPU's pool, then from its start, then in the other pools. If nothing is found: flush,
               free what is stale, once more.
    free       the entry goes to the stale bitmap and stays used in the main one

Invariant: no entry freed since the last flush is handed out before a flush; there is no path on which it could be.

It was proposed in a mail and never written: a reconstruction, over the pools of the generic allocator (with their two
entries that are never used). The mail names a dilemma. As the main bitmap fills up with stale entries, requests spill
into the pools of other CPUs; unless each pool flushes itself before it lets a request spill (`local`), which costs
more flushes. The default is one pool, for which the two are the same. The stale bitmap is kept as a list of runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from emulator.clock import Clock
from emulator.mapping.iova.accounting import BitmapAllocator, Wanted
from emulator.mapping.iova.allocator import LIMIT_32BIT, AddressAllocator, Window
from emulator.mapping.iova.pools import Pool, cut, pool_number
from emulator.mapping.options import number_options, takes

__all__ = ["DEFAULTS", "StaleBitmap", "make"]

DEFAULTS = {"entries": 131072, "pools": 1, "local": 0, "boundary": LIMIT_32BIT}


class StaleBitmap(BitmapAllocator):
    """`pools` pools; with `local`, a pool flushes for itself before a request goes to the next one."""

    name = "stale-bitmap"
    flushes_itself = True

    def __init__(self, window: Window, pools: int = 1, local: bool = False, boundary: int = LIMIT_32BIT) -> None:
        super().__init__(window, boundary)
        self.local = local
        self._pools, _, self._size = cut(window.pages, pools, large=False)
        self._waiting: list[list[tuple[int, int]]] = [[] for _ in self._pools]

    @property
    def stale_pages(self) -> int:
        """Pages that are free but for the flush they wait for."""
        return sum(pages for runs in self._waiting for _, pages in runs)

    def _search(self, wanted: Wanted) -> int | None:
        found = self._in_pools(wanted)
        if found is None and any(self._waiting):
            self._flush_pools(range(len(self._pools)))
            found = self._in_pools(wanted)
        return None if found is None else self.window.first + found

    def _in_pools(self, wanted: Wanted) -> int | None:
        for number in self._order(wanted.cpu):
            found = self._in_pool(self._pools[number], wanted)
            if found is None and self.local and self._waiting[number]:
                self._flush_pools((number,))
                found = self._in_pool(self._pools[number], wanted)
            if found is not None:
                return found
        return None

    def _order(self, cpu: int) -> Iterator[int]:
        count = len(self._pools)
        own = pool_number(cpu, count)
        return ((own + step) % count for step in range(count))

    def _in_pool(self, pool: Pool, wanted: Wanted) -> int | None:
        self.statistics.lock("pool")
        limit = min(pool.end, wanted.limit - self.window.first)
        for start in (pool.hint, pool.start):
            found = self._find_area(start, limit, wanted)
            if found is not None:
                self._take(found, wanted.pages)
                pool.hint = found + wanted.pages
                return found
        return None

    def _flush_pools(self, numbers: range | tuple[int, ...]) -> None:
        self._demand_flush()
        for number in numbers:
            for index, pages in self._waiting[number]:
                self._give_back(index, pages)
            self._waiting[number].clear()

    def _release(self, first: int, pages: int, cpu: int) -> None:
        self.statistics.lock("pool")
        index = first - self.window.first
        self._waiting[index // self._size].append((index, pages))

    def _withhold(self, first: int, pages: int) -> None:
        if any(self._waiting):
            self._flush_pools(range(len(self._pools)))
        super()._withhold(first, pages)


@takes(DEFAULTS)
def make(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """A `stale-bitmap` allocator; options `entries`, `pools`, `local` (0 or 1) and `boundary` (pages, 0 for none)."""
    chosen = number_options("iova", "stale-bitmap", options, DEFAULTS)
    return StaleBitmap(window.narrowed(chosen["entries"]), chosen["pools"], bool(chosen["local"]), chosen["boundary"])
