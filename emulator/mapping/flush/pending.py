"""What waits for an invalidation, and which flush covers it.

Two counters decide, after Linux's flush queues: flushes started, and flushes finished. An entry notes how many had been
started when it was queued; it is covered once more than that many have finished. Flushes may overlap: the one that
finishes last may have started first, and the scheme still errs only on the late side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from emulator.mapping.domain import Domain
from emulator.mapping.flush.policy import InvalidationPolicy
from emulator.mapping.flush.window import Ranges
from pagetables.address import Gpa

__all__ = ["DeferringPolicy", "Pending", "Waiting"]


@dataclass(slots=True)
class Waiting:
    """One unmapped range: its pages, and what to do (`actions`) once it is released."""

    domain: Domain
    iova: int
    size: int
    pages: tuple[Gpa, ...]
    since: int
    counter: int = 0
    released: bool = False
    actions: list[Callable[[int], None]] = field(default_factory=list)


class Pending:
    """Entries that one flush will cover, in the order in which they came."""

    def __init__(self) -> None:
        self.started = 0
        self.finished = 0
        self.entries: deque[Waiting] = deque()
        self._ranges: dict[Domain, Ranges] = {}

    @property
    def domains(self) -> list[Domain]:
        """The domains that have an entry here, in the order in which they got one."""
        return list(self._ranges)

    def add(self, entry: Waiting) -> None:
        """This entry waits for a flush that is started from now on."""
        entry.counter = self.started
        self.entries.append(entry)
        self._note(entry)

    def start(self) -> None:
        """A flush starts: it covers every entry so far."""
        self.started += 1

    def finish(self) -> list[Waiting]:
        """A flush is done; the entries that are covered now."""
        self.finished += 1
        covered = []
        while self.entries and self.entries[0].counter < self.finished:
            covered.append(self.entries.popleft())
        self._ranges.clear()
        for entry in self.entries:
            self._note(entry)
        return covered

    def covers(self, entry: Waiting) -> bool:
        """True if a flush that was started after the entry came has finished."""
        return entry.counter < self.finished

    def holds(self, domain: Domain, iova: int, size: int) -> bool:
        """True if something of [iova, iova + size) of the domain is not covered yet."""
        ranges = self._ranges.get(domain)
        return ranges is not None and ranges.meets(iova, iova + size)

    def _note(self, entry: Waiting) -> None:
        ranges = self._ranges.get(entry.domain)
        if ranges is None:
            ranges = self._ranges[entry.domain] = Ranges()
        ranges.add(entry.iova, entry.iova + entry.size)


class DeferringPolicy(InvalidationPolicy):
    """A policy under which unmapped ranges wait; where (`_holds`) and for what is up to classes of this kind."""

    def _prepare(self) -> None:
        self._latest: dict[Domain, Waiting] = {}

    def mapped(self, domain: Domain, iova: int, size: int) -> None:
        """Count a range that is mapped again while the unit may still hold the old translation."""
        if self._holds(domain, iova, size):
            self.window.reused_before_flush += 1

    def after(self, domain: Domain, action: Callable[[int], None], cpu: int = 0) -> None:
        """The domain's newest entry is released last: the action goes with it."""
        latest = self._latest.get(domain)
        if latest is None or latest.released:
            action(cpu)
        else:
            latest.actions.append(action)

    def is_stale(self, domain: Domain, iova: int) -> bool:
        """True if the page of `iova` waits for its flush."""
        return self._holds(domain, iova, 1)

    def _holds(self, domain: Domain, iova: int, size: int) -> bool:
        raise NotImplementedError

    def _entry(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...]) -> Waiting:
        self.window.pending += 1
        entry = Waiting(domain, iova, size, self._not_freed_early(freed), self._clock.now)
        self._latest[domain] = entry
        return entry

    def _covered(self, entries: Iterable[Waiting]) -> None:
        for entry in entries:
            self.window.pending -= 1
            self.window.closed(self._clock.now - entry.since, entry.domain.domain_id)

    def _release(self, entry: Waiting, cpu: int) -> None:
        entry.released = True
        self._give_back(entry.pages)
        for action in entry.actions:
            action(cpu)

    def _forget(self, domain: Domain) -> None:
        self._latest.pop(domain, None)
