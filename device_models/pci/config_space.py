"""A PCI function's configuration space: bytes, which of their bits software may write, and which a one clears.

Reset values, masks and the capability lists follow QEMU's devices, as their configuration spaces answer: what lies
behind the header and in no capability can be written freely.
"""

from __future__ import annotations

import struct

from pagetables.errors import InputError

__all__ = [
    "CONVENTIONAL_SIZE",
    "EXPRESS_SIZE",
    "HEADER_SIZE",
    "MULTIFUNCTION",
    "STATUS_INTERRUPT",
    "Command",
    "ConfigSpace",
    "Offset",
]

CONVENTIONAL_SIZE = 256
EXPRESS_SIZE = 4096
HEADER_SIZE = 0x40


class Offset:
    """Where the fields of the header are."""

    VENDOR, DEVICE, COMMAND, STATUS, REVISION, CLASS_INTERFACE, CLASS = 0x00, 0x02, 0x04, 0x06, 0x08, 0x09, 0x0A
    CACHE_LINE, HEADER_TYPE, BARS, SUBSYSTEM_VENDOR, SUBSYSTEM = 0x0C, 0x0E, 0x10, 0x2C, 0x2E
    CAPABILITIES, INTERRUPT_LINE, INTERRUPT_PIN = 0x34, 0x3C, 0x3D
    PRIMARY_BUS, SECONDARY_BUS, SUBORDINATE_BUS, SECONDARY_LATENCY, SECONDARY_STATUS = 0x18, 0x19, 0x1A, 0x1B, 0x1E
    IO_BASE, IO_LIMIT, MEMORY_BASE, MEMORY_LIMIT = 0x1C, 0x1D, 0x20, 0x22
    PREFETCH_BASE, PREFETCH_LIMIT, PREFETCH_BASE_HIGH, PREFETCH_LIMIT_HIGH = 0x24, 0x26, 0x28, 0x2C
    IO_BASE_HIGH, IO_LIMIT_HIGH, BRIDGE_CONTROL = 0x30, 0x32, 0x3E


class Command:
    """Bits of the command register."""

    IO, MEMORY, MASTER, SERR, INTX_DISABLE = 1, 2, 4, 0x100, 0x400
    WRITABLE = IO | MEMORY | MASTER | SERR | INTX_DISABLE


STATUS_INTERRUPT = 0x08
STATUS_CAPABILITIES = 0x10
STATUS_ERRORS = 0xF900  # cleared by writing ones
MULTIFUNCTION = 0x80


class ConfigSpace:
    """The bytes of one function; `read` and `write` are software's, the rest is the device's own hand."""

    def __init__(self, size: int = CONVENTIONAL_SIZE) -> None:
        self.size = size
        self.data = bytearray(size)
        self.writable = bytearray(size)
        self.cleared = bytearray(size)
        self._used = bytearray(b"\1" * HEADER_SIZE + bytes(size - HEADER_SIZE))
        self._power_on = b""
        self._last_extended = 0
        self.writable[HEADER_SIZE:] = b"\xff" * (size - HEADER_SIZE)
        self.allow(Offset.COMMAND, 2, Command.WRITABLE)
        self.allow(Offset.CACHE_LINE, 1, 0xFF)
        self.allow(Offset.INTERRUPT_LINE, 1, 0xFF)
        self.cleared[Offset.STATUS : Offset.STATUS + 2] = STATUS_ERRORS.to_bytes(2, "little")
        if size > CONVENTIONAL_SIZE:
            self.allow(CONVENTIONAL_SIZE, 4, 0)

    # -- software -----------------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """The number of `size` bytes at `offset`; what lies beyond the end reads as ones."""
        found = bytes(self.data[offset : offset + size])
        return int.from_bytes(found or b"\xff" * size, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Software writes: read-only bits stay, ones clear what ones clear."""
        for at, byte in enumerate((value & (1 << 8 * size) - 1).to_bytes(size, "little"), offset):
            if at < self.size:
                kept = self.data[at] & ~self.writable[at] | byte & self.writable[at]
                self.data[at] = kept & ~(byte & self.cleared[at])

    # -- the device ---------------------------------------------------------------------------------------------------

    def get(self, offset: int, size: int) -> int:
        """The number of `size` bytes at `offset`."""
        return int.from_bytes(self.data[offset : offset + size], "little")

    def set(self, offset: int, size: int, value: int) -> None:
        """Put a number of `size` bytes at `offset`, past every mask."""
        self.data[offset : offset + size] = value.to_bytes(size, "little")

    def change(self, offset: int, size: int, mask: int, value: int) -> None:
        """Put `value` into the bits of `mask`."""
        self.set(offset, size, self.get(offset, size) & ~mask | value & mask)

    def allow(self, offset: int, size: int, mask: int) -> None:
        """Let software write the bits of `mask`, and no others, in `size` bytes at `offset`."""
        self.writable[offset : offset + size] = mask.to_bytes(size, "little")

    def clear_by_one(self, offset: int, size: int, mask: int) -> None:
        """Let a written one clear the bits of `mask` in `size` bytes at `offset`."""
        self.cleared[offset : offset + size] = mask.to_bytes(size, "little")

    def identify(self, vendor: int, device: int, class_code: int, revision: int, interface: int = 0) -> None:
        """Vendor, device, class (base and sub), programming interface and revision."""
        self.data[0:4] = struct.pack("<HH", vendor, device)
        self.data[Offset.REVISION : Offset.REVISION + 4] = struct.pack("<BBH", revision, interface, class_code)

    def add_capability(self, identity: int, size: int, offset: int = 0) -> int:
        """Put a capability of `size` bytes, read-only until allowed, in front of the list; returns where it is.

        Without an `offset` it takes the first room there is.
        """
        offset = offset or self._room(size)
        self._claim(offset, size)
        self.data[offset], self.data[offset + 1] = identity, self.data[Offset.CAPABILITIES]
        self.data[Offset.CAPABILITIES] = offset
        self.change(Offset.STATUS, 2, STATUS_CAPABILITIES, STATUS_CAPABILITIES)
        return offset

    def add_extended_capability(self, identity: int, version: int, size: int, offset: int = 0) -> int:
        """Append an extended capability; the first is at 100h. Returns where it is."""
        if self.size <= CONVENTIONAL_SIZE:
            raise InputError("a conventional PCI function has no extended capabilities")
        offset = (offset or self._room(size, CONVENTIONAL_SIZE)) if self._last_extended else CONVENTIONAL_SIZE
        self._claim(offset, size)
        self.set(offset, 4, identity | version << 16)
        if self._last_extended:
            self.change(self._last_extended, 4, 0xFFF0_0000, offset << 20)
        self._last_extended = offset
        return offset

    def find_capability(self, identity: int) -> int:
        """Where the capability is, as software finds it; 0 if there is none."""
        at, seen = self.data[Offset.CAPABILITIES], 0
        while at and self.data[at] != identity and seen < HEADER_SIZE:
            at, seen = self.data[at + 1], seen + 1
        return at if at and self.data[at] == identity else 0

    def find_extended_capability(self, identity: int) -> int:
        """Where the extended capability is; 0 if there is none."""
        at = CONVENTIONAL_SIZE if self.size > CONVENTIONAL_SIZE and self.get(CONVENTIONAL_SIZE, 4) else 0
        while at and self.get(at, 2) != identity:
            at = self.get(at, 4) >> 20
        return at

    def _room(self, size: int, first: int = HEADER_SIZE) -> int:
        for at in range(first, self.size - size + 1, 4):
            if not any(self._used[at : at + size]):
                return at
        raise InputError(f"configuration space has no room for a capability of {size} bytes")

    def _claim(self, offset: int, size: int) -> None:
        if any(self._used[offset : offset + size]) or offset + size > self.size:
            raise InputError(f"configuration space at {offset:#x} is taken or ends before {offset + size:#x}")
        end = offset + -(-size // 4) * 4
        self._used[offset:end] = b"\1" * (end - offset)
        self.writable[offset : offset + size] = bytes(size)

    # -- power --------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The bytes as they were at the first reset, which ends what the device declares."""
        self._power_on = self._power_on or bytes(self.data)
        self.data[:] = self._power_on
