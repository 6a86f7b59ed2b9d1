"""Device-TLB invalidations on their way: sent to the device, completed by it, or timed out (VT-d, queued invalidation).

At most MIP of them are outstanding at one physical function. A device that does not complete one in time sets ITE with
its source-id in IQERCD; a completion that nothing asked for sets ICE.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from emulator.clock import Timer
from emulator.unit.device_tlb import AtsDevice, DeviceTlbInvalidation, range_of
from emulator.unit.faults import FaultRecorder
from emulator.unit.latency import Latency
from emulator.unit.registers import UnitRegisters
from pagetables.address import Pasid, SourceId
from pagetables.layouts import DeviceTlbInvalidate, PasidDeviceTlbInvalidate

__all__ = ["DeviceInvalidations", "invalidation_of", "limit_of"]

_MOST = 32  # MIP 0


def invalidation_of(descriptor: DeviceTlbInvalidate | PasidDeviceTlbInvalidate) -> DeviceTlbInvalidation:
    """The invalidation request that a descriptor has the unit send."""
    start, size = range_of(descriptor.addr, descriptor.s)
    sid = SourceId(descriptor.sid)
    if isinstance(descriptor, DeviceTlbInvalidate):
        return DeviceTlbInvalidation(sid, start, size)
    return DeviceTlbInvalidation(sid, start, size, Pasid(descriptor.pasid), bool(descriptor.g))


def limit_of(descriptor: DeviceTlbInvalidate | PasidDeviceTlbInvalidate, throttles: bool) -> tuple[SourceId, int]:
    """Which function counts the outstanding invalidations, and how many there may be. Where PFSID is not supported
    each requester counts for itself."""
    function = descriptor.pfsid_hi << 4 | descriptor.pfsid_lo if throttles else descriptor.sid
    return SourceId(function), descriptor.mip or _MOST


@dataclass(slots=True)
class _Outstanding:
    number: int
    source_id: SourceId
    function: SourceId
    timer: Timer | None = None


class DeviceInvalidations:
    """The outstanding device-TLB invalidations of a unit. `settled` runs after one was completed or given up."""

    def __init__(self, registers: UnitRegisters, faults: FaultRecorder, latency: Latency) -> None:
        self.devices: dict[SourceId, AtsDevice] = {}
        self.settled: Callable[[], None] = lambda: None
        self.timed_out: Callable[[], None] = lambda: None
        self._registers = registers
        self._faults = faults
        self._latency = latency
        self._outstanding: list[_Outstanding] = []
        self._numbers = itertools.count()
        self._answers_for_nobody = registers.profile.behaves("missing_devices_complete")

    @property
    def busy(self) -> bool:
        """True while an invalidation is outstanding."""
        return bool(self._outstanding)

    def numbers(self) -> frozenset[int]:
        """Which invalidations are outstanding now, by a number that each has for itself."""
        return frozenset(item.number for item in self._outstanding)

    def full(self, descriptor: DeviceTlbInvalidate | PasidDeviceTlbInvalidate) -> bool:
        """True if as many invalidations as MIP allows are outstanding at the function: this one has to wait."""
        function, most = limit_of(descriptor, bool(self._registers.ecap.dit))
        return sum(item.function == function for item in self._outstanding) >= most

    def send(self, descriptor: DeviceTlbInvalidate | PasidDeviceTlbInvalidate, delivered: bool = True) -> None:
        """Send a descriptor's request to its device, unless it is to get lost on the way (not `delivered`)."""
        request = invalidation_of(descriptor)
        function, _ = limit_of(descriptor, bool(self._registers.ecap.dit))
        item = _Outstanding(next(self._numbers), request.source_id, function)
        self._outstanding.append(item)
        device = self.devices.get(request.source_id)
        if delivered and (self._answers_for_nobody if device is None else device.invalidate(request)):
            self._forget(item)
        elif item in self._outstanding and self._latency.device_answer:
            item.timer = self._latency.clock.after(self._latency.device_answer, lambda: self._expire(item))

    def completed(self, source_id: SourceId) -> None:
        """A completion from `source_id` arrives: it is for the oldest request sent there, or it sets ICE."""
        item = next((item for item in self._outstanding if item.source_id == source_id), None)
        if item is not None:
            self._forget(item)
            self.settled()
            return
        registers = self._registers
        if not registers.fsts.ice:
            registers.iqercd = registers.iqercd.replace(icesid=source_id)
        self._faults.queue_error(ice=1)

    def give_up(self) -> None:
        """Everything outstanding has timed out: something has to wait, and there is no time to wait in."""
        for item in list(self._outstanding):
            self._forget(item)
            self._error(item.source_id)

    def forget_all(self) -> None:
        """The queue was switched off: nothing is waited for any more."""
        for item in list(self._outstanding):
            self._forget(item)

    def _forget(self, item: _Outstanding) -> None:
        if item in self._outstanding:  # a device may complete it, or have the unit reset, before it says so
            self._outstanding.remove(item)
        if item.timer is not None:
            item.timer.cancel()

    def _expire(self, item: _Outstanding) -> None:
        self._forget(item)
        self._error(item.source_id)
        self.timed_out()

    def _error(self, source_id: SourceId) -> None:
        registers = self._registers
        if not registers.fsts.ite:
            registers.iqercd = registers.iqercd.replace(itesid=source_id)
        self._faults.queue_error(ite=1)
