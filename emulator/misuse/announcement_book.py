"""The book of announcements: a unit in caching mode (CAP.CM=1) keeps what was not present, too.

Software then has to invalidate also where it maps something that was not mapped, before a device uses it. Only judged
where the trace says that its unit was in caching mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from emulator.misuse.invalidation_book import Invalidation
from emulator.misuse.verdict import Place, Verdict

__all__ = ["AnnouncementBook"]


@dataclass(slots=True)
class _New:
    start: int
    end: int
    place: Place


@dataclass(slots=True)
class AnnouncementBook:
    """Tell it of maps, unmaps, invalidations and accesses in order; `verdicts` grows."""

    verdicts: list[Verdict] = field(default_factory=list)
    _new: dict[int, list[_New]] = field(default_factory=dict)

    def mapped(self, space: int, start: int, size: int, place: Place) -> None:
        """[start, start + size) was not mapped before, and caches may hold that."""
        self._new.setdefault(space, []).append(_New(start, start + size, place))

    def unmapped(self, space: int, start: int, size: int) -> None:
        """What was mapped in the range is gone."""
        self._keep(space, start, start + size)

    def invalidated(self, space: int, invalidation: Invalidation) -> None:
        """Caches forget the range, and what was new there is announced."""
        self._keep(space, invalidation.start, invalidation.end)

    def accessed(self, space: int, owner: str, iova: int, size: int, place: Place) -> None:
        """A device uses [iova, iova + size)."""
        for new in self._new.get(space, ()):
            if new.start < iova + max(size, 1) and iova < new.end:
                says = "the unit may still hold that nothing was mapped there: no invalidation came after the map"
                self.verdicts.append(Verdict("unannounced-map", owner, iova, size, says, (new.place, place)))

    def _keep(self, space: int, start: int, end: int) -> None:
        # A part that is covered counts for the whole: another descriptor tells of the rest.
        known = self._new.get(space)
        if known:
            self._new[space] = [new for new in known if new.end <= start or end <= new.start]
