"""The processors' end of interrupts: local APICs that record what arrives.

Nothing executes here, so an interrupt is never taken: its vector stays in the interrupt request register, where
`info lapic` shows it, and `events` keeps the order and the time of everything that came.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from emulator.clock import Clock
from pagetables.address import Iova, SourceId
from pagetables.interrupt_message import Interrupt, compatibility_interrupt
from pagetables.layouts.values import DeliveryMode, DestinationMode, TriggerMode
from pagetables.request import Access, Request

__all__ = ["ArrivedInterrupt", "LocalApic", "LocalApics"]

_BROADCAST = 0xFF
_BROADCAST_X2APIC = 0xFFFF_FFFF
_BY_PRIORITY = (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY)


@dataclass(frozen=True, slots=True)
class ArrivedInterrupt:
    """An interrupt, when it came (ns), and the ids of the APICs that took it.

    `from_device` is False for a message that no device sent: a unit's own event, or a write of the processor; its
    source-id means nothing.
    """

    time: int
    interrupt: Interrupt
    apics: tuple[int, ...]
    from_device: bool = True


@dataclass(slots=True)
class LocalApic:
    """One processor's: its id, what is requested (IRR), and which of it was triggered by level (TMR).

    `logical_id` answers to logical destinations; it is 0, answering to none, until software sets it.
    """

    apic_id: int
    irr: set[int] = field(default_factory=set)
    tmr: set[int] = field(default_factory=set)
    logical_id: int = 0

    def request(self, interrupt: Interrupt) -> None:
        """Take note of a vector. Interrupts without one (NMI, INIT and such) leave no trace here."""
        if interrupt.delivery_mode in _BY_PRIORITY:
            self.irr.add(interrupt.vector)
            level = interrupt.trigger is TriggerMode.LEVEL
            (self.tmr.add if level else self.tmr.discard)(interrupt.vector)

    def reset(self) -> None:
        """Nothing requested, no logical id."""
        self.irr.clear()
        self.tmr.clear()
        self.logical_id = 0


class LocalApics:
    """The local APICs of a machine, and everything that reached them."""

    def __init__(self, clock: Clock, count: int = 1) -> None:
        self.clock = clock
        self.apics = [LocalApic(number) for number in range(count)]
        self.events: list[ArrivedInterrupt] = []
        self.watchers: list[Callable[[ArrivedInterrupt], None]] = []

    def deliver(self, interrupt: Interrupt) -> None:
        """Let a device's interrupt arrive: a unit's `interrupt_sink`. One that nobody takes is recorded too."""
        self._arrive(interrupt, from_device=True)

    def write_message(self, address: int, data: int, source: SourceId | None = None) -> None:
        """A write to FEExxxxxh that no unit remaps: by a device, or (`source` None) by a processor or a unit."""
        request = Request(source or SourceId(0), Iova(address), Access.WRITE)
        interrupt = compatibility_interrupt(request, (data & 0xFFFF_FFFF).to_bytes(4, "little"))
        self._arrive(interrupt, from_device=source is not None)

    def vectors(self, apic_id: int = 0) -> list[int]:
        """What is requested of one processor, ascending."""
        return sorted(self.apics[apic_id].irr)

    def reset(self) -> None:
        """Nothing requested anywhere. The record of events stays: it is the observer's."""
        for apic in self.apics:
            apic.reset()

    def _arrive(self, interrupt: Interrupt, from_device: bool) -> None:
        targets = self._targets(interrupt)
        for apic in targets:
            apic.request(interrupt)
        event = ArrivedInterrupt(self.clock.now, interrupt, tuple(apic.apic_id for apic in targets), from_device)
        self.events.append(event)
        for watch in self.watchers:
            watch(event)

    def _targets(self, interrupt: Interrupt) -> list[LocalApic]:
        wanted = interrupt.destination
        if wanted == (_BROADCAST_X2APIC if interrupt.x2apic else _BROADCAST):
            found = list(self.apics)
        elif interrupt.destination_mode is DestinationMode.LOGICAL:
            found = [apic for apic in self.apics if apic.logical_id & wanted]
        else:
            found = [apic for apic in self.apics if apic.apic_id == wanted]
        return found[:1] if interrupt.delivery_mode == DeliveryMode.LOWEST_PRIORITY else found
