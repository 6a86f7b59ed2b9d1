"""The remapping hardware unit: what becomes of a device's request.

Software meets the unit through the register page and through memory only (`emulator.unit.commands`); devices meet it
here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from emulator.clock import Clock
from emulator.engine import Engine, IotlbEntry
from emulator.profile import Profile
from emulator.unit.commands import DEFAULT_BASE, CommandedUnit
from emulator.unit.performance import Event
from emulator.unit.source_caches import ContextCacheEntry, PasidCacheEntry
from pagetables.address import PAGE_SHIFT, Gpa
from pagetables.fault import Fault, FaultReason
from pagetables.interrupt import Interrupt, InterruptEntry, PostedInterrupt
from pagetables.layouts.values import TableMode
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, AddressType, Permissions, Request, Translation
from pagetables.source import Source, TranslationType
from pagetables.walk import INTERRUPT_RANGE

__all__ = ["Caches", "RemappingUnit", "in_interrupt_range"]


@dataclass(frozen=True, slots=True)
class Caches:
    """What a unit has cached, in order: all of it may be used until software invalidates it."""

    context: tuple[ContextCacheEntry, ...]
    pasid: tuple[PasidCacheEntry, ...]
    iotlb: tuple[IotlbEntry, ...]
    interrupts: tuple[InterruptEntry, ...]


def in_interrupt_range(request: Request) -> bool:
    """True for a request that is about interrupts, never translated: untranslated, without PASID, to FEExxxxxh."""
    return (
        INTERRUPT_RANGE[0] <= request.iova < INTERRUPT_RANGE[1]
        and request.pasid is None
        and request.address_type is AddressType.UNTRANSLATED
    )


class RemappingUnit(CommandedUnit):
    """A unit with its register page at `base`, remapping DMA into `memory`.

    `interrupt_sink` gets the interrupts of devices, remapped or as they are, and the notifications of posted ones; it
    starts by keeping them in `interrupts`.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        profile: Profile,
        engine: Engine,
        base: Gpa = DEFAULT_BASE,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(memory, profile, engine, base, clock)
        self.interrupts: list[Interrupt] = []
        self.interrupt_sink: Callable[[Interrupt], None] = self.interrupts.append
        self._reads_interrupt_range = profile.behaves("read_interrupt_range")

    def translate(self, request: Request) -> Translation | Fault:
        """Where a request goes, or why it is blocked; a fault is recorded as the specification says.

        A write to the interrupt range passes unchanged (`interrupt` takes its data); any other request to it is
        blocked with reason 29h.
        """
        if in_interrupt_range(request):
            return self._interrupt_range(request)
        if self.monitor.counting:
            self._count(request)
        if not self._enabled:
            return self._untranslated(request)
        source = self._sources.source(request, self.root)
        if isinstance(source, Fault):
            return self._recorded(source)
        answer = self.engine.translate(self.iotlb, self.memory, source, request, self.capabilities)
        return self._settled(answer, request, source)

    def _settled(self, answer: Translation | Fault, request: Request, source: Source) -> Translation | Fault:
        if isinstance(answer, Fault):
            return self._recorded(answer)
        if self.protected.ranges:
            return self.protected.check(request, answer, source.translation is not TranslationType.PASS_THROUGH)
        return answer

    def translate_many(self, requests: Sequence[Request]) -> list[Translation | Fault]:
        """`translate` for each request, in order; neighbours of one requester share the lookup of their source."""
        answers: list[Translation | Fault] = []
        for _, group in groupby(requests, key=_requester):
            run = list(group)
            if len(run) == 1 or not self._enabled or self.monitor.counting or in_interrupt_range(run[0]):
                answers += [self.translate(request) for request in run]
            else:
                answers += self._translate_run(run)
        return answers

    def _translate_run(self, run: Sequence[Request]) -> list[Translation | Fault]:
        source = self._sources.source(run[0], self.root)
        if not isinstance(source, Source):
            return [self.translate(request) for request in run]
        answers = self.engine.translate_many(self.iotlb, self.memory, source, run, self.capabilities)
        return [self._settled(answer, request, source) for answer, request in zip(answers, run, strict=True)]

    def _count(self, request: Request) -> None:
        # What the request will find cached is looked at before it is answered.
        events: list[Event] = [Event.REQUEST]
        domain_id = None
        if self._enabled:
            events += self._sources.events(request, self.root.ttm == TableMode.SCALABLE)
            source = self._sources.source(request, self.root)
            if isinstance(source, Source):
                domain_id = source.domain_id
                events.append(Event.IOTLB_LOOKUP)
                events += [Event.IOTLB_HIT] if self.iotlb.lookup(source, request) else []
        self.monitor.happened(events, request, domain_id)

    def interrupt(self, request: Request, data: bytes) -> Fault | None:
        """A device wrote `data` to the interrupt range: None when it was delivered or posted, else why it was blocked.

        An interrupt is exactly one aligned dword. What `interrupt_sink` gets is the interrupt, or the notification of
        a posted one if there is to be one.
        """
        outcome = self._interrupts.remap(request, data).outcome
        if isinstance(outcome, Fault):
            return self._recorded(outcome)
        interrupt = outcome.notification if isinstance(outcome, PostedInterrupt) else outcome
        if interrupt is not None:
            self.interrupt_sink(interrupt)
        return None

    def _interrupt_range(self, request: Request) -> Translation | Fault:
        if request.access is Access.WRITE:
            return Translation(Gpa(request.iova), PAGE_SHIFT, Permissions.W)
        if request.access is Access.READ and self._reads_interrupt_range:
            return Translation(Gpa(request.iova), PAGE_SHIFT, Permissions.R)
        # A unit that remaps nothing logs nothing.
        idle = not (self.gsts.tes or self.gsts.ires)
        return self._recorded(Fault(FaultReason.IR_NOT_AN_INTERRUPT, request, silent=idle))

    def _untranslated(self, request: Request) -> Translation | Fault:
        if request.address_type is not AddressType.UNTRANSLATED:
            return Fault(FaultReason.TRANSLATION_TYPE_BLOCKED, request, silent=True)
        answer = Translation(Gpa(request.iova), PAGE_SHIFT, Permissions.R | Permissions.W | Permissions.X)
        return self.protected.check(request, answer, translated=False)

    def _recorded(self, fault: Fault) -> Fault:
        self._faults.record(fault)
        return fault

    def caches(self) -> Caches:
        """What is cached now."""
        return Caches(
            tuple(self._sources.contexts()),
            tuple(self._sources.pasids()),
            tuple(self.iotlb.entries()),
            tuple(self._interrupts.cache.entries()),
        )


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
