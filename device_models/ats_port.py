"""What a PCIe function needs to ask for translations and pages itself: ATS, PASID and PRI, and a device-TLB.

A device owns an `AtsPort` and tells it when software wrote its configuration space. The port asks the unit of the
function's scope, keeps translations, obeys (or not) invalidations, and matches page group responses with requests.

    place = port.translate(iova, Access.WRITE, pasid=5)       # a Place, or why there is none
    code = yield port.ask_for([page], Access.WRITE, pasid=5)  # in a process: software's answer
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from device_models.pci.extended import Ats, PageRequests, Pasids
from device_models.pci.function import PciFunction
from device_models.process import Wait
from device_models.properties import Choice
from emulator.clock import Timer
from emulator.unit import RemappingUnit
from emulator.unit.ats import CompletionStatus
from emulator.unit.device_tlb import DeviceTlb, DeviceTlbEntry, DeviceTlbInvalidation, page_of
from emulator.unit.page_requests import PageGroupResponse, PageRequest, PageRequestOutcome, ResponseCode
from pagetables.address import PAGE_SHIFT, Iova, Pasid, SourceId
from pagetables.layouts.page_request import AtsTranslationCompletion
from pagetables.request import Access, AddressType

__all__ = ["INVALIDATIONS", "AtsPort", "NoPlace", "Place", "PortOptions", "invalidations_property"]

INVALIDATIONS = ("obey", "lie", "ignore")
_GROUPS = 512  # 9 bits of group index


def invalidations_property() -> Choice:
    """The property that says what a device does when it is told to forget translations."""
    explains = "obey; lie: keep them and say they are gone; ignore: keep them and say nothing"
    return Choice("Obedience", INVALIDATIONS, "obey", explains)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to send an access, and as what; `size` bytes from the address asked for lie there."""

    address: int
    size: int
    address_type: AddressType


class NoPlace(enum.Enum):
    """Why there is nowhere to send an access."""

    NO_RIGHT = "the translation does not grant the access"
    NOT_ENTITLED = "translation request unsupported"
    ABORTED = "translation request aborted"


@dataclass(frozen=True, slots=True)
class PortOptions:
    """What of a port exists, and how it behaves; times in ns, 0 for at once (an answer) and for ever (patience)."""

    ats: bool = True
    pasid_bits: int = 20
    page_requests: bool = True
    capacity: int = 64
    pages: int = 1
    invalidations: str = "obey"
    answer_after: int = 0
    patience: int = 0


@dataclass(slots=True)
class _Group:
    answered: Callable[[ResponseCode | None], None]
    timer: Timer | None = None


class AtsPort:
    """The port of `function`. Capabilities that the options leave out are None."""

    def __init__(self, function: PciFunction, options: PortOptions) -> None:
        config = function.config
        self.function = function
        self.options = options
        self.tlb = DeviceTlb(max(options.capacity, 1))
        self.ats = Ats(config) if options.ats else None
        self.pasids = Pasids(config, options.pasid_bits, True, True) if options.pasid_bits else None
        self.page_requests = PageRequests(config) if options.ats and options.page_requests else None
        self.translations = self.asked = self.hits = self.invalidations = 0
        self._groups: dict[int, _Group] = {}
        self._answers: deque[Timer] = deque()  # to invalidations, on their way
        self._attached: tuple[RemappingUnit, SourceId] | None = None

    @property
    def translating(self) -> bool:
        """True if software lets the function ask for translations."""
        return self.ats is not None and self.ats.enabled

    @property
    def may_ask(self) -> bool:
        """True if a page may be asked for now: PRI is on, nothing has failed, and a group is free."""
        pri = self.page_requests
        return pri is not None and pri.enabled and not pri.response_failed and len(self._groups) < self._most

    def may_tag(self, privileged: bool, execute: bool) -> bool:
        """True if requests may carry a PASID, with these wishes."""
        can = self.pasids
        if can is None or not can.enabled:
            return False
        return (can.privileged_enabled or not privileged) and (can.execute_enabled or not execute)

    def config_written(self) -> None:
        """Software wrote configuration space. Without ATS nothing is kept, and no unit knows the port."""
        self.unit()
        if not self.translating:
            self.tlb.clear()

    def unit(self) -> RemappingUnit | None:
        """The unit that the function's requests meet; it knows the port while ATS is on."""
        source_id = self.function.source_id
        unit = self.function.machine.unit_for(source_id)
        now = (unit, source_id) if unit is not None and self.translating else None
        if now != self._attached:
            self._attach(now)
        return unit

    def _attach(self, now: tuple[RemappingUnit, SourceId] | None) -> None:
        if self._attached is not None:
            unit, source_id = self._attached
            unit.attach_device_tlb(source_id, None)
            unit.on_page_response(source_id, None)
        if now is not None:
            unit, source_id = now
            unit.attach_device_tlb(source_id, self)
            unit.on_page_response(source_id, self._responded)
        self._attached = now

    def reset(self) -> None:
        """As after power-on: nothing kept, nobody waits, and no invalidation of before is answered."""
        self.tlb.clear()
        self._answer_no_more()
        self.translations = self.asked = self.hits = self.invalidations = 0
        self.forget()
        self.unit()

    def detach(self) -> None:
        """The function leaves: no unit knows the port, nobody waits, and no invalidation is answered."""
        self.forget()
        self._answer_no_more()
        self.tlb.clear()
        self._attach(None)

    def forget(self) -> None:
        """Stop waiting for page group responses: those still to come answer nobody."""
        for group in self._groups.values():
            if group.timer is not None:
                group.timer.cancel()
        self._groups.clear()

    def _answer_no_more(self) -> None:
        for timer in self._answers:
            timer.cancel()
        self._answers.clear()

    # -- translations -------------------------------------------------------------------------------------------------

    def translate(
        self, iova: int, access: Access, pasid: int | None = None, privileged: bool = False
    ) -> Place | NoPlace:
        """Where `iova` lies: what the device-TLB says, or else what the unit says now."""
        tag = None if pasid is None else Pasid(pasid)
        known = self.tlb.lookup(iova, access, tag, privileged)
        if known is not None:
            self.hits += 1
            gpa, entry = known
            return Place(gpa, entry.size - iova % entry.size, AddressType.TRANSLATED)
        return self._ask_unit(iova, access, tag, privileged)

    def _ask_unit(self, iova: int, access: Access, pasid: Pasid | None, privileged: bool) -> Place | NoPlace:
        unit = self.unit()
        self.translations += 1
        if unit is None:
            return NoPlace.NOT_ENTITLED
        request = self.function.request(iova, access, pasid, privileged, AddressType.TRANSLATION_REQUEST)
        answer = unit.translation_request(request, no_write=not access.writes, pages=self.options.pages)
        if not answer.succeeded:
            unsupported = answer.status is CompletionStatus.UNSUPPORTED_REQUEST
            return NoPlace.NOT_ENTITLED if unsupported else NoPlace.ABORTED
        if answer.entries[0].u:  # interrupts and the like: sent as they are
            return Place(iova, 1 << PAGE_SHIFT, AddressType.UNTRANSLATED)
        first = self._keep(iova, answer.entries, pasid, privileged)
        if first is None or not first.permits(access):
            return NoPlace.NO_RIGHT
        return Place(first.gpa + iova - first.iova, first.size - iova % first.size, AddressType.TRANSLATED)

    def _keep(
        self, iova: int, words: Sequence[AtsTranslationCompletion], pasid: Pasid | None, privileged: bool
    ) -> DeviceTlbEntry | None:
        # What is kept of the first range; without a device-TLB it is used once.
        tlb = self.tlb if self.options.capacity else DeviceTlb()
        at = iova >> PAGE_SHIFT << PAGE_SHIFT
        kept = []
        for word in words:
            kept.append(tlb.fill(at, word, pasid, privileged))
            at += page_of(word)[1]
        return kept[0]

    def invalidate(self, invalidation: DeviceTlbInvalidation) -> bool:
        """The unit wants translations forgotten; True if that is done, or said to be."""
        self.invalidations += 1
        if self.options.invalidations != "obey":
            return self.options.invalidations == "lie"
        self.tlb.invalidate(invalidation)
        if self.options.answer_after and self._attached is not None:
            unit, source_id = self._attached

            def answer() -> None:
                self._answers.popleft()  # all take the same time: the oldest
                unit.invalidation_completed(source_id)

            self._answers.append(self.function.machine.clock.after(self.options.answer_after, answer))
            return False
        return True

    # -- pages --------------------------------------------------------------------------------------------------------

    def ask_for(self, pages: Sequence[int], access: Access, pasid: int | None = None, privileged: bool = False) -> Wait:
        """Ask for pages, in one group, and wait: what comes back is the response, None if it took too long.

        A group that nobody will answer, and one that could not be asked for (`may_ask`), count as failed.
        """
        requests = [
            PageRequest(
                self.function.source_id,
                Iova(page >> PAGE_SHIFT << PAGE_SHIFT),
                read=access.reads,
                write=access.writes,
                pasid=None if pasid is None else Pasid(pasid),
                execute=access is Access.EXECUTE,
                privileged=privileged,
                last=number == len(pages) - 1,
            )
            for number, page in enumerate(pages)
        ]
        return lambda resume: self._send(requests, resume)

    @property
    def _most(self) -> int:
        return 0 if self.page_requests is None else min(self.page_requests.allocation, _GROUPS)

    def _send(self, requests: Sequence[PageRequest], answered: Callable[[ResponseCode | None], None]) -> None:
        unit = self.unit()
        if unit is None or not self.may_ask:
            answered(ResponseCode.FAILURE)
            return
        number = next(number for number in range(_GROUPS) if number not in self._groups)
        group = self._groups[number] = _Group(answered)
        self._note_waiting()
        if self.options.patience:
            clock = self.function.machine.clock
            group.timer = clock.after(self.options.patience, lambda: self._finish(number, None))
        outcome = PageRequestOutcome.REFUSED
        for request in requests:
            self.asked += 1
            outcome = unit.page_request(replace(request, group=number))
        if outcome is PageRequestOutcome.REFUSED and self._groups.get(number) is group:
            self._finish(number, ResponseCode.FAILURE)

    def _responded(self, response: PageGroupResponse) -> None:
        pri = self.page_requests
        if pri is None:
            return
        if response.group not in self._groups:
            pri.failed(unexpected_group=True)
        elif response.code is ResponseCode.FAILURE:
            # After a failure no other response is expected.
            pri.failed()
            for number in list(self._groups):
                self._finish(number, ResponseCode.FAILURE)
        else:
            self._finish(response.group, response.code)

    def _finish(self, number: int, code: ResponseCode | None) -> None:
        group = self._groups.pop(number)
        if group.timer is not None:
            group.timer.cancel()
        self._note_waiting()
        group.answered(code)

    def _note_waiting(self) -> None:
        if self.page_requests is not None:
            self.page_requests.stopped = not self._groups
