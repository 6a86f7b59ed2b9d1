"""The chipset of a q35 machine: host bridge, ICH9's LPC bridge, AHCI and SMBus, and a VGA adapter.

They are there for software that looks for them: configuration spaces that answer as QEMU's do, with BARs and without
anything behind those. The host bridge opens the memory-mapped configuration window (PCIEXBAR).
"""

from __future__ import annotations

from device_models.memory_region import MemoryRegion, Operations
from device_models.pci.bars import BarKind
from device_models.pci.function import PciFunction
from device_models.pci.host import PciHost

__all__ = ["Ahci", "HostBridge", "LpcBridge", "SmBus", "Vga"]

INTEL, BOCHS = 0x8086, 0x1234
_PCIEXBAR = 0x60
_EXTENDED_TSEG, _SMRAM = 0x50, 0x9C
_LENGTHS = (1 << 28, 1 << 27, 1 << 26)  # of the configuration window, by bits 2:1
_NOTHING = Operations(lambda offset, size: 0, lambda offset, size, value: None)


class HostBridge(PciFunction):
    """The memory controller hub at 00.0."""

    TYPE = "mch"
    EXPLAINS = "Host bridge"
    VENDOR, DEVICE, CLASS = INTEL, 0x29C0, 0x0600
    host: PciHost

    def realize(self) -> None:
        """Reset values of the registers that QEMU's answers with."""
        super().realize()
        self.config.set(_EXTENDED_TSEG, 2, 0x10)
        self.config.set(_PCIEXBAR, 4, 0xB000_0000)
        self.config.set(_SMRAM, 4, 0x0038_0200)

    def reset(self) -> None:
        """The configuration window is closed."""
        super().reset()
        self._open_window()

    def config_write(self, offset: int, size: int, value: int) -> None:
        """PCIEXBAR moves the configuration window at once."""
        super().config_write(offset, size, value)
        self._open_window()

    @property
    def window(self) -> tuple[int, int] | None:
        """Start and size of the memory-mapped configuration window, None while it is closed."""
        register = self.config.get(_PCIEXBAR, 8)
        length = register >> 1 & 3
        if not register & 1 or length == len(_LENGTHS):
            return None
        size = _LENGTHS[length]
        return register & (1 << 36) - size, size

    def _open_window(self) -> None:
        system, window = self.machine.system, self.window
        system.remove(self.host.ecam)
        if window is not None:
            self.host.ecam.size = window[1]
            system.add(self.host.ecam, window[0])


class LpcBridge(PciFunction):
    """The ISA bridge at 1f.0."""

    TYPE = "ICH9-LPC"
    EXPLAINS = "ICH9 LPC bridge"
    VENDOR, DEVICE, CLASS, REVISION = INTEL, 0x2918, 0x0601, 2

    def realize(self) -> None:
        """Reset values: no power management base, no interrupt routes."""
        super().realize()
        self.config.set(0x40, 4, 1)
        self.config.allow(0x40, 4, 0xFF87)
        for routes in (0x60, 0x68):
            self.config.set(routes, 4, 0x8080_8080)


class Ahci(PciFunction):
    """The SATA controller at 1f.2: ports and registers that read zero."""

    TYPE = "ich9-ahci"
    EXPLAINS = "SATA controller (configuration space only)"
    VENDOR, DEVICE, CLASS, REVISION, INTERFACE, PIN = INTEL, 0x2922, 0x0106, 2, 1, 1

    def realize(self) -> None:
        """BARs 4 and 5, MSI at 80h, and the SATA capability at A8h."""
        super().realize()
        self.add_bar(4, MemoryRegion("ahci-idp", 32, _NOTHING), BarKind(io=True))
        self.add_bar(5, MemoryRegion("ahci", 0x1000, _NOTHING))
        at = self.config.add_capability(0x12, 8, 0xA8)
        self.config.set(at + 2, 2, 0x10)
        self.config.set(at + 4, 4, 0x48)
        self.add_msi(offset=0x80)
        self.config.set(0x90, 1, 0x40)


class SmBus(PciFunction):
    """The SMBus controller at 1f.3."""

    TYPE = "ICH9-SMB"
    EXPLAINS = "ICH9 SMBUS Bridge (configuration space only)"
    VENDOR, DEVICE, CLASS, REVISION, PIN = INTEL, 0x2930, 0x0C05, 2, 1

    def realize(self) -> None:
        """BAR 4, and the host configuration register."""
        super().realize()
        self.add_bar(4, MemoryRegion("pm-smbus", 64, _NOTHING), BarKind(io=True))
        self.config.allow(0x40, 1, 0xF7)


class Vga(PciFunction):
    """A display adapter that shows nothing: its frame buffer and its registers read zero."""

    TYPE = "VGA"
    EXPLAINS = "VGA adapter (configuration space only)"
    HOTPLUGGABLE = False
    VENDOR, DEVICE, CLASS, REVISION = BOCHS, 0x1111, 0x0300, 2

    def realize(self) -> None:
        """BAR 0 (frame buffer, prefetchable) and BAR 2 (registers)."""
        super().realize()
        self.add_bar(0, MemoryRegion("vga.vram", 16 << 20, _NOTHING), BarKind(prefetchable=True))
        self.add_bar(2, MemoryRegion("vga.mmio", 0x1000, _NOTHING))
