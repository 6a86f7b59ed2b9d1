"""The pools behind coherent allocation that may not sleep: kernel/dma/pool.c.

Up to three pools, one a zone (DMA, DMA32, and KERNEL for the highest), each made at the start of 128 KiB for each GiB
of RAM, at least 128 KiB, at most one block of the largest order. Allocation is first fit, aligned to its size rounded
up to a power of two, in the pool that suits the request best, then in the others; a chunk whose address does not suit
the device goes back and the next pool is tried. After a success that leaves less than the initial size, a worker
doubles each pool that has less: the order of the block falls until the system gives one. Pools never shrink, and there
is no GFP_ATOMIC behind them.

Invariants: a pool's size is what is used of it plus what is available; it never falls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emulator.clock import Clock, Timer
from emulator.mapping.pressure import Zone
from emulator.mapping.watermarks import Gfp
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.errors import InputError, VtdError

__all__ = ["MAX_ORDER", "CoherentPool", "CoherentPools", "initial_pages"]

MAX_ORDER = 10  # of a block of the page allocator: 4 MiB
SMALLEST = 32  # pages in 128 KiB
SHARE = 8192  # 1 GiB / 128 KiB
KERNEL, DMA32, DMA = "KERNEL", "DMA32", "DMA"
FIRST_CHOICES = {KERNEL: (KERNEL, DMA32, DMA), DMA32: (DMA32, DMA, KERNEL), DMA: (DMA, DMA32, KERNEL)}
NEXT = {KERNEL: (DMA32, DMA), DMA32: (DMA,), DMA: ()}


def initial_pages(ram_pages: int) -> int:
    """Pages of each pool at the start, unless `coherent_pool=` says otherwise."""
    return max(min(ram_pages // SHARE, 1 << MAX_ORDER), SMALLEST)


class CoherentPool:
    """One pool: pages of `zone`, free or used. `size` counts all of them."""

    def __init__(self, zone: Zone) -> None:
        self.size = 0
        self._zone = zone
        self._free: set[Gpa] = set()
        self._own: set[Gpa] = set()

    @property
    def available(self) -> int:
        """Pages that are free."""
        return len(self._free)

    def owns(self, page: Gpa) -> bool:
        """True if `page` is one of this pool, free or used."""
        return page in self._own

    def expand(self, pages: int) -> int:
        """Add up to `pages` pages in one block; how many it got."""
        order = min((pages - 1).bit_length(), MAX_ORDER)
        while order >= 0:
            first = self._zone.take_run(Gfp.KERNEL, 1 << order)
            if first is not None:
                added = {Gpa(first + index * PAGE_SIZE) for index in range(1 << order)}
                self._free |= added
                self._own |= added
                self.size += len(added)
                return len(added)
            order -= 1
        return 0

    def allocate(self, pages: int) -> Gpa | None:
        """The first of `pages` pages in a row, lowest first, aligned to the power of two that holds them; or None."""
        align = PAGE_SIZE << (pages - 1).bit_length()
        for page in sorted(self._free):
            run = [Gpa(page + index * PAGE_SIZE) for index in range(pages)]
            if not page % align and self._free.issuperset(run):
                self._free.difference_update(run)
                return page
        return None

    def free(self, first: Gpa, pages: int) -> None:
        """These pages are free again; VtdError if one was."""
        run = {Gpa(first + index * PAGE_SIZE) for index in range(pages)}
        if run & self._free or not run <= self._own:
            raise VtdError(f"{first:#x}+{pages} pages are not out of this pool")
        self._free |= run

    def close(self) -> None:
        """What is free goes back to the zone."""
        self._zone.give_back(sorted(self._free))
        self._own -= self._free
        self.size -= len(self._free)
        self._free.clear()


class CoherentPools:
    """The pools over `zones` (by the names KERNEL, DMA32, DMA). `grown` is called after the worker enlarged one."""

    def __init__(self, zones: dict[str, Zone], clock: Clock, initial: int, delay: int) -> None:
        if initial < 1 or delay < 0:
            raise InputError(f"a coherent pool needs a page at least, and a delay >= 0, not {initial} and {delay}")
        self.initial, self.enlargements = initial, 0
        self.grown: Callable[[], None] = lambda: None
        self.messages: list[str] = []
        self._clock, self._delay = clock, delay
        self._worker: Timer | None = None
        self.pools: dict[str, CoherentPool] = {}
        for name, zone in zones.items():
            pool = CoherentPool(zone)
            if pool.expand(initial):
                self.pools[name] = pool
            else:
                self.messages.append(f"DMA: failed to allocate {initial * 4} KiB {name} pool for atomic allocation")

    def allocate(self, pages: int = 1, best: str = KERNEL, limit: int = 1 << 64, device: str = "device") -> Gpa | None:
        """The first of `pages` pages below `limit`; None, with a message, if no pool has them."""
        for name in self._order(best):
            first = self.pools[name].allocate(pages)
            if first is None:
                continue
            if first + pages * PAGE_SIZE > limit:
                self.pools[name].free(first, pages)
                continue
            if self.pools[name].available < self.initial:
                self._wake_worker()
            return first
        self.messages.append(f"DMA pool exhausted for {device}")
        return None

    def free(self, first: Gpa, pages: int = 1) -> None:
        """Give pages back to the pool they came from; VtdError if they came from none."""
        for pool in self.pools.values():
            if pool.owns(first):
                return pool.free(first, pages)
        raise VtdError(f"{first:#x} is of no coherent pool")

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each pool, as debugfs shows them: pool_size_kernel, pool_size_dma32, pool_size_dma."""
        return {f"pool_size_{name.lower()}": pool.size * PAGE_SIZE for name, pool in self.pools.items()}

    def close(self) -> None:
        """Stop the worker, give back what is free."""
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        for pool in self.pools.values():
            pool.close()

    def _order(self, best: str) -> Sequence[str]:
        first = next((name for name in FIRST_CHOICES[best] if name in self.pools), None)
        if first is None:
            return ()
        return [first, *(name for name in NEXT[first] if name in self.pools)]

    def _wake_worker(self) -> None:
        if self._worker is None:
            self._worker = self._clock.after(self._delay, self._work)

    def _work(self) -> None:
        self._worker = None
        got = sum(pool.expand(pool.size) for pool in self.pools.values() if pool.available < self.initial)
        if got:
            self.enlargements += 1
            self.grown()
