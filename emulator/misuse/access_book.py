"""The book of accesses: what devices did to ranges that are not theirs, or no longer.

Traces of kernels hold no accesses; they come from a QEMU log, from JSON Lines, or from a harness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from emulator.misuse.verdict import Place, Verdict
from emulator.trace.event import WRITE
from emulator.trace.live import Live, Range
from pagetables.address import PAGE_SHIFT

__all__ = ["AccessBook", "Mapping"]

MANY = 2 << 20  # bytes of a range that is not taken apart into pages


class Mapping(NamedTuple):
    """One map: what the device may do, 0 where nobody said, and the event."""

    access: int
    place: Place


class _Gone(NamedTuple):
    start: int
    end: int
    places: tuple[Place, ...]


def _nothing_pending(space: int, iova: int) -> bool:
    return False


@dataclass(slots=True)
class AccessBook:
    """Tell it of maps, unmaps and accesses in order; `verdicts` grows. `is_pending(space, iova)` says whether the
    invalidation of an unmapped address is still to come, where anybody knows."""

    verdicts: list[Verdict] = field(default_factory=list)
    is_pending: Callable[[int, int], bool] = _nothing_pending
    knows_invalidations: bool = False
    _live: dict[int, Live] = field(default_factory=dict)
    _maps: list[Mapping] = field(default_factory=list)
    _gone: dict[tuple[int, int], _Gone] = field(default_factory=dict)
    _gone_large: list[tuple[int, _Gone]] = field(default_factory=list)

    def mapped(self, space: int, start: int, size: int, mapping: Mapping) -> None:
        """[start, start + size) may be used from now on."""
        self._live.setdefault(space, Live()).add(Range(start, start + size, len(self._maps)))
        self._maps.append(mapping)

    def unmapped(self, space: int, start: int, size: int, place: Place) -> None:
        """[start, start + size) may be used no more."""
        end = start + size
        pieces = self._live.setdefault(space, Live()).take(start, end)
        places = (self._maps[pieces[0].row].place, place) if pieces else (place,)
        gone = _Gone(start, end, places)
        if size > MANY:
            self._gone_large.append((space, gone))
            return
        for page in range(start >> PAGE_SHIFT, -(-end >> PAGE_SHIFT)):
            self._gone[space, page] = gone

    def live(self, space: int) -> list[tuple[Range, Mapping]]:
        """What is mapped in a space now."""
        known = self._live.get(space)
        return [] if known is None else [(one, self._maps[one.row]) for one in known.overlapping(0, 1 << 64)]

    def accessed(self, space: int, owner: str, iova: int, size: int, access: int, place: Place) -> None:
        """A device reads or writes [iova, iova + size)."""
        at, end = iova, iova + max(size, 1)
        while at < end:
            held = self._live.setdefault(space, Live()).overlapping(at, at + 1)
            if not held:
                self._outside(space, owner, at, end - at, place)
                return
            mapping = self._maps[held[0].row]
            if mapping.access and access & ~mapping.access:
                done, may = ("writes", "read") if access & WRITE & ~mapping.access else ("reads", "write")
                says = f"the device {done} what it may only {may}"
                self.verdicts.append(Verdict("wrong-access", owner, at, end - at, says, (mapping.place, place)))
                return
            at = held[0].end

    def _outside(self, space: int, owner: str, iova: int, size: int, place: Place) -> None:
        gone = self._last(space, iova)
        if gone is None:
            says = "nothing was ever mapped there"
            self.verdicts.append(Verdict("access-outside", owner, iova, size, says, (place,)))
            return
        age = place.time_ns - gone.places[-1].time_ns
        says = f"{age / 1000:g} us after it was unmapped{self._window(space, iova)}"
        self.verdicts.append(Verdict("use-after-unmap", owner, iova, size, says, (*gone.places, place)))

    def _window(self, space: int, iova: int) -> str:
        if not self.knows_invalidations:
            return ""
        if self.is_pending(space, iova):
            return ", inside the stale window: no invalidation had come, and it may have gone through"
        return ", after its invalidation"

    def _last(self, space: int, iova: int) -> _Gone | None:
        known = [gone for where, gone in self._gone_large if where == space and gone.start <= iova < gone.end]
        small = self._gone.get((space, iova >> PAGE_SHIFT))
        if small is not None and small.start <= iova < small.end:
            known.append(small)
        return max(known, key=lambda gone: gone.places[-1].event, default=None)
