"""Page supply: where table pages come from, chosen by name.

A supply answers `take` for a mapper that may not sleep, and gets pages back once the invalidation that covers them has
completed. Systems are registered here by name; others come through the entry point group `vtd.pools`, each naming a
callable like `SupplyFactory`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from emulator.clock import Clock
from emulator.mapping.pressure import Zone
from pagetables.address import Gpa
from pagetables.errors import InputError, near

__all__ = ["GROUP", "PageSupply", "SupplyFactory", "SupplyStatistics", "make_supply", "supply_names", "take_options"]

GROUP = "vtd.pools"
_BUILT_IN = (
    EntryPoint("os", "emulator.mapping.pools.os:make", GROUP),
    EntryPoint("respool", "emulator.mapping.pools.respool:make", GROUP),
)


@dataclass(slots=True)
class SupplyStatistics:
    """What a supply did. A supply that keeps no pages leaves the fields of a pool at 0."""

    hits: int = 0  # pages given from the pool
    fallbacks: int = 0  # pages the system allocator gave because the pool had none, or because there is no pool
    failures: int = 0  # requests that got nothing
    given_back: int = 0  # pages that came back from tables
    wakeups: int = 0  # runs of the background worker
    refilled: int = 0  # pages the worker took from the system
    released: int = 0  # pages returned to the system
    idle: int = 0  # pages in the pool now
    idle_lowest: int = 0
    idle_highest: int = 0

    def as_dict(self) -> dict[str, int]:
        """The numbers by name, as a report prints them."""
        return asdict(self)


class PageSupply(Protocol):
    """One system of page supply."""

    name: str
    statistics: SupplyStatistics

    def take(self) -> Gpa | None:
        """A page for a table, or None: the caller may not sleep. The mapper zeroes it before it links it."""
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


def supply_names() -> list[str]:
    """Every supply that can be named, plug-ins included."""
    return sorted(_registered())


def make_supply(name: str, zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """The supply called `name`, filled; InputError for a name nobody has, or an option the supply does not know."""
    registered = _registered()
    if name not in registered:
        raise InputError(f"no pool is called {name!r}; {near(name, registered)}")
    factory: SupplyFactory = registered[name].load()
    return factory(zone, clock, options)


def take_options(name: str, options: Mapping[str, int | str], defaults: Mapping[str, int | str]) -> dict[str, Any]:
    """`defaults` with what the user set put over them; InputError for an option that is not among them."""
    for key in options:
        if key not in defaults:
            raise InputError(f"pool {name} has no option {key!r}; {near(key, defaults)}")
    return {**defaults, **options}


def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in (*_BUILT_IN, *entry_points(group=GROUP))}
