"""Exposure: a mapping lets a device reach whole pages, and with them what else lies there.

A buffer of 1522 bytes exposes the rest of its pages. How much that is, is a number; a verdict it becomes only where the
exposed part holds a buffer that another owner has mapped at the time ("sub-page vulnerability", Markuze, EuroSys 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from emulator.misuse.verdict import Place, Verdict, owner_of
from emulator.trace.event import WRITE, Event, Kind
from pagetables.address import PAGE_SHIFT, PAGE_SIZE

__all__ = ["Exposure", "Sharing"]

FAILED = (1 << 64) - 1
LINE_SHIFT = 6
MANY = 64  # pages


@dataclass(slots=True)
class Exposure:
    """Bytes of buffers that were mapped, bytes of the pages that were exposed with them, and pages that two owners
    shared at a time."""

    mapped: int = 0
    exposed: int = 0
    shared_pages: int = 0

    def as_dict(self) -> dict[str, int]:
        """The numbers by name."""
        return {"mapped_bytes": self.mapped, "exposed_bytes": self.exposed, "shared_pages": self.shared_pages}


@dataclass(slots=True)
class _Part:
    # What one live mapping holds of a page.
    owner: str
    start: int
    end: int
    access: int
    made: Place

    @property
    def says(self) -> str:
        return f"{self.start % PAGE_SIZE:#x} to {(self.end - 1) % PAGE_SIZE:#x}"

    @property
    def whole(self) -> bool:
        return self.start % PAGE_SIZE == 0 and self.end % PAGE_SIZE == 0


@dataclass(slots=True)
class Sharing:
    """Feed it the DMA API's events in order with `see`.

    The first case of two owners in a page becomes one of `verdicts`. Two buffers that devices may write and that share
    a cache line are misuse: `overlaps`.
    """

    exposure: Exposure = field(default_factory=Exposure)
    verdicts: list[Verdict] = field(default_factory=list)
    overlaps: list[Verdict] = field(default_factory=list)
    _live: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)
    _parts: dict[int, list[_Part]] = field(default_factory=dict)
    _told: set[tuple[str, str, int]] = field(default_factory=set)

    def see(self, number: int, event: Event) -> None:
        """Take note of one event, the `number`-th of the trace."""
        handle = _HANDLERS.get(event.kind)
        if handle is not None and event.device is not None and event.iova != FAILED and event.size:
            handle(self, number, event)

    def _map(self, number: int, event: Event) -> None:
        start, end = event.gpa, event.gpa + event.size
        first, last = start >> PAGE_SHIFT, end - 1 >> PAGE_SHIFT
        self.exposure.mapped += event.size
        self.exposure.exposed += (last + 1 - first << PAGE_SHIFT) - event.size
        self._live.setdefault((str(event.device), event.iova), []).append((start, end))
        made = Place("mapped", number, event.file, event.line, event.time_ns)
        for page in _looked_at(first, last):
            low, high = max(start, page << PAGE_SHIFT), min(end, page + 1 << PAGE_SHIFT)
            part = _Part(owner_of(str(event.device)), low, high, event.access, made)
            parts = self._parts.setdefault(page, [])
            for other in parts:
                self._compare(page, other, part, event)
            parts.append(part)

    def _compare(self, page: int, other: _Part, part: _Part, event: Event) -> None:
        if other.owner != part.owner and not (other.whole and part.whole):
            self._share(page, other, part, event)
        both_written = other.access & part.access & WRITE
        if (
            both_written
            and other.start >> LINE_SHIFT <= part.end - 1 >> LINE_SHIFT
            and (part.start >> LINE_SHIFT <= other.end - 1 >> LINE_SHIFT)
        ):
            says = f"{max(other.start, part.start):#x} is in a cache line that {other.owner} may write too"
            places = (other.made, part.made)
            self.overlaps.append(Verdict("overlapping-lines", part.owner, event.iova, event.size, says, places))

    def _share(self, page: int, other: _Part, part: _Part, event: Event) -> None:
        key = (other.owner, part.owner, page)
        if key in self._told:
            return
        self._told.add(key)
        self.exposure.shared_pages += 1
        says = f"page {page << PAGE_SHIFT:#x} holds bytes {part.says} of it and {other.says} of {other.owner}"
        self.verdicts.append(Verdict("shared-page", part.owner, event.iova, event.size, says, (other.made, part.made)))

    def _unmap(self, number: int, event: Event) -> None:
        known = self._live.get((str(event.device), event.iova))
        if not known:
            return
        owner = owner_of(str(event.device))
        start, end = known.pop(0)
        for page in _looked_at(start >> PAGE_SHIFT, end - 1 >> PAGE_SHIFT):
            parts = self._parts.get(page, [])
            mine = next((p for p in parts if p.owner == owner and start <= p.start < end), None)
            if mine is not None:
                parts.remove(mine)
            if not parts:
                self._parts.pop(page, None)


def _looked_at(first: int, last: int) -> Iterable[int]:
    # A buffer of many pages meets others in the first and in the last, unless two large ones overlap.
    return range(first, last + 1) if last - first < MANY else (first, last)


_HANDLERS: dict[Kind, Callable[[Sharing, int, Event], None]] = {
    Kind.DMA_MAP: Sharing._map,
    Kind.DMA_UNMAP: Sharing._unmap,
}
