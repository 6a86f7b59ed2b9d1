"""Page supply: where table pages come from, chosen by name.

A supply answers `take` at once, with a page or with None, and gets pages back once the invalidation that covers them
has completed. Who runs the operation sets `gfp` to its class first. Where the real system would put a caller to sleep,
the supply answers None too and says in `waits_for` what such a caller waits for: waiting, and trying again when one of
`on_available` is called, is the runner's business.

Systems are registered here by name; others come through the entry point group `vtd.pools`, each naming a callable like
`SupplyFactory`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Protocol

from emulator.clock import Clock
from emulator.mapping.costs import Meter
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.registry import Registry
from pagetables.address import Gpa
from pagetables.errors import InputError

__all__ = [
    "GROUP",
    "SIZE_OPTIONS",
    "SUPPLIES",
    "PageSupply",
    "SupplyFactory",
    "SupplyStatistics",
    "make_supply",
    "supply_names",
]

GROUP = "vtd.pools"
SIZE_OPTIONS = {
    "respool": "min",
    "mempool-2.5": "min_nr",
    "mempool": "min_nr",
    "static": "window_mib",
    "prealloc-worker": "initial",
    "dma-pool": "preallocated",
    "coherent-pool": "pages",
}
"""The option that says how large a supply is at the start, by its name: what `pool.size` means there."""


@dataclass(slots=True)
class SupplyStatistics:
    """What a supply did. A supply that keeps no pages leaves the fields of a pool at 0; `details` are its own."""

    hits: int = 0  # pages given from the pool
    fallbacks: int = 0  # pages the system allocator gave because the pool had none, or because there is no pool
    failures: int = 0  # requests that got nothing
    waits: int = 0  # those among them whose caller the real system would put to sleep until it gets a page
    given_back: int = 0  # pages that came back from tables
    wakeups: int = 0  # runs of the background worker
    refilled: int = 0  # pages the worker took from the system
    released: int = 0  # pages returned to the system
    idle: int = 0  # pages in the pool now
    idle_lowest: int = 0
    idle_highest: int = 0
    details: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, int]:
        """The numbers by name, as a report prints them, the details of this supply among them."""
        numbers = asdict(self)
        details: dict[str, int] = numbers.pop("details")
        return {**numbers, **details}


class PageSupply(Protocol):
    """One system of page supply. Derive from `emulator.mapping.pools.accounting.CountingSupply` to get the books."""

    name: str
    statistics: SupplyStatistics
    gfp: Gfp  # the class of the operation in progress; set by whoever runs it
    meter: Meter  # what each step costs; set by whoever runs operations
    waits_for: str  # what a refused caller that may sleep waits for; empty if the system refuses it for good
    on_available: list[Callable[[], None]]  # called when a request that was refused may succeed now

    def take(self) -> Gpa | None:
        """A page for a table, or None. The mapper zeroes it before it links it."""
        ...

    def admit(self, pages: int) -> bool:
        """Before a map: at most `pages` pages will be taken. False if the operation may not start now."""
        ...

    def settle(self) -> None:
        """After a map, whatever came of it: what was admitted and not taken is no longer needed."""
        ...

    def give_back(self, pages: Iterable[Gpa]) -> None:
        """Pages that no table, and no cache, reaches any more."""
        ...

    def close(self) -> None:
        """Stop what runs in the background and give idle pages back to the system."""
        ...


class SupplyFactory(Protocol):
    """Makes a supply over a zone; `options` are what the user set for it (`pool.KEY`), without the prefix."""

    def __call__(self, zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
        """The supply, filled."""
        ...


SUPPLIES: Registry[SupplyFactory] = Registry(
    GROUP,
    "pool",
    {
        "os": "emulator.mapping.pools.os:make",
        "os+memalloc": "emulator.mapping.pools.os:make_memalloc",
        "respool": "emulator.mapping.pools.respool:make",
        "mempool-2.5": "emulator.mapping.pools.mempool_25:make",
        "mempool": "emulator.mapping.pools.mempool:make",
        "static": "emulator.mapping.pools.static:make",
        "prealloc-worker": "emulator.mapping.pools.prealloc_worker:make",
        "reservation": "emulator.mapping.pools.reservation:make",
        "dma-pool": "emulator.mapping.pools.dma_pool:make",
        "coherent-pool": "emulator.mapping.pools.coherent_pool:make",
    },
)
"""The systems of page supply."""


def supply_names() -> list[str]:
    """Every supply that can be named, plug-ins included."""
    return SUPPLIES.names()


def make_supply(name: str, zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """The supply called `name`, filled; InputError for a name nobody has, or an option the supply does not know.

    The option `size` means what `SIZE_OPTIONS` says for it.
    """
    return SUPPLIES.find(name)(zone, clock, _sized(name, options))


def _sized(name: str, options: Mapping[str, int | str]) -> Mapping[str, int | str]:
    # `size` under the name that this supply has for it.
    own = SIZE_OPTIONS.get(name)
    if "size" not in options or own is None:
        return options
    if own in options:
        raise InputError(f"pool.size and pool.{own} are the same for {name}; give one of them")
    return {own if key == "size" else key: value for key, value in options.items()}
