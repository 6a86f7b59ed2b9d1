"""The only door between software and a unit's registers."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Mmio"]


class Mmio(Protocol):
    """A register page: offsets in bytes, 4- and 8-byte accesses, little-endian values."""

    def read32(self, offset: int) -> int:
        """The 32-bit register at `offset`."""
        ...

    def read64(self, offset: int) -> int:
        """The 64-bit register at `offset`."""
        ...

    def write32(self, offset: int, value: int) -> None:
        """Write 32 bits at `offset`."""
        ...

    def write64(self, offset: int, value: int) -> None:
        """Write 64 bits at `offset`."""
        ...
