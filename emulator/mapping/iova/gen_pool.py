"""A gen_pool as address allocator (Linux lib/genalloc.c, with the algorithm kernel/dma/pool.c gives it).

    allocate   first fit from the start of the bitmap; with `order_aligned` at a multiple of the run's size rounded up
               to a power of two
    free       clears the bits

Lock-free in Linux: bits are set by compare-and-exchange and a loser tries again, so that no lock is counted. Always
the lowest address that fits: compact, and the address freed last is often the next one handed out.
The default window is 4 GiB; a larger one is a larger bitmap.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.iova.accounting import BitmapAllocator, Wanted
from emulator.mapping.iova.allocator import LIMIT_32BIT, AddressAllocator, Window
from emulator.mapping.options import number_options, takes

__all__ = ["DEFAULTS", "GenPool", "make"]

DEFAULTS = {"entries": LIMIT_32BIT, "order_aligned": 1}


class GenPool(BitmapAllocator):
    """First fit over one chunk."""

    name = "gen-pool"

    def __init__(self, window: Window, order_aligned: bool = True) -> None:
        super().__init__(window)
        self.order_aligned = order_aligned

    def _search(self, wanted: Wanted) -> int | None:
        if wanted.pages > self._bitmap.entries - self._bitmap.used:
            return None
        order = 1 << (wanted.pages - 1).bit_length() if self.order_aligned else 1
        self.statistics.searches += 1
        limit = wanted.limit - self.window.first
        found = self._bitmap.find(0, limit, wanted.pages, max(order, wanted.align))
        self.statistics.visited = self._bitmap.scanned
        if found is None:
            return None
        self._take(found, wanted.pages)
        return self.window.first + found

    def _release(self, first: int, pages: int, cpu: int) -> None:
        self._give_back(first - self.window.first, pages)


@takes(DEFAULTS)
def make(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """A `gen-pool` allocator; options `entries` and `order_aligned` (0 or 1)."""
    chosen = number_options("iova", "gen-pool", options, DEFAULTS)
    return GenPool(window.narrowed(chosen["entries"]), bool(chosen["order_aligned"]))
