"""No pool: every table page comes from the system allocator, in one class of request.

`os` is today's driver: iommu_alloc_pages_node_sz, asked with GFP_ATOMIC by the DMA API whoever calls it. `gfp=caller`
asks in the class of the operation instead, as if the API passed it down.

`os+memalloc` is the first merge of 2.6.24: PF_MEMALLOC is set on the current task around each allocation, so that a
page may come from below every watermark. What that costs is others' reserves: at the end of them nobody gets a page.

Invariants: no page is kept; free memory never sinks below the floor of the class.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.options import chosen_options, takes
from emulator.mapping.pools.accounting import CountingSupply
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.supply import PageSupply
from pagetables.address import Gpa
from pagetables.errors import InputError, near

__all__ = ["DEFAULTS", "SystemSupply", "make", "make_memalloc"]

DEFAULTS: dict[str, int | str] = {"gfp": Gfp.ATOMIC.value}

CALLER = "caller"


class SystemSupply(CountingSupply):
    """Asks the zone for each page in class `asks`; None: in the class of the operation in progress."""

    name = "os"

    def __init__(self, zone: Zone, asks: Gfp | None = Gfp.ATOMIC) -> None:
        super().__init__(zone)
        self.asks = asks

    def _supply(self) -> Gpa | None:
        return self._ask(self.asks or self.gfp)

    def _return(self, page: Gpa) -> None:
        self._give(page)


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """An `os` supply; option `gfp`: a class such as kernel, nowait or atomic (the default), or caller."""
    chosen = str(chosen_options("pool", "os", options, DEFAULTS)["gfp"])
    classes: dict[str, Gfp | None] = {CALLER: None, **{gfp.value: gfp for gfp in Gfp}}
    if chosen not in classes:
        raise InputError(f"pool.gfp={chosen}: no such class of request; {near(chosen, classes)}")
    return SystemSupply(zone, classes[chosen])


@takes({})
def make_memalloc(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """An `os+memalloc` supply; it has no options."""
    chosen_options("pool", "os+memalloc", options, {})
    supply = SystemSupply(zone, Gfp.MEMALLOC)
    supply.name = "os+memalloc"
    return supply
