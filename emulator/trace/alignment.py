"""Device accesses of a QEMU log, put where they happened between the events of a trace of the same guest.

The two clocks differ, so the recordings are aligned by what both tell: the sequence of invalidation descriptors
(`qi_submit` in the trace, `vtd_inv_desc` in the log). An access lies between two descriptors; within these it is put
at the first event from which on its page is mapped, in its device's space, to the address that QEMU translated it to,
and never before the access before it. A blocked access goes to the first place that this order allows. The event is
printed before the descriptor is in the queue, so that a later one of another CPU may come in between: what has no place
before the next descriptor may have one before the second next.

The log also tells what the trace does not: a requester that no event attaches, but whose translations are those of a
space, is an alias and gets attached there; a mapping that no event claimed is of the device that used it; one whose
access no event tells, and to which a write was blocked, is for reading only.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emulator.trace.claims import claimed_spaces
from emulator.trace.columns import NO_PASID, Columns
from emulator.trace.descriptors import align
from emulator.trace.event import READ, WRITE, Descriptor, Event, Kind
from emulator.trace.framing import Format, sniff
from emulator.trace.lifetimes import Lifetimes
from emulator.trace.opening import open_trace, pieces
from emulator.trace.qemu import QemuReader, is_wait
from emulator.trace.skipped import SkippedLines
from emulator.trace.spaces import Space, source_of
from emulator.trace.trace import Trace
from pagetables.address import SourceId, format_source_id
from pagetables.errors import TraceError

__all__ = ["Alignment", "Merged", "merge_accesses"]

_SNIFFED = 1 << 16


@dataclass(slots=True)
class Alignment:
    """How well log and trace fit. Descriptors: without the waits, which the trace does not tell.

    `placed` of the `accesses` lie where their page is mapped as QEMU saw it; the others are kept in order only.
    `claimed` counts the mappings that no event of the trace claimed and that got their device by the log.
    """

    matched: int = 0
    only_trace: int = 0
    only_log: int = 0
    accesses: int = 0
    placed: int = 0
    faults: int = 0
    claimed: int = 0
    aliases: dict[SourceId, int] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """Which part of the descriptors of both sides has a partner, from 0 to 1."""
        total = self.matched + max(self.only_trace, self.only_log)
        return self.matched / total if total else 0.0

    def as_dict(self) -> dict[str, object]:
        """The same as JSON shows it."""
        return {
            "matched": self.matched,
            "only_trace": self.only_trace,
            "only_log": self.only_log,
            "accesses": self.accesses,
            "placed": self.placed,
            "faults": self.faults,
            "claimed": self.claimed,
            "aliases": {format_source_id(source): space for source, space in sorted(self.aliases.items())},
        }


class Merged(NamedTuple):
    """A trace with the accesses of a log between its events, and how well the two fit."""

    trace: Trace
    alignment: Alignment


class _Seen(NamedTuple):
    after: int  # descriptors of the log before it
    source: SourceId
    event: Event


class _Log:
    def __init__(self, path: Path | str, index: int) -> None:
        self.descriptors: list[tuple[int, int]] = []
        self.seen: list[_Seen] = []
        self.skipped = SkippedLines()
        with open_trace(path) as stream:
            start = stream.read(_SNIFFED)
            if sniff(str(path), start) is not Format.QEMU:
                raise TraceError(f"{path}: this is no log of QEMU's vtd_* events (-trace 'vtd_*' -D FILE)")
            for event in QemuReader(str(path), index, self.skipped).events(pieces(stream, str(path), start)):
                self._take(event)

    def _take(self, event: Event) -> None:
        detail = event.detail
        if isinstance(detail, Descriptor):
            if not is_wait(detail):
                self.descriptors.append(detail.words[:2])
        elif event.kind in (Kind.ACCESS, Kind.FAULT):
            source = source_of(event.device or "")
            if source is not None:
                self.seen.append(_Seen(len(self.descriptors), source, event))


def merge_accesses(trace: Trace, qemu_log: Path | str) -> Merged:
    """`trace` with the accesses of the log as ACCESS rows, and the quality of the alignment.

    TraceError if `qemu_log` is no such log, or if log and trace share no descriptor at all.
    """
    log = _Log(qemu_log, len(trace.files))
    partner = align(trace.descriptors.keys(), log.descriptors)
    matched = int(np.count_nonzero(partner >= 0))
    if not matched:
        sides = f"{len(trace.descriptors)} in the trace (qi_submit), {len(log.descriptors)} in the log (vtd_inv_desc)"
        raise TraceError(f"{qemu_log}: no invalidation descriptor of the log is one of the trace: {sides}")
    found = Alignment(matched, len(trace.descriptors) - matched, len(log.descriptors) - matched)
    placer = _Placer(trace, log, partner, found)
    placer.run()
    return Merged(_merged(trace, log, str(qemu_log), placer), found)


class _Placer:
    # `at`: for each access the number of the event that it follows.
    def __init__(self, trace: Trace, log: _Log, partner: Any, found: Alignment) -> None:
        self.found = found
        self.at: list[int] = []
        self.lifetimes = Lifetimes(trace)
        self.read_only: set[int] = set()  # rows of maps
        self.used: dict[int, int] = {}  # lifetime -> space of its user, where nobody claimed it
        self._seen = log.seen
        self._after, self._before = _bounds(trace, partner)
        self._alias()

    def _alias(self) -> None:
        votes: defaultdict[SourceId, Counter[int]] = defaultdict(Counter)
        for _, source, event in self._seen:
            if event.kind is Kind.ACCESS and not self.lifetimes.is_attached(source):
                votes[source].update(self.lifetimes.claimed_spaces_with(event.iova, event.gpa))
        for source, counted in votes.items():
            if counted:
                self.found.aliases[source] = counted.most_common(1)[0][0]
                self.lifetimes.attach(source, self.found.aliases[source])

    def run(self) -> None:
        now = 0
        for after, source, event in self._seen:
            now = max(now, self._after[after])
            if event.kind is Kind.ACCESS:
                now = self._place(source, event, now, after)
            else:
                self._block(source, event, now)
            self.at.append(now)

    def _block(self, source: SourceId, event: Event, now: int) -> None:
        self.found.faults += 1
        if event.access == WRITE:
            self.read_only.update(self.lifetimes.maps_at(source, event.iova, now))

    def _place(self, source: SourceId, event: Event, now: int, after: int) -> int:
        self.found.accesses += 1
        for before in self._before[after : after + 2]:
            place = self.lifetimes.first_place(source, event.iova, event.gpa, now, before)
            if place is not None:
                break
        else:
            return now
        self.found.placed += 1
        if place.user is not None:
            self.used[place.lifetime] = place.user
        return place.event


def _bounds(trace: Trace, partner: Any) -> tuple[list[int], list[int]]:
    # For each number of descriptors of the log: the event it comes after, and the one it comes before.
    events = np.array(trace.descriptors.event, np.int64)
    known = np.where(partner >= 0, events[np.maximum(partner, 0)], 0)
    after = np.concatenate([[0], np.maximum.accumulate(known)])
    later = np.where(partner >= 0, events[np.maximum(partner, 0)], trace.events + 1)
    before = np.concatenate([np.minimum.accumulate(later[::-1])[::-1], [trace.events + 1]])
    return after.tolist(), before.tolist()


def _merged(trace: Trace, log: _Log, name: str, placer: _Placer) -> Trace:
    columns, found = trace.columns, placer.found
    space = claimed_spaces(columns, placer.lifetimes, placer.used)
    found.claimed = int(np.count_nonzero((space != columns.space) & (columns.kind == Kind.MAP)))
    access = columns.access.copy()
    for row in placer.read_only:
        access[row] = access[row] or READ
    columns = dataclasses.replace(columns, space=space, access=access)
    added, place = _access_rows(trace, log, placer)
    joined = Columns(*(np.concatenate([columns[name], added[name]]) for name in Columns.names()))
    behind = np.searchsorted(columns.event, place, side="right")
    order = np.argsort(np.concatenate([np.arange(len(columns)) + 0.0, behind - 0.5]), kind="stable")
    spaces = tuple(_with_aliases(one, found.aliases) for one in trace.spaces)
    for line in log.skipped:
        trace.skipped.add(line.file, line.line, line.why)
    return dataclasses.replace(
        trace,
        files=(*trace.files, name),
        columns=joined.take(order),
        spaces=spaces,
        notes=(*trace.notes, _note(found, name)),
    )


def _with_aliases(space: Space, aliases: dict[SourceId, int]) -> Space:
    new = tuple(source for source, index in aliases.items() if index == space.index)
    return dataclasses.replace(space, devices=space.devices + new)


def _access_rows(trace: Trace, log: _Log, placer: _Placer) -> tuple[Columns, Any]:
    # The rows to add, an attach before the first access of an alias, and the event that each follows.
    rows: list[dict[str, int]] = []
    place: list[int] = []
    missing = dict(placer.found.aliases)
    bare = {"pasid": NO_PASID, "iova": 0, "gpa": 0, "size": 0, "access": 0, "leaf_levels": 0, "cpu": 0, "gfp": 0}
    for (_, source, event), at in zip(log.seen, placer.at, strict=True):
        where = bare | {"event": at, "time_ns": 0, "source": source, "file": event.file, "line": event.line}
        if source in missing:
            rows.append(where | {"kind": Kind.ATTACH, "space": missing.pop(source)})
            place.append(at)
        target = {"iova": event.iova, "gpa": event.gpa, "size": 1, "access": event.access}
        rows.append(where | target | {"kind": Kind.ACCESS, "space": placer.lifetimes.space_at(source, at)})
        place.append(at)
    types = {name: trace.columns[name].dtype for name in Columns.names()}
    added = Columns(**{name: np.array([row[name] for row in rows], kind) for name, kind in types.items()})
    return dataclasses.replace(added, time_ns=_times(trace.columns, place)), np.array(place, np.uint64)


def _times(columns: Columns, place: list[int]) -> Any:
    # An access happens when the event before it does.
    if not len(columns):
        return np.zeros(len(place), np.uint64)
    row = np.searchsorted(columns.event, np.array(place, np.uint64), side="right")
    return columns.time_ns[np.maximum(row.astype(np.int64) - 1, 0)]


def _note(found: Alignment, name: str) -> str:
    aliases = "".join(f"; {format_source_id(source)} is an alias" for source in sorted(found.aliases))
    claimed = f"; {found.claimed} unclaimed maps got their device" if found.claimed else ""
    return (
        f"{name}: {found.matched} of {found.matched + max(found.only_trace, found.only_log)} descriptors match; "
        f"{found.placed} of {found.accesses} accesses lie where their page is mapped{claimed}{aliases}"
    )
