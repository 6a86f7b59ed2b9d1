"""Memory pressure: one zone of pages with watermarks, after Linux mm/page_alloc.c.

A request may sink the number of free pages only to the floor of its class: GFP_KERNEL and GFP_NOWAIT to `min`,
GFP_ATOMIC to 3/8 of it, PF_MEMALLOC to nothing. Below `low` a background reclaimer (kswapd) is woken and frees, at a
rate, pages that others hold, until `high` is reached. Only with these floors do the systems of page supply differ.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from emulator.clock import MILLISECOND, Clock, Timer
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa
from pagetables.errors import InputError, VtdError

__all__ = ["DoubleFree", "Gfp", "PressureStatistics", "Watermarks", "Zone"]

RECLAIM_BATCH = 32  # pages that one direct reclaim tries to free (SWAP_CLUSTER_MAX)


class DoubleFree(VtdError):
    """A page was given back that was not out, or that never belonged to the zone."""


class Gfp(enum.Enum):
    """The class of a page request: what it may wait for and how deep it may dig."""

    KERNEL = "kernel"
    NOWAIT = "nowait"
    ATOMIC = "atomic"
    MEMALLOC = "memalloc"


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Free pages: `min` is the floor of ordinary requests, `low` wakes the reclaimer, `high` lets it sleep."""

    min: int
    low: int
    high: int

    @classmethod
    def of(cls, managed: int, min_free_kib: int | None = None, scale: int = 10) -> Watermarks:
        """The marks of a zone of `managed` pages; `scale` is watermark_scale_factor, in 1/10000 of the zone."""
        if min_free_kib is None:
            min_free_kib = min(max(math.isqrt(16 * managed * (PAGE_SIZE >> 10)), 128), 262144)
        floor = min_free_kib * 1024 >> PAGE_SHIFT
        step = max(floor // 4, managed * scale // 10000)
        return cls(floor, floor + step, floor + 2 * step)

    def floor(self, gfp: Gfp) -> int:
        """Free pages that a request of this class must leave."""
        if gfp is Gfp.MEMALLOC:
            return 0
        if gfp is Gfp.ATOMIC:  # __GFP_HIGH takes off a half, a non-blocking one a quarter of what remains
            return self.min - self.min // 2 - self.min // 2 // 4
        return self.min


@dataclass(slots=True)
class PressureStatistics:
    """What the zone did: calls and refusals by class, reclaim, and how deep it sank."""

    calls: dict[str, int] = field(default_factory=lambda: {gfp.value: 0 for gfp in Gfp})
    refused: dict[str, int] = field(default_factory=lambda: {gfp.value: 0 for gfp in Gfp})
    direct_reclaims: int = 0
    reclaimer_wakeups: int = 0
    reclaimed: int = 0
    lowest_free: int = 0


class Zone:
    """The pages of [start, start + size): which are handed out, how many are free, who may have one.

    `used` pages are held by others; they have no address here, only weight, and the reclaimer can free them. A freed
    page is handed out again first (last in, first out), then the lowest that was never used.
    """

    def __init__(
        self,
        clock: Clock,
        start: int,
        size: int,
        used: int = 0,
        min_free_kib: int | None = None,
        reclaim_per_ms: int = 256,
    ) -> None:
        if size < PAGE_SIZE or start % PAGE_SIZE or size % PAGE_SIZE:
            raise InputError(f"a zone at {start:#x}+{size:#x} is not made of whole pages")
        self.start, self.size = start, size
        self.managed = size >> PAGE_SHIFT
        if not 0 <= used <= self.managed:
            raise InputError(f"{used} pages cannot be in use in a zone of {self.managed}")
        self.marks = Watermarks.of(self.managed, min_free_kib)
        self.statistics = PressureStatistics(lowest_free=self.managed - used)
        self._clock = clock
        self._used = used
        self._reclaim_per_ms = reclaim_per_ms
        self._returned: list[Gpa] = []
        self._out: set[Gpa] = set()
        self._next = start
        self._reclaimer: Timer | None = None

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return self.managed - self._used - len(self._out)

    @property
    def held(self) -> int:
        """Pages handed out and not given back."""
        return len(self._out)

    def squeeze(self, used: int) -> None:
        """From now on `used` pages are held by others: pressure put on, or taken off, from outside."""
        if not 0 <= used <= self.managed - self.held:
            raise InputError(f"{used} pages cannot be in use: {self.managed} in the zone, {self.held} handed out")
        self._used = used
        self._wake_if_low()

    def take(self, gfp: Gfp) -> Gpa | None:
        """A page, or None if the class of the request may not sink as deep as free memory is."""
        self.statistics.calls[gfp.value] += 1
        floor = self.marks.floor(gfp)
        if self.free <= floor and gfp is Gfp.KERNEL:
            self._reclaim_directly(floor)
        if self.free <= floor:
            self.statistics.refused[gfp.value] += 1
            self._wake_if_low()
            return None
        page = self._pop()
        self._out.add(page)
        self.statistics.lowest_free = min(self.statistics.lowest_free, self.free)
        self._wake_if_low()
        return page

    def give_back(self, pages: Iterable[Gpa]) -> None:
        """These pages are free again; DoubleFree if one was not out."""
        for page in pages:
            if page not in self._out:
                raise DoubleFree(f"page {page:#x} is given back, but it is not out")
            self._out.remove(page)
            self._returned.append(page)

    def _pop(self) -> Gpa:
        if self._returned:
            return self._returned.pop()
        page = self._next
        self._next += PAGE_SIZE
        return Gpa(page)

    def _reclaim_directly(self, floor: int) -> None:
        self.statistics.direct_reclaims += 1
        self._reclaim(max(RECLAIM_BATCH, floor + 1 - self.free))

    def _reclaim(self, wanted: int) -> int:
        freed = min(wanted, self._used)
        self._used -= freed
        self.statistics.reclaimed += freed
        return freed

    def _wake_if_low(self) -> None:
        if self._reclaimer is None and self.free < self.marks.low and self._used and self._reclaim_per_ms:
            self.statistics.reclaimer_wakeups += 1
            self._reclaimer = self._clock.after(MILLISECOND, self._run_reclaimer)

    def _run_reclaimer(self) -> None:
        self._reclaimer = None
        freed = self._reclaim(min(self._reclaim_per_ms, max(self.marks.high - self.free, 0)))
        if freed and self.free < self.marks.high:
            self._reclaimer = self._clock.after(MILLISECOND, self._run_reclaimer)
