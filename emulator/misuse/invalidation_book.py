"""The book of invalidations: between the unmap of a range and its next use, caches must have been told.

What was unmapped stays on the book, under its domain, until descriptors have covered it. A range that is mapped again,
or whose pages are freed, while some of it is still on the book was reused too early: what an invalidation left over
says whether it was too narrow, came too early, or never came. Deferred invalidation is fine by this book, however late.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from emulator.misuse.verdict import Place, Verdict
from emulator.trace.live import Live, Range
from pagetables.address import PAGE_SHIFT

__all__ = ["ALL", "Invalidation", "InvalidationBook"]

ALL = (0, 1 << 64)
MANY = 2 << 20  # bytes of a range that is not taken apart into pages


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What one descriptor covers: a domain (None: every one) and a range of it. `device_tlb` says whose cache."""

    domain: int | None
    start: int
    end: int
    device_tlb: bool = False


@dataclass(slots=True, eq=False)
class _Unmapped:
    owner: str
    start: int
    end: int
    targets: list[tuple[int, int]]  # physical ranges it was mapped to
    places: tuple[Place, ...]  # mapped (where that is known), unmapped
    left: list[tuple[int, int]]
    narrow: Place | None = None  # an invalidation that covered a part


class _Pending:
    # The unmapped ranges of a domain, found by page; those of many pages are few and looked through.

    def __init__(self) -> None:
        self._by_page: dict[int, list[_Unmapped]] = {}
        self._large: list[_Unmapped] = []

    def add(self, one: _Unmapped) -> None:
        if _is_large(one.start, one.end):
            self._large.append(one)
            return
        for page in _pages(one.start, one.end):
            self._by_page.setdefault(page, []).append(one)

    def remove(self, one: _Unmapped) -> None:
        if _is_large(one.start, one.end):
            self._large.remove(one)
            return
        for page in _pages(one.start, one.end):
            self._by_page[page].remove(one)
            if not self._by_page[page]:
                del self._by_page[page]

    def meeting(self, start: int, end: int) -> list[_Unmapped]:
        if _is_large(start, end):
            found = {id(one): one for waiting in self._by_page.values() for one in waiting}
        else:
            found = {id(one): one for page in _pages(start, end) for one in self._by_page.get(page, ())}
        known = [*found.values(), *self._large]
        return [one for one in known if any(a < end and start < b for a, b in one.left)]


@dataclass(slots=True)
class InvalidationBook:
    """Tell it of maps, unmaps, invalidations and freed pages in order; `verdicts` grows."""

    verdicts: list[Verdict] = field(default_factory=list)
    invalidations: int = 0
    _pending: dict[int, _Pending] = field(default_factory=dict)
    _live: dict[int, Live] = field(default_factory=dict)
    _maps: list[tuple[int, int, Place]] = field(default_factory=list)  # start, what it is mapped to, by whom
    _early: dict[tuple[int, int], tuple[int, Place]] = field(default_factory=dict)  # covered while it was mapped

    def mapped(self, domain: int, start: int, size: int, gpa: int, place: Place) -> None:
        """[start, start + size) of the domain translates to `gpa` from now on."""
        for waiting in self._of(domain).meeting(start, start + size):
            self._reused(waiting, domain, place, "reuse-before-flush", "was mapped again")
        self._live.setdefault(domain, Live()).add(Range(start, start + size, len(self._maps)))
        self._maps.append((start, gpa, place))

    def unmapped(self, domain: int, owner: str, start: int, size: int, place: Place) -> None:
        """The entries of the range are cleared; caches may still hold it."""
        end = start + size
        pieces = self._live.setdefault(domain, Live()).take(start, end)
        targets = [self._target(piece) for piece in pieces]
        places = (self._maps[pieces[0].row][2], place) if pieces else (place,)
        self._of(domain).add(_Unmapped(owner, start, end, targets, places, [(start, end)]))

    def invalidated(self, invalidation: Invalidation, place: Place) -> None:
        """A descriptor was submitted."""
        self.invalidations += 1
        for domain in list(self._pending) if invalidation.domain is None else [invalidation.domain]:
            if invalidation.device_tlb:
                self._device_tlb(domain, invalidation, place)
            else:
                self._covered(domain, invalidation, place)

    def freed(self, gpa: int, size: int, place: Place) -> None:
        """The pages [gpa, gpa + size) go back to the system."""
        end = gpa + size
        for domain, live in self._live.items():
            for piece in live.overlapping(0, 1 << 64):
                first, last = self._target(piece)
                if first < end and gpa < last:
                    says = f"{gpa:#x}+{size:#x} is freed and still mapped"
                    places = (self._maps[piece.row][2], place)
                    owner, length = f"domain {domain}", piece.end - piece.start
                    self.verdicts.append(Verdict("freed-while-mapped", owner, piece.start, length, says, places))
        for domain, pending in self._pending.items():
            for one in pending.meeting(0, 1 << 64):
                if any(first < end and gpa < last for first, last in one.targets):
                    self._reused(one, domain, place, "freed-before-flush", "was freed")

    def domains(self) -> list[int]:
        """The domains of which something was told."""
        return list(self._pending)

    def is_pending(self, domain: int, iova: int) -> bool:
        """Whether `iova` was unmapped and its invalidation is still to come."""
        pending = self._pending.get(domain)
        return pending is not None and bool(pending.meeting(iova, iova + 1))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _of(self, domain: int) -> _Pending:
        pending = self._pending.get(domain)
        if pending is None:
            pending = self._pending[domain] = _Pending()
        return pending

    def _target(self, piece: Range) -> tuple[int, int]:
        start, gpa, _ = self._maps[piece.row]
        return gpa + piece.start - start, gpa + piece.end - start

    def _covered(self, domain: int, invalidation: Invalidation, place: Place) -> None:
        pending = self._of(domain)
        for one in pending.meeting(invalidation.start, invalidation.end):
            one.left = list(_without(one.left, invalidation.start, invalidation.end))
            if one.left:
                one.narrow = place
            else:
                pending.remove(one)
        live = self._live.get(domain)
        if live is not None and not _is_large(invalidation.start, invalidation.end):
            # What is invalidated while it is mapped may be the work of somebody who clears the entries later.
            for page in _pages(invalidation.start, invalidation.end):
                if live.at(page << PAGE_SHIFT):
                    self._early[domain, page << PAGE_SHIFT] = (invalidation.end, place)

    def _device_tlb(self, domain: int, invalidation: Invalidation, place: Place) -> None:
        for one in self._of(domain).meeting(invalidation.start, invalidation.end):
            says = "the IOTLB still holds it, and the device-TLB can refill from there"
            self._blame("device-tlb-first", one, (*one.places, place), says)

    def _reused(self, one: _Unmapped, domain: int, place: Place, rule: str, what: str) -> None:
        self._of(domain).remove(one)
        early = self._early_for(domain, one)
        if one.narrow is not None:
            rest = ", ".join(f"{start:#x}-{end - 1:#x}" for start, end in one.left)
            says = f"{rest} was not covered when it {what}"
            self._blame("narrow-invalidation", one, (*one.places, one.narrow, place), says)
        elif early is not None:
            says = f"it was invalidated before its entries were cleared, and not after; then it {what}"
            self._blame("early-invalidation", one, (one.places[0], early, one.places[1], place), says)
        else:
            self._blame(rule, one, (*one.places, place), f"it {what}, and no invalidation came in between")

    def _early_for(self, domain: int, one: _Unmapped) -> Place | None:
        end, place = self._early.get((domain, one.start), (0, None))
        if place is None or end < one.end or len(one.places) < 2:
            return None
        return place if one.places[0].event < place.event < one.places[1].event else None

    def _blame(self, rule: str, one: _Unmapped, places: tuple[Place, ...], says: str) -> None:
        self.verdicts.append(Verdict(rule, one.owner, one.start, one.end - one.start, says, places))


def _without(ranges: Iterable[tuple[int, int]], start: int, end: int) -> Iterable[tuple[int, int]]:
    for a, b in ranges:
        if a < start:
            yield a, min(b, start)
        if end < b:
            yield max(a, end), b


def _pages(start: int, end: int) -> range:
    return range(start >> PAGE_SHIFT, -(-end >> PAGE_SHIFT))


def _is_large(start: int, end: int) -> bool:
    return end - start > MANY
