"""Which verdict a fault gets: rules, in the order in which they are asked.

A trace tells what was mapped when the fault was reported; tables tell of the time of the image. Where both are there
the trace decides what was, and the tables whether they agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from pagetables.address import PAGE_SIZE, format_source_id
from pagetables.dmesg import FaultLine
from pagetables.explain.codes import BEYOND_WIDTH, DENIED, INCOMPLETE, NO_ENTRY, UNMAPPED, describe, is_same
from pagetables.explain.evidence import History, Mappings, Owners, Region
from pagetables.explain.verdict import Verdict
from pagetables.explain.wording import devices, distance, span_text, when
from pagetables.fault import Fault
from pagetables.images.inspection import Answer
from pagetables.layouts.registers import Capability
from pagetables.request import Request, Translation

__all__ = ["Case", "Judgement", "Past", "judge"]

NEAR = 16 * PAGE_SIZE
RECENT = 1_000_000_000  # ns: what was freed no longer ago goes before what is mapped next to it
_WIDTHS = (39, 48, 57, 64)  # of addresses: an error value (all ones) is cut to one of them


class Judgement(NamedTuple):
    """The verdict and the sentence that says it of this fault."""

    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True)
class Past:
    """What a trace says of an address. `time_ns` is that of the fault; None if unknown: then the trace's end counts."""

    time_ns: int | None
    span: tuple[int, int]
    live: Region | None
    freed: Region | None
    later: Region | None
    below: Region | None
    above: Region | None
    others: tuple[Region, ...]
    nothing_mapped: bool

    @classmethod
    def of(cls, history: History, owners: Owners, address: int, time_ns: int | None) -> Past:
        """What `history` says of `address`."""
        then = history.mappings(owners, time_ns)
        return cls(
            time_ns,
            history.span,
            then.holding(address),
            history.freed(owners, address, time_ns),
            history.later(owners, address, time_ns),
            then.below(address),
            then.above(address),
            then.of_others(address),
            then.is_empty,
        )


@dataclass(frozen=True, slots=True)
class Case:
    """A fault and everything that is known about it.

    `mates` are the devices that the requester can stand for: it has no entry itself, is device 0 function 0 of its
    bus, and they are on that bus. `now` is what the tables map, `then` what the trace had mapped.
    """

    fault: FaultLine
    request: Request
    mates: Owners = frozenset()
    answer: Answer | None = None
    now: Mappings | None = None
    then: Mappings | None = None
    past: Past | None = None

    @property
    def walked(self) -> Fault | None:
        """The fault that the tables give; None where they translate, or there are none."""
        return None if self.answer is None or isinstance(self.answer.outcome, Translation) else self.answer.outcome

    @property
    def translates(self) -> bool:
        """True if the tables let the request pass."""
        return self.answer is not None and isinstance(self.answer.outcome, Translation)

    @property
    def reason(self) -> int | None:
        """The reason reported, or that of the walk where the log has none."""
        return self.fault.reason if self.fault.reason is not None or self.walked is None else int(self.walked.reason)

    @property
    def agrees(self) -> bool | None:
        """Whether the tables give the reason that was reported; None without tables, or where pages of them lack."""
        if self.answer is None:
            return None
        if self.walked is None or self.reason is None:
            return False
        if is_same(self.reason, int(self.walked.reason)):
            return True
        return None if self.walked.reason in INCOMPLETE else False

    @property
    def who(self) -> str:
        """The requester."""
        return format_source_id(self.fault.source_id)

    @property
    def did(self) -> str:
        """What it tried, as the beginning of a sentence."""
        verb = "write to" if self.request.access.writes else "read"
        return f"{self.who} tried to {verb} {self.request.iova:#x}"


def judge(case: Case) -> Judgement:
    """The verdict on one fault of a DMA request."""
    reason = case.reason
    if reason is None:
        return Judgement(Verdict.UNKNOWN, f"{case.did}; the log does not say why it was refused")
    if reason in NO_ENTRY:
        return _requester(case)
    if reason in BEYOND_WIDTH:
        return _width(case)
    if reason in DENIED or reason in UNMAPPED:
        return _mapping(case)
    return _structure(case, reason)


def _requester(case: Case) -> Judgement:
    if case.translates or (case.walked is not None and case.walked.reason not in NO_ENTRY):
        sentence = f"{case.who} had no context entry when it faulted; in the image it has one"
        return Judgement(Verdict.ATTACHED_NOW, sentence)
    if case.mates:
        has = "has a context entry, the alias has none" if case.answer else "was attached, the alias was not"
        sentence = (
            f"requester {case.who} is the alias under which conventional-PCI devices of its bus arrive behind their "
            f"bridge: {devices(case.mates)} {has}"
        )
        return Judgement(Verdict.ALIAS_MISSING, sentence)
    return Judgement(Verdict.NOT_ATTACHED, f"{case.who} has no context entry: nothing is attached under that name")


def _width(case: Case) -> Judgement:
    address = case.request.iova
    if _is_error_value(case):
        return _error_value(case)
    most = "" if case.answer is None else f" (MGAW: {case.answer.registers.read(Capability).mgaw + 1} bits)"
    sentence = f"{case.did}, which needs {address.bit_length()} bits: more than the unit or its tables take{most}"
    return Judgement(Verdict.BEYOND_WIDTH, sentence)


def _is_error_value(case: Case) -> bool:
    widths = {1 << width for width in _WIDTHS}
    if case.answer is not None:
        widths.add(1 << case.answer.registers.read(Capability).mgaw + 1)
    return (case.request.iova | PAGE_SIZE - 1) + 1 in widths


def _error_value(case: Case) -> Judgement:
    sentence = f"{case.did}: all ones, the value of a failed mapping (DMA_MAPPING_ERROR) that was used as an address"
    return Judgement(Verdict.ERROR_VALUE, sentence)


def _structure(case: Case, reason: int) -> Judgement:
    if case.agrees and case.walked is not None:
        at = "" if case.walked.at is None else f" at {case.walked.at:#x}"
        sentence = f"{case.did}, but the entry{at} is unusable: {case.walked.reason.meaning}"
        return Judgement(Verdict.BROKEN_TABLES, sentence)
    if case.answer is not None:
        return _differing(case)
    return Judgement(Verdict.UNKNOWN, f"{case.did} and met a structure that the unit refused: {describe(reason)}")


def _differing(case: Case) -> Judgement:
    today = "let it pass" if case.walked is None else f"refuse it with {describe(case.walked.reason)}"
    reported = "without a reason" if case.reason is None else f"with {describe(case.reason)}"
    return Judgement(Verdict.TABLES_DIFFER, f"{case.did} and was refused {reported}; the tables of the image {today}")


def _mapping(case: Case) -> Judgement:
    rules = (_live, _refused_by_tables, _freed_or_later, _passing, _beside, _odd_value, _mistaken, _near)
    return next((found for rule in rules if (found := rule(case)) is not None), None) or _nowhere(case)


def _live(case: Case) -> Judgement | None:
    past = case.past
    region = None if past is None else past.live
    if past is None or region is None or region.mapped is None:
        return None
    if region.access is not None and case.request.access.needs & ~region.access:
        return _denied(case, region)
    if (refused := _refused_by_tables(case)) is not None:
        return refused
    if past.time_ns is None:
        sentence = f"{case.did}, which is mapped since {when(region.mapped)}; when the fault came is not known"
        return Judgement(Verdict.MAPPED_NOW, sentence)
    since = distance(past.time_ns - region.mapped.time_ns)
    if region.access is None and not case.translates:
        sentence = (
            f"{case.did}, which had been mapped {since} before, with an access that the trace does not tell: "
            "it was not allowed, or the unit used a stale entry"
        )
        return Judgement(Verdict.MAPPED_NOW, sentence)
    sentence = f"{case.did}, which had been mapped {since} before the fault was reported: a stale cache was used"
    return Judgement(Verdict.STALE_CACHE, sentence)


def _denied(case: Case, region: Region) -> Judgement:
    allowed = "" if region.access is None else f", with access {region.access.text()}"
    wanted = "writing" if case.request.access.writes else "reading"
    sentence = f"{case.did}, which is mapped ({span_text(region)}{allowed}), but not for {wanted}"
    return Judgement(Verdict.PERMISSION, sentence)


def _refused_by_tables(case: Case) -> Judgement | None:
    region = case.now.holding(case.request.iova) if case.now is not None and case.agrees else None
    return None if region is None else _denied(case, region)


def _freed_or_later(case: Case) -> Judgement | None:
    past = case.past
    if past is None:
        return None
    freed, later = _freed(case, past), _later(case, past)
    if freed is None or later is None:
        found = freed or later
        return None if found is None or (_beside(case) and not _is_recent(past)) else found
    ago, ahead = _ages(past)
    return freed if ago <= ahead else later


def _is_recent(past: Past) -> bool:
    return min(_ages(past)) <= RECENT


def _ages(past: Past) -> tuple[float, float]:
    # How long before the fault the address was freed, how long after it was mapped; in nanoseconds.
    now = past.time_ns
    gone = past.freed.unmapped if past.freed else None
    come = past.later.mapped if past.later else None
    ago = math.inf if now is None or gone is None else now - gone.time_ns
    return ago, math.inf if now is None or come is None else come.time_ns - now


def _freed(case: Case, past: Past) -> Judgement | None:
    region = past.freed
    if region is None or region.unmapped is None:
        return None
    whose = "" if region.owners else " (the trace does not say whose it was)"
    if past.time_ns is None:
        rest = f"was mapped until {when(region.unmapped)}{whose}; when the fault came is not known"
    else:
        ago = distance(past.time_ns - region.unmapped.time_ns)
        rest = f"was freed {ago} before the fault was reported: {span_text(region)}{whose}"
    return Judgement(Verdict.FREED, f"{case.did}, which {rest}")


def _later(case: Case, past: Past) -> Judgement | None:
    region = past.later
    if region is None or region.mapped is None or past.time_ns is None:
        return None
    ahead = distance(region.mapped.time_ns - past.time_ns)
    sentence = f"{case.did} {ahead} before it was mapped: {span_text(region)} came {when(region.mapped)}"
    return Judgement(Verdict.MAPPED_LATER, sentence)


def _passing(case: Case) -> Judgement | None:
    if not case.translates:
        return None
    sentence = f"{case.did}; the tables of the image let it pass: it was mapped later, or a stale cache entry was used"
    return Judgement(Verdict.MAPPED_NOW, sentence)


def _mappings(case: Case) -> Mappings | None:
    return case.now if case.then is None else case.then


def _beside(case: Case) -> Judgement | None:
    return _neighbour(case, 1)


def _near(case: Case) -> Judgement | None:
    return _neighbour(case, NEAR)


def _neighbour(case: Case, limit: int) -> Judgement | None:
    mappings, page = _mappings(case), case.request.iova & -PAGE_SIZE
    if mappings is None:
        return None
    below, above = mappings.below(case.request.iova), mappings.above(case.request.iova)
    if below is not None and page - below.end < limit:
        gap = page - below.end
        how = f"{gap} bytes behind the end of" if gap else "in the page right behind"
        return Judgement(Verdict.PAST_END, f"{case.did}, {how} the mapping {span_text(below)}")
    if above is not None and above.iova - page - PAGE_SIZE < limit:
        gap = above.iova - page - PAGE_SIZE
        how = f"{gap + PAGE_SIZE} bytes before the start of" if gap else "in the page right before"
        return Judgement(Verdict.BEFORE_START, f"{case.did}, {how} the mapping {span_text(above)}")
    return None


def _odd_value(case: Case) -> Judgement | None:
    if _is_error_value(case):
        return _error_value(case)
    if case.request.iova < PAGE_SIZE:
        return Judgement(Verdict.NULL_ADDRESS, f"{case.did}: an address of zero, never filled in, or a failed mapping")
    return None


def _mistaken(case: Case) -> Judgement | None:
    mappings, address = _mappings(case), case.request.iova
    if mappings is None:
        return None
    if address < 1 << 32 and (region := mappings.with_low_half(address)) is not None:
        sentence = f"{case.did}, the lower 32 bits of an address in its mapping {span_text(region)}"
        return Judgement(Verdict.TRUNCATED, sentence)
    if (region := mappings.leading_to(address)) is not None:
        sentence = (
            f"{case.did}, which is not mapped, but is the physical address behind {span_text(region)}: "
            "the device was given a physical address in place of the DMA address"
        )
        return Judgement(Verdict.PHYSICAL_ADDRESS, sentence)
    others = [region for region in mappings.of_others(address) if region.owners]
    if others:
        whose = devices({owner for region in others for owner in region.owners})
        sentence = f"{case.did}, which is mapped for {whose}, not for {case.who}"
        return Judgement(Verdict.OTHER_DEVICE, sentence)
    return None


def _nowhere(case: Case) -> Judgement:
    past = case.past
    if past is not None:
        rest = "; nothing at all was mapped for it then" if past.nothing_mapped else ""
        return Judgement(Verdict.NEVER_MAPPED, f"{case.did}, which the trace never maps for it{rest}")
    if case.agrees:
        nothing = case.now is not None and case.now.is_empty
        rest = "; nothing at all is mapped for it" if nothing else ""
        return Judgement(Verdict.NOT_MAPPED, f"{case.did}, which is not mapped{rest}")
    return _differing(case) if case.answer is not None else Judgement(Verdict.UNKNOWN, case.did)
