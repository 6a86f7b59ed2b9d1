"""Table pages as blocks of a dma_pool over coherent allocation, of 2002 or of today.

Source: mm/dmapool.c for today; the discussion of January 2003 (lkml, "generic device DMA (dma_pool update)") for 2002,
whose details are from memory: coherent allocation took no gfp flags and was GFP_ATOMIC whoever asked; an atomic caller
got None, any other slept with a time-out and tried again, for ever. Nothing guarantees that this ends: the pool has no
reserve. Today the caller's class is passed down, and a refusal is final.

Invariants: those of `emulator.mapping.dma_pool`; pages never return to the system before the pool is closed.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.dma_pool import DmaPool
from emulator.mapping.options import chosen_options, takes
from emulator.mapping.pools.accounting import CountingSupply
from emulator.mapping.pressure import Zone
from emulator.mapping.supply import PageSupply
from emulator.mapping.watermarks import Gfp
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.errors import InputError, VtdError, near

__all__ = ["DEFAULTS", "BlockSupply", "make"]

DEFAULTS: dict[str, int | str] = {"generation": "today", "coherent_gfp": "", "preallocated": 0}

GENERATIONS = ("today", "2002")
CALLER = "caller"


class BlockSupply(CountingSupply):
    """Blocks of one page. `sleeps`: a caller that may wait is not refused for good."""

    name = "dma-pool"

    def __init__(self, zone: Zone, coherent_gfp: Gfp | None, sleeps: bool, preallocated: int = 0) -> None:
        super().__init__(zone)
        self.blocks = DmaPool("table pages", zone, PAGE_SIZE, PAGE_SIZE, coherent_gfp=coherent_gfp)
        self.waits_for = "a block to be freed, or its next try" if sleeps else ""
        if not self.blocks.preallocate(preallocated):
            raise InputError(f"a pool of {preallocated} pages cannot be filled: the zone has {zone.managed} pages")
        self._started()

    def close(self) -> None:
        """Give back the pages that no table uses."""
        self.blocks.destroy()
        super().close()

    def _supply(self) -> Gpa | None:
        self.blocks.meter = self.meter
        chunks, reclaims = self.blocks.statistics.chunks, self._zone.statistics.direct_reclaims
        page = self.blocks.allocate(self.gfp)
        self.meter.spend("page.reclaim", self._zone.statistics.direct_reclaims - reclaims)
        if page is not None:
            asked = self.blocks.statistics.chunks > chunks
            self.statistics.fallbacks += asked
            self.statistics.hits += not asked
        self._count()
        return page

    def _return(self, page: Gpa) -> None:
        self.blocks.meter = self.meter
        if not self.blocks.free(page):
            raise VtdError(self.blocks.reports[-1].message)
        self._count()

    def _idle(self) -> int:
        return self.blocks.blocks - self.blocks.active

    def _count(self) -> None:
        super()._count()
        self.statistics.details["pages"] = self.blocks.pages


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """A `dma-pool` supply; options `generation` (today or 2002), `coherent_gfp` (caller, or a class; 2002: atomic), and
    `preallocated` (pages taken at the start)."""
    chosen = chosen_options("pool", BlockSupply.name, options, DEFAULTS)
    generation, asked = str(chosen["generation"]), str(chosen["coherent_gfp"])
    if generation not in GENERATIONS:
        raise InputError(f"pool.generation={generation}: {near(generation, GENERATIONS)}")
    if not asked:
        asked = CALLER if generation == "today" else Gfp.ATOMIC.value
    gfp = None if asked == CALLER else Gfp.named(asked)
    return BlockSupply(zone, gfp, generation == "2002", chosen["preallocated"])
