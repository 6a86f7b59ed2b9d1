"""A trace judged: every verdict that its events support, in order.

Two kinds of evidence: the calls of the DMA API, which a `Watch` sees while the trace is read, and the maps, unmaps,
accesses and invalidation descriptors that the trace keeps. Rules about invalidations are judged only where the trace
tells of any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from emulator.ledger import DOUBLE_MAP, DOUBLE_UNMAP, NEVER_MAPPED, WRONG_SIZE, Ledger, Misuse, keep_ledger
from emulator.misuse.access_book import AccessBook, Mapping
from emulator.misuse.announcement_book import AnnouncementBook
from emulator.misuse.descriptors import coverage
from emulator.misuse.dma_book import DmaBook
from emulator.misuse.invalidation_book import ALL, Invalidation, InvalidationBook
from emulator.misuse.sharing import Exposure, Sharing
from emulator.misuse.verdict import Place, Verdict
from emulator.trace.columns import NO_SOURCE
from emulator.trace.event import Event, Kind
from emulator.trace.live import Range
from emulator.trace.spaces import source_of
from emulator.trace.trace import Trace
from pagetables.address import SourceId, format_source_id

__all__ = ["Judgement", "Watch", "judge", "verdict_document"]

_KEPT = (Kind.PAGE_FREE, Kind.INVALIDATE)
DEVICE_TLB = "device-tlb"
_Aside = Event | tuple[int, int]  # or the first two qwords of a descriptor


@dataclass(slots=True)
class Watch:
    """Give `see` to `read_traces`; `judge` takes what it saw."""

    book: DmaBook = field(default_factory=DmaBook)
    sharing: Sharing = field(default_factory=Sharing)
    kept: list[tuple[int, Event]] = field(default_factory=list)

    def see(self, number: int, event: Event) -> None:
        """Take note of one event, the `number`-th of the trace."""
        if event.kind is Kind.DMA_CHECK or (event.kind is Kind.DMA_MAP and event.detail is None):
            self.book.checks = True  # told by a harness: a kernel's lines name the call, and never tell of checks
        self.book.see(number, event)
        self.sharing.see(number, event)
        if event.kind in _KEPT:
            self.kept.append((number, event))


@dataclass(frozen=True, slots=True)
class Judgement:
    """`misuse`: rules that were broken, in the order of the events that broke them; `exposed`: pages of two owners."""

    misuse: tuple[Verdict, ...]
    exposed: tuple[Verdict, ...]
    exposure: Exposure


def judge(trace: Trace, watch: Watch, ledger: Ledger | None = None) -> Judgement:
    """All verdicts about a trace; `ledger` (made if not given) says in which order its events took effect."""
    bench = _Bench(trace, watch, ledger or keep_ledger(trace.columns))
    if bench.has_evidence:
        bench.run()
    found = [
        *watch.book.verdicts,
        *watch.sharing.overlaps,
        *bench.invalidations.verdicts,
        *bench.accesses.verdicts,
        *bench.announcements.verdicts,
        *bench.leaks,
    ]
    found += [bench.booked(misuse) for misuse in bench.ledger.misuse]
    ordered = sorted(found, key=lambda verdict: (verdict.at.event, verdict.rule))
    return Judgement(_until(trace, ordered), _until(trace, watch.sharing.verdicts), watch.sharing.exposure)


def _until(trace: Trace, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    # The watch has seen the whole trace, also what was cut off.
    return tuple(v for v in verdicts if trace.last_event is None or v.at.event <= trace.last_event)


def verdict_document(trace: Trace, verdict: Verdict) -> dict[str, Any]:
    """A verdict as a report has it: the rule, the event that broke it, the range, and all events of the case."""
    events = [
        {"role": p.role, "event": p.event, "file": trace.files[p.file], "line": p.line, "time_ns": p.time_ns}
        for p in verdict.places
    ]
    return {
        "kind": verdict.rule,
        **{name: value for name, value in events[-1].items() if name != "role"},
        "space": verdict.owner,
        "iova": f"{verdict.iova:#x}",
        "size": verdict.size,
        "says": verdict.says,
        "events": events,
    }


class _Bench:
    def __init__(self, trace: Trace, watch: Watch, ledger: Ledger) -> None:
        self._trace, self._watch, self.ledger = trace, watch, ledger
        self.invalidations = InvalidationBook()
        self.announcements = AnnouncementBook()
        self.leaks: list[Verdict] = []
        told = any(event.kind is Kind.INVALIDATE for _, event in watch.kept)
        self._judges_invalidations = bool(len(trace.descriptors)) or told
        self.accesses = AccessBook(
            is_pending=self.invalidations.is_pending, knows_invalidations=self._judges_invalidations
        )
        self._attached: dict[int, set[int]] = {}
        self._of_domain: dict[int, list[int]] = {}
        for space in trace.spaces:
            if space.domain_id is not None:
                self._of_domain.setdefault(space.domain_id, []).append(space.index)

    @property
    def has_evidence(self) -> bool:
        """Whether the trace has more than maps and unmaps, which the ledger has judged already."""
        told = bool(self._watch.kept) or self._judges_invalidations
        return told or bool(np.isin(self._trace.columns.kind, (Kind.ACCESS, Kind.DETACH)).any())

    def run(self) -> None:
        """Go through everything in order."""
        aside = self._aside()
        due = next(aside, None)
        columns = self._trace.columns
        events, kinds = columns.event.tolist(), columns.kind.tolist()
        reached = 0
        for row in self.ledger.order.tolist():
            reached = max(reached, events[row])
            while due is not None and due[0] < reached:
                self._take_aside(*due)
                due = next(aside, None)
            handle = _ROWS.get(kinds[row])
            if handle is not None:
                handle(self, row)
        while due is not None:
            self._take_aside(*due)
            due = next(aside, None)

    def _aside(self) -> Iterator[tuple[int, _Aside]]:
        # Descriptors and what the watch kept, by event number.
        known = self._trace.descriptors
        words = zip(known.low, known.high, strict=True)
        found: list[tuple[int, _Aside]] = [*zip(known.event, words, strict=True), *self._watch.kept]
        yield from sorted(found, key=lambda entry: entry[0])

    def _take_aside(self, number: int, what: _Aside) -> None:
        if not isinstance(what, Event):
            covered = coverage(*what)
            if covered is not None:
                self._invalidated(covered, self._spaces_of(covered.domain), Place("invalidated", number, 0, 0, 0))
            return
        role = "freed" if what.kind is Kind.PAGE_FREE else "invalidated"
        place = Place(role, number, what.file, what.line, what.time_ns)
        if what.kind is Kind.PAGE_FREE:
            self.invalidations.freed(what.gpa, what.size, place)
            return
        start, end = (what.iova, what.iova + what.size) if what.size else ALL
        covered = Invalidation(what.domain, start, end, device_tlb=what.detail == DEVICE_TLB)
        self._invalidated(covered, self._named(what), place)

    def _invalidated(self, covered: Invalidation, spaces: list[int] | None, place: Place) -> None:
        for space in self.invalidations.domains() if spaces is None else spaces:
            self.invalidations.invalidated(replace(covered, domain=space), place)
            self.announcements.invalidated(space, covered)

    def _spaces_of(self, domain: int | None) -> list[int] | None:
        return None if domain is None else self._of_domain.get(domain, [])

    def _named(self, event: Event) -> list[int] | None:
        if event.device is None:
            return self._spaces_of(event.domain)
        source = source_of(event.device)
        return [space.index for space in self._trace.spaces if source in space.devices]

    # -- rows of the trace ------------------------------------------------------------------------------------------

    def _map(self, row: int) -> None:
        columns = self._trace.columns
        space, start, size = int(columns.space[row]), int(columns.iova[row]), int(columns.size[row])
        place = self._place("mapped", row)
        if self._judges_invalidations:
            self.invalidations.mapped(space, start, size, int(columns.gpa[row]), place)
        if self._trace.caching_mode:
            self.announcements.mapped(space, start, size, place)
        self.accesses.mapped(space, start, size, Mapping(int(columns.access[row]), place))

    def _unmap(self, row: int) -> None:
        columns = self._trace.columns
        space, start, size = int(columns.space[row]), int(columns.iova[row]), int(columns.size[row])
        place = self._place("unmapped", row)
        if self._judges_invalidations:
            self.invalidations.unmapped(space, self._trace.spaces[space].name, start, size, place)
        self.announcements.unmapped(space, start, size)
        self.accesses.unmapped(space, start, size, place)

    def _access(self, row: int) -> None:
        columns = self._trace.columns
        space, source = int(columns.space[row]), int(columns.source[row])
        owner = self._trace.spaces[space].name if source == NO_SOURCE else format_source_id(SourceId(source))
        what = (int(columns.iova[row]), int(columns.size[row]), int(columns.access[row]))
        place = self._place("accessed", row)
        self.accesses.accessed(space, owner, *what, place)
        self.announcements.accessed(space, owner, *what[:2], place)

    def _attach(self, row: int) -> None:
        columns = self._trace.columns
        self._attached.setdefault(int(columns.space[row]), set()).add(int(columns.source[row]))

    def _detach(self, row: int) -> None:
        space, source = int(self._trace.columns.space[row]), int(self._trace.columns.source[row])
        attached = self._attached.setdefault(space, set())
        attached.discard(source)
        if attached:
            return
        place = self._place("detached", row)
        for live, mapping in self.accesses.live(space):
            if self._is_direct(live, mapping):
                continue
            owner = format_source_id(SourceId(source))
            says = "is still mapped when the last device of its space is detached"
            self.leaks.append(Verdict("leak", owner, live.start, live.end - live.start, says, (mapping.place, place)))

    def _is_direct(self, live: Range, mapping: Mapping) -> bool:
        # Reserved regions are mapped one to one with the domain, and go with it.
        row = int(np.searchsorted(self._trace.columns.event, mapping.place.event))
        return int(self._trace.columns.gpa[row]) == int(self._trace.columns.iova[row])

    def booked(self, misuse: Misuse) -> Verdict:
        """What the ledger found, as a verdict."""
        columns, row, other = self._trace.columns, misuse.row, misuse.other
        places = [self._place(_ROLES[int(columns.kind[row])], row)]
        says = _SAYS[misuse.kind]
        if other is not None:
            places.insert(0, self._place(_ROLES[int(columns.kind[other])], other))
            says += f" ({int(columns.size[other]):#x} bytes at {int(columns.iova[other]):#x})"
        owner = self._trace.spaces[int(columns.space[row])].name
        return Verdict(misuse.kind, owner, int(columns.iova[row]), int(columns.size[row]), says, tuple(places))

    def _place(self, role: str, row: int) -> Place:
        columns = self._trace.columns
        where = (int(columns.file[row]), int(columns.line[row]), int(columns.time_ns[row]))
        return Place(role, int(columns.event[row]), *where)


_ROLES: dict[int, str] = {Kind.MAP: "mapped", Kind.UNMAP: "unmapped"}
_SAYS = {
    DOUBLE_MAP: "it is mapped already",
    DOUBLE_UNMAP: "it was unmapped already",
    NEVER_MAPPED: "nothing is mapped there",
    WRONG_SIZE: "it was mapped with another size",
}
_ROWS: dict[int, Callable[[_Bench, int], None]] = {
    Kind.MAP: _Bench._map,
    Kind.UNMAP: _Bench._unmap,
    Kind.ACCESS: _Bench._access,
    Kind.ATTACH: _Bench._attach,
    Kind.DETACH: _Bench._detach,
}
