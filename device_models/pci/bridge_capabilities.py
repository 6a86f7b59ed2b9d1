"""What the configuration spaces of bridges hold besides windows: errors, access control, slots and their hot-plug.

Values and masks are those that QEMU's bridges answer with; `newer` adds what those of 10.0 have and those of 7.2 lack.
Layouts: PCI Express Base Specification (AER, ACS); PCI Standard Hot-Plug Controller Specification; PCI-to-PCI Bridge
Architecture Specification (slot numbering).
"""

from __future__ import annotations

from device_models.memory_region import MemoryRegion, Operations, Sizes
from device_models.pci.bus import PciBus
from device_models.pci.config_space import ConfigSpace

__all__ = ["ACS", "AER", "AccessControl", "HotPlugController", "add_error_reporting", "add_power", "add_slot_numbering"]

AER, ACS = 0x01, 0x0D
_POWER, _SLOTS, _HOT_PLUG = 0x01, 0x04, 0x0C
_AER_SIZE = 0x48
_SEVERITY, _CORRECTABLE = 0x0046_2030, 0xE000
_UNCORRECTABLE_MASK, _UNCORRECTABLE_BITS, _CORRECTABLE_BITS = 0x0240_0000, 0x03FF_F030, 0xF1C1
_CHECKS, _CHECKS_BITS = 0xA0, 0x140
_MULTIPLE, _MULTIPLE_BIT = 0x200, 0x400
_VIOLATION = 1 << 21
_ALL_CONTROLS, _SOURCE_VALIDATION = 0x5F, 1


def add_error_reporting(config: ConfigSpace, root: bool, newer: bool, version: int) -> int:
    """Advanced error reporting, of a root port with its command register; returns where it is."""
    at = config.add_extended_capability(AER, version, _AER_SIZE)
    if newer:
        config.set(at + 0x08, 4, _UNCORRECTABLE_MASK)
        config.allow(at + 0x08, 4, _UNCORRECTABLE_BITS)
    config.clear_by_one(at + 0x04, 4, _UNCORRECTABLE_BITS)
    config.set(at + 0x0C, 4, _SEVERITY)
    config.allow(at + 0x0C, 4, _UNCORRECTABLE_BITS)
    config.set(at + 0x14, 4, _CORRECTABLE)
    config.allow(at + 0x14, 4, _CORRECTABLE_BITS)
    config.set(at + 0x18, 4, _CHECKS | (_MULTIPLE if root else 0))
    config.allow(at + 0x18, 4, _CHECKS_BITS | (_MULTIPLE_BIT if root else 0))
    config.allow(at + 0x2C, 4, 7 if root else 0)
    return at


class AccessControl:
    """The ACS capability of a root port. Of its controls, source validation has an effect."""

    def __init__(self, config: ConfigSpace, errors: int) -> None:
        self.config = config
        self.errors = errors
        self.offset = config.add_extended_capability(ACS, 1, 8)
        config.set(self.offset + 4, 2, _ALL_CONTROLS)
        config.allow(self.offset + 6, 2, _ALL_CONTROLS)

    @property
    def validates_sources(self) -> bool:
        """True if requests have to carry a bus number that is behind the port."""
        return bool(self.config.get(self.offset + 6, 2) & _SOURCE_VALIDATION)

    def violated(self) -> None:
        """Note in the error registers that a request was stopped."""
        self.config.change(self.errors + 4, 4, _VIOLATION, _VIOLATION)


def add_power(config: ConfigSpace, offset: int) -> int:
    """Power management, version 3, whose state nothing changes; returns where it is."""
    at = config.add_capability(_POWER, 8, offset)
    config.set(at + 2, 2, 3)
    return at


def add_slot_numbering(config: ConfigSpace, chassis: int) -> int:
    """The number of the chassis, of which this bridge is the first; returns where it is."""
    at = config.add_capability(_SLOTS, 4)
    config.set(at + 2, 2, 0x20 | chassis << 8)
    config.allow(at + 3, 1, 0xFF)
    return at


class HotPlugController:
    """A standard hot-plug controller for 31 slots: software sees slots and what is in them. Commands do nothing.

    Its registers are at BAR 0, and one dword at a time in the capability: select at 2, data at 4.
    """

    SLOTS = 31
    SIZE = 0x100
    _HEADER = (0, SLOTS, 0, 0xE001_0100 | SLOTS, 1 << 24, 0, 0, 0, 0xF)
    _EMPTY, _USED, _POWERED_DOWN = 0x7F00_0D0F, 0x7F00_0006, 0x30

    def __init__(self, config: ConfigSpace, bus: PciBus, newer: bool, offset: int = 0x40) -> None:
        self.config = config
        self.bus = bus
        self.offset = config.add_capability(_HOT_PLUG, 8, offset)
        config.allow(self.offset + 2, 1, 0xFF)
        self._extra = self._POWERED_DOWN if newer else 0
        self.region = MemoryRegion("shpc-mmio", self.SIZE, Operations(self._read, _ignored, Sizes(1, 4), Sizes(4, 4)))

    def refresh(self) -> None:
        """Put the selected dword where software reads it."""
        selected = self.config.get(self.offset + 2, 1)
        self.config.set(self.offset + 4, 4, self.dword(selected))

    def dword(self, number: int) -> int:
        """Dword `number` of the registers; 0 behind the last."""
        if number < len(self._HEADER):
            return self._HEADER[number]
        slot = number - len(self._HEADER) + 1
        if slot > self.SLOTS:
            return 0
        return (self._USED if slot << 3 in self.bus.functions else self._EMPTY) | self._extra

    def _read(self, offset: int, size: int) -> int:
        return self.dword(offset >> 2)


def _ignored(offset: int, size: int, value: int) -> None:
    pass
