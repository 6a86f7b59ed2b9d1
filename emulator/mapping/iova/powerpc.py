"""The pools of powerpc (Linux arch/powerpc/kernel/iommu.c), from which the generic allocator was made in 2015.

    pools      4 small ones if the window has 1 GiB or more, else one; chosen by a hash of the CPU. The top quarter is
               always the large pool, for runs above 15 pages
    allocate   from the hint (or where the caller's scatter list ended), then from the start of the pool, then each
               small pool from its start, and at last the large pool, whatever the size of the run
    hint       behind a small run it moves to the next multiple of `block` entries, so that runs of different buffers
               share no cache line of the table; behind a large one, to its end
    free       clears the bits. Where hardware caches entries, each map and each unmap ends in a flush: nothing is lazy

Against the generic pool (`sparc-generic`): four pools instead of 16, no lazy flush and so no hole, a small pool gives
away no entry of its own (the search still does one), and a small run that finds nothing may use the large pool.

Invariant: a run fails only if no pool holds it between its start and its end. The default window is 2 GiB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from emulator.clock import Clock
from emulator.mapping.iova.accounting import Wanted
from emulator.mapping.iova.allocator import LIMIT_32BIT, AddressAllocator, Window
from emulator.mapping.iova.pools import HintedPools, Pool, cut, pool_number
from emulator.mapping.options import number_options, takes
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "PowerpcPools", "make"]

DEFAULTS = {"entries": 524288, "pools": 0, "large": 15, "block": 16, "boundary": LIMIT_32BIT}
SPLIT = 1 << 18  # pages of a window that is worth splitting
HASH_BITS = 2


class PowerpcPools(HintedPools):
    """`pools` small pools (0: by the size of the window); runs above `large` pages begin in the large pool."""

    name = "powerpc"

    def __init__(
        self, window: Window, pools: int = 0, large: int = 15, block: int = 16, boundary: int = LIMIT_32BIT
    ) -> None:
        super().__init__(window, boundary)
        if block < 1 or block & (block - 1):
            raise InputError(f"a block must be a power of two of entries, not {block}")
        count = pools or (1 << HASH_BITS if window.pages >= SPLIT else 1)
        small, top, _ = cut(window.pages, count, large=True, keep_last=True)
        self._pools = small
        self._large = top or small[0]
        self.large, self.block = large, block

    def _search(self, wanted: Wanted) -> int | None:
        reach = wanted.limit - self.window.first
        if reach <= 0:
            return None
        for attempt, pool in enumerate(self._order(wanted)):
            if attempt:
                pool.hint = pool.start
            searched, found = self._find(pool, wanted, attempt, reach)
            if found is not None:
                return self._hand_out(searched, found, wanted.pages)
        return None

    def _order(self, wanted: Wanted) -> Iterator[Pool]:
        # The pool twice (hint, start), every small pool, the large one.
        count = len(self._pools)
        own = pool_number(wanted.cpu, count, HASH_BITS)
        first = self._large if wanted.pages > self.large else self._pools[own]
        yield from (first, first)
        yield from (self._pools[(own + step) % count] for step in range(1, count + 1))
        yield self._large

    def _hand_out(self, pool: Pool, found: int, pages: int) -> int:
        self._take(found, pages)
        end = found + pages
        pool.hint = end if pages > self.large else -(-end // self.block) * self.block
        return self.window.first + found


@takes(DEFAULTS)
def make(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """A `powerpc` allocator; options `entries`, `pools` (0: by the size of the window), `large` (pages), `block`
    (entries) and `boundary` (pages, 0 for none)."""
    chosen = number_options("iova", "powerpc", options, DEFAULTS)
    return PowerpcPools(
        window.narrowed(chosen["entries"]), chosen["pools"], chosen["large"], chosen["block"], chosen["boundary"]
    )
