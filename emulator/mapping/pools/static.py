"""Everything preallocated: all tables of an aperture are taken at the start, and the system is never asked again.

Source: Kleen, June 2007 ("preallocate the page tables and rewrite/flush them without having some kind of allocator in
between"); no code is known, so this is a reconstruction. The number of pages is exact: for each domain the root and
every table that a window of W bytes can have (`emulator.sizing.table_pages`).

In the seed tables stay where they are and are rewritten. The mapper here links a table when it needs one and unlinks
one that an unmap covers whole; such a table goes back to the fixed set, and the page unlinked last is linked first.
What is linked at a time is never more than the window has, so that no request inside the window is ever refused.

Invariants: the system is asked only at the start; linked + idle = the pages taken then. Fails when the window, or the
number of domains, was chosen too small: addresses outside it need tables that nobody counted. A what-if run counts
those that it knows of: regions mapped to themselves for good, which lie where the firmware put them (`outside`).
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.options import chosen_options, takes
from emulator.mapping.pools.accounting import CountingSupply
from emulator.mapping.pressure import Zone
from emulator.mapping.supply import PageSupply
from emulator.sizing import aperture_pages
from pagetables.address import Gpa
from pagetables.errors import InputError
from pagetables.wording import count

__all__ = ["StaticTables", "make"]

DEFAULTS: dict[str, int | str] = {"window_mib": 256, "levels": 0, "domains": 0, "base_mib": 0, "outside": 0}


class StaticTables(CountingSupply):
    """A fixed set of `pages` pages."""

    name = "static"
    hears_zone = False

    def __init__(self, zone: Zone, pages: int) -> None:
        if pages < 1:
            raise InputError(f"{pages} pages hold no tables")
        super().__init__(zone)
        self._grow_to(pages)
        if len(self._pool) < pages:
            there = len(self._pool)
            self.close()
            raise InputError(
                f"the tables of the aperture take {count(pages, 'page')}, and the zone gives {there}; "
                "choose a smaller window, fewer domains, or more kernel memory"
            )
        self._pool.reverse()  # handed out from the lowest address upwards
        self._started()
        self.statistics.details["fixed"] = pages

    def _supply(self) -> Gpa | None:
        return self._pop()

    def _return(self, page: Gpa) -> None:
        self._push(page)


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """A `static` supply; options `window_mib` and `base_mib` (the window in each domain), `levels` and `domains` (0: as
    the run has them, else 4 and 1), `outside` (pages for tables outside the windows; a run counts its own).

    256 MiB is the start value that the seed names.
    """
    chosen = chosen_options("pool", StaticTables.name, options, DEFAULTS)
    window, base = chosen["window_mib"] << 20, chosen["base_mib"] << 20
    inside = aperture_pages(window, chosen["levels"] or 4, chosen["domains"] or 1, base)
    return StaticTables(zone, inside + chosen["outside"])
