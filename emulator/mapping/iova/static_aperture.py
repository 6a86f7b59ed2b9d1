"""A static aperture: a window of fixed slots, all tables built at the start (Kleen, linux-kernel, June 2007).

    allocate   a buffer that fits a slot gets the slot that has been free longest, in constant time; a larger one gets
               consecutive slots, the lowest that fit
    free       the slots go to the end of the queue

The mail asks for "256+MB" and "always map into it"; how addresses are found in it is a reconstruction: slots of 16
pages (a 64 KiB frame), and the oldest free one first, which keeps an address away from its next user as long as can be.
What a buffer leaves of its slot is wasted. Failure is simple: no slot is free, or none consecutive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.iova.accounting import CountingAllocator, Wanted
from emulator.mapping.iova.allocator import AddressAllocator, Window
from emulator.mapping.iova.bitmap import Bitmap
from emulator.mapping.options import number_options, takes
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "StaticAperture", "make"]

DEFAULTS = {"entries": 65536, "slot": 16}


class StaticAperture(CountingAllocator):
    """Slots of `slot` pages; a slot starts at a multiple of its size."""

    name = "static-aperture"

    def __init__(self, window: Window, slot: int = 16) -> None:
        super().__init__(window)
        if slot < 1 or slot & (slot - 1):
            raise InputError(f"a slot must be a power of two of pages, not {slot}")
        self.slot = slot
        self._first = -(-window.first // slot)
        slots = window.end // slot - self._first
        if slots < 1:
            raise InputError(f"a window of {window.pages} pages has no slot of {slot}")
        self._slots = Bitmap(slots, self._first)
        self._queue = deque(range(slots))
        self._queued = bytearray(b"\1" * slots)

    def _search(self, wanted: Wanted) -> int | None:
        slots = -(-wanted.pages // self.slot)
        simple = slots == 1 and wanted.align <= self.slot and wanted.limit == self.window.end
        self.statistics.lock("global")
        found = self._oldest() if simple else self._lowest(slots, wanted)
        if found is None:
            return None
        self._slots.take(found, slots)
        self._count()
        return (self._first + found) * self.slot

    def _oldest(self) -> int | None:
        while self._queue:
            slot = self._queue.popleft()
            self._queued[slot] = 0
            self.statistics.visited += 1
            if self._slots.is_free(slot):
                return slot
        return None

    def _lowest(self, slots: int, wanted: Wanted) -> int | None:
        before = self._slots.scanned
        self.statistics.searches += 1
        limit = wanted.limit // self.slot - self._first
        found = self._slots.find(0, limit, slots, max(wanted.align // self.slot, 1))
        self.statistics.visited += self._slots.scanned - before
        return found

    def _release(self, first: int, pages: int, cpu: int) -> None:
        self.statistics.lock("global")
        index, slots = first // self.slot - self._first, -(-pages // self.slot)
        self._slots.give_back(index, slots)
        for slot in range(index, index + slots):
            if not self._queued[slot]:
                self._queued[slot] = 1
                self._queue.append(slot)
        self._count()

    def _withhold(self, first: int, pages: int) -> None:
        low = max(first // self.slot, self._first) - self._first
        high = min(-(-(first + pages) // self.slot) - self._first, self._slots.entries)
        if low < high:
            self._slots.take(low, high - low)
        self._count()

    def _count(self) -> None:
        self.statistics.occupied = self._slots.used * self.slot

    def largest_free_run(self) -> int:
        """The longest run of free slots, in pages."""
        return self._slots.longest_free_run() * self.slot


@takes(DEFAULTS)
def make(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """A `static-aperture` allocator; options `entries` (pages of the window) and `slot` (pages)."""
    chosen = number_options("iova", "static-aperture", options, DEFAULTS)
    return StaticAperture(window.narrowed(chosen["entries"]), chosen["slot"])
