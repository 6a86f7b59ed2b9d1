"""The resource pool of June 2007 ("Intel-IOMMU 02/10", Keshavamurthy): the pool first, the system as the worst case.

The behaviour is the mailing-list thread's; the patch itself was not found, so the steps and the constants (`min`,
`grow`, the worker's delay) are a reconstruction, and the constants are knobs.

    take        pop; if what is left is at most `min`, queue the worker; if nothing was there, ask with GFP_ATOMIC
    give back   push; if more than min + 2*grow are there, queue the worker
    worker      brings the pool to min + grow with GFP_KERNEL, the only path that may sleep
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from emulator.clock import MICROSECOND, Clock, Timer
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.supply import PageSupply, SupplyStatistics, take_options
from pagetables.address import Gpa
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "ResourcePool", "make"]

DEFAULTS: dict[str, int | str] = {"min": 64, "grow": 64, "delay_us": 50}


class ResourcePool:
    """A list of idle pages between `min` and `min + 2*grow`, kept so by a worker that runs `delay` ns after it is
    queued."""

    name = "respool"

    def __init__(self, zone: Zone, clock: Clock, minimum: int, grow: int, delay: int) -> None:
        if minimum < 0 or grow < 1 or delay < 0:
            raise InputError(
                f"a resource pool needs min >= 0, grow >= 1 and a delay >= 0, not {minimum}, {grow}, {delay}"
            )
        self.minimum, self.grow = minimum, grow
        self.statistics = SupplyStatistics()
        self._zone, self._clock, self._delay = zone, clock, delay
        self._pool: list[Gpa] = []
        self._worker: Timer | None = None
        self._fill(minimum)
        if len(self._pool) < minimum:
            raise InputError(f"a resource pool of {minimum} pages cannot be filled: the zone has {zone.managed} pages")
        self._count()
        self.statistics.idle_lowest = len(self._pool)

    def take(self) -> Gpa | None:
        """The page given back last, else one from the zone with GFP_ATOMIC, else None."""
        page = self._pool.pop() if self._pool else None
        if page is not None:
            self.statistics.hits += 1
        self._count()
        if len(self._pool) <= self.minimum:
            self._queue_worker()
        return page if page is not None else self._fall_back()

    def give_back(self, pages: Iterable[Gpa]) -> None:
        """The pages are idle; too many of them wake the worker."""
        for page in pages:
            self._pool.append(page)
            self.statistics.given_back += 1
        self._count()
        if len(self._pool) > self.minimum + 2 * self.grow:
            self._queue_worker()

    def close(self) -> None:
        """Cancel the worker and return every idle page."""
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        self._release(len(self._pool))
        self._count()

    def _fall_back(self) -> Gpa | None:
        page = self._zone.take(Gfp.ATOMIC)
        if page is None:
            self.statistics.failures += 1
        else:
            self.statistics.fallbacks += 1
        return page

    def _queue_worker(self) -> None:
        if self._worker is None:
            self._worker = self._clock.after(self._delay, self._work)

    def _work(self) -> None:
        self._worker = None
        self.statistics.wakeups += 1
        target = self.minimum + self.grow
        self._fill(target)
        self._release(len(self._pool) - target)
        self._count()

    def _fill(self, target: int) -> None:
        while len(self._pool) < target:
            page = self._zone.take(Gfp.KERNEL)
            if page is None:
                return
            self._pool.append(page)
            self.statistics.refilled += 1

    def _release(self, count: int) -> None:
        for _ in range(count):
            self._zone.give_back((self._pool.pop(),))
            self.statistics.released += 1

    def _count(self) -> None:
        idle = self.statistics.idle = len(self._pool)
        self.statistics.idle_lowest = min(self.statistics.idle_lowest, idle)
        self.statistics.idle_highest = max(self.statistics.idle_highest, idle)


def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """A `respool` supply; options `min` and `grow` (pages) and `delay_us` (how long the worker takes to start)."""
    chosen = take_options("respool", options, DEFAULTS)
    return ResourcePool(zone, clock, chosen["min"], chosen["grow"], chosen["delay_us"] * MICROSECOND)
