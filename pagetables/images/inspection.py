"""What an image says of its units: who may reach what, and where one address leads.

The tables are read whether the unit uses them or not: a dump is often taken after translation was switched off. What
the unit itself would do is said beside it (`translation_enabled`, `Answer.notes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pagetables.address import PAGE_SHIFT, Gpa, Pasid, SourceId
from pagetables.bulk_scan import MakeReader
from pagetables.errors import ImageError
from pagetables.fault import Fault, FaultReason
from pagetables.images.image import Image
from pagetables.images.interrupts import Interrupt, interrupts, missing_pages
from pagetables.images.queues import Queue, invalidation_queue, page_request_queue
from pagetables.images.registers import RegisterPage, load_units
from pagetables.layouts.interrupt import PostedInterruptEntry
from pagetables.layouts.registers import Capability, FaultRecord
from pagetables.layouts.values import TableMode
from pagetables.memory import Memory
from pagetables.request import Request, Translation
from pagetables.scan import Finding, Scan, Space, scan
from pagetables.selection import EVERYTHING, Selection
from pagetables.source import lookup
from pagetables.step import Step
from pagetables.walk import meets_interrupt_range, walk

__all__ = ["Answer", "UnitReport", "answer", "inspect_unit", "register_pages"]

_NOT_ITS_DEVICE = {
    FaultReason.ROOT_NOT_PRESENT,
    FaultReason.CONTEXT_NOT_PRESENT,
    FaultReason.SM_ROOT_NOT_PRESENT,
    FaultReason.SM_CONTEXT_NOT_PRESENT,
}


@dataclass(frozen=True, slots=True)
class UnitReport:
    """What one unit's registers and the memory behind them say."""

    registers: RegisterPage
    mode: str  # legacy, scalable, abort or reserved
    translation_enabled: bool
    interrupt_remapping_enabled: bool
    root_table: Gpa
    spaces: tuple[Space, ...]
    interrupts: tuple[Interrupt, ...]
    pending_faults: tuple[FaultRecord, ...]
    findings: tuple[Finding, ...]
    queue: Queue | None = None  # of invalidations
    page_requests: Queue | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a request leads, with every entry read on the way; `notes` are what the tables alone do not tell."""

    registers: RegisterPage
    request: Request
    outcome: Translation | Fault
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()


def register_pages(image: Image, registers: str | None = None, rtaddr: int | None = None) -> tuple[RegisterPage, ...]:
    """The units of `image`: from the file `registers`, from the value of RTADDR, or from the image's own notes."""
    if registers is not None and rtaddr is not None:
        raise ImageError("registers and a root table address exclude each other; give one of them")
    if registers is not None:
        return load_units(registers)
    if rtaddr is not None:
        return (RegisterPage.of_root_table(rtaddr),)
    pages = RegisterPage.from_notes(image.notes)
    if not pages:
        raise ImageError(
            f"{image.path}: no registers in this {image.container}; give --registers FILE or --rtaddr ADDR"
        )
    return pages


def inspect_unit(
    memory: Memory,
    registers: RegisterPage,
    *,
    source_id: SourceId | None = None,
    pasid: Pasid | None = None,
    haw: int = 52,
    selection: Selection = EVERYTHING,
    bulk: bool | MakeReader = True,
) -> UnitReport:
    """Everything that the tables of one unit hold, or what they hold of one device or PASID, or of a selection.

    `bulk` as `scan` has it.
    """
    status, root = registers.status, registers.root_table
    found = Scan(_mode_name(root.ttm), (), ())
    if status.tes or status.rtps:
        capabilities = registers.capabilities(haw)
        found = scan(memory, int(root), capabilities, source_id=source_id, pasid=pasid, selection=selection, bulk=bulk)
    spaces = sorted(found.spaces, key=lambda space: (space.source_id, space.pasid or 0))
    entries = tuple(_interrupts(memory, registers, source_id))
    queue, page_requests = invalidation_queue(memory, registers), page_request_queue(memory, registers)
    return UnitReport(
        registers,
        found.mode,
        bool(status.tes),
        bool(status.ires),
        Gpa(root.rta << PAGE_SHIFT),
        tuple(spaces),
        entries,
        tuple(registers.pending_faults()),
        (
            *found.findings,
            *_interrupt_findings(memory, registers, entries),
            *_queue_findings(queue, "invalidation"),
            *_queue_findings(page_requests, "page request"),
        ),
        queue,
        page_requests,
    )


def _queue_findings(queue: Queue | None, what: str) -> Iterator[Finding]:
    if queue is None or not queue.is_enabled:
        return
    if queue.missing:
        at = queue.missing[0]
        message = f"{len(queue.missing)} pages of the {what} queue are outside memory, the first at {at:#x}"
        yield Finding("missing-table", Gpa(at), message)
    for slot in queue.slots:
        if slot.is_pending and (slot.word is None or slot.reserved_bits):
            why = f"reserved bits set: {slot.reserved_bits:#x}" if slot.word else f"{slot.name}: {slot.raw:#x}"
            yield Finding("bad-descriptor", slot.at, f"{what} queue slot {slot.index} at {slot.at:#x} waits with {why}")


def answer(memory: Memory, pages: tuple[RegisterPage, ...], request: Request, haw: int = 52) -> Answer:
    """Where `request` leads in the unit that knows its device; in the first one if none does."""
    answers = [_answer(memory, registers, request, haw) for registers in pages]
    return next((one for one in answers if not _is_unknown(one.outcome)), answers[0])


def _answer(memory: Memory, registers: RegisterPage, request: Request, haw: int) -> Answer:
    capabilities = registers.capabilities(haw)
    found = lookup(memory, int(registers.root_table), request, capabilities)
    outcome, steps = found.outcome, found.steps
    notes = tuple(_notes(registers, request))
    if isinstance(outcome, Fault):
        return Answer(registers, request, outcome, steps, notes)
    walked = walk(memory, outcome, request, capabilities)
    return Answer(registers, request, walked.outcome, steps + walked.steps, notes)


def _is_unknown(outcome: Translation | Fault) -> bool:
    return isinstance(outcome, Fault) and outcome.reason in _NOT_ITS_DEVICE


def _notes(registers: RegisterPage, request: Request) -> Iterator[str]:
    if not registers.status.tes:
        yield "translation is off (GSTS.TES=0): the unit lets addresses pass as they are; this is what the tables say"
    if request.pasid is None and meets_interrupt_range(request.iova, 0):
        yield "a write to 0xfee00000-0xfeefffff without PASID is an interrupt, which never reaches these tables"


def _mode_name(mode: int) -> str:
    return TableMode(mode).name.lower() if mode in set(TableMode) else "reserved"


def _interrupts(memory: Memory, registers: RegisterPage, source_id: SourceId | None) -> Iterator[Interrupt]:
    if registers.status.irtps or registers.status.ires:
        for interrupt in interrupts(memory, registers.interrupt_table):
            if source_id in (None, interrupt.entry.sid):
                yield interrupt


def _interrupt_findings(memory: Memory, registers: RegisterPage, entries: tuple[Interrupt, ...]) -> Iterator[Finding]:
    if not (registers.status.irtps or registers.status.ires):
        return
    if missing := missing_pages(memory, registers.interrupt_table):
        at = missing[0]
        message = f"{len(missing)} pages of the interrupt remapping table are outside memory, the first at {at:#x}"
        yield Finding("missing-table", Gpa(at), message)
    posting = registers.read(Capability).pi
    for one in entries:
        what: str | None = None
        if one.reserved_bits:
            what = f"has reserved bits set: {one.reserved_bits:#x}"
        elif isinstance(one.entry, PostedInterruptEntry) and not posting:
            what = "is posted, which the unit does not support (CAP.PI=0)"
        if what:
            text = f"interrupt remapping entry {one.index} at {one.at:#x} {what} (fault {FaultReason.IR_RESERVED:02x}h)"
            yield Finding("bad-entry", one.at, text, SourceId(one.entry.sid), FaultReason.IR_RESERVED)
