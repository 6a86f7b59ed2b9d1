"""32-bit addresses first (Linux drivers/iommu/dma-iommu.c, `pci_32bit_workaround`; switched off by iommu.forcedac=1).

A PCI device that reaches beyond 4 GiB still gets addresses below it, since some that claim 64 bits do not mean it.
The first request that finds none there ends this for the device, for ever; caches are not emptied for the attempt.
"""

from __future__ import annotations

from emulator.mapping.iova.allocator import LIMIT_32BIT, AddressAllocator

__all__ = ["LowFirst"]


class LowFirst:
    """One device's requests to an allocator it may share; what it frees goes to the allocator itself."""

    def __init__(self, allocator: AddressAllocator, forcedac: bool = False) -> None:
        self.allocator = allocator
        self.low_first = not forcedac
        self.notes: list[str] = []  # what Linux would have logged

    def allocate(
        self, pages: int, limit: int | None = None, cpu: int = 0, align: int = 1, after: int | None = None
    ) -> int | None:
        """The first page of a run, below 4 GiB as long as that has never failed."""
        end = self.allocator.window.end if limit is None else limit
        if self.low_first and end > LIMIT_32BIT:
            first = self.allocator.allocate(pages, LIMIT_32BIT, cpu, align, after, reclaim=False)
            if first is not None:
                return first
            self.low_first = False
            self.notes.append(f"Using {(end * 4096 - 1).bit_length()}-bit DMA addresses")
        return self.allocator.allocate(pages, limit, cpu, align, after)
