"""Table pages from the pool behind coherent allocation that may not sleep, as kernel/dma/pool.c keeps it.

No VT-d driver takes its tables from there: the supply shows what the best living example of "preallocate and enlarge
in the background" would do with this load. Unlike `prealloc-worker` it doubles, and nothing stands behind it: a
request that the pool cannot serve fails, however much memory is free. Only the pool of one zone takes part; for
several see `emulator.mapping.coherent_pools`, whose invariants hold here.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import MICROSECOND, Clock
from emulator.mapping.coherent_pools import CoherentPools, initial_pages
from emulator.mapping.options import chosen_options, takes
from emulator.mapping.pools.accounting import CountingSupply
from emulator.mapping.pressure import Zone
from emulator.mapping.supply import PageSupply
from pagetables.address import Gpa
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "CoherentSupply", "make"]

DEFAULTS: dict[str, int | str] = {"pages": 0, "delay_us": 50}


class CoherentSupply(CountingSupply):
    """Single pages of one coherent pool, `initial` pages large at the start."""

    name = "coherent-pool"
    hears_zone = False

    def __init__(self, zone: Zone, clock: Clock, initial: int, delay: int) -> None:
        super().__init__(zone)
        self.pools = CoherentPools({"KERNEL": zone}, clock, initial, delay)
        if not self.pools.pools:
            raise InputError(f"a coherent pool of {initial} pages cannot be made: the zone has {zone.managed} pages")
        self.pools.grown = self._grown
        self._pool_of_zone = self.pools.pools["KERNEL"]
        self._started()

    def close(self) -> None:
        """Stop the worker and give back what is free."""
        self.pools.close()
        super().close()

    def _supply(self) -> Gpa | None:
        self.meter.spend("lock.pool")
        self.meter.spend("iova.bitmap")
        page = self.pools.allocate()
        self.statistics.hits += page is not None
        self._count()
        return page

    def _return(self, page: Gpa) -> None:
        self.meter.spend("lock.pool")
        self.meter.spend("iova.bitmap")
        self.pools.free(page)
        self._count()

    def _grown(self) -> None:
        self.statistics.wakeups += 1
        self._count()
        self._announce()

    def _idle(self) -> int:
        return self._pool_of_zone.available

    def _count(self) -> None:
        super()._count()
        details = self.statistics.details
        details["size"], details["enlargements"] = self._pool_of_zone.size, self.pools.enlargements


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """A `coherent-pool` supply; options `pages` (0: 128 KiB for each GiB of the zone) and `delay_us`."""
    chosen = chosen_options("pool", CoherentSupply.name, options, DEFAULTS)
    return CoherentSupply(zone, clock, chosen["pages"] or initial_pages(zone.managed), chosen["delay_us"] * MICROSECOND)
