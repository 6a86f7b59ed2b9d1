"""Address allocators: which input addresses a map gets, chosen by name.

An allocator hands out runs of pages inside a window and takes them back. Addresses here are page numbers (4 KiB).
Systems are registered by name; others come through the entry point group `vtd.iova`, each naming a callable like
`AllocatorFactory`.

Two kinds of allocator differ in when an address may come back:

    flushes_itself = False   `free` is called after the invalidation that covers the address (strict, or a flush queue)
    flushes_itself = True    `free` is called at once, with stale=True; the allocator calls `flush` when its algorithm
                             wants one, before it returns from `allocate` (GART, pools with lazy flush, stale bitmap)

Whatever the kind, an address that was freed as stale and is handed out again before a flush is counted
(`reused_before_flush`): the formal hazard. Whether a device could profit depends on what the IOTLB still holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from emulator.clock import Clock
from emulator.mapping.registry import Registry
from pagetables.errors import InputError, VtdError

__all__ = [
    "ALLOCATORS",
    "GROUP",
    "LIMIT_32BIT",
    "AddressAllocator",
    "AllocatorFactory",
    "IovaStatistics",
    "NotAllocated",
    "Window",
    "allocator_names",
    "make_allocator",
]

GROUP = "vtd.iova"
LIMIT_32BIT = 1 << 20  # pages below 4 GiB


class NotAllocated(VtdError):
    """A run of `pages` from `first` on is freed or reserved that does not stand so in the books."""

    def __init__(self, message: str, first: int, pages: int) -> None:
        super().__init__(f"pages {first:#x}+{pages}: {message}")
        self.first = first
        self.pages = pages


@dataclass(frozen=True, slots=True)
class Window:
    """The pages [first, end) that an allocator may hand out. Linux leaves out page 0: a DMA address of 0 looks like
    an error to old drivers."""

    first: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end:
            raise InputError(f"a window needs 0 <= first < end, not {self.first:#x} and {self.end:#x}")

    @property
    def pages(self) -> int:
        """How many pages the window has."""
        return self.end - self.first

    def narrowed(self, pages: int) -> Window:
        """The lowest `pages` pages of the window; all of it if it is smaller."""
        return Window(self.first, min(self.end, self.first + pages))


@dataclass(slots=True)
class IovaStatistics:
    """What an allocator did. Fields of a mechanism that an allocator lacks stay 0."""

    allocated: int = 0  # requests that got an address
    failed: int = 0  # requests that got none
    freed: int = 0
    live: int = 0  # pages handed out now
    live_highest: int = 0
    occupied: int = 0  # pages no search finds free: live ones, what rounding adds, cached, stale and reserved ones
    flushes: int = 0  # flushes the algorithm demanded
    reused_before_flush: int = 0  # requests that got a page freed as stale since the last flush
    searches: int = 0  # of the shared structure
    visited: int = 0  # nodes or entries looked at on the way
    cache_hits: int = 0
    cache_misses: int = 0
    cached: int = 0  # pages in per-CPU caches and depots now: free for their size, occupied for all others
    reclaims: int = 0  # times every cache was emptied to answer one request
    out_of_memory: int = 0  # times the allocator's own objects could not be had
    locks: dict[str, int] = field(default_factory=dict)  # times taken, by kind: global, pool, cpu, depot

    def lock(self, kind: str) -> None:
        """One lock of this kind was taken."""
        self.locks[kind] = self.locks.get(kind, 0) + 1

    def as_dict(self) -> dict[str, Any]:
        """The numbers by name, as a report prints them."""
        return asdict(self)


class AddressAllocator(Protocol):
    """One system of address allocation."""

    name: str
    window: Window
    flushes_itself: bool
    statistics: IovaStatistics
    flush: Callable[[], None]  # invalidates everything that was unmapped so far; set by whoever owns the unit
    memory: Callable[[], bool]  # asked for each object of its own the allocator needs at once (GFP_ATOMIC)

    def allocate(
        self,
        pages: int,
        limit: int | None = None,
        cpu: int = 0,
        align: int = 1,
        after: int | None = None,
        reclaim: bool = True,
    ) -> int | None:
        """The first of `pages` pages, all below `limit`, at a multiple of `align` (a power of two); None if there are
        none. `after` is where the caller's last run ended (scatter lists); `reclaim` lets it empty caches first."""
        ...

    def free(self, first: int, pages: int, cpu: int = 0, stale: bool = False) -> None:
        """Take a whole run back; `stale` says that the unit may still hold its translations. NotAllocated if it was
        not handed out like that."""
        ...

    def reserve(self, first: int, pages: int) -> None:
        """Never hand these pages out (the MSI window, RMRRs); what lies outside the window is left alone. Before the
        first request: NotAllocated otherwise."""
        ...

    def flushed(self) -> None:
        """Everything freed so far has been invalidated, for a reason of somebody else's."""
        ...

    def largest_free_run(self) -> int:
        """The longest run of free pages in the window: fragmentation seen from the next large request."""
        ...

    def close(self) -> None:
        """Stop what runs in the background."""
        ...


class AllocatorFactory(Protocol):
    """Makes an allocator; `options` are what the user set for it (`iova.KEY`), without the prefix."""

    def __call__(self, window: Window, clock: Clock, options: Mapping[str, int | str]) -> AddressAllocator:
        """The allocator, empty."""
        ...


ALLOCATORS: Registry[AllocatorFactory] = Registry(
    GROUP,
    "address allocator",
    {
        "static-aperture": "emulator.mapping.iova.static_aperture:make",
        "gart": "emulator.mapping.iova.gart:make",
        "gart-lazy": "emulator.mapping.iova.gart:make_lazy",
        "sparc-generic": "emulator.mapping.iova.sparc_generic:make",
        "sparc-generic-1pool": "emulator.mapping.iova.sparc_generic:make_one_pool",
        "powerpc": "emulator.mapping.iova.powerpc:make",
        "stale-bitmap": "emulator.mapping.iova.stale_bitmap:make",
        "rbtree": "emulator.mapping.iova.rbtree:make",
        "rbtree+rcache": "emulator.mapping.iova.rcache:make",
        "gen-pool": "emulator.mapping.iova.gen_pool:make",
    },
)
"""The address allocators."""


def allocator_names() -> list[str]:
    """Every allocator that can be named, plug-ins included."""
    return ALLOCATORS.names()


def make_allocator(
    name: str, window: Window, clock: Clock, options: Mapping[str, int | str] | None = None
) -> AddressAllocator:
    """The allocator called `name`; InputError for a name nobody has, or an option the allocator does not know."""
    return ALLOCATORS.find(name)(window, clock, options or {})
