"""The GART window: one bitmap for all devices (Linux arch/x86/kernel/amd_gart_64.c).

    allocate   next fit from `next`, honouring the segment boundary; if that fails, from the start, and a flush is due.
               `next` moves behind the run. (Linux sends it to 0 at the end of the table; since its search never
               hands out the last entry, that never happens.)
               With `full_flush` (Linux's default: lazy flushing upset 3ware and QLogic cards) one is always due.
    flush      on the map side only: a flush that is due happens before the address is handed out
    free       clears the bits; a run at or above `next` moves `next` behind it, so that it stays behind a wrap

Invariant: no entry freed since the last flush is handed out before a flush. Every such entry lies below `next`.
The jump of `next` is what that costs: at high occupancy it burns space, and a wrap, hence a flush, comes often.

Every map goes through the window, as with iommu=force: Linux otherwise passes by it what a device reaches by itself.
The first 32 entries stay unused: a map that fails is sent there ("emergency pages"). The window is 64 MiB, below which
Linux warns; the real one comes from the firmware. Linux flushes after it has written the entry, since there an unmapped
entry is a valid one, to a scratch page. VT-d without caching mode caches nothing that is not present: here the flush
may come before the write.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.iova.accounting import BitmapAllocator, Wanted
from emulator.mapping.iova.allocator import LIMIT_32BIT, AddressAllocator, Window
from emulator.mapping.options import number_options, takes
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "GartBitmap", "make", "make_lazy"]

DEFAULTS = {"entries": 16384, "emergency": 32, "boundary": LIMIT_32BIT, "full_flush": 1}


class GartBitmap(BitmapAllocator):
    """Next fit over one window; `boundary` is the devices' segment boundary in pages, 0 for none."""

    name = "gart"
    flushes_itself = True

    def __init__(
        self, window: Window, emergency: int = 32, boundary: int = LIMIT_32BIT, full_flush: bool = True
    ) -> None:
        super().__init__(window, boundary)
        if not 0 <= emergency < window.pages or boundary < 0:
            raise InputError(f"a window of {window.pages} pages cannot have {emergency} emergency pages")
        self.name = "gart" if full_flush else "gart-lazy"
        self.full_flush = full_flush
        self._next = 0
        self._flush_due = False
        self._withhold(window.first, emergency)

    def _search(self, wanted: Wanted) -> int | None:
        self.statistics.lock("global")
        found = self._find(self._next, wanted)
        if found is None:
            self._flush_due = True
            found = self._find(0, wanted)
        if found is not None:
            self._take(found, wanted.pages)
            self._next = found + wanted.pages
        if self._flush_due or self.full_flush:
            self._flush_due = False
            self._demand_flush()
        return None if found is None else self.window.first + found

    def _release(self, first: int, pages: int, cpu: int) -> None:
        self.statistics.lock("global")
        index = first - self.window.first
        self._give_back(index, pages)
        if index >= self._next:
            self._next = index + pages

    def _find(self, start: int, wanted: Wanted) -> int | None:
        return self._find_area(start, wanted.limit - self.window.first, wanted)


@takes(DEFAULTS)
def make(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """A `gart` allocator; options `entries`, `emergency`, `boundary` (pages) and `full_flush` (0 or 1)."""
    chosen = number_options("iova", "gart", options, DEFAULTS)
    return GartBitmap(
        window.narrowed(chosen["entries"]), chosen["emergency"], chosen["boundary"], bool(chosen["full_flush"])
    )


@takes({**DEFAULTS, "full_flush": 0})
def make_lazy(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """The same without a flush at each map (`iommu=nofullflush`)."""
    return make(window, clock, {"full_flush": 0, **options})
