"""Slots of 2 KiB in areas, each with a lock of its own: the bookkeeping of swiotlb (kernel/dma/swiotlb.c).

`free[i]` is the length of the free run that begins at slot i and ends no later than its segment of 128 slots, 0 while
the slot is used. A mapping lies inside one segment, so it is at most 256 KiB.

Invariants: a used slot belongs to one mapping; `free` falls by one from slot to slot inside a free run; `used` is the
number of zeros.
"""

from __future__ import annotations

from pagetables.errors import VtdError

__all__ = ["SEGMENT", "SLOT", "SLOT_SHIFT", "Area"]

SLOT_SHIFT = 11
SLOT = 1 << SLOT_SHIFT
SEGMENT = 128  # slots


class Area:
    """`slots` slots, searched from a rotating index on."""

    def __init__(self, slots: int) -> None:
        if slots < SEGMENT or slots % SEGMENT:
            raise VtdError(f"an area has whole segments of {SEGMENT} slots, not {slots} slots")
        self.free = [SEGMENT - slot % SEGMENT for slot in range(slots)]
        self.used = 0
        self.looked_at = 0  # slots that searches looked at
        self._index = 0

    def take(self, count: int, stride: int = 1) -> int | None:
        """The first of `count` slots at a multiple of `stride`, now used; None if no segment has such a run."""
        total = len(self.free)
        if count > total - self.used:
            return None
        start = -(-self._index // stride) * stride % total
        for step in range(0, total, stride):
            slot = (start + step) % total
            self.looked_at += 1
            if self.free[slot] >= count:
                self._mark(slot, count)
                self._index = (slot + count) % total
                return slot
        return None

    def give_back(self, slot: int, count: int) -> None:
        """These slots are free again, and join the free runs on both sides inside their segment."""
        if any(self.free[slot : slot + count]):
            raise VtdError(f"slots {slot}+{count} are given back, but not all of them are used")
        end = slot + count
        run = self.free[end] if end % SEGMENT else 0
        for at in range(end - 1, slot - 1, -1):
            run += 1
            self.free[at] = run
        self._rejoin(slot, run)
        self.used -= count

    def largest_run(self) -> int:
        """The longest free run: what the next mapping can have at most."""
        return max(self.free)

    def _mark(self, slot: int, count: int) -> None:
        self.free[slot : slot + count] = [0] * count
        self._rejoin(slot, 0)
        self.used += count

    def _rejoin(self, slot: int, run: int) -> None:
        # Free slots before `slot`, in its segment, now lead into a run of this length.
        at = slot
        while at % SEGMENT and self.free[at - 1]:
            at -= 1
            run += 1
            self.free[at] = run
