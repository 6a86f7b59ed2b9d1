"""A fault explained: the verdict in one sentence, the evidence, and what to look at next."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace

from pagetables.address import Iova, SourceId, format_source_id
from pagetables.dmesg import FaultLine
from pagetables.explain.codes import describe, named
from pagetables.explain.evidence import History, Mappings, Owners, Region
from pagetables.explain.interrupts import judge_interrupt
from pagetables.explain.judging import Case, Past, judge
from pagetables.explain.tables import Tables
from pagetables.explain.verdict import Verdict
from pagetables.explain.wording import devices, distance, told
from pagetables.fault import FaultReason
from pagetables.images.inspection import Answer
from pagetables.request import Access, Request

__all__ = ["Explanation", "explain"]

LATEST = (1 << 64) - 1
_BY_REASON: dict[FaultReason | None, Access] = {
    FaultReason.WRITE_DENIED: Access.WRITE,
    FaultReason.SM_WRITE_DENIED: Access.WRITE,
    FaultReason.READ_DENIED: Access.READ,
    FaultReason.SM_READ_DENIED: Access.READ,
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of one fault. `answer` is the walk in the image, `past` what the trace says; None without them.

    `agrees` says whether the tables of the image give the reason that was reported: None where they cannot tell.
    """

    fault: FaultLine
    request: Request | None  # None for interrupts
    answer: Answer | None
    past: Past | None
    agrees: bool | None
    verdict: Verdict
    sentence: str
    evidence: tuple[str, ...]

    @property
    def next(self) -> tuple[str, ...]:
        """What to look at next."""
        return self.verdict.next


def explain(
    fault: FaultLine,
    tables: Tables | None = None,
    history: History | None = None,
    present: Container[SourceId] = (),
) -> Explanation:
    """Why `fault` happened, by the tables of an image, by the history of a trace, or by both.

    The time stamp of the fault and those of the trace are taken to be of one clock. `present` are devices that are
    known to exist: one of them is nobody's alias.
    """
    if fault.index is not None:
        return _interrupt(fault, fault.index, tables)
    request = _request(fault)
    time_ns = None if fault.time is None or history is None else min(round(fault.time * 1e9), LATEST)
    mates: Owners = frozenset() if fault.source_id in present else _mates(fault.source_id, tables, history, time_ns)
    owners: Owners = mates or frozenset({fault.source_id})
    case = Case(
        fault,
        request,
        mates,
        None if tables is None else tables.answer(request),
        None if tables is None else tables.mappings(owners, fault.pasid),
        None if history is None else history.mappings(owners, time_ns),
        None if history is None else Past.of(history, owners, request.iova, time_ns),
    )
    verdict, sentence = judge(case)
    evidence = tuple(_evidence(case))
    return Explanation(fault, request, case.answer, case.past, case.agrees, verdict, sentence, evidence)


def _request(fault: FaultLine) -> Request:
    # Kernels have printed "DMA Read" above "PTE Write access is not set": the reason knows better.
    access = fault.access or Access.READ
    if access is not Access.ATOMIC:
        access = _BY_REASON.get(named(fault.reason), access)
    return Request(fault.source_id, fault.address or Iova(0), access, fault.pasid)


def _mates(source: SourceId, tables: Tables | None, history: History | None, time_ns: int | None) -> Owners:
    # A PCIe-to-PCI bridge sends on what its devices ask as device 0, function 0 of the bus behind it. Other functions
    # of device 0 are a PCIe device's.
    known = (frozenset() if tables is None else tables.devices) | (
        frozenset() if history is None else history.devices(time_ns)
    )
    if source & 0xFF or source in known:
        return frozenset()
    return frozenset(one for one in known if one >> 8 == source >> 8 and one & 0xF8)


def _interrupt(fault: FaultLine, index: int, tables: Tables | None) -> Explanation:
    verdict, sentence = judge_interrupt(fault.source_id, index, fault.reason, tables)
    agrees = {Verdict.INTERRUPT_REFUSED: True, Verdict.TABLES_DIFFER: False}.get(verdict)
    return Explanation(fault, None, None, None, agrees, verdict, sentence, tuple(_reported(fault)))


def _reported(fault: FaultLine) -> Iterator[str]:
    reason = named(fault.reason)
    if fault.reason is None:
        yield "reported without a reason"
    else:
        yield f"reported: {describe(fault.reason)}{f': {reason.meaning}' if reason else ''}"


def _evidence(case: Case) -> Iterator[str]:
    yield from _reported(case.fault)
    if case.fault.access not in (None, case.request.access):
        yield "the line names another access than its reason; the reason is believed"
    yield from _by_tables(case)
    if case.past is not None:
        yield from _by_trace(case, case.past)


def _by_tables(case: Case) -> Iterator[str]:
    if case.answer is None:
        return
    walked = case.walked
    if walked is None:
        yield "tables: they let the request pass; they do not agree with the fault"
    elif case.agrees is None:
        yield f"tables: the image lacks a page of them ({describe(walked.reason)}); they cannot tell"
    elif not case.agrees:
        yield f"tables: they refuse it with {describe(walked.reason)}: another reason than was reported"
    elif case.fault.reason in (None, int(walked.reason)):
        yield f"tables: they agree, {describe(walked.reason)}"
    else:
        yield (
            f"tables: they agree; {case.fault.reason:#04x} is the code of legacy mode, which QEMU reports in scalable "
            f"mode too; the specification's is {describe(walked.reason)}"
        )
    if case.now is not None and case.past is None:
        yield from _neighbours("tables", case.now, case.request.iova, case.mates)


def _by_trace(case: Case, past: Past) -> Iterator[str]:
    first, last = past.span
    now = past.time_ns
    if now is None:
        yield "trace: the fault has no time; the end of the trace is looked at"
    elif now > last:
        yield f"trace: it ends {distance(now - last)} before the fault was reported; its end is looked at"
    elif now < first:
        yield f"trace: it begins {distance(first - now)} after the fault was reported"
    for name, region in (("mapped then", past.live), ("last freed", past.freed), ("next mapped", past.later)):
        if region is not None:
            yield f"trace: {name}: {told(region)}"
    if past.live is None and past.freed is None and past.later is None:
        yield f"trace: never maps this address for {_whom(case)}"
    if case.then is not None and not (past.live or past.freed or past.later):
        yield from _neighbours("trace", case.then, case.request.iova, case.mates)


def _whom(case: Case) -> str:
    return devices(case.mates) if case.mates else format_source_id(case.fault.source_id)


def _neighbours(source: str, mappings: Mappings, address: int, mates: Owners) -> Iterator[str]:
    whose = f" for {devices(mates)}" if mates else ""
    if mappings.is_empty:
        yield f"{source}: nothing is mapped{whose or ' for this device'}"
    if mates and (held := mappings.holding(address)) is not None:
        yield f"{source}: the address is mapped{whose}: {told(_brief(held))}"
    below, above = mappings.below(address), mappings.above(address)
    if below is not None:
        yield f"{source}: nearest below: {told(_brief(below))}, ends {address - below.end:#x} before"
    if above is not None:
        yield f"{source}: nearest above: {told(_brief(above))}, begins {above.iova - address:#x} behind"
    others = mappings.of_others(address)
    for region in others:
        yield f"{source}: for others: {told(_brief(region))}"


def _brief(region: Region) -> Region:
    # Neighbours are told without the line that unmapped them later.
    return replace(region, unmapped=None)
