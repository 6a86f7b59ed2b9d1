"""Capabilities of PCI Express: the express capability itself, and ATS, PASID and page requests in extended space.

The extended ones let software enable what a unit then has to serve: `enabled` says what a device may do. Layouts:
PCI Express Base Specification, chapters on ATS, PASID and PRI.
"""

from __future__ import annotations

from device_models.pci.config_space import ConfigSpace

__all__ = [
    "ATS",
    "ENDPOINT",
    "EXPRESS",
    "PCIE_TO_PCI",
    "ROOT_ENDPOINT",
    "ROOT_PORT",
    "Ats",
    "PageRequests",
    "Pasids",
    "add_express_capability",
]

EXPRESS, ATS, PAGE_REQUEST, PASID = 0x10, 0x0F, 0x13, 0x1B
ENDPOINT, ROOT_PORT, PCIE_TO_PCI, ROOT_ENDPOINT = 0, 4, 7, 9
_EXPRESS_SIZE = 0x3C
_VERSION_2 = 2
_ROLE_BASED_ERRORS, _EXTENDED_TAGS = 0x8000, 0x20
_DEVICE_CONTROL = 0x0F  # error reporting
_LINK = 0x11  # one lane of 2.5 GT/s
_SLOT = 0x100
_BRIDGE_LINK = 0x0411  # active state power management besides
_ROOT_PORT_REGISTERS = (  # offset, bytes, value, what software may write: as QEMU's root port answers
    (12, 4, 0x0030_0604, 0),  # link capabilities: 32 lanes, 16 GT/s
    (20, 4, 0x0002_007B, 0),  # slot capabilities
    (24, 2, 0, 0x0FF9),  # slot control
    (28, 2, 0, 0x0007),  # root control
    (36, 4, 0x0030_0020, 0),  # device capabilities 2
    (40, 2, 0, 0x8020),  # device control 2
    (44, 4, 0x1E, 0),  # link capabilities 2
    (48, 2, 0x0004, 0),  # link control 2
)
_ATS_ENABLE, _PRI_ENABLE = 0x8000, 1
_STOPPED = 0x100


def add_express_capability(config: ConfigSpace, port_type: int, offset: int = 0, extended_tags: bool = False) -> int:
    """A version 2 express capability of a port with a one-lane link; returns where it is."""
    at = config.add_capability(EXPRESS, _EXPRESS_SIZE, offset)
    config.set(at + 2, 2, _VERSION_2 | port_type << 4)
    config.set(at + 4, 4, _ROLE_BASED_ERRORS | (_EXTENDED_TAGS if extended_tags else 0))
    config.allow(at + 8, 2, _DEVICE_CONTROL)
    config.clear_by_one(at + 10, 2, _DEVICE_CONTROL)
    config.set(at + 12, 4, _LINK)
    config.set(at + 18, 2, _LINK)
    if port_type == ROOT_PORT:
        config.change(at + 2, 2, _SLOT, _SLOT)
        config.clear_by_one(at + 26, 2, 0x19)
        for offset, size, value, writable in _ROOT_PORT_REGISTERS:
            config.set(at + offset, size, value)
            config.allow(at + offset, size, writable)
    if port_type == PCIE_TO_PCI:
        config.set(at + 12, 4, _BRIDGE_LINK)
        config.set(at + 36, 4, 0x0030_0020)
        config.allow(at + 40, 2, 0x8020)
    return at


class Ats:
    """Address translation services: `depth` invalidations may be under way (0 says 32)."""

    def __init__(self, config: ConfigSpace, depth: int = 0, page_aligned: bool = True, offset: int = 0) -> None:
        self.config = config
        self.offset = config.add_extended_capability(ATS, 1, 8, offset)
        config.set(self.offset + 4, 2, depth & 0x1F | (0x20 if page_aligned else 0))
        config.allow(self.offset + 6, 2, _ATS_ENABLE | 0x1F)

    @property
    def enabled(self) -> bool:
        """True if the function may send translation requests and translated requests."""
        return bool(self.config.get(self.offset + 6, 2) & _ATS_ENABLE)

    @property
    def smallest_shift(self) -> int:
        """log2 of the smallest range that software wants translated or invalidated: 12 and up."""
        return 12 + (self.config.get(self.offset + 6, 2) & 0x1F)


class Pasids:
    """PASIDs of `width` bits, with or without execute and privileged mode."""

    def __init__(
        self, config: ConfigSpace, width: int = 20, execute: bool = False, privileged: bool = False, offset: int = 0
    ) -> None:
        self.config = config
        self.width = width
        self.offset = config.add_extended_capability(PASID, 1, 8, offset)
        config.set(self.offset + 4, 2, (2 if execute else 0) | (4 if privileged else 0) | width << 8)
        config.allow(self.offset + 6, 2, 1 | (2 if execute else 0) | (4 if privileged else 0))

    def _control(self, bit: int) -> bool:
        return bool(self.config.get(self.offset + 6, 2) & bit)

    @property
    def enabled(self) -> bool:
        """True if requests may carry a PASID."""
        return self._control(1)

    @property
    def execute_enabled(self) -> bool:
        """True if they may ask to execute."""
        return self._control(2)

    @property
    def privileged_enabled(self) -> bool:
        """True if they may ask for privileged access."""
        return self._control(4)


class PageRequests:
    """The page request interface: up to `capacity` requests outstanding."""

    def __init__(self, config: ConfigSpace, capacity: int = 32, pasid_required: bool = True, offset: int = 0) -> None:
        self.config = config
        self.offset = config.add_extended_capability(PAGE_REQUEST, 1, 16, offset)
        config.allow(self.offset + 4, 2, _PRI_ENABLE)
        config.set(self.offset + 6, 2, _STOPPED | (0x8000 if pasid_required else 0))
        config.clear_by_one(self.offset + 6, 2, 3)
        config.set(self.offset + 8, 4, capacity)
        config.allow(self.offset + 12, 4, 0xFFFF_FFFF)

    @property
    def enabled(self) -> bool:
        """True if the function may send page requests."""
        return bool(self.config.get(self.offset + 4, 2) & _PRI_ENABLE)

    @property
    def allocation(self) -> int:
        """How many requests software lets be outstanding."""
        return min(self.config.get(self.offset + 12, 4), self.config.get(self.offset + 8, 4))

    def failed(self, unexpected_group: bool = False) -> None:
        """Note a response failure, or a response to a group that nobody waits for, in the status register."""
        bit = 2 if unexpected_group else 1
        self.config.change(self.offset + 6, 2, bit, bit)

    @property
    def response_failed(self) -> bool:
        """True from a response failure on, until software clears the bit: no page is asked for meanwhile."""
        return bool(self.config.get(self.offset + 6, 2) & 1)

    @property
    def stopped(self) -> bool:
        """True while no request is outstanding."""
        return bool(self.config.get(self.offset + 6, 2) & _STOPPED)

    @stopped.setter
    def stopped(self, stopped: bool) -> None:
        self.config.change(self.offset + 6, 2, _STOPPED, _STOPPED if stopped else 0)
