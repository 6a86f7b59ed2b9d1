"""The resource pool of June 2007 ("Intel-IOMMU 02/10", Keshavamurthy): the pool first, the system as the worst case.

The behaviour is the mailing-list thread's; the patch itself was not found, so the steps and the constants (`min`,
`grow`, the worker's delay) are a reconstruction, and the constants are knobs.

    take        pop; if what is left is at most `min`, queue the worker; if nothing was there, ask with GFP_ATOMIC
    give back   push; if more than min + 2*grow are there, queue the worker
    worker      brings the pool to min + grow with GFP_KERNEL, the only path that may sleep

Invariants: the worker is queued at most once; a run of it without a refusal ends at min + grow exactly, so that at
least `grow` pages come or go between two runs for the same reason; no page is both listed and live.
Fails when a burst is longer than what is listed and what GFP_ATOMIC yields before the worker runs; it never waits.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import MICROSECOND, Clock, Timer
from emulator.mapping.options import chosen_options, takes
from emulator.mapping.pools.accounting import CountingSupply
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.supply import PageSupply
from pagetables.address import Gpa
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "ResourcePool", "make"]

DEFAULTS: dict[str, int | str] = {"min": 64, "grow": 64, "delay_us": 50}


class ResourcePool(CountingSupply):
    """A list of idle pages between `min` and `min + 2*grow`, kept so by a worker that runs `delay` ns after it is
    queued."""

    name = "respool"

    def __init__(self, zone: Zone, clock: Clock, minimum: int, grow: int, delay: int) -> None:
        if minimum < 0 or grow < 1 or delay < 0:
            raise InputError(
                f"a resource pool needs min >= 0, grow >= 1 and a delay >= 0, not {minimum}, {grow}, {delay}"
            )
        super().__init__(zone)
        self.minimum, self.grow = minimum, grow
        self._clock, self._delay = clock, delay
        self._worker: Timer | None = None
        self._grow_to(minimum)
        if len(self._pool) < minimum:
            raise InputError(f"a resource pool of {minimum} pages cannot be filled: the zone has {zone.managed} pages")
        self._started()

    def _supply(self) -> Gpa | None:
        self.meter.spend("lock.global")
        page = self._pop()
        if len(self._pool) <= self.minimum:
            self._queue_worker()
        if page is None:
            page = self._ask(Gfp.ATOMIC)
        if page is not None:
            self.meter.spend("page.zero")  # the pool clears what it hands out, and so does who links it
        return page

    def _return(self, page: Gpa) -> None:
        self.meter.spend("lock.global")
        self._push(page)
        if len(self._pool) > self.minimum + 2 * self.grow:
            self._queue_worker()

    def close(self) -> None:
        """Cancel the worker and return every idle page."""
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        super().close()

    def _queue_worker(self) -> None:
        if self._worker is None:
            self.meter.spend("worker.wakeup")
            self._worker = self._clock.after(self._delay, self._work)

    def _work(self) -> None:
        self._worker = None
        self.statistics.wakeups += 1
        target, refilled = self.minimum + self.grow, self.statistics.refilled
        self._grow_to(target)
        self._shrink_to(target)
        if self.statistics.refilled > refilled:
            self._announce()


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """A `respool` supply; options `min` and `grow` (pages) and `delay_us` (how long the worker takes to start)."""
    chosen = chosen_options("pool", "respool", options, DEFAULTS)
    return ResourcePool(zone, clock, chosen["min"], chosen["grow"], chosen["delay_us"] * MICROSECOND)
