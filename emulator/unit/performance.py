"""Performance monitoring, and the enhanced commands that steer it (VT-d, "Performance Monitoring", ECMD).

A counter adds one for each selected event of its group: requests; page requests that were queued; context and PASID
lookups and hits; IOTLB lookups and hits. While none is enabled nothing is looked at.
"""

from __future__ import annotations

from enum import IntEnum

from emulator.unit.events import EventInterrupt
from emulator.unit.implemented import COUNTER_WIDTH
from emulator.unit.registers import UnitRegisters
from pagetables.address import DomainId
from pagetables.layouts.registers import EnhancedCommand, EnhancedCommandResponse
from pagetables.layouts.registers.performance import (
    PerformanceCounter,
    PerformanceFreezeStatus,
    PerformanceInterruptStatus,
    PerformanceOverflowStatus,
)
from pagetables.request import Request

__all__ = ["Event", "PerformanceMonitor"]

_REFUSED = 1  # a status code that is not 0; which means what is not public


class Event(IntEnum):
    """What is counted: the event group above bit 31, the bit of its event below."""

    REQUEST = 0 << 32 | 1 << 1
    PAGE_REQUEST = 1 << 32 | 1 << 6
    CONTEXT_LOOKUP = 2 << 32 | 1 << 0
    CONTEXT_HIT = 2 << 32 | 1 << 1
    PASID_LOOKUP = 2 << 32 | 1 << 2
    PASID_HIT = 2 << 32 | 1 << 3
    IOTLB_LOOKUP = 3 << 32 | 1 << 0
    IOTLB_HIT = 3 << 32 | 1 << 1
    INTERRUPT_LOOKUP = 4 << 32 | 1 << 0
    INTERRUPT_HIT = 4 << 32 | 1 << 1
    INTERRUPT_HIT_POSTED = 4 << 32 | 1 << 2


class _Command(IntEnum):
    ENABLE = 0xF0
    DISABLE = 0xF1
    FREEZE = 0xF4
    UNFREEZE = 0xF5


class PerformanceMonitor:
    """The counters of one unit. `counting` says whether any of them counts now."""

    def __init__(self, registers: UnitRegisters, event: EventInterrupt) -> None:
        self._registers = registers
        self._event = event
        self._enabled: set[int] = set()
        self.counting = False

    def power_on(self) -> None:
        """No counter is enabled."""
        self._enabled.clear()
        self.counting = False

    def command(self, command: EnhancedCommand) -> None:
        """Execute what was written to ECMD. ECRSP answers at once: 0 for success, else a status."""
        supported = self._registers.eccap[command.cmd // 64].cmds >> command.cmd % 64 & 1
        done = bool(supported) and self._execute(_Command(command.cmd), command.oa)
        self._registers.ecrsp = EnhancedCommandResponse.of(sc=0 if done else _REFUSED)

    def _execute(self, command: _Command, counter: int) -> bool:
        frozen = self._registers.perffrzsts.frz
        every = (1 << len(self._registers.perfcntr)) - 1
        if command in (_Command.FREEZE, _Command.UNFREEZE):
            frozen = every if command is _Command.FREEZE else 0
            self._registers.perffrzsts = PerformanceFreezeStatus.of(frz=frozen)
        elif not every >> counter & 1:
            return False
        elif command is _Command.ENABLE:
            self._enabled.add(counter)
        else:
            self._enabled.discard(counter)
        self.counting = bool(self._enabled) and not frozen
        return True

    def happened(self, events: list[Event], request: Request, domain_id: DomainId | None) -> None:
        """`request` (of this domain, where one was found) caused these events."""
        for counter in sorted(self._enabled):
            if self._lets_pass(counter, request, domain_id):
                config = self._registers.perfcntrcfg[counter]
                self._add(counter, sum(event >> 32 == config.egi and bool(event & config.es) for event in events))

    def _lets_pass(self, counter: int, request: Request, domain_id: DomainId | None) -> bool:
        registers = self._registers
        filters = (
            (registers.perfcntrfilt0[counter], request.source_id),
            (registers.perfcntrfilt1[counter], domain_id),
            (registers.perfcntrfilt2[counter], request.pasid),
        )
        return all(not wanted.en or wanted.value == actual for wanted, actual in filters)

    def _add(self, counter: int, count: int) -> None:
        registers = self._registers
        total = registers.perfcntr[counter].value + count
        registers.perfcntr[counter] = PerformanceCounter(total % (1 << COUNTER_WIDTH))
        if total >> COUNTER_WIDTH:
            registers.perfovfsts = PerformanceOverflowStatus(registers.perfovfsts | 1 << counter)
            if registers.perfcntrcfg[counter].int and not registers.perfintrsts.pis:
                registers.perfintrsts = PerformanceInterruptStatus.of(pis=1)
                self._event.happened()
