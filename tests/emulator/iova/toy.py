"""One-page maps at a fixed number of live ones: what each allocator flushes, and what it hands out too early."""

from __future__ import annotations

import random
from dataclasses import dataclass

from emulator.clock import Clock
from emulator.mapping.iova.allocator import LIMIT_32BIT, AddressAllocator, Window, make_allocator

ENTRIES = 4096
MAPS = 60_000
ROWS = ((512, "FIFO"), (512, "random"), (3000, "FIFO"), (3000, "random"), (4000, "random"))
SYSTEMS = {
    "strict": ("rbtree+rcache", {}),
    "GART lazy": ("gart-lazy", {"entries": ENTRIES, "emergency": 0}),
    "generic, 1 pool": ("sparc-generic-1pool", {"entries": ENTRIES}),
    "stale bitmap": ("stale-bitmap", {"entries": ENTRIES}),
}


@dataclass(frozen=True)
class Outcome:
    """What a run showed."""

    flushes: int
    hazards: int
    failed: int
    maps: int

    @property
    def per_thousand(self) -> float:
        """Flushes for each thousand maps."""
        return 1000 * self.flushes / self.maps


def run(system: str, live: int, order: str, maps: int = MAPS) -> Outcome:
    """What a system flushes for `maps` maps, and what it hands out too early."""
    name, options = SYSTEMS[system]
    allocator = make_allocator(name, Window(0, ENTRIES), Clock(), options)
    strict = churn(allocator, live, order, maps)
    statistics = allocator.statistics
    return Outcome(statistics.flushes + strict, statistics.reused_before_flush, statistics.failed, maps)


def visited(name: str, live: int, order: str, maps: int = 20_000) -> float:
    """Nodes or entries looked at for each map, in a window of 4 GiB."""
    allocator = make_allocator(name, Window(1, LIMIT_32BIT), Clock())
    churn(allocator, live, order, maps)
    return allocator.statistics.visited / maps


def churn(allocator: AddressAllocator, live: int, order: str, maps: int) -> int:
    """`maps` maps of one page; once `live` are out, each is preceded by an unmap: of the oldest, or of any one. How
    many of those a driver had to invalidate by itself."""
    chance = random.Random(1)
    out: list[int] = []
    strict = 0
    oldest = 0
    for _ in range(maps):
        if len(out) - oldest == live:
            if order == "FIFO":
                page, oldest = out[oldest], oldest + 1
            else:
                index = chance.randrange(live)
                page, out[index] = out[index], out[-1]
                out.pop()
            strict += not allocator.flushes_itself  # the driver invalidates before it frees
            allocator.free(page, 1, stale=allocator.flushes_itself)
        page = allocator.allocate(1)
        if page is not None:
            out.append(page)
    return strict
