"""A unit watched while software drives it: what traces cannot show, because only the registers and the queue tell.

Put a `WatchedMmio` between a driver and the unit it drives. It passes everything on and takes note of

    status-lost       a write to FSTS clears a cause that software had not seen (write-1-to-clear: writing back all
                      ones, or a value read earlier, wipes what arose since)
    queue-overrun     the tail moves past the head: descriptors are overwritten that were not fetched yet
    idle-wait         a wait descriptor that neither writes a status, nor interrupts, nor fences: nobody learns of it
    cause-kept        the queue's error bit is cleared, and the descriptor that caused it stands there as it was
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from emulator.mmio import Mmio
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.layouts import InvalidationWait
from pagetables.layouts.registers import (
    FaultStatus,
    GlobalStatus,
    InvalidationQueueAddress,
    InvalidationQueueHead,
    InvalidationQueueTail,
)
from pagetables.memory import Memory

__all__ = ["RegisterFinding", "WatchedMmio"]

_FSTS, _GSTS = FaultStatus.mmio_offset, GlobalStatus.mmio_offset
_IQH, _IQT = InvalidationQueueHead.mmio_offset, InvalidationQueueTail.mmio_offset
_IQA = InvalidationQueueAddress.mmio_offset
_CAUSES = FaultStatus.pfo.mask | FaultStatus.iqe.mask | FaultStatus.ice.mask | FaultStatus.ite.mask
_WAIT = 5


class RegisterFinding(NamedTuple):
    """A rule that a register write broke; `access` counts the accesses so far."""

    rule: str
    access: int
    says: str


@dataclass(slots=True)
class WatchedMmio:
    """The registers of `unit`, watched; `memory` holds its queue."""

    unit: Mmio
    memory: Memory
    findings: list[RegisterFinding] = field(default_factory=list)
    accesses: int = 0
    _seen: int = 0  # causes in FSTS that software has read
    _tail: int = 0

    def read32(self, offset: int) -> int:
        """The 32-bit register at `offset`."""
        self.accesses += 1
        value = self.unit.read32(offset)
        if offset == _FSTS:
            self._seen = value & _CAUSES
        return value

    def read64(self, offset: int) -> int:
        """The 64-bit register at `offset`."""
        self.accesses += 1
        value = self.unit.read64(offset)
        if offset == _FSTS - 4:  # the upper half
            self._seen = value >> 32 & _CAUSES
        return value

    def write32(self, offset: int, value: int) -> None:
        """Write 32 bits at `offset`."""
        self._write(offset, value, lambda: self.unit.write32(offset, value))

    def write64(self, offset: int, value: int) -> None:
        """Write 64 bits at `offset`."""
        at, written = (_FSTS, value >> 32) if offset == _FSTS - 4 else (offset, value)
        self._write(at, written, lambda: self.unit.write64(offset, value))

    def _write(self, offset: int, value: int, pass_on: Callable[[], None]) -> None:
        self.accesses += 1
        if offset == _IQT:
            self._tail_moves(value)
        stuck = self._stuck_on() if offset == _FSTS and value & FaultStatus.iqe.mask else None
        if offset == _FSTS:
            self._clears(value)
        pass_on()
        if stuck is not None and stuck == self._stuck_on():
            self._find("cause-kept", f"IQE is cleared, and the descriptor at {stuck[0]:#x} that set it is unchanged")

    def _clears(self, value: int) -> None:
        lost = value & self.unit.read32(_FSTS) & _CAUSES & ~self._seen
        if lost:
            names = ", ".join(name.upper() for name in ("pfo", "iqe", "ice", "ite") if lost & _mask(name))
            self._find("status-lost", f"writing {value:#x} to FSTS clears {names}, which nobody had read")
        self._seen &= ~value

    def _tail_moves(self, value: int) -> None:
        base, size, slot = self._queue()
        tail, self._tail = self._tail, value % size
        if not self.unit.read32(_GSTS) & GlobalStatus.qies.mask:
            return
        head = self.unit.read32(_IQH) % size
        added, room = (self._tail - tail) % size, (head - tail - slot) % size
        if added > room:
            self._find("queue-overrun", f"{added // slot} descriptors are added where {room // slot} fit")
        for at in range(tail, tail + added, slot):
            word = int.from_bytes(self.memory.read(Gpa(base + at % size), 16), "little")
            if word & 0xF == _WAIT and _is_idle(InvalidationWait(word)):
                self._find("idle-wait", f"the wait descriptor at {base + at % size:#x} tells nobody that it is done")

    def _stuck_on(self) -> tuple[int, bytes] | None:
        if not self.unit.read32(_FSTS) & FaultStatus.iqe.mask:
            return None
        base, size, slot = self._queue()
        at = Gpa(base + self.unit.read32(_IQH) % size)
        return at, self.memory.read(at, slot)

    def _queue(self) -> tuple[int, int, int]:
        address = InvalidationQueueAddress(self.unit.read64(_IQA))
        return address.iqa * PAGE_SIZE, PAGE_SIZE << address.qs, 32 if address.dw else 16

    def _find(self, rule: str, says: str) -> None:
        self.findings.append(RegisterFinding(rule, self.accesses, says))


def _mask(name: str) -> int:
    mask: int = getattr(FaultStatus, name).mask
    return mask


def _is_idle(wait: InvalidationWait) -> bool:
    return not (wait.sw or wait.if_ or wait.fn or wait.pd)
