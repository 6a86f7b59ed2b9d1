"""The remapping hardware unit: what becomes of a device's request.

Software meets the unit through the register page and through memory only (`emulator.unit.commands`); devices meet it
here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from emulator.clock import Clock
from emulator.engine import Engine, IotlbEntry, TableEntry
from emulator.profile import Profile
from emulator.unit.ats import CompletionStatus, TranslationCompletion, TranslationRequests
from emulator.unit.commands import DEFAULT_BASE, CommandedUnit
from emulator.unit.device_tlb import AtsDevice
from emulator.unit.not_present import NotPresent
from emulator.unit.page_requests import (
    PageGroupResponse,
    PageRequest,
    PageRequestOutcome,
    ResponseCode,
    page_request_error,
)
from emulator.unit.performance import Event
from emulator.unit.qemu import QemuTranslator
from emulator.unit.source_caches import ContextCacheEntry, PasidCacheEntry
from pagetables.address import PAGE_SHIFT, Gpa, SourceId
from pagetables.fault import Fault, FaultReason
from pagetables.interrupt import Interrupt, InterruptEntry, PostedInterrupt
from pagetables.layouts.values import TableMode
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, AddressType, Permissions, Request, Translation
from pagetables.source import Source, TranslationType, check_mode
from pagetables.walk import INTERRUPT_RANGE

__all__ = ["Caches", "RemappingUnit", "in_interrupt_range"]


@dataclass(frozen=True, slots=True)
class Caches:
    """What a unit has cached, in order: all of it may be used until software invalidates it.

    `tables` are the paging-structure caches of both stages, `not_present` is what caching mode adds to valid entries.
    """

    context: tuple[ContextCacheEntry, ...]
    pasid: tuple[PasidCacheEntry, ...]
    iotlb: tuple[IotlbEntry, ...]
    interrupts: tuple[InterruptEntry, ...]
    tables: tuple[TableEntry, ...] = ()
    not_present: tuple[NotPresent, ...] = ()


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
        self._translation_requests = TranslationRequests(
            self.capabilities,
            look_up=lambda request: self._sources.source(request, self.root),
            walk=self._look,
            interrupt_range_faults=profile.behaves("ats_interrupt_range_faults"),
        )

    def translate(self, request: Request) -> Translation | Fault:
        """Where a request goes, or why it is blocked; a fault is recorded as the specification says.

        A write to the interrupt range passes unchanged (`interrupt` takes its data); any other request to it is
        blocked with reason 29h.
        """
        if in_interrupt_range(request):
            return self._interrupt_range(request)
        if self._qemu is not None:
            return self._as_qemu(self._qemu, request)
        if self.monitor.counting:
            self._count(request)
        if not self._enabled:
            return self._untranslated(request)
        source = self._sources.source(request, self.root)
        if isinstance(source, Fault):
            return self._recorded(source)
        return self._settled(self._look(source, request), request, source)

    def _as_qemu(self, qemu: QemuTranslator, request: Request) -> Translation | Fault:
        qemu.meet(request)
        if not self._enabled:
            return self._untranslated(request)
        answer = qemu.translate(request)
        return self._recorded(answer) if isinstance(answer, Fault) else answer

    def _look(self, source: Source, request: Request) -> Translation | Fault:
        if self._qemu is not None:
            return self._qemu.look(source, request)
        known = self._absent.translation(source, request) if self._absent.keeps else None
        if known is not None:
            return known
        answer = self.engine.translate(self.iotlb, self.memory, source, request, self.capabilities)
        if self._absent.keeps and isinstance(answer, Fault):
            self._absent.keep_translation(source, answer)
        return answer

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
        if not isinstance(source, Source) or self._absent.keeps or self._qemu is not None:
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
            if isinstance(source, Source) and source.translation is not TranslationType.PASS_THROUGH:
                events.append(Event.IOTLB_LOOKUP)
                events += [Event.IOTLB_HIT] if self.iotlb.lookup(source, request) else []
        self.monitor.happened(events, request, domain_id)

    def interrupt(self, request: Request, data: bytes) -> Fault | None:
        """A device wrote `data` to the interrupt range: None when it was delivered or posted, else why it was blocked.

        An interrupt is exactly one aligned dword. What `interrupt_sink` gets is the interrupt, or the notification of
        a posted one if there is to be one.
        """
        outcome = self._interrupts.remap(request, data).outcome
        if self.monitor.counting:
            self.monitor.happened(self._interrupts.cache.events, request, None)
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

    # -- what devices with address translation services and page requests add ------------------------------------------

    def attach_device_tlb(self, source_id: SourceId, device: AtsDevice | None) -> None:
        """From now on device-TLB invalidations for `source_id` go to `device`; None detaches it."""
        if device is None:
            self._devices.devices.pop(source_id, None)
        else:
            self._devices.devices[source_id] = device

    def on_page_response(self, source_id: SourceId, sink: Callable[[PageGroupResponse], None] | None) -> None:
        """From now on page group responses for `source_id` go to `sink`, and nowhere with None."""
        if sink is None:
            self._page_requests.sinks.pop(source_id, None)
        else:
            self._page_requests.sinks[source_id] = sink

    def invalidation_completed(self, source_id: SourceId) -> None:
        """A device answers the oldest device-TLB invalidation that it was sent and has not answered. One that nothing
        waits for sets ICE; a unit without ECAP.DT takes no completions."""
        if self.ecap.dt:
            self._devices.completed(source_id)

    def translation_request(self, request: Request, no_write: bool = False, pages: int = 1) -> TranslationCompletion:
        """The completion of an ATS translation request for `pages` pages from the request's on.

        The access is only looked at for EXECUTE, which asks for execute permission too; rights are what the completion
        says. `no_write` says that the device will not write. While translation is off the request is unsupported.
        """
        if not self._enabled:
            return TranslationCompletion(CompletionStatus.UNSUPPORTED_REQUEST)
        if self.monitor.counting:
            self._count(request)
        completion = self._translation_requests.answer(request, no_write, pages)
        if completion.fault is not None and not completion.succeeded:
            self._faults.record(completion.fault)
        return completion

    def page_request(self, request: PageRequest) -> PageRequestOutcome:
        """A page request message: queued for software, or dropped or refused, with a response if one is due.

        A unit without ECAP.PRS refuses it without a word: nobody there knows of responses.
        """
        if not self.ecap.prs:
            return PageRequestOutcome.REFUSED
        code = self.hooks.page_response(request)
        if code is not None:
            return self._page_requests.refuse(request, code)
        fault = self._page_request_fault(request.request())
        if fault is None:
            outcome = self._page_requests.put(request, self._source_asking(request.request()))
            if self.monitor.counting and outcome is PageRequestOutcome.QUEUED:
                self.monitor.happened([Event.PAGE_REQUEST], request.request(), None)
            return outcome
        self._faults.record(fault, page_request=True)
        return self._page_requests.refuse(request, ResponseCode.INVALID_REQUEST)

    def _source_asking(self, request: Request) -> Source | None:
        # Whatever it asks for, what is cached for its page is cached under one source.
        plain = replace(request, access=Access.READ, privileged=False)
        source = self._sources.source(plain, self.root)
        return source if isinstance(source, Source) else None

    def _page_request_fault(self, request: Request) -> Fault | None:
        if self.root.ttm == TableMode.LEGACY or not self._enabled:
            return Fault(FaultReason.PAGE_REQUEST_IN_LEGACY_MODE, request, silent=not self._enabled)
        fault = check_mode(self.root, request, self.capabilities)
        if fault is not None:
            return fault
        context = self._sources.context(request, self.root)
        return context if isinstance(context, Fault) else page_request_error(context, request)

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
            tuple(self.iotlb.tables()),
            tuple(self._absent.entries()),
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
