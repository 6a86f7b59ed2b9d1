"""The generic pooled allocator (Linux lib/iommu-common.c of 2015, today arch/sparc/kernel/iommu-common.c).

    pools      16 small ones, chosen by a hash of the CPU; optionally the top quarter for runs above 15 pages
    allocate   pass 0 from the pool's hint (or where the caller's scatter list ended), then the pool from its start,
               then each other pool from its start; every step after the first makes a flush due.
               A device that does not reach the pool is served from pool 0, up to where it reaches.
    flush      with `lazy`: if a flush is due, or the run lies below the hint (a wrap), before it is handed out
    free       clears the bits; no flush, and the hint stays

Named defects, reproduced:
    the hole              after a wrap the hint is small. An entry above it that is freed now and reached later is not
                          below the hint and no flush is due: it is handed out stale. (GART moves its cursor past it.)
    entries never used    two of each small pool, one of the large one: see `pools`.
    shared words          pools have their own locks but one bitmap: unless the size of a pool is a multiple of the
                          word, two CPUs update one word under different locks. Python runs one at a time: not modelled.

sun4u has one pool and a lazy flush (`sparc-generic-1pool`); sun4v has 16 without either. The default of 131072 entries
is the table of a Psycho bridge.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.iova.accounting import Wanted
from emulator.mapping.iova.allocator import LIMIT_32BIT, AddressAllocator, Window
from emulator.mapping.iova.pools import HintedPools, Pool, cut, pool_number
from emulator.mapping.options import number_options, takes

__all__ = ["DEFAULTS", "ONE_POOL", "PooledBitmap", "make", "make_one_pool"]

DEFAULTS = {"entries": 131072, "pools": 16, "large_pool": 1, "large": 15, "lazy": 1, "boundary": LIMIT_32BIT}
ONE_POOL = {"pools": 1, "large_pool": 0}


class PooledBitmap(HintedPools):
    """`pools` small pools; runs above `large` pages come from the large pool if there is one."""

    name = "sparc-generic"

    def __init__(
        self,
        window: Window,
        pools: int = 16,
        large_pool: bool = True,
        large: int = 15,
        lazy: bool = True,
        boundary: int = LIMIT_32BIT,
    ) -> None:
        super().__init__(window, boundary)
        self.name = "sparc-generic-1pool" if pools == 1 else "sparc-generic"
        self.flushes_itself = lazy
        self.large = large
        self._pools, self._large, self._size = cut(window.pages, pools, large_pool)
        self._flush_due = False

    def _search(self, wanted: Wanted) -> int | None:
        reach = wanted.limit - self.window.first
        if reach <= 0:
            return None
        large = self._large if wanted.pages > self.large else None
        number = pool_number(wanted.cpu, len(self._pools))
        pool = large or self._pools[number]
        for attempt in range(2 + (0 if large else len(self._pools))):
            if attempt > 1:
                number = (number + 1) % len(self._pools)
                pool = self._pools[number]
            if attempt > 0:
                pool.hint, self._flush_due = pool.start, True
            pool, found = self._find(pool, wanted, attempt, reach)
            if found is not None:
                return self._hand_out(pool, found, wanted.pages)
        return None

    def _hand_out(self, pool: Pool, found: int, pages: int) -> int:
        self._take(found, pages)
        if self.flushes_itself and (found < pool.hint or self._flush_due):
            self._flush_due = False
            self._demand_flush()
        pool.hint = found + pages
        return self.window.first + found


@takes(DEFAULTS)
def make(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """A `sparc-generic` allocator; options `entries`, `pools`, `large_pool` (0 or 1), `large` (pages), `lazy` (0 or 1)
    and `boundary` (pages, 0 for none)."""
    chosen = number_options("iova", "sparc-generic", options, DEFAULTS)
    return PooledBitmap(
        window.narrowed(chosen["entries"]),
        chosen["pools"],
        bool(chosen["large_pool"]),
        chosen["large"],
        bool(chosen["lazy"]),
        chosen["boundary"],
    )


@takes({**DEFAULTS, **ONE_POOL})
def make_one_pool(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """The form of sun4u: one pool, no large one, a lazy flush."""
    return make(window, clock, {**ONE_POOL, **options})
