"""The remapping hardware unit: what software commands, and what becomes of a device's request.

Software meets the unit through the register page and through memory only. Programmed values are in the registers;
what is active was copied by a command (`root`, the queue's base, `interrupt_table`), and nothing else writes those.
Interrupt remapping, page requests and device-TLBs are not part of this file: their registers latch, requests to the
interrupt range go to `interrupt_sink`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from emulator.engine import Engine, IotlbEntry, QueueState
from emulator.profile import Profile
from emulator.unit.events import EventInterrupt, EventMessage
from emulator.unit.faults import FaultRecorder
from emulator.unit.invalidation import Granularity, Invalidator
from emulator.unit.queue import SCALABLE, InvalidationQueue
from emulator.unit.register_file import on_write
from emulator.unit.registers import UnitRegisters
from emulator.unit.source_caches import ContextCacheEntry, PasidCacheEntry, SourceCaches
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa
from pagetables.fault import Fault, FaultReason
from pagetables.layouts.registers import (
    ContextCommand,
    FaultEventControl,
    FaultRecord,
    FaultStatus,
    GlobalCommand,
    InterruptRemappingTableAddress,
    InvalidationCompletionStatus,
    InvalidationQueueTail,
    IotlbCommand,
    RootTableAddress,
)
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, AddressType, Permissions, Request, Translation
from pagetables.source import Source

__all__ = ["Caches", "RemappingUnit", "in_interrupt_range"]

DEFAULT_BASE = Gpa(0xFED9_0000)
_INTERRUPT_PAGES = range(0xFEE0_0000 >> PAGE_SHIFT, (0xFEEF_FFFF >> PAGE_SHIFT) + 1)


@dataclass(frozen=True, slots=True)
class Caches:
    """What a unit has cached, in order: all of it may be used until software invalidates it."""

    context: tuple[ContextCacheEntry, ...]
    pasid: tuple[PasidCacheEntry, ...]
    iotlb: tuple[IotlbEntry, ...]


def in_interrupt_range(request: Request) -> bool:
    """True for a request that is about interrupts, never translated: untranslated, without PASID, to FEExxxxxh."""
    return (
        request.iova >> PAGE_SHIFT in _INTERRUPT_PAGES
        and request.pasid is None
        and request.address_type is AddressType.UNTRANSLATED
    )


class RemappingUnit(UnitRegisters):
    """A unit with its register page at `base`, remapping DMA into `memory`.

    `message_sink` gets the unit's own event interrupts, `interrupt_sink` what devices write to the interrupt range;
    both start by keeping them in `messages` and `interrupts`.
    """

    def __init__(self, memory: PhysicalMemory, profile: Profile, engine: Engine, base: Gpa = DEFAULT_BASE) -> None:
        super().__init__(profile)
        self.memory = memory
        self.engine = engine
        self.base = base
        self.root = RootTableAddress(0)
        self.interrupt_table = InterruptRemappingTableAddress(0)
        self.messages: list[EventMessage] = []
        self.interrupts: list[tuple[Request, bytes]] = []
        self.message_sink: Callable[[EventMessage], None] = self.messages.append
        self.interrupt_sink: Callable[[Request, bytes], None] = lambda request, data: self.interrupts.append(
            (request, data)
        )
        self.iotlb = engine.iotlb(profile.iotlb)
        self._enabled = False
        self._sources = SourceCaches(memory, self.capabilities, profile.context_cache, profile.pasid_cache)
        self._invalidator = Invalidator(self.capabilities, self._sources, self.iotlb)
        self._fault_event, self._completion_event = self._events()
        self._faults = FaultRecorder(self, self._fault_event)
        self._queue = InvalidationQueue(
            self, memory, engine, self.iotlb, self._invalidator, self._faults, self._completion_event
        )

    def _events(self) -> tuple[EventInterrupt, EventInterrupt]:
        own = UnitRegisters
        send = self._send
        return (
            EventInterrupt(self, own.fectl, own.fedata, own.feaddr, own.feuaddr, send),
            EventInterrupt(self, own.iectl, own.iedata, own.ieaddr, own.ieuaddr, send),
        )

    def _send(self, message: EventMessage) -> None:
        self.message_sink(message)

    def reset(self, warm: bool = False) -> None:
        """Registers, latched pointers and caches as after power-on; a warm reset leaves sticky register fields."""
        self._queue.disable()
        self._queue.scalable = False
        self.power_on(warm)
        self.root = RootTableAddress(0)
        self.interrupt_table = InterruptRemappingTableAddress(0)
        self._enabled = False
        self._invalidator.everything()
        self._faults.power_on()

    # -- what software commands ---------------------------------------------------------------------------------------

    @on_write(UnitRegisters.gcmd)
    def _commanded(self, command: GlobalCommand, old: GlobalCommand) -> None:
        # Each write repeats the persistent bits; equal to the status is no change. Software changes one bit at a time;
        # several are taken in this order (as QEMU does).
        self.gcmd = GlobalCommand(0)
        if command.te != self.gsts.tes:
            self._enable_translation(bool(command.te))
        if command.srtp:
            self._set_root_table()
        if command.qie != self.gsts.qies and self.ecap.qi:
            self._enable_queue(bool(command.qie))
        if self.ecap.ir:
            self._command_interrupts(command)

    def _enable_translation(self, enabled: bool) -> None:
        self._enabled = enabled
        self.gsts = self.gsts.replace(tes=int(enabled))
        if not enabled and self.ecap.smts:
            self._invalidator.everything()

    def _set_root_table(self) -> None:
        self.root = self.rtaddr
        self._queue.scalable = self.root.ttm == SCALABLE
        self._sources.root_changed()
        if self.cap.esrtps:
            self._invalidator.everything()
        self.gsts = self.gsts.replace(rtps=1)

    def _enable_queue(self, enabled: bool) -> None:
        self.gsts = self.gsts.replace(qies=int(enabled))
        if enabled:
            self._queue.enable()
        else:
            self._queue.disable()

    def _command_interrupts(self, command: GlobalCommand) -> None:
        if command.sirtp:
            self.interrupt_table = self.irta
            self.gsts = self.gsts.replace(irtps=1)
        self.gsts = self.gsts.replace(ires=command.ire, cfis=command.cfi)

    @on_write(UnitRegisters.iqt, "qt")
    def _tail_written(self, new: InvalidationQueueTail, old: InvalidationQueueTail) -> None:
        self._queue.tail_moved()

    @on_write(UnitRegisters.ccmd, "icc")
    def _context_command(self, command: ContextCommand, old: ContextCommand) -> None:
        # While the queue is on these registers must not be used: the request ends at once with granularity 0.
        if not command.icc:
            return
        done = Granularity.NONE
        if not self.gsts.qies:
            done = self._invalidator.contexts(
                command.cirg, command.did, command.sid, command.fm, self.root.ttm == SCALABLE
            )
        self.ccmd = command.replace(icc=0, caig=done)

    @on_write(UnitRegisters.iotlb_command, "ivt")
    def _iotlb_command(self, command: IotlbCommand, old: IotlbCommand) -> None:
        if not command.ivt:
            return
        done = Granularity.NONE
        if not self.gsts.qies:
            address = self.iva.addr * PAGE_SIZE & (1 << self.capabilities.mgaw) - 1
            done = self._invalidator.iotlb(command.iirg, command.did, address, self.iva.am)
        self.iotlb_command = command.replace(ivt=0, iaig=done)

    @on_write(UnitRegisters.fsts)
    def _fault_status_cleared(self, new: FaultStatus, old: FaultStatus) -> None:
        self._faults.cleared()
        if old.iqe and not new.iqe:
            self._queue.run()

    @on_write(UnitRegisters.frcd, "f")
    def _fault_record_cleared(self, new: FaultRecord, old: FaultRecord) -> None:
        self._faults.cleared()

    @on_write(UnitRegisters.fectl, "im")
    def _fault_event_masked(self, new: FaultEventControl, old: FaultEventControl) -> None:
        self._fault_event.unmasked()

    @on_write(UnitRegisters.iectl, "im")
    def _completion_event_masked(self, new: FaultEventControl, old: FaultEventControl) -> None:
        self._completion_event.unmasked()

    @on_write(UnitRegisters.ics)
    def _completion_cleared(self, new: InvalidationCompletionStatus, old: InvalidationCompletionStatus) -> None:
        if not new.iwc:
            self._completion_event.withdrawn()

    # -- what devices request -----------------------------------------------------------------------------------------

    def translate(self, request: Request) -> Translation | Fault:
        """Where a request goes, or why it is blocked; a fault is recorded as the specification says.

        A write to the interrupt range passes unchanged (`interrupt` takes its data); any other request to it is
        blocked with reason 29h.
        """
        if in_interrupt_range(request):
            return self._interrupt_range(request)
        if not self._enabled:
            return self._untranslated(request)
        source = self._sources.source(request, self.root)
        if isinstance(source, Fault):
            return self._recorded(source)
        answer = self.engine.translate(self.iotlb, self.memory, source, request, self.capabilities)
        return self._recorded(answer) if isinstance(answer, Fault) else answer

    def translate_many(self, requests: Sequence[Request]) -> list[Translation | Fault]:
        """`translate` for each request, in order; neighbours of one requester share the lookup of their source."""
        answers: list[Translation | Fault] = []
        for _, group in groupby(requests, key=_requester):
            run = list(group)
            if len(run) == 1 or not self._enabled or in_interrupt_range(run[0]):
                answers += [self.translate(request) for request in run]
            else:
                answers += self._translate_run(run)
        return answers

    def _translate_run(self, run: Sequence[Request]) -> list[Translation | Fault]:
        source = self._sources.source(run[0], self.root)
        if not isinstance(source, Source):
            return [self.translate(request) for request in run]
        answers = self.engine.translate_many(self.iotlb, self.memory, source, run, self.capabilities)
        for answer in answers:
            if isinstance(answer, Fault):
                self._faults.record(answer)
        return answers

    def interrupt(self, request: Request, data: bytes) -> Fault | None:
        """A device wrote `data` to the interrupt range: None when `interrupt_sink` has it, 29h if it is no interrupt.

        An interrupt is exactly one aligned dword.
        """
        if request.access is not Access.WRITE or len(data) != 4 or request.iova % 4:
            return self._not_an_interrupt(request)
        self.interrupt_sink(request, data)
        return None

    def _interrupt_range(self, request: Request) -> Translation | Fault:
        if request.access is Access.WRITE:
            return Translation(Gpa(request.iova), PAGE_SHIFT, Permissions.W)
        return self._not_an_interrupt(request)

    def _not_an_interrupt(self, request: Request) -> Fault:
        # A unit that remaps nothing logs nothing.
        idle = not (self.gsts.tes or self.gsts.ires)
        return self._recorded(Fault(FaultReason.IR_NOT_AN_INTERRUPT, request, silent=idle))

    def _untranslated(self, request: Request) -> Translation | Fault:
        if request.address_type is not AddressType.UNTRANSLATED:
            return Fault(FaultReason.TRANSLATION_TYPE_BLOCKED, request, silent=True)
        return Translation(Gpa(request.iova), PAGE_SHIFT, Permissions.R | Permissions.W | Permissions.X)

    def _recorded(self, fault: Fault) -> Fault:
        self._faults.record(fault)
        return fault

    @property
    def queue_state(self) -> QueueState | None:
        """What executing the invalidation queue takes, for who does it in native code; None while the queue is off."""
        return self._queue.state

    def caches(self) -> Caches:
        """What is cached now."""
        return Caches(tuple(self._sources.contexts()), tuple(self._sources.pasids()), tuple(self.iotlb.entries()))


def _requester(request: Request) -> tuple[object, ...]:
    # What the lookup of a source depends on, and whether the request is one for it at all.
    executes = request.access is Access.EXECUTE
    return (
        request.source_id,
        request.pasid,
        request.privileged,
        executes,
        request.address_type,
        in_interrupt_range(request),
    )
