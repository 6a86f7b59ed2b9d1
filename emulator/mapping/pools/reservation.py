"""Reservations inside the VM: a map is admitted or waits, and once admitted never fails.

Source: LaHaise, December 2001 (lkml, "mempool-2.5.1-D2"). Only the description in the seed is known, no code of it
anywhere: this is a reconstruction. Pages are promised, not taken: until they are used they stay clean cache, so that a
reservation costs nothing but the certainty that the cache can be dropped.

    admit n     promised += n if free + clean - promised >= n; otherwise the operation waits here, and only here
    take        promised -= 1; a free page, else the place of a clean one, without I/O
    settle      what was promised and not taken is free for others again

The bound that a map needs is `emulator.sizing.new_tables`. A page taken without admission (a domain's root) is
admitted on the spot, one by one. Invariant, global: promised <= free + clean, at all times: others may not dirty or
pin more.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.options import chosen_options, takes
from emulator.mapping.pools.accounting import CountingSupply
from emulator.mapping.pressure import Zone
from emulator.mapping.supply import PageSupply
from pagetables.address import Gpa
from pagetables.errors import VtdError

__all__ = ["Reservation", "make"]


class Reservation(CountingSupply):
    """Promises of the zone, kept page by page."""

    name = "reservation"
    waits_for = "free or clean pages that are not promised to others"

    def __init__(self, zone: Zone) -> None:
        super().__init__(zone)
        self._left = 0
        self._details = self.statistics.details
        self._details |= dict.fromkeys(
            ("admitted", "not_admitted", "promised", "unused", "clean_dropped", "largest_promise"), 0
        )

    @property
    def left(self) -> int:
        """Pages that the operation in progress was promised and has not taken."""
        return self._left

    def admit(self, pages: int) -> bool:
        """Promise `pages` pages to the operation that begins; False if it has to wait. VtdError inside another one."""
        if self._left:
            raise VtdError(f"an operation with {self._left} promised pages has not been settled")
        self.meter.spend("page.reserve")
        if not self._zone.promise(pages):
            self._details["not_admitted"] += 1
            return False
        self._left = pages
        self._details["admitted"] += 1
        self._details["promised"] += pages
        self._details["largest_promise"] = max(self._details["largest_promise"], self._zone.promised)
        return True

    def settle(self) -> None:
        """Release what the operation was promised and did not take."""
        left, self._left = self._left, 0
        self._details["unused"] += left
        if left:
            self.meter.spend("page.reserve")
            self._zone.release_promise(left)

    def close(self) -> None:
        """Release what is promised, and hear no more of the zone."""
        self.settle()
        super().close()

    def _supply(self) -> Gpa | None:
        if self._left:
            self._left -= 1
        elif not self._zone.promise(1):
            self._details["not_admitted"] += 1
            self.meter.spend("page.refused")
            return None
        else:
            self._details["promised"] += 1
        self._details["clean_dropped"] += not self._zone.free
        self.meter.spend("page.atomic")
        self.statistics.fallbacks += 1
        return self._zone.take_promised()

    def _return(self, page: Gpa) -> None:
        self._give(page)


@takes({})
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """A `reservation` supply; it has no options."""
    chosen_options("pool", Reservation.name, options, {})
    return Reservation(zone)
