"""Primary fault recording: records, overflow, and the event (VT-d, "Non-Recoverable Fault Reporting")."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.unit.events import EventInterrupt
from emulator.unit.registers import UnitRegisters
from pagetables.address import PAGE_SHIFT
from pagetables.fault import Fault, FaultReason
from pagetables.layouts.registers import FaultRecord
from pagetables.request import Access

__all__ = ["FaultRecorder", "StrayPasidFault", "fault_record"]

_INTERRUPT_REASONS = range(FaultReason.IR_REQUEST_RESERVED, FaultReason.IR_NOT_AN_INTERRUPT + 1)
_ALL_BITS = 64  # of an address
_INDEX = 0xFFFF  # bits 63:48 of a record
# (T1, T2): 00 write, 10 read, 11 AtomicOp; 01 is a page request.
_TYPES = {Access.READ: (1, 0), Access.WRITE: (0, 0), Access.ATOMIC: (1, 1), Access.EXECUTE: (1, 0)}


@dataclass(frozen=True, slots=True)
class StrayPasidFault(Fault):
    """A fault whose record names a PASID that the request did not carry, valid or not."""

    pasid: int = 0
    present: bool = False


def fault_record(fault: Fault, address_width: int, device_tlb: bool, page_request: bool = False) -> FaultRecord:
    """The record of a fault, F set. Where the reason is one of interrupt remapping it holds the interrupt's index.

    Address bits that the unit does not implement read 0, and so does AT without device-TLB support.
    """
    request = fault.request
    if fault.reason in _INTERRUPT_REASONS:
        index = fault.index & _INDEX
        return FaultRecord.of(fi=index << 48 >> PAGE_SHIFT, sid=request.source_id, fr=fault.reason, f=1)
    t1, t2 = (0, 1) if page_request else _TYPES[request.access]
    return FaultRecord.of(
        fi=(request.iova & (1 << address_width) - 1) >> PAGE_SHIFT,
        sid=request.source_id,
        fr=fault.reason,
        t1=t1,
        t2=t2,
        at=request.address_type if device_tlb else 0,
        f=1,
        **_pasid_fields(fault),
    )


def _pasid_fields(fault: Fault) -> dict[str, int]:
    request = fault.request
    if isinstance(fault, StrayPasidFault):
        return {"pp": int(fault.present), "pv": fault.pasid}
    # Only a PASID that the request itself carried is reported, never RID_PASID.
    if request.pasid is None:
        return {}
    return {
        "pp": 1,
        "pv": request.pasid,
        "priv": int(request.privileged),
        "exe": int(request.access is Access.EXECUTE),
    }


class FaultRecorder:
    """The fault recording registers of a unit and its fault event."""

    def __init__(self, registers: UnitRegisters, event: EventInterrupt) -> None:
        self._registers = registers
        self._event = event
        self._next = 0
        self._compress = registers.profile.behaves("compress_faults")
        self._drops_interrupts = registers.profile.behaves("drop_interrupt_faults")

    def power_on(self) -> None:
        """The next fault goes into record 0. Disabling translation does not bring this about, nor does a warm reset,
        which leaves the records."""
        self._next = 0

    def record(self, fault: Fault, page_request: bool = False) -> None:
        """Write a fault into the next record, unless fault processing is disabled for it or records overflowed."""
        registers = self._registers
        if not fault.recorded or registers.fsts.pfo:
            return
        if self._drops_interrupts and fault.reason in _INTERRUPT_REASONS:
            return
        if self._compress and any(r.f and r.sid == fault.request.source_id for r in registers.frcd):
            return
        if registers.frcd[self._next].f:
            # Overflow is no event: a record is pending, so software was told already.
            registers.fsts = registers.fsts.replace(pfo=1)
            return
        capabilities = registers.capabilities
        width = _ALL_BITS if registers.profile.behaves("record_whole_address") else capabilities.mgaw
        registers.frcd[self._next] = fault_record(fault, width, bool(capabilities.ecap.dt), page_request)
        pending, written = registers.fsts.ppf, self._next
        self._next = (self._next + 1) % len(registers.frcd)
        if not pending:
            # FRI is loaded when PPF rises and at no other time.
            self._status_rose(ppf=1, fri=written)

    def queue_error(self, **fields: int) -> None:
        """Set IQE, ICE or ITE in the fault status, and raise the event if nothing was pending there."""
        self._status_rose(**fields)

    def _status_rose(self, **fields: int) -> None:
        registers = self._registers
        quiet = not self._pending()
        registers.fsts = registers.fsts.replace(**fields)
        if quiet:
            self._event.happened()

    def _pending(self) -> bool:
        status = self._registers.fsts
        return bool(status.ppf or status.pfo or status.iqe or status.ice or status.ite)

    def cleared(self, withdraw: bool = True) -> None:
        """Software cleared a record or a status bit: PPF is the OR of all F bits; with nothing left IP falls too."""
        registers = self._registers
        registers.fsts = registers.fsts.replace(ppf=int(any(record.f for record in registers.frcd)))
        if withdraw and not self._pending():
            self._event.withdrawn()
