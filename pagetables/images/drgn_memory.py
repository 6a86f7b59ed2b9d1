"""Physical memory as drgn reads it: a running kernel, or any dump that drgn opens. docs/drgn.md has a whole script."""

from __future__ import annotations

from typing import Protocol

from pagetables.errors import NoMemory

__all__ = ["DrgnMemory", "PhysicalReader"]


class PhysicalReader(Protocol):
    """What is needed of a `drgn.Program`."""

    def read(self, address: int, size: int, physical: bool = False) -> bytes:
        """`size` bytes; drgn.FaultError where there are none."""
        ...


class DrgnMemory:
    """The physical memory of a drgn program, as a `Memory`."""

    def __init__(self, program: PhysicalReader) -> None:
        from drgn import FaultError

        self._program = program
        self._fault = FaultError

    def load(self, address: int) -> int | None:
        """The little-endian qword at `address`, or None where there is no memory."""
        try:
            return int.from_bytes(self.read(address, 8), "little")
        except NoMemory:
            return None

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`; NoMemory where drgn has none."""
        try:
            return self._program.read(address, size, physical=True)
        except self._fault:
            raise NoMemory(address, size) from None
