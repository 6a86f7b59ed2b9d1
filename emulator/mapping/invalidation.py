"""Invalidation policies: when the unit is told that a range is gone, and when its table pages may be used again.

    strict     every unmap waits until the unit has invalidated the range; then its pages go back
    deferred   unmapped ranges and their pages wait in a ring for each CPU, until the ring is full or 10 ms passed; one
               domain-selective invalidation then covers them all (Linux drivers/iommu/dma-iommu.c, flush queues)

In both, a page is released only after an invalidation that was started after the page was unlinked has completed.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from emulator.clock import MILLISECOND, Clock, Timer
from emulator.mapping.domain import Domain
from emulator.mapping.driver import UnitDriver
from emulator.mapping.supply import PageSupply
from pagetables.address import Gpa
from pagetables.errors import InputError, near

__all__ = ["POLICIES", "DeferredInvalidation", "InvalidationPolicy", "StaleWindow", "StrictInvalidation", "make_policy"]


@dataclass(slots=True)
class StaleWindow:
    """How long unmapped ranges could still be cached, in virtual time, and whether they were used again before."""

    ranges: int = 0
    longest_ns: int = 0
    total_ns: int = 0
    reused_before_flush: int = 0
    accesses: int = 0  # by devices, through a translation that was stale
    pending: int = 0

    def closed(self, age: int) -> None:
        """One range waited `age` ns for its invalidation."""
        self.ranges += 1
        self.total_ns += age
        self.longest_ns = max(self.longest_ns, age)

    def as_dict(self) -> dict[str, int]:
        """The window as a report prints it."""
        mean = self.total_ns // self.ranges if self.ranges else 0
        return {
            "ranges": self.ranges,
            "max_ns": self.longest_ns,
            "mean_ns": mean,
            "reused_before_flush": self.reused_before_flush,
            "accesses": self.accesses,
            "pending": self.pending,
        }


class InvalidationPolicy(abc.ABC):
    """What happens after an unmap. `released` hears of every page that went back to the supply."""

    name = ""

    def __init__(self, driver: UnitDriver, supply: PageSupply, clock: Clock) -> None:
        self.window = StaleWindow()
        self.released: Callable[[int], None] = lambda pages: None
        self._driver, self._supply, self._clock = driver, supply, clock

    @abc.abstractmethod
    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """[iova, iova + size) was removed from the domain's tables, on this CPU, and these pages with it."""

    def mapped(self, domain: Domain, iova: int, size: int) -> None:  # noqa: B027  # most policies need not look
        """[iova, iova + size) is about to be mapped: the place to notice that a range is used again too early."""

    def is_stale(self, domain: Domain, iova: int) -> bool:
        """True if the page of `iova` was unmapped and the unit has not been told yet."""
        return False

    def flush(self) -> None:  # noqa: B027  # nothing waits unless a policy defers
        """Everything that waits is invalidated and released."""

    def detach(self, domain: Domain) -> None:
        """Everything that waits for this domain is invalidated and released."""
        self.flush()

    def _release(self, pages: tuple[Gpa, ...]) -> None:
        if pages:
            self._supply.give_back(pages)
            self.released(len(pages))


class StrictInvalidation(InvalidationPolicy):
    """The range is invalidated before unmap returns."""

    name = "strict"

    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """Invalidate the range, then release the pages."""
        before = self._clock.now
        self._driver.invalidate_range(domain.domain_id, domain.table.stage, iova, size, leaves_only=not freed)
        self.window.closed(self._clock.now - before)
        self._release(freed)


@dataclass(slots=True)
class _Waiting:
    iova: int
    size: int
    pages: tuple[Gpa, ...]
    counter: int
    since: int


class _FlushQueue:
    # The queue of one domain: a ring for each CPU, and the two counters that tell which entries a flush covered.

    def __init__(self, policy: DeferredInvalidation, domain: Domain) -> None:
        self.rings: dict[int, deque[_Waiting]] = {}
        self.started = 0
        self.finished = 0
        self.timer: Timer | None = None
        self.policy = policy
        self.domain = domain

    def put(self, cpu: int, iova: int, size: int, pages: tuple[Gpa, ...], now: int) -> None:
        ring = self.rings.setdefault(cpu, deque())
        self.release(ring)
        if len(ring) >= self.policy.entries - 1:  # one entry of a ring stays empty
            self.flush()
            self.release(ring)
        ring.append(_Waiting(iova, size, pages, self.started, now))
        if self.timer is None:
            self.timer = self.policy.arm(self.expired)

    def flush(self) -> None:
        self.started += 1
        self.policy.invalidate(self.domain)
        self.finished += 1
        for ring in self.rings.values():
            for entry in ring:
                if entry.counter == self.finished - 1:
                    self.policy.covered(entry)

    def release(self, ring: deque[_Waiting]) -> None:
        while ring and ring[0].counter < self.finished:
            self.policy.release(ring.popleft())

    def expired(self) -> None:
        self.timer = None
        self.flush()
        for ring in self.rings.values():
            self.release(ring)

    def drain(self) -> None:
        if any(self.rings.values()):
            self.expired()

    def waits(self, iova: int, size: int) -> bool:
        # Entries that a flush has covered already only wait for somebody to take them out: they are not stale.
        return any(
            entry.counter >= self.finished and entry.iova < iova + size and iova < entry.iova + entry.size
            for ring in self.rings.values()
            for entry in ring
        )


class DeferredInvalidation(InvalidationPolicy):
    """Ranges wait in rings of `entries` for each CPU of a domain, at most `timeout` ns."""

    name = "deferred"

    def __init__(
        self,
        driver: UnitDriver,
        supply: PageSupply,
        clock: Clock,
        entries: int = 256,
        timeout: int = 10 * MILLISECOND,
    ) -> None:
        super().__init__(driver, supply, clock)
        if entries < 2 or timeout <= 0:
            raise InputError(f"a flush queue needs at least 2 entries and a time-out, not {entries} and {timeout} ns")
        self.entries, self.timeout = entries, timeout
        self._queues: dict[int, _FlushQueue] = {}

    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """Queue the range and its pages."""
        self.window.pending += 1
        self._queue(domain).put(cpu, iova, size, freed, self._clock.now)

    def mapped(self, domain: Domain, iova: int, size: int) -> None:
        """Count a range that is mapped again while the unit may still hold the old translation."""
        if self._waits(domain, iova, size):
            self.window.reused_before_flush += 1

    def is_stale(self, domain: Domain, iova: int) -> bool:
        """True if the page of `iova` waits for its flush."""
        return self._waits(domain, iova, 1)

    def flush(self) -> None:
        """Invalidate and release whatever waits, in every domain."""
        for queue in self._queues.values():
            queue.drain()

    def detach(self, domain: Domain) -> None:
        """Invalidate and release what waits in this domain."""
        self._queue(domain).drain()

    def arm(self, action: Callable[[], None]) -> Timer:
        """A timer for a ring that got its first entry."""
        return self._clock.after(self.timeout, action)

    def invalidate(self, domain: Domain) -> None:
        """One invalidation for the whole domain."""
        self._driver.invalidate_domain(domain.domain_id, domain.table.stage)

    def covered(self, entry: _Waiting) -> None:
        """A flush that was started after the entry was queued has finished: nothing of it is cached."""
        self.window.pending -= 1
        self.window.closed(self._clock.now - entry.since)

    def release(self, entry: _Waiting) -> None:
        """The pages of a covered entry may be used again."""
        self._release(entry.pages)

    def _waits(self, domain: Domain, iova: int, size: int) -> bool:
        queue = self._queues.get(domain.domain_id)
        return queue is not None and queue.domain is domain and queue.waits(iova, size)

    def _queue(self, domain: Domain) -> _FlushQueue:
        queue = self._queues.get(domain.domain_id)
        if queue is None or queue.domain is not domain:
            queue = self._queues[domain.domain_id] = _FlushQueue(self, domain)
        return queue


POLICIES = ("deferred", "strict")


def make_policy(
    name: str, driver: UnitDriver, supply: PageSupply, clock: Clock, entries: int = 256, timeout: int = 10 * MILLISECOND
) -> InvalidationPolicy:
    """The policy called `name`; `entries` and `timeout` (ns) are the deferred one's."""
    if name == StrictInvalidation.name:
        return StrictInvalidation(driver, supply, clock)
    if name == DeferredInvalidation.name:
        return DeferredInvalidation(driver, supply, clock, entries, timeout)
    raise InputError(f"no invalidation policy is called {name!r}; {near(name, POLICIES)}")
