"""What a DMAR table says, as values. Reserved bytes are kept, so that a table is written back as it was read."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from pagetables.address import PAGE_SIZE, SourceId, source_id

__all__ = [
    "Andd",
    "Atsr",
    "DeviceScope",
    "DmarTable",
    "Drhd",
    "Rhsa",
    "Rmrr",
    "Satc",
    "ScopeType",
    "Sidp",
    "Structure",
    "Unknown",
]


class ScopeType(enum.IntEnum):
    """What a device scope names."""

    ENDPOINT = 1
    BRIDGE = 2  # and the whole hierarchy below it
    IOAPIC = 3
    HPET = 4
    NAMESPACE_DEVICE = 5


@dataclass(frozen=True, slots=True)
class DeviceScope:
    """A device, by the path to it: a bus, then device and function of each hop. `type` is a `ScopeType`, or unknown.

    `enum_id` is the IOAPIC's id, the HPET's number or the namespace device's; `flags` count in `Sidp` only.
    """

    type: int
    start_bus: int
    path: tuple[tuple[int, int], ...]
    enum_id: int = 0
    flags: int = 0
    rsvd: int = 0

    @property
    def source_id(self) -> SourceId | None:
        """The source-id of a device on the start bus; None behind bridges, whose bus numbers the table does not say."""
        if len(self.path) != 1:
            return None
        return source_id(self.start_bus, *self.path[0])


@dataclass(frozen=True, slots=True)
class Drhd:
    """A DMA remapping hardware unit: where its registers are, and what it serves."""

    code: ClassVar[int] = 0
    base: int
    segment: int = 0
    flags: int = 0
    size: int = 0
    scopes: tuple[DeviceScope, ...] = ()

    @property
    def include_all(self) -> bool:
        """True if it serves every PCI device of its segment that no other unit names."""
        return bool(self.flags & 1)

    @property
    def register_bytes(self) -> int:
        """Size of its register set: 2^N pages."""
        return PAGE_SIZE << (self.size & 0xF)


@dataclass(frozen=True, slots=True)
class Rmrr:
    """Memory [base, limit] that firmware goes on using for devices: `limit` is its last byte."""

    code: ClassVar[int] = 1
    base: int
    limit: int
    segment: int = 0
    rsvd: int = 0
    scopes: tuple[DeviceScope, ...] = ()


@dataclass(frozen=True, slots=True)
class Atsr:
    """Root ports that support ATS."""

    code: ClassVar[int] = 2
    segment: int = 0
    flags: int = 0
    rsvd: int = 0
    scopes: tuple[DeviceScope, ...] = ()

    @property
    def all_ports(self) -> bool:
        """True if every root port of the segment does."""
        return bool(self.flags & 1)


@dataclass(frozen=True, slots=True)
class Rhsa:
    """The proximity domain `pxm` of the unit whose registers are at `base`."""

    code: ClassVar[int] = 3
    base: int
    pxm: int
    rsvd: int = 0


@dataclass(frozen=True, slots=True)
class Andd:
    """The ACPI namespace path of a device; `padding` is what follows the string's NUL."""

    code: ClassVar[int] = 4
    devnum: int
    path: bytes
    rsvd: int = 0
    padding: bytes = b""


@dataclass(frozen=True, slots=True)
class Satc:
    """Integrated devices with an address translation cache."""

    code: ClassVar[int] = 5
    segment: int = 0
    flags: int = 0
    rsvd: int = 0
    scopes: tuple[DeviceScope, ...] = ()

    @property
    def atc_required(self) -> bool:
        """True if the devices work only with ATS."""
        return bool(self.flags & 1)


@dataclass(frozen=True, slots=True)
class Sidp:
    """Properties of integrated devices, in the flags of their scopes."""

    code: ClassVar[int] = 6
    segment: int = 0
    rsvd: int = 0
    scopes: tuple[DeviceScope, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A structure of a type that is not known here; `body` is what follows its type and length."""

    type: int
    body: bytes


Structure = Drhd | Rmrr | Atsr | Rhsa | Andd | Satc | Sidp | Unknown


@dataclass(frozen=True, slots=True)
class DmarTable:
    """A DMAR table. `haw` is the platform's host address width in bits (the table says one less)."""

    haw: int
    structures: tuple[Structure, ...]
    flags: int = 0
    revision: int = 1
    oemid: bytes = b"VTD   "
    oem_table_id: bytes = b"EMULATOR"
    oem_revision: int = 1
    creator_id: bytes = b"VTD "
    creator_revision: int = 1
    rsvd: int = 0

    @property
    def units(self) -> tuple[Drhd, ...]:
        """The remapping hardware units, in the table's order."""
        return tuple(structure for structure in self.structures if isinstance(structure, Drhd))

    @property
    def interrupt_remapping(self) -> bool:
        """True if the platform supports interrupt remapping."""
        return bool(self.flags & 1)

    @property
    def x2apic_opt_out(self) -> bool:
        """True if the firmware asks to leave x2APIC mode alone."""
        return bool(self.flags & 2)

    @property
    def dma_opt_in(self) -> bool:
        """True if the firmware asks for DMA protection of external devices."""
        return bool(self.flags & 4)
