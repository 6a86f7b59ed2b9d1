"""More than one zone: which pages a device of few address bits can have, and where requests go when one is empty.

Source: mm/page_alloc.c, mm/mmzone.c. A request names the highest zone that suits it and falls back to lower ones. A
lower zone keeps some pages from those who could use a higher one (lowmem_reserve): its managed pages of higher zones
divided by a ratio, 256 for DMA and DMA32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from emulator.clock import Clock
from emulator.mapping.pressure import DoubleFree, Zone
from emulator.mapping.watermarks import Gfp
from pagetables.address import Gpa
from pagetables.errors import InputError, near

__all__ = ["ORDER", "Zones"]

ORDER = ("DMA", "DMA32", "NORMAL")  # from the lowest
LIMITS = {"DMA": 16 << 20, "DMA32": 4 << 30, "NORMAL": 1 << 64}
RATIO = 256


class Zones:
    """Zones by name. Each has its own watermarks and reclaimer."""

    def __init__(self, zones: dict[str, Zone], ratio: int = RATIO) -> None:
        for name in zones:
            if name not in ORDER:
                raise InputError(f"no zone is called {name!r}; {near(name, ORDER)}")
        if not zones or ratio < 1:
            raise InputError("at least one zone is needed, and a ratio of 1 or more")
        self.by_name = {name: zones[name] for name in ORDER if name in zones}
        self._ratio = ratio

    @classmethod
    def of(cls, clock: Clock, ram: Iterable[tuple[int, int]], ratio: int = RATIO) -> Zones:
        """The zones of RAM given as (start, size): DMA below 16 MiB, DMA32 below 4 GiB, NORMAL above. Of several
        regions in one zone the largest counts, since a zone here has no holes."""
        zones: dict[str, Zone] = {}
        low = 0
        for name in ORDER:
            clipped = [(max(start, low), min(start + size, LIMITS[name])) for start, size in ram]
            start, end = max(clipped, key=lambda span: span[1] - span[0])
            if end > start:
                zones[name] = Zone(clock, start, end - start)
            low = LIMITS[name]
        return cls(zones, ratio)

    def take(self, gfp: Gfp, highest: str = ORDER[-1], pages: int = 1) -> Gpa | None:
        """The first of `pages` pages in a row from `highest` or, failing that, from a lower zone; None if no zone may
        give them."""
        for name in self.fallbacks(highest):
            zone = self.by_name[name]
            if zone.free - pages < zone.marks.floor(gfp) + self._kept(name, highest) and name != highest:
                continue
            first = zone.take_run(gfp, pages)
            if first is not None:
                return first
        return None

    def give_back(self, pages: Iterable[Gpa]) -> None:
        """These pages are free again, each in its zone; DoubleFree for one of no zone."""
        for page in pages:
            self.zone_of(page).give_back((page,))

    def zone_of(self, page: Gpa) -> Zone:
        """The zone that `page` lies in; DoubleFree if it lies in none."""
        for zone in self.by_name.values():
            if zone.start <= page < zone.start + zone.size:
                return zone
        raise DoubleFree(f"page {page:#x} belongs to no zone")

    def fallbacks(self, highest: str) -> Sequence[str]:
        """The zones that a request for `highest` may use, the best first; InputError for an unknown name."""
        if highest not in ORDER:
            raise InputError(f"no zone is called {highest!r}; {near(highest, ORDER)}")
        usable = ORDER[: ORDER.index(highest) + 1]
        return [name for name in reversed(usable) if name in self.by_name]

    def _kept(self, name: str, highest: str) -> int:
        between = ORDER[ORDER.index(name) + 1 : ORDER.index(highest) + 1]
        return sum(self.by_name[higher].managed for higher in between if higher in self.by_name) // self._ratio
