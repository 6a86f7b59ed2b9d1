"""DMA of a machine's devices: requests go through the unit of their scope into the machine's address space.

A transfer is what a bus makes of it: pieces that do not depend on each other. A piece that is blocked, or that leads
nowhere, reads as zeros (as QEMU's devices see it) or is lost; the pieces behind it go on. The first error is told.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from device_models.address_space import AddressSpace
from device_models.local_apic import LocalApics
from emulator.bus import Carrier
from emulator.unit import RemappingUnit
from emulator.unit.unit import in_interrupt_range
from pagetables.address import PAGE_SHIFT, Gpa
from pagetables.fault import Fault
from pagetables.request import Permissions, Request, Translation

__all__ = ["DmaError", "DmaRead", "DmaRefusal", "SystemBus"]


class DmaRefusal(enum.Enum):
    """Why a transfer failed without a unit's word."""

    NOT_A_MASTER = "bus mastering is off in the function's command register"
    NOTHING_THERE = "no memory and no register at the address"
    FORGED_SOURCE = "source validation of a port above"


DmaError = Fault | DmaRefusal
_ALL = Permissions.R | Permissions.W | Permissions.X


@dataclass(frozen=True, slots=True)
class DmaRead:
    """What a read brought: `data` has zeros where `error` (the first of them) struck."""

    data: bytes
    error: DmaError | None = None


@dataclass(slots=True)
class SystemBus(Carrier):
    """`unit_for` names the unit that remaps a source-id, or None where none does."""

    space: AddressSpace
    apics: LocalApics
    unit_for: Callable[[int], RemappingUnit | None] = field(default=lambda source_id: None)

    def read_all(self, request: Request, size: int) -> DmaRead:
        """Read `size` bytes for `request`."""
        data, error = bytearray(), None
        for part, _, answer in self._parts(request, size):
            chunk, failed = self._loaded(answer, part)
            data += chunk
            error = error or failed
        return DmaRead(bytes(data), error)

    def write_all(self, request: Request, data: bytes) -> DmaError | None:
        """Write `data` for `request`; the first error."""
        error: DmaError | None = None
        done = 0
        for part, at, answer in self._parts(request, len(data)):
            failed = self._stored(at, answer, data[done : done + part])
            done += part
            error = error or failed
        return error

    def _loaded(self, answer: Translation | Fault, size: int) -> tuple[bytes, DmaError | None]:
        if isinstance(answer, Fault):
            return bytes(size), answer
        chunk, complete = self.space.load(answer.gpa, size)
        return chunk, None if complete else DmaRefusal.NOTHING_THERE

    def _stored(self, at: Request, answer: Translation | Fault, data: bytes) -> DmaError | None:
        if isinstance(answer, Fault):
            return answer
        if in_interrupt_range(at):
            return self._interrupt(at, data)
        return None if self.space.store(answer.gpa, data) else DmaRefusal.NOTHING_THERE

    def _answer(self, request: Request) -> Translation | Fault:
        unit = self.unit_for(request.source_id)
        return Translation(Gpa(request.iova), PAGE_SHIFT, _ALL) if unit is None else unit.translate(request)

    def _interrupt(self, request: Request, data: bytes) -> Fault | None:
        unit = self.unit_for(request.source_id)
        if unit is not None:
            return unit.interrupt(request, data)
        self.apics.write_message(request.iova, int.from_bytes(data[:4], "little"), request.source_id)
        return None

    def _load(self, where: Translation, size: int) -> bytes:
        return self.space.read(where.gpa, size)

    def _store(self, where: Translation, data: bytes) -> None:
        self.space.write(where.gpa, data)
