"""A flush at each map (Linux arch/x86/kernel/amd_gart_64.c, `iommu=fullflush`, its default).

    unmap      tells the unit nothing
    map        one flush before the new entry is used, whether or not anything was unmapped

Lazy flushing upset devices (3ware and QLogic are named in the kernel), hence the default. The cost moves from unmaps to
maps and stays the same; what is unmapped last stays reachable until the next map of anybody.

Invariant: no address is mapped again before a flush that was started after it was unmapped has finished, whatever
allocator hands it out. GART's own demand for a flush and the one of this policy are one flush.
"""

from __future__ import annotations

from typing import ClassVar

from emulator.mapping.domain import Domain
from emulator.mapping.flush.on_demand import LazyOnWrap
from pagetables.address import Gpa

__all__ = ["FlushEveryMap"]


class FlushEveryMap(LazyOnWrap):
    """One invalidation for each map, on the map side."""

    name: ClassVar[str] = "flush-every-map"
    on_demand: ClassVar[bool] = False
    flushes_maps: ClassVar[bool] = True

    def _prepare(self) -> None:
        super()._prepare()
        self._fresh = False  # a flush was done for the map that comes, and nothing unmapped since
        self._continues: tuple[Domain, int] | None = None  # where the next piece of the list mapped last would begin

    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """Remember the range, and keep its pages."""
        super().unmapped(domain, iova, size, freed, cpu)
        self._fresh, self._continues = False, None

    def demand(self, domain: Domain) -> None:
        """The flush for the map that comes."""
        if not self._fresh:
            super().demand(domain)
            self._fresh = True

    def mapped(self, domain: Domain, iova: int, size: int) -> None:
        """Flush, unless that was done when the address was asked for, or the range continues the one mapped before it,
        as the pieces of a scatter list do: the list is one map."""
        if self._continues != (domain, iova):
            self.demand(domain)
        self._fresh, self._continues = False, (domain, iova + size)
        super().mapped(domain, iova, size)
