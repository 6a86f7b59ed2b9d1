"""What every system of bounce buffers does alike: copy, and count what that came to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from emulator.mapping.bounce.bouncer import BounceStatistics
from emulator.mapping.costs import Meter
from pagetables.address import Gpa
from pagetables.errors import VtdError

__all__ = ["READS", "WRITES", "BytesMemory", "Copier", "NotBounced"]

READS = 1  # the device reads: the CPU's data must be in the buffer before (to device)
WRITES = 2  # the device writes: its data must come back afterwards (from device)


class NotBounced(VtdError):
    """A buffer is finished or synchronised that no bounce was made for, or not like this: a driver's bug."""


class BytesMemory(Protocol):
    """Memory that bytes are copied in."""

    def read(self, address: Gpa, size: int) -> bytes:
        """`size` bytes at `address`."""
        ...

    def write(self, address: Gpa, data: bytes) -> None:
        """Put `data` at `address`."""
        ...


class Copier:
    """The copying side of a bouncer. Without `memory` copies are counted and paid for, and no byte moves."""

    def __init__(self) -> None:
        self.statistics = BounceStatistics()
        self.meter = Meter()
        self.memory: BytesMemory | None = None
        self.on_available: list[Callable[[], None]] = []

    def copy(self, source: int, target: int, size: int) -> None:
        """Copy `size` bytes from `source` to `target`."""
        self.statistics.bytes_copied += size
        self.meter.spend("bounce.byte", size)
        if self.memory is not None:
            self.memory.write(Gpa(target), self.memory.read(Gpa(source), size))

    def occupy(self, size: int) -> None:
        """`size` more bytes of bounce buffers are in use."""
        statistics = self.statistics
        statistics.used += size
        statistics.used_highest = max(statistics.used_highest, statistics.used)

    def vacate(self, size: int) -> None:
        """`size` bytes less are in use."""
        self.statistics.used -= size

    def count(self, detail: str, by: int = 1) -> None:
        """One more of what only this system counts."""
        details = self.statistics.details
        details[detail] = details.get(detail, 0) + by
