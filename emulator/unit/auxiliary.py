"""What software commands of a unit besides translation: protected regions, and performance monitoring."""

from __future__ import annotations

from collections.abc import Callable

from emulator.profile import Profile
from emulator.unit.events import EventInterrupt, EventMessage
from emulator.unit.performance import PerformanceMonitor
from emulator.unit.protected import ProtectedRegions
from emulator.unit.register_file import on_write
from emulator.unit.registers import UnitRegisters
from pagetables.layouts.registers import (
    EnhancedCommand,
    FaultEventControl,
    PerformanceInterruptStatus,
    ProtectedHighMemoryBase,
    ProtectedHighMemoryLimit,
    ProtectedLowMemoryBase,
    ProtectedLowMemoryLimit,
    ProtectedMemoryEnable,
)

__all__ = ["AuxiliaryRegisters"]


class AuxiliaryRegisters(UnitRegisters):
    """Registers whose effects need nothing of tables, queue or faults.

    `message_sink` gets the unit's own event interrupts; it starts by keeping them in `messages`.
    """

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.messages: list[EventMessage] = []
        self.message_sink: Callable[[EventMessage], None] = self.messages.append
        self.protected = ProtectedRegions(self)
        own = UnitRegisters
        self._performance_event = EventInterrupt(
            self, own.perfintrctl, own.perfintrdata, own.perfintraddr, own.perfintruaddr, self._send
        )
        self.monitor = PerformanceMonitor(self, self._performance_event)

    def _send(self, message: EventMessage) -> None:
        self.message_sink(message)

    def _restart(self, warm: bool) -> None:
        self.power_on(warm)
        self.protected.changed()
        self.monitor.power_on()

    @on_write(UnitRegisters.pmen)
    def _protection_switched(self, new: ProtectedMemoryEnable, old: ProtectedMemoryEnable) -> None:
        self.protected.changed()

    @on_write(UnitRegisters.plmbase)
    def _low_base_written(self, new: ProtectedLowMemoryBase, old: ProtectedLowMemoryBase) -> None:
        self.protected.changed()

    @on_write(UnitRegisters.plmlimit)
    def _low_limit_written(self, new: ProtectedLowMemoryLimit, old: ProtectedLowMemoryLimit) -> None:
        self.protected.changed()

    @on_write(UnitRegisters.phmbase)
    def _high_base_written(self, new: ProtectedHighMemoryBase, old: ProtectedHighMemoryBase) -> None:
        self.protected.changed()

    @on_write(UnitRegisters.phmlimit)
    def _high_limit_written(self, new: ProtectedHighMemoryLimit, old: ProtectedHighMemoryLimit) -> None:
        self.protected.changed()

    @on_write(UnitRegisters.ecmd, "cmd")
    def _enhanced_command(self, command: EnhancedCommand, old: EnhancedCommand) -> None:
        self.monitor.command(command)

    @on_write(UnitRegisters.perfintrctl, "im")
    def _performance_event_masked(self, new: FaultEventControl, old: FaultEventControl) -> None:
        self._performance_event.unmasked()

    @on_write(UnitRegisters.perfintrsts)
    def _performance_event_cleared(self, new: PerformanceInterruptStatus, old: PerformanceInterruptStatus) -> None:
        if not new.pis:
            self._performance_event.withdrawn()
