"""When which page was mapped where, and who was attached: what an access seen elsewhere is held against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from emulator.trace.event import Kind
from emulator.trace.history import NEVER, TraceHistory
from emulator.trace.trace import Trace
from pagetables.address import PAGE_SHIFT, SourceId

__all__ = ["Lifetimes", "Place"]

_FOREVER = 1 << 62
_SMALL = 512  # pages: longer mappings are looked through one by one
_NO_SPACE = 0


class Place(NamedTuple):
    """The event from which on an access is possible, the mapping it meets, and its user if nobody claimed that."""

    event: int
    lifetime: int
    user: int | None


class _Life(NamedTuple):
    number: int
    start: int
    end: int
    offset: int  # guest-physical address minus address
    space: int
    mapped: int  # events
    unmapped: int

    def holds(self, iova: int) -> bool:
        return self.start <= iova < self.end


class _Stay(NamedTuple):
    space: int
    begin: int
    end: int


class Lifetimes:
    """The mappings of a trace by page, and the spaces of its devices, both in numbers of events.

    `mapped` and `unmapped` are the rows that begin and end each lifetime (-1: it does not end), `space` where it is.
    """

    def __init__(self, trace: Trace) -> None:
        history, columns = TraceHistory(trace), trace.columns
        self.mapped, self.unmapped, self.space = history.mapped, history.unmapped, history.space
        self._claimed = [space.attributed for space in trace.spaces]
        self._pages: defaultdict[int, list[_Life]] = defaultdict(list)
        self._large: list[_Life] = []
        self._stays: dict[SourceId, list[_Stay]] = {}
        events = columns.event.astype(np.int64)
        ends = np.where(history.unmapped == NEVER, _FOREVER, events[history.unmapped] if len(events) else 0)
        offset = (history.gpa.astype(object) - history.start.astype(object)).tolist()
        values = (history.start, history.end, history.space, events[history.mapped], ends)
        for number, (start, end, space, begin, stop) in enumerate(zip(*(v.tolist() for v in values), strict=True)):
            self._add(_Life(number, start, end, offset[number], space, begin, stop))
        for row in np.flatnonzero((columns.kind == Kind.ATTACH) | (columns.kind == Kind.DETACH)):
            self._move(SourceId(int(columns.source[row])), columns.kind[row], int(columns.space[row]), int(events[row]))

    def _add(self, life: _Life) -> None:
        first, last = life.start >> PAGE_SHIFT, (life.end - 1) >> PAGE_SHIFT
        if last - first >= _SMALL:
            self._large.append(life)
            return
        for page in range(first, last + 1):
            self._pages[page].append(life)

    def _move(self, source: SourceId, kind: int, space: int, event: int) -> None:
        stays = self._stays.setdefault(source, [])
        if stays and stays[-1].end == _FOREVER:
            stays[-1] = stays[-1]._replace(end=event)
        if kind == Kind.ATTACH:
            stays.append(_Stay(space, event, _FOREVER))

    def attach(self, source: SourceId, space: int) -> None:
        """Let `source` have been in `space` all the time."""
        self._stays[source] = [_Stay(space, 0, _FOREVER)]

    def is_attached(self, source: SourceId) -> bool:
        """True if the trace, or `attach`, ever puts `source` into a space."""
        return bool(self._stays.get(source))

    def space_at(self, source: SourceId, event: int) -> int:
        """The space that `source` is in after `event`; any where it is in none."""
        return next((stay.space for stay in self._stays.get(source, ()) if stay.begin <= event < stay.end), _NO_SPACE)

    def _meeting(self, iova: int, gpa: int) -> Iterator[_Life]:
        for life in self._pages.get(iova >> PAGE_SHIFT, ()):
            if life.offset == gpa - iova:
                yield life
        for life in self._large:
            if life.holds(iova) and life.offset == gpa - iova:
                yield life

    def claimed_spaces_with(self, iova: int, gpa: int) -> set[int]:
        """The spaces of known devices in which `iova` ever led to `gpa`."""
        return {life.space for life in self._meeting(iova, gpa) if self._claimed[life.space]}

    def first_place(self, source: SourceId, iova: int, gpa: int, now: int, before: int) -> Place | None:
        """The first event from `now` on, and before `before`, after which `source` finds `gpa` at `iova`, or None.

        A mapping that no event claimed may be anyone's; one of the device's own space is preferred.
        """
        best: tuple[bool, int] | None = None
        place = None
        for life in self._meeting(iova, gpa):
            for stay in self._stays.get(source, ()):
                begin, end = max(now, stay.begin, life.mapped), min(before, stay.end, life.unmapped)
                own = life.space == stay.space
                if begin >= end or not (own or not self._claimed[life.space]):
                    continue
                if best is None or (not own, begin) < best:
                    best = (not own, begin)
                    place = Place(begin, life.number, None if own else stay.space)
        return place

    def maps_at(self, source: SourceId, iova: int, event: int) -> list[int]:
        """The rows of the maps that hold `iova` for `source` after `event`."""
        space = self.space_at(source, event)
        there = [*self._pages.get(iova >> PAGE_SHIFT, ()), *(life for life in self._large if life.holds(iova))]
        live = [life for life in there if life.space == space and life.mapped <= event < life.unmapped]
        return [int(self.mapped[life.number]) for life in live]
