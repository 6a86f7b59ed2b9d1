"""The tree behind per-CPU magazines (Linux drivers/iommu/iova.c; Bonwick and Adams, USENIX 2001).

For each size of 1, 2, 4 .. 32 pages, each CPU has two magazines of free addresses, and all CPUs share a depot of full
ones. A request for less than 32 pages is rounded up to a power of two, so that what is freed fits what is asked.

    allocate   the last address of `loaded` (searched downwards for one below the limit); if `loaded` is empty, swap it
               with `prev`; if that is empty too, load a full magazine of the depot. Nothing: the tree.
               The tree has nothing either: empty every magazine into it, and once more.
    free       into `loaded`; if that is full, swap; if both are, `loaded` goes to the depot and a new magazine is
               allocated. No memory for one, or a larger run: the tree.
    trim       100 ms after a magazine came to a depot that holds more than one for each CPU, one of them goes to the
               tree, and so on every 100 ms

In older kernels (4.7 on) magazines held 128 addresses, a depot at most 32 magazines, nothing trimmed it, and what did
not fit was freed address by address: `magazine` 128, `depot` 32, `trim_ms` 0. A depot that age had filled stayed full.

An address in a magazine is not live, but the tree still has it: `occupied` minus `live` is what the caches hold and
what rounding adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.clock import MILLISECOND, Clock, Timer
from emulator.mapping.iova.accounting import Wanted
from emulator.mapping.iova.allocator import AddressAllocator, Window
from emulator.mapping.iova.rbtree import RangeTree
from emulator.mapping.options import number_options, takes
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "MagazineTree", "make"]

DEFAULTS = {"magazine": 127, "orders": 6, "depot": -1, "trim_ms": 100, "cpus": 0, "size_aligned": 1}


@dataclass(slots=True)
class _CpuCache:
    loaded: list[int] = field(default_factory=list)
    prev: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _SizeCache:
    # Everything cached of one size.
    pages: int
    cpus: dict[int, _CpuCache] = field(default_factory=dict)
    depot: list[list[int]] = field(default_factory=list)
    trim: Timer | None = None


class MagazineTree(RangeTree):
    """`orders` sizes; magazines of `magazine` addresses; at most `depot` of them in a depot, -1 for no bound; `trim` ns
    between trims, 0 for none; `cpus` CPUs are online, 0 for as many as have been seen."""

    name = "rbtree+rcache"

    def __init__(
        self,
        window: Window,
        clock: Clock,
        magazine: int = 127,
        orders: int = 6,
        depot: int = -1,
        trim: int = 100 * MILLISECOND,
        cpus: int = 0,
        size_aligned: bool = True,
    ) -> None:
        super().__init__(window, size_aligned)
        if magazine < 1 or orders < 1 or trim < 0 or cpus < 0:
            raise InputError(
                "magazines need magazine >= 1, orders >= 1, trim >= 0 and cpus >= 0, "
                f"not {magazine}, {orders}, {trim} and {cpus}"
            )
        self.magazine, self.depot, self.trim, self.cpus = magazine, depot, trim, cpus
        self._clock = clock
        self._caches = [_SizeCache(1 << order) for order in range(orders)]
        self._seen: set[int] = set()

    @property
    def online(self) -> int:
        """How many CPUs are online, as far as trimming goes."""
        return self.cpus or max(len(self._seen), 1)

    def offline(self, cpu: int) -> None:
        """A CPU goes away: its magazines are emptied into the tree."""
        self._seen.discard(cpu)
        for cache in self._caches:
            gone = cache.cpus.pop(cpu, None)
            if gone is not None:
                self._empty(cache, gone.loaded + gone.prev)

    def empty_caches(self) -> None:
        """Every magazine goes to the tree."""
        for cache in self._caches:
            for own in cache.cpus.values():
                self._empty(cache, own.loaded + own.prev)
                own.loaded, own.prev = [], []
            while cache.depot:
                self._empty(cache, cache.depot.pop())

    def close(self) -> None:
        """Trim no more."""
        for cache in self._caches:
            if cache.trim is not None:
                cache.trim.cancel()
                cache.trim = None

    def _search(self, wanted: Wanted) -> int | None:
        pages = wanted.pages
        if pages < self._caches[-1].pages:
            pages = 1 << (pages - 1).bit_length()
        cache = self._cache(pages)
        if cache is not None and wanted.align <= cache.pages:
            first = self._get(cache, self._own(cache, wanted.cpu), wanted.limit - pages)
            if first is not None:
                self.statistics.cache_hits += 1
                return first
            self.statistics.cache_misses += 1
        rounded = Wanted(pages, wanted.limit, wanted.cpu, wanted.align)
        first = super()._search(rounded)
        if first is None and wanted.reclaim:
            self.statistics.reclaims += 1
            self.empty_caches()
            first = super()._search(rounded)
        return first

    def _get(self, cache: _SizeCache, own: _CpuCache, highest: int) -> int | None:
        if not own.loaded:
            if own.prev:
                own.loaded, own.prev = own.prev, own.loaded
            else:
                self.statistics.lock("depot")
                if cache.depot:
                    own.loaded = cache.depot.pop()
        for index in reversed(range(len(own.loaded))):
            if own.loaded[index] <= highest:
                first, own.loaded[index] = own.loaded[index], own.loaded[-1]
                own.loaded.pop()
                self.statistics.cached -= cache.pages
                return first
        return None

    def _release(self, first: int, pages: int, cpu: int) -> None:
        cache = self._cache(pages)
        if cache is None or not self._put(cache, self._own(cache, cpu), first):
            super()._release(first, pages, cpu)

    def _put(self, cache: _SizeCache, own: _CpuCache, first: int) -> bool:
        surplus: list[int] = []
        if len(own.loaded) >= self.magazine:
            if len(own.prev) < self.magazine:
                own.loaded, own.prev = own.prev, own.loaded
            elif not self.memory():
                self.statistics.out_of_memory += 1
                return False
            else:
                surplus = self._to_depot(cache, own.loaded)
                own.loaded = []
        own.loaded.append(first)
        self.statistics.cached += cache.pages
        if surplus:
            self._empty(cache, surplus)
        return True

    def _to_depot(self, cache: _SizeCache, full: list[int]) -> list[int]:
        # Answers what the depot has no room for.
        self.statistics.lock("depot")
        if 0 <= self.depot <= len(cache.depot):
            return full
        cache.depot.append(full)
        self._arm(cache)
        return []

    def _arm(self, cache: _SizeCache) -> None:
        if self.trim and cache.trim is None:
            cache.trim = self._clock.after(self.trim, lambda: self._trim(cache))

    def _trim(self, cache: _SizeCache) -> None:
        cache.trim = None
        self.statistics.lock("depot")
        if len(cache.depot) > self.online:
            self._empty(cache, cache.depot.pop())
            self._arm(cache)

    def _empty(self, cache: _SizeCache, addresses: list[int]) -> None:
        self.statistics.lock("global")
        for first in addresses:
            self._remove(first)
        self.statistics.cached -= cache.pages * len(addresses)

    def _withhold(self, first: int, pages: int) -> None:
        self.empty_caches()
        super()._withhold(first, pages)

    def _cache(self, pages: int) -> _SizeCache | None:
        order = (pages - 1).bit_length()
        return self._caches[order] if order < len(self._caches) else None

    def _own(self, cache: _SizeCache, cpu: int) -> _CpuCache:
        self.statistics.lock("cpu")
        self._seen.add(cpu)
        return cache.cpus.setdefault(cpu, _CpuCache())


@takes(DEFAULTS)
def make(window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
    """An `rbtree+rcache` allocator; options `magazine` (addresses), `orders` (sizes), `depot` (magazines, -1 for no
    bound), `trim_ms` (0 for never), `cpus` (0 for those seen) and `size_aligned` (0 or 1)."""
    chosen = number_options("iova", "rbtree+rcache", options, DEFAULTS)
    return MagazineTree(
        window,
        clock,
        chosen["magazine"],
        chosen["orders"],
        chosen["depot"],
        chosen["trim_ms"] * MILLISECOND,
        chosen["cpus"],
        bool(chosen["size_aligned"]),
    )
