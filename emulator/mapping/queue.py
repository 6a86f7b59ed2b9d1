"""The invalidation queue as software uses it: descriptors into memory, IQT by MMIO, then polling a status word.

Nothing is known here of who executes the descriptors. A wait descriptor ends every submission; its status data is a
sequence number, so that a stale status word can never be taken for completion (VT-d, invalidation wait descriptor).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from emulator.mmio import Mmio
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.bits import Word
from pagetables.errors import VtdError
from pagetables.layouts.descriptors import InvalidationWait
from pagetables.layouts.registers import (
    FaultStatus,
    InvalidationQueueAddress,
    InvalidationQueueErrorRecord,
    InvalidationQueueHead,
    InvalidationQueueTail,
)
from pagetables.memory import PhysicalMemory

__all__ = ["InvalidationQueue", "QueueFailure"]

POLLS = 1000  # a unit that takes virtual time gets it from `idle` between two polls
WAIT = InvalidationWait.of(type_lo=5, sw=1)


class QueueFailure(VtdError):
    """The unit did not finish what was submitted: `status` (FSTS) and `record` (IQERCD) say why."""

    def __init__(self, status: FaultStatus, record: InvalidationQueueErrorRecord, head: int) -> None:
        cause = [name.upper() for name in ("iqe", "ice", "ite") if getattr(status, name)] or ["no error is flagged"]
        super().__init__(
            f"the invalidation queue stands still at offset {head:#x}: {', '.join(cause)}, IQEI {record.iqei:#x}"
        )
        self.status = status
        self.record = record


class InvalidationQueue:
    """One page of descriptors at `base` and one status word at `status`; `slot` is 16 or 32 bytes."""

    def __init__(
        self,
        memory: PhysicalMemory,
        mmio: Mmio,
        base: Gpa,
        status: Gpa,
        slot: int,
        idle: Callable[[], object] | None = None,
    ) -> None:
        self.base, self.status, self.slot = base, status, slot
        self.size = PAGE_SIZE
        self.tail = 0
        self.sequence = 0
        self.submitted: Counter[str] = Counter()
        self._memory, self._mmio = memory, mmio
        self._idle = idle or (lambda: None)
        self._wait = int(WAIT.replace(staddr=status >> 2))

    @property
    def address(self) -> InvalidationQueueAddress:
        """What IQA has to hold."""
        return InvalidationQueueAddress.of(iqa=self.base >> 12, dw=int(self.slot == 32))

    def submit(self, descriptors: Sequence[Word]) -> None:
        """Have the unit execute these descriptors and return when it has; QueueFailure if it does not."""
        room = self.size // self.slot - 2  # one slot stays empty, one holds the wait
        for first in range(0, len(descriptors), room):
            self._submit_some(descriptors[first : first + room])

    def _submit_some(self, descriptors: Sequence[Word]) -> None:
        for descriptor in descriptors:
            self._put(descriptor)
            self.submitted[descriptor.name] += 1
        self.sequence = self.sequence % 0xFFFF_FFFF + 1
        self._put(InvalidationWait(self._wait | self.sequence << InvalidationWait.stdata.lo))
        self.submitted[InvalidationWait.name] += 1
        self.ring()

    def ring(self) -> None:
        """Show the unit the tail, and return when the last wait has written its status; QueueFailure if it does not."""
        self._mmio.write64(InvalidationQueueTail.mmio_offset, self.tail)
        self._await()

    def _put(self, descriptor: Word) -> None:
        self._memory.write(self.base + self.tail, descriptor.pack().ljust(self.slot, b"\0"))
        self.tail = (self.tail + self.slot) % self.size

    def _await(self) -> None:
        for _ in range(POLLS):
            word = self._memory.load(self.status)
            if word is not None and word & 0xFFFF_FFFF == self.sequence:
                return
            self._idle()
        raise QueueFailure(
            FaultStatus(self._mmio.read32(FaultStatus.mmio_offset)),
            InvalidationQueueErrorRecord(self._mmio.read64(InvalidationQueueErrorRecord.mmio_offset)),
            self._mmio.read64(InvalidationQueueHead.mmio_offset),
        )
