"""Which kernel wrote a trace, as far as that matters: how it writes leaves, and what it does not print.

Kernels from 7.0 until a stable release of mid-2026 never print iommu:map for a map that succeeds, and some recordings
have dma:* events only. For these, dma events stand in for the missing ones where they tell enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from emulator.trace.columns import Rows
from emulator.trace.event import Event, Kind, Segments
from emulator.trace.trace import KernelRule
from pagetables.address import PAGE_SIZE

__all__ = ["Signs", "StandIns", "kernel_rule", "page_range"]


@dataclass(slots=True)
class Signs:
    """What tells one kernel generation from another."""

    maps: int = 0
    unmaps: int = 0
    dma_phys: bool = False  # dma_map_phys: 6.18 and later
    dma_page: bool = False  # dma_map_page: before 6.18
    flush_with_pages: bool = False  # before 7
    flush_without_pages: bool = False  # 7 and later


def page_range(iova: int, size: int) -> tuple[int, int]:
    """Start and end of the whole pages that hold `size` bytes at `iova`."""
    return iova & -PAGE_SIZE, (iova + size + PAGE_SIZE - 1) & -PAGE_SIZE


def kernel_rule(signs: Signs) -> tuple[KernelRule, str | None]:
    """How the recording kernel sets R in leaves; and a note where the trace does not tell for sure."""
    if signs.flush_without_pages:
        return "7.x", None
    if signs.flush_with_pages or signs.dma_page or not signs.dma_phys:
        return "6.x", None
    return "6.x", (
        "kernel 6.18 or later, but no cache_tag_flush_range tells whether before 7: taken as 6.x, "
        "which sets R in every leaf"
    )


@dataclass(slots=True)
class StandIns:
    """Rows that dma events add while no iommu:map was seen; kept only if none ever is."""

    rows: Rows
    maps: list[int] = field(default_factory=list)
    unmaps: list[int] = field(default_factory=list)
    untold: int = 0  # mappings whose event does not tell the physical address of each part
    over: bool = False

    def map(self, number: int, event: Event, space: int) -> None:
        """Add the maps of a dma_map or dma_map_sg event."""
        parts = [(event.iova, event.gpa, event.size)]
        if isinstance(event.detail, Segments):
            lists = event.detail
            told = not lists.truncated and len(lists.iovas) == len(lists.sizes) == len(lists.physical)
            parts = list(zip(lists.iovas, lists.physical, lists.sizes, strict=True)) if told else []
            self.untold += not told
        for iova, gpa, size in parts:
            start, end = page_range(iova, size)
            gpa &= -PAGE_SIZE
            if start < end <= 1 << 64 and gpa + end - start <= 1 << 64:
                row = event._replace(kind=Kind.MAP, device=None, iova=start, gpa=gpa, size=end - start)
                self.maps.append(self.rows.add(number, row, space))

    def unmap(self, number: int, event: Event, space: int) -> None:
        """Add the unmap of a dma_unmap or dma_free event."""
        start, end = page_range(event.iova, event.size)
        if start < end <= 1 << 64 and end - start < 1 << 64:
            row = event._replace(kind=Kind.UNMAP, device=None, iova=start, size=end - start, access=0)
            self.unmaps.append(self.rows.add(number, row, space))

    def settle(self, signs: Signs) -> tuple[set[int], list[str]]:
        """The rows to leave out, and what to say about the others."""
        if signs.maps or not (signs.unmaps or self.maps):
            return {*self.maps, *self.unmaps}, []
        if not signs.unmaps:
            note = "no iommu:map and no iommu:unmap event: the mappings are those that the dma events tell"
            return set(), [note + self._untold()]
        note = (
            f"{signs.unmaps} iommu:unmap events but not one iommu:map: kernels 7.0 without the fix of mid-2026 "
            "print none, or the event was not recorded"
        )
        used = f"; {len(self.maps)} maps are taken from dma events" if self.maps else ""
        return set(self.unmaps), [note + used + self._untold()]

    def _untold(self) -> str:
        if not self.untold:
            return ""
        return f"; {self.untold} allocations and scatterlists do not tell their physical addresses and are left out"
