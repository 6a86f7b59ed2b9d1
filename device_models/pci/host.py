"""How software reaches configuration space: ports CF8h and CFCh, and the memory-mapped window (ECAM) of the chipset.

CF8h keeps the low two address bits that are written to it, and an access to CFCh adds its own: both lead to bytes
that no aligned offset names, which drivers and test programs for QEMU rely on.
"""

from __future__ import annotations

from device_models.memory_region import MemoryRegion, Operations, Sizes
from device_models.pci.bus import PciBus
from device_models.pci.config_space import CONVENTIONAL_SIZE, EXPRESS_SIZE
from device_models.pci.function import PciFunction

__all__ = ["CONFIG_ADDRESS", "CONFIG_DATA", "PciHost"]

CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
_ENABLE = 1 << 31
_WINDOW_LIMIT = 1 << 28  # 256 buses of 1 MiB


class PciHost:
    """The configuration mechanisms of root bus `bus`."""

    def __init__(self, bus: PciBus) -> None:
        self.bus = bus
        self.address = 0
        self.ecam = MemoryRegion(
            "pcie-mmcfg-mmio", _WINDOW_LIMIT, Operations(self._read_ecam, self._write_ecam, Sizes(1, 4), Sizes(1, 4))
        )

    def add_ports(self, ports: MemoryRegion) -> None:
        """Put CF8h and CFCh into the port space."""
        index = Operations(lambda offset, size: self.address, self._write_address)
        ports.add(MemoryRegion("pci-conf-idx", 4, index), CONFIG_ADDRESS)
        ports.add(MemoryRegion("pci-conf-data", 4, Operations(self._read_data, self._write_data)), CONFIG_DATA)

    def reset(self) -> None:
        """No address."""
        self.address = 0

    def function(self, bus: int, devfn: int) -> PciFunction | None:
        """The function that bus number and devfn name now, or None."""
        found = self.bus.find(bus)
        return None if found is None else found.functions.get(devfn)

    def config_read(self, bus: int, devfn: int, offset: int, size: int, limit: int = EXPRESS_SIZE) -> int:
        """Read configuration space; all ones where there is nobody, or nothing."""
        function, size = self._reach(bus, devfn, offset, size, limit)
        return (1 << 8 * size) - 1 if function is None else function.config_read(offset, size)

    def config_write(self, bus: int, devfn: int, offset: int, size: int, value: int, limit: int = EXPRESS_SIZE) -> None:
        """Write configuration space."""
        function, size = self._reach(bus, devfn, offset, size, limit)
        if function is not None:
            function.config_write(offset, size, value & (1 << 8 * size) - 1)

    def _reach(self, bus: int, devfn: int, offset: int, size: int, limit: int) -> tuple[PciFunction | None, int]:
        function = self.function(bus, devfn)
        end = limit if function is None else min(limit, function.config.size)
        return (None, size) if offset >= end else (function, min(size, end - offset))

    def _write_address(self, offset: int, size: int, value: int) -> None:
        if (offset, size) == (0, 4):
            self.address = value

    def _place(self, offset: int) -> tuple[int, int, int]:
        place = self.address | offset & 3
        return place >> 16 & 0xFF, place >> 8 & 0xFF, place & 0xFF

    def _read_data(self, offset: int, size: int) -> int:
        if not self.address & _ENABLE:
            return (1 << 8 * size) - 1
        return self.config_read(*self._place(offset), size, CONVENTIONAL_SIZE)

    def _write_data(self, offset: int, size: int, value: int) -> None:
        if self.address & _ENABLE:
            self.config_write(*self._place(offset), size, value, CONVENTIONAL_SIZE)

    def _read_ecam(self, offset: int, size: int) -> int:
        return self.config_read(offset >> 20, offset >> 12 & 0xFF, offset & 0xFFF, size)

    def _write_ecam(self, offset: int, size: int, value: int) -> None:
        self.config_write(offset >> 20, offset >> 12 & 0xFF, offset & 0xFFF, size, value)
