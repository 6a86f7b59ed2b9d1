"""Base address registers: where software places a function's memory and ports.

A BAR shows its region in the bus's memory or I/O space while the command register lets it and the address makes sense:
a BAR that would end at the top of its space is not there (all ones are written to learn its size), nor one at 0, where
it is after power-on (as in QEMU's PCs; what is there is the machine's).
"""

from __future__ import annotations

from dataclasses import dataclass

from device_models.memory_region import MemoryRegion
from device_models.pci.config_space import Command, ConfigSpace, Offset
from pagetables.errors import InputError

__all__ = ["BAR_PRIORITY", "Bar", "BarKind"]

BAR_PRIORITY = 1
_TOP_32 = (1 << 32) - 1
_TOP_64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class BarKind:
    """I/O ports, or memory of 32 or 64 address bits, prefetchable or not."""

    io: bool = False
    wide: bool = False
    prefetchable: bool = False

    @property
    def flags(self) -> int:
        """The read-only low bits of the register."""
        return 1 if self.io else (4 if self.wide else 0) | (8 if self.prefetchable else 0)


class Bar:
    """BAR `number` of a function: `region`, at an address that `config` holds, shown in `space`."""

    def __init__(
        self, config: ConfigSpace, number: int, region: MemoryRegion, kind: BarKind, offset: int | None = None
    ) -> None:
        if region.size & (region.size - 1) or region.size < (4 if kind.io else 16):
            raise InputError(f"BAR {number} ({region.name}): {region.size:#x} is no size that a BAR can have")
        self.config = config
        self.number = number
        self.region = region
        self.kind = kind
        self.space: MemoryRegion | None = None
        self.offset = Offset.BARS + 4 * number if offset is None else offset
        self._bytes = 8 if kind.wide else 4
        config.set(self.offset, self._bytes, kind.flags)
        config.allow(self.offset, self._bytes, (1 << 8 * self._bytes) - region.size)

    @property
    def address(self) -> int | None:
        """Where the region is, or None while it is nowhere."""
        needed = Command.IO if self.kind.io else Command.MEMORY
        if not self.config.get(Offset.COMMAND, 2) & needed:
            return None
        start = self.config.get(self.offset, self._bytes) & -self.region.size
        last = start + self.region.size - 1
        return None if not start or last >= (_TOP_64 if self.kind.wide else _TOP_32) else start

    def place(self, memory: MemoryRegion, ports: MemoryRegion) -> None:
        """The spaces of the bus that the function sits on."""
        self.space = ports if self.kind.io else memory
        self.update()

    def update(self) -> None:
        """Show, move or hide the region, as the registers now say."""
        address, space = self.address, self.space
        if space is None:
            return
        if address is None:
            space.remove(self.region)
        elif self.region.container is space:
            self.region.move(address)
        else:
            space.add(self.region, address, BAR_PRIORITY)

    def withdraw(self) -> None:
        """The function leaves: so does the region."""
        if self.space is not None:
            self.space.remove(self.region)
            self.space = None
