"""The invalidation queue: fetch, check, execute, in order (VT-d, "Queued Invalidation Interface").

The head moves past a descriptor when it is done. A bad one stops the queue: IQE is set with the reason in IQERCD, the
head stays on it, and when software has cleared IQE the queue goes on from there without another tail write.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from emulator.engine import Engine, Iotlb, QueueState
from emulator.unit.events import EventInterrupt
from emulator.unit.faults import FaultRecorder
from emulator.unit.interrupts import InterruptRemapper
from emulator.unit.invalidation import Invalidator
from emulator.unit.registers import UnitRegisters
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.bits import Word
from pagetables.errors import NoMemory
from pagetables.layouts import (
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    InterruptEntryInvalidate,
    InvalidationWait,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
)
from pagetables.layouts.registers import FaultStatus
from pagetables.memory import PhysicalMemory

__all__ = ["InvalidationQueue", "QueueError"]

SCALABLE = 1


class QueueError(enum.IntEnum):
    """Why the queue stopped: IQERCD.IQEI."""

    TAIL_BEYOND_QUEUE = 1
    FETCH_FAILED = 2
    UNKNOWN_TYPE = 3
    BAD_DESCRIPTOR = 4  # a reserved field or a value that means nothing
    WRONG_WIDTH = 5
    TAIL_MISALIGNED = 6


class _Descriptor(NamedTuple):
    layout: type[Word]
    execute: Callable[[InvalidationQueue, Any], bool]
    needs: Callable[[UnitRegisters], int] | None = None


class InvalidationQueue:
    """The queue of one unit, between QIE being set and cleared."""

    def __init__(
        self,
        registers: UnitRegisters,
        memory: PhysicalMemory,
        engine: Engine,
        iotlb: Iotlb,
        invalidator: Invalidator,
        faults: FaultRecorder,
        completion: EventInterrupt,
        interrupts: InterruptRemapper,
    ) -> None:
        self._registers = registers
        self._memory = memory
        self._engine = engine
        self._iotlb = iotlb
        self._invalidator = invalidator
        self._faults = faults
        self._completion = completion
        self._interrupts = interrupts
        self.state: QueueState | None = None  # while it is enabled
        self.scalable = False  # whether the latched root table is a scalable-mode one

    def enable(self) -> None:
        """Latch IQA and start at IQH=0. A tail written earlier was held, and is worked off now."""
        address = self._registers.iqa
        self.state = QueueState(
            memory=self._memory,
            registers=self._registers.registers,
            iotlb=self._iotlb,
            base=Gpa(address.iqa * PAGE_SIZE),
            size=PAGE_SIZE << address.qs,
            slot=32 if address.dw else 16,
            capabilities=self._registers.capabilities,
        )
        self.run()

    def disable(self) -> None:
        """Stop, also in the middle of an error. IQH goes back to 0; IQT keeps what software wrote."""
        self.state = None
        self._registers.iqh = type(self._registers.iqh)(0)

    def run(self) -> None:
        """Work from head to tail, or to the first error. The engine takes the common descriptors by itself."""
        state = self.state
        while state is not None and not self._stopped() and self._head() != self._tail():
            error = self._setup_error(state)
            if error is None:
                self._engine.run_queue(state)
                if self._head() == self._tail():
                    return
                error = self._step(state)
            if error is not None:
                self._stop(error)

    def _head(self) -> int:
        return UnitRegisters.iqh.value(self._registers)

    def _tail(self) -> int:
        return UnitRegisters.iqt.value(self._registers)

    def _stopped(self) -> bool:
        return bool(UnitRegisters.fsts.value(self._registers) & FaultStatus.iqe.mask)

    def tail_moved(self) -> None:
        """Software wrote IQT. A tail outside the queue is an error also where it equals the head."""
        state = self.state
        if state is None or self._stopped():
            return
        error = self._tail_error(state)
        if error is not None:
            self._stop(error)
        self.run()

    def _tail_error(self, state: QueueState) -> QueueError | None:
        tail = self._tail()
        if tail % state.slot:
            return QueueError.TAIL_MISALIGNED
        return QueueError.TAIL_BEYOND_QUEUE if tail >= state.size else None

    def _setup_error(self, state: QueueState) -> QueueError | None:
        ecap = state.capabilities.ecap
        wide = state.slot == 32
        if (self.scalable and not wide) or (wide and not (ecap.smts or ecap.adms)):
            return QueueError.WRONG_WIDTH
        return self._tail_error(state)

    def _stop(self, error: QueueError) -> None:
        self._registers.iqercd = self._registers.iqercd.replace(iqei=error)
        self._faults.queue_error(iqe=1)

    def _step(self, state: QueueState) -> QueueError | None:
        head = self._head()
        try:
            raw = int.from_bytes(self._memory.read(state.base + head, state.slot), "little")
        except NoMemory:
            return QueueError.FETCH_FAILED
        error = self._execute(raw, state)
        if error is None:
            self._registers.iqh = type(self._registers.iqh)((head + state.slot) % state.size)
        return error

    def _execute(self, raw: int, state: QueueState) -> QueueError | None:
        known = self._DESCRIPTORS.get(raw & 0xF | raw >> 5 & 0x70)
        if known is None or known.layout.width > state.slot * 8:
            return QueueError.UNKNOWN_TYPE
        if known.needs is not None and not known.needs(self._registers):
            return QueueError.UNKNOWN_TYPE
        # The upper half of a short descriptor in a wide slot is reserved too.
        if raw >> known.layout.width or raw & known.layout.reserved_mask:
            return QueueError.BAD_DESCRIPTOR
        return None if known.execute(self, known.layout(raw)) else QueueError.BAD_DESCRIPTOR

    def _contexts(self, d: ContextCacheInvalidate) -> bool:
        return bool(self._invalidator.contexts(d.g, d.did, d.sid, d.fm, self.scalable))

    def _translations(self, d: IotlbInvalidate) -> bool:
        return bool(self._invalidator.iotlb(d.g, d.did, d.addr * PAGE_SIZE, d.am))

    def _pasid_translations(self, d: PasidIotlbInvalidate) -> bool:
        return self._invalidator.pasid_iotlb(d.g, d.did, d.pasid, d.addr * PAGE_SIZE, d.am)

    def _pasid_entries(self, d: PasidCacheInvalidate) -> bool:
        return self._invalidator.pasid_cache(d.g, d.did, d.pasid)

    def _interrupt_entries(self, d: InterruptEntryInvalidate) -> bool:
        return self._interrupts.invalidate(d.g, d.iidx, d.im)

    def _device_tlb(self, d: DeviceTlbInvalidate | PasidDeviceTlbInvalidate) -> bool:
        # No device keeps translations yet. PFSID is reserved where throttling is not supported.
        return bool(self._registers.ecap.dit) or not (d.pfsid_lo or d.pfsid_hi)

    def _wait(self, d: InvalidationWait) -> bool:
        if d.pd and not self._registers.ecap.pds:
            return False
        if d.sw:
            address = d.staddr << 2
            if address >= self._registers.capabilities.address_limit:
                return False
            self._write_status(address, d.stdata)
        if d.if_ and not self._registers.ics.iwc:
            self._registers.ics = self._registers.ics.replace(iwc=1)
            self._completion.happened()
        return True

    def _write_status(self, address: int, value: int) -> None:
        with contextlib.suppress(NoMemory):  # a posted write to where nothing is gets lost, as on a bus
            self._memory.write(address, value.to_bytes(4, "little"))

    _DESCRIPTORS: ClassVar[dict[int, _Descriptor]] = {
        0x1: _Descriptor(ContextCacheInvalidate, _contexts),
        0x2: _Descriptor(IotlbInvalidate, _translations),
        0x3: _Descriptor(DeviceTlbInvalidate, _device_tlb, lambda registers: registers.ecap.dt),
        0x4: _Descriptor(InterruptEntryInvalidate, _interrupt_entries),
        0x5: _Descriptor(InvalidationWait, _wait),
        0x6: _Descriptor(PasidIotlbInvalidate, _pasid_translations),
        0x7: _Descriptor(PasidCacheInvalidate, _pasid_entries),
        0x8: _Descriptor(PasidDeviceTlbInvalidate, _device_tlb, lambda registers: registers.ecap.dt),
    }
