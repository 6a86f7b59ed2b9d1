"""Page requests: devices ask for pages, software answers by groups (VT-d, page request service; PCIe PRI).

A request is written into a queue in memory at PQT; software reads from PQH on. A queue that is full, or PRO that is
set, drops the request. Where nobody else will answer the last request of a group the unit answers by itself: invalid
request where the requester may not ask, response failure where the queue had no room.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass

from emulator.unit.events import EventInterrupt
from emulator.unit.invalidation import Invalidator
from emulator.unit.registers import UnitRegisters
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Iova, Pasid, SourceId
from pagetables.errors import NoMemory
from pagetables.fault import Fault, FaultReason
from pagetables.layouts import PageGroupResponse as ResponseDescriptor
from pagetables.layouts.context import ScalableContextEntry
from pagetables.layouts.page_request import PageRequestDescriptor
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, Request
from pagetables.source import ContextEntry, Source, pasid_limit

__all__ = [
    "PageGroupResponse",
    "PageRequest",
    "PageRequestOutcome",
    "PageRequestQueue",
    "ResponseCode",
    "page_request_error",
    "response_of",
]

_SLOT = 32
_TYPE = 1


class ResponseCode(enum.IntEnum):
    """How a page request group was answered. Codes that are not assigned count as a failure."""

    SUCCESS = 0
    INVALID_REQUEST = 1
    FAILURE = 15


@dataclass(frozen=True, slots=True)
class PageGroupResponse:
    """The answer to a page request group, as the device gets it."""

    source_id: SourceId
    group: int
    code: ResponseCode
    pasid: Pasid | None = None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page request message. `last` (LPIG) asks for a response to the whole group, which `group` (PRGI) names."""

    source_id: SourceId
    iova: Iova
    read: bool = True
    write: bool = False
    pasid: Pasid | None = None
    execute: bool = False
    privileged: bool = False
    last: bool = True
    group: int = 0

    @property
    def stop_marker(self) -> bool:
        """True for the message that ends a PASID's requests: last in its group, neither read nor write."""
        return self.last and not (self.read or self.write) and self.pasid is not None

    def request(self) -> Request:
        """The request as fault records and lookups see it."""
        access = Access.EXECUTE if self.execute else Access.WRITE if self.write and not self.read else Access.READ
        return Request(self.source_id, self.iova, access, self.pasid, self.privileged)

    def descriptor(self) -> PageRequestDescriptor:
        """What is written into the queue."""
        return PageRequestDescriptor.of(
            type=_TYPE,
            pp=int(self.pasid is not None),
            rid=self.source_id,
            pasid=self.pasid or 0,
            exe=int(self.execute),
            pm=int(self.privileged),
            rd=int(self.read),
            wr=int(self.write),
            lpig=int(self.last),
            prgi=self.group,
            addr=self.iova >> PAGE_SHIFT,
        )

    def answered(self, code: ResponseCode) -> PageGroupResponse:
        """The response to this request's group."""
        return PageGroupResponse(self.source_id, self.group, code, self.pasid)


class PageRequestOutcome(enum.Enum):
    """What became of a page request."""

    QUEUED = "queued"
    DROPPED = "dropped"  # no room, or PRO was set
    REFUSED = "refused"  # the requester may not ask, or a hook refused it


def response_of(descriptor: ResponseDescriptor) -> PageGroupResponse:
    """The response that descriptor 9 has the unit send."""
    known = {code.value: code for code in ResponseCode}
    pasid = Pasid(descriptor.pasid) if descriptor.pp else None
    code = known.get(descriptor.rc, ResponseCode.FAILURE)
    return PageGroupResponse(SourceId(descriptor.rid), descriptor.prgi, code, pasid)


def page_request_error(context: ContextEntry, request: Request) -> Fault | None:
    """45h, 47h or 46h if a scalable-mode context entry does not let its device ask for pages, in this order."""
    entry = ScalableContextEntry(context.entry)
    if request.pasid is not None and not entry.paside:
        reason = FaultReason.PASID_DISABLED
    elif not entry.pre:
        reason = FaultReason.PAGE_REQUEST_DISABLED
    elif request.pasid is not None and request.pasid >= pasid_limit(entry):
        reason = FaultReason.PASID_BEYOND_DIRECTORY
    else:
        return None
    return Fault(reason, request, context.at, disabled=bool(entry.fpd))


class PageRequestQueue:
    """The page request queue of one unit, and the way of responses to its devices."""

    def __init__(
        self, registers: UnitRegisters, memory: PhysicalMemory, event: EventInterrupt, invalidator: Invalidator
    ) -> None:
        self.sinks: dict[SourceId, Callable[[PageGroupResponse], None]] = {}
        self._registers = registers
        self._memory = memory
        self._event = event
        self._invalidator = invalidator

    def respond(self, response: PageGroupResponse) -> None:
        """Send a response to its device; one to a device that expects none is lost."""
        sink = self.sinks.get(response.source_id)
        if sink is not None:
            sink(response)

    def refuse(self, request: PageRequest, code: ResponseCode) -> PageRequestOutcome:
        """Answer instead of software, if an answer is due."""
        if request.last:
            self.respond(request.answered(code))
        return PageRequestOutcome.REFUSED

    def put(self, request: PageRequest, source: Source | None) -> PageRequestOutcome:
        """Queue a request that may be made, or drop it with an overflow. `source` has its translations cached, if any
        are."""
        registers = self._registers
        if registers.prs.pro:
            return self._drop(request)
        size = PAGE_SIZE << registers.pqa.pqs
        tail = (registers.pqt.pqt * _SLOT) % size
        if (tail + _SLOT) % size == registers.pqh.pqh * _SLOT % size:
            self._rose(pro=1)
            return self._drop(request)
        if source is not None:
            self._invalidator.requested_page(request.request(), source)
        with contextlib.suppress(NoMemory):  # a posted write to where nothing is gets lost, as on a bus
            self._memory.write(registers.pqa.pqa * PAGE_SIZE + tail, request.descriptor().pack())
        registers.pqt = registers.pqt.replace(pqt=(tail + _SLOT) % size // _SLOT)
        self._rose(ppr=1)
        return PageRequestOutcome.QUEUED

    def _drop(self, request: PageRequest) -> PageRequestOutcome:
        # With SMS=1 software expects no response to a stop marker, and none is sent.
        if request.last and not (request.stop_marker and self._registers.ecap.sms):
            self.respond(request.answered(ResponseCode.FAILURE))
        return PageRequestOutcome.DROPPED

    def _rose(self, **fields: int) -> None:
        status = self._registers.prs
        self._registers.prs = status.replace(**fields)
        if not (status.ppr or status.pro):
            self._event.happened()

    def cleared(self) -> None:
        """Software cleared PPR or PRO: with neither set nothing is pending any more."""
        if not (self._registers.prs.ppr or self._registers.prs.pro):
            self._event.withdrawn()
