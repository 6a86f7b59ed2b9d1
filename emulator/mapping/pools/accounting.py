"""The books every supply of ours keeps: what came from where, what is idle, what each step cost, who is told of a page.

A class of this kind adds two methods: `_supply` finds a page for the class of the operation in progress, `_return`
takes one back.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable

from emulator.mapping.costs import Meter
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.supply import SupplyStatistics
from pagetables.address import Gpa

__all__ = ["CountingSupply"]


class CountingSupply(abc.ABC):
    """A supply over `zone` with a list of idle pages, which stays empty in systems that keep none.

    `hears_zone` says whether free pages of the zone are news for those who wait for this supply.
    """

    name = ""
    waits_for = ""
    hears_zone = True

    def __init__(self, zone: Zone) -> None:
        self.statistics = SupplyStatistics()
        self.gfp = Gfp.ATOMIC
        self.meter = Meter()
        self.on_available: list[Callable[[], None]] = []
        self._zone = zone
        self._pool: list[Gpa] = []
        self._surplus: list[Gpa] = []
        self._silent = False
        zone.on_available.append(self._heard)

    @abc.abstractmethod
    def _supply(self) -> Gpa | None: ...

    @abc.abstractmethod
    def _return(self, page: Gpa) -> None: ...

    def take(self) -> Gpa | None:
        """A page, or None; counted. A caller that would sleep in the real system is counted as a wait, too."""
        page = self._supply()
        if page is None:
            self.statistics.failures += 1
            self.statistics.waits += self.gfp.may_sleep and bool(self.waits_for)
        else:
            self.meter.spend("page.zero")
        return page

    def give_back(self, pages: Iterable[Gpa]) -> None:
        """Pages that no table, and no cache, reaches any more; whoever waits for one is told."""
        before = self.statistics.given_back
        for page in pages:
            self.statistics.given_back += 1
            self._return(page)
        if self.statistics.given_back > before:
            self._return_surplus()
            self._announce()

    def admit(self, pages: int) -> bool:
        """Always: this system decides at each page."""
        return True

    def settle(self) -> None:  # noqa: B027  # most systems promise nothing ahead
        """Nothing was promised, nothing has to be taken back."""

    def close(self) -> None:
        """Give every idle page back to the zone, and hear no more of it."""
        self._shrink_to(0)
        if self._heard in self._zone.on_available:
            self._zone.on_available.remove(self._heard)

    def _ask(self, gfp: Gfp) -> Gpa | None:
        # A page from the zone on behalf of the caller, who pays for it.
        reclaims = self._zone.statistics.direct_reclaims
        page = self._zone.take(gfp)
        self.meter.spend("page.reclaim", self._zone.statistics.direct_reclaims - reclaims)
        if page is None:
            self.meter.spend("page.refused")
        else:
            self.meter.spend(f"page.{gfp.value}")
            self.statistics.fallbacks += 1
        return page

    def _give(self, page: Gpa) -> None:
        # A page that goes back to the zone on behalf of the caller, with the others of this call.
        self.meter.spend("page.free")
        self.statistics.released += 1
        self._surplus.append(page)

    def _return_surplus(self) -> None:
        surplus, self._surplus = self._surplus, []
        self._silent = True  # one call of `give_back` is one piece of news
        try:
            self._zone.give_back(surplus)
        finally:
            self._silent = False

    def _push(self, page: Gpa) -> None:
        self.meter.spend("page.pool")
        self._pool.append(page)
        self._count()

    def _pop(self) -> Gpa | None:
        self.meter.spend("page.pool")
        if not self._pool:
            return None
        self.statistics.hits += 1
        page = self._pool.pop()
        self._count()
        return page

    def _grow_to(self, target: int, gfp: Gfp = Gfp.KERNEL) -> None:
        # In the background: nobody's operation pays. Stops at the first refusal.
        while len(self._pool) < target:
            page = self._zone.take(gfp)
            if page is None:
                break
            self._pool.append(page)
            self.statistics.refilled += 1
        self._count()

    def _shrink_to(self, target: int) -> None:
        surplus, self._pool[target:] = self._pool[target:], []
        self.statistics.released += len(surplus)
        self._count()
        self._zone.give_back(reversed(surplus))

    def _count(self) -> None:
        statistics = self.statistics
        idle = statistics.idle = self._idle()
        statistics.idle_lowest = min(statistics.idle_lowest, idle)
        statistics.idle_highest = max(statistics.idle_highest, idle)

    def _idle(self) -> int:
        return len(self._pool)

    def _started(self) -> None:
        # What filled the pool at the start is not what the lowest mark is about.
        self._count()
        self.statistics.idle_lowest = self.statistics.idle

    def _heard(self) -> None:
        if self.hears_zone and not self._silent:
            self._announce()

    def _announce(self) -> None:
        for action in list(self.on_available):
            action()
