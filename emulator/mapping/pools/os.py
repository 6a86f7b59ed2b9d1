"""No pool: every table page comes from the system allocator, in one class of request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from emulator.clock import Clock
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.supply import PageSupply, SupplyStatistics, take_options
from pagetables.address import Gpa
from pagetables.errors import InputError, near

__all__ = ["SystemSupply", "make"]


class SystemSupply:
    """Asks the zone for each page; `gfp` says how deep it may dig. Linux's VT-d driver does this with GFP_ATOMIC."""

    name = "os"

    def __init__(self, zone: Zone, gfp: Gfp = Gfp.ATOMIC) -> None:
        self.statistics = SupplyStatistics()
        self.gfp = gfp
        self._zone = zone

    def take(self) -> Gpa | None:
        """A page from the zone, or None below the floor of the class."""
        page = self._zone.take(self.gfp)
        if page is None:
            self.statistics.failures += 1
        else:
            self.statistics.fallbacks += 1
        return page

    def give_back(self, pages: Iterable[Gpa]) -> None:
        """The pages go straight back to the zone."""
        returned = list(pages)
        self.statistics.given_back += len(returned)
        self.statistics.released += len(returned)
        self._zone.give_back(returned)

    def close(self) -> None:
        """Nothing runs in the background and nothing is kept."""


def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """An `os` supply; option `gfp`: kernel, nowait, atomic (the default) or memalloc."""
    chosen = str(take_options("os", options, {"gfp": Gfp.ATOMIC.value})["gfp"])
    classes = {gfp.value: gfp for gfp in Gfp}
    if chosen not in classes:
        raise InputError(f"pool.gfp={chosen}: no such class of request; {near(chosen, classes)}")
    return SystemSupply(zone, classes[chosen])
