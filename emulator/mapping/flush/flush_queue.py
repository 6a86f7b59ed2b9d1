"""Flush queues (Linux drivers/iommu/dma-iommu.c; before 5.11 drivers/iommu/iova.c).

    percpu     a ring of 256 entries for each CPU of a domain, at most 10 ms (`deferred` is an older name)
    single     one ring of 32768 entries for the whole domain, at most 1 s: for devices whose hypervisor shadows the
               tables at each flush (only s390 asks for it)

    unmap      take out of the ring what a flush has covered; if it is still full, flush now and take out again; append;
               set the timer unless it is set
    flush      one domain-selective invalidation covers what was queued in any ring before it was started
    timer      flush, and take covered entries out of every ring: their addresses go to the caches of that CPU
    release    table pages first, then the address

Invariants: an entry is released only when a flush that was started after it was queued has finished. One entry of a
ring stays empty: at most `entries` - 1 mappings of a CPU are stale. Nothing is stale for longer than the time-out and
one flush. A ring that is not used again keeps covered entries until the timer fires: they are not stale, yet they hold
their pages and addresses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import ClassVar

from emulator.clock import MILLISECOND, Timer
from emulator.mapping.domain import Domain
from emulator.mapping.flush.pending import DeferringPolicy, Pending, Waiting
from pagetables.address import Gpa

__all__ = ["FlushQueues", "SingleQueue"]


class _Queue:
    # The rings of one domain.

    def __init__(self) -> None:
        self.pending = Pending()
        self.rings: dict[int, deque[Waiting]] = {}
        self.timer: Timer | None = None


class FlushQueues(DeferringPolicy):
    """A ring for each CPU of a domain."""

    name: ClassVar[str] = "percpu"
    defaults: ClassVar[Mapping[str, int | str]] = {"entries": 256, "timeout_ms": 10}

    def _prepare(self) -> None:
        super()._prepare()
        self.entries = self._number("entries", 2)  # one entry of a ring stays empty
        self.timeout = self._number("timeout_ms", 1) * MILLISECOND
        self._queues: dict[Domain, _Queue] = {}

    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """Queue the range and its pages."""
        self.meter.spend("invalidate.defer")
        queue = self._queue(domain)
        ring = queue.rings.setdefault(self._ring_of(cpu), deque())
        self._take_out(queue, ring, cpu)
        if len(ring) >= self.entries - 1:
            self._flush(domain, queue)
            self._take_out(queue, ring, cpu)
        entry = self._entry(domain, iova, size, freed)
        queue.pending.add(entry)
        ring.append(entry)
        if queue.timer is None:
            queue.timer = self._clock.after(self.timeout, lambda: self._expired(domain, queue, cpu))

    def demand(self, domain: Domain) -> None:
        """Flush the domain, whether or not something waits, and release all it covered."""
        queue = self._queue(domain)
        self._flush(domain, queue)
        self._take_out_all(queue, 0)

    def flush(self) -> None:
        """Invalidate and release whatever waits, in every domain."""
        for domain, queue in self._queues.items():
            self._drain(domain, queue)

    def detach(self, domain: Domain) -> None:
        """Invalidate and release what waits in this domain."""
        queue = self._queues.pop(domain, None)
        if queue is not None:
            self._drain(domain, queue)
        self._forget(domain)

    def _ring_of(self, cpu: int) -> int:
        return cpu

    def _holds(self, domain: Domain, iova: int, size: int) -> bool:
        queue = self._queues.get(domain)
        return queue is not None and queue.pending.holds(domain, iova, size)

    def _queue(self, domain: Domain) -> _Queue:
        queue = self._queues.get(domain)
        if queue is None:
            queue = self._queues[domain] = _Queue()
        return queue

    def _flush(self, domain: Domain, queue: _Queue) -> None:
        queue.pending.start()
        self._invalidate_domain(domain)
        self._covered(queue.pending.finish())

    def _take_out(self, queue: _Queue, ring: deque[Waiting], cpu: int) -> None:
        while ring and queue.pending.covers(ring[0]):
            self._release(ring.popleft(), cpu)

    def _take_out_all(self, queue: _Queue, cpu: int) -> None:
        for ring in queue.rings.values():
            self._take_out(queue, ring, cpu)

    def _expired(self, domain: Domain, queue: _Queue, cpu: int) -> None:
        queue.timer = None
        self._flush(domain, queue)
        self._take_out_all(queue, cpu)

    def _drain(self, domain: Domain, queue: _Queue) -> None:
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        if any(queue.rings.values()):
            self._flush(domain, queue)
            self._take_out_all(queue, 0)


class SingleQueue(FlushQueues):
    """One ring for all CPUs of a domain."""

    name: ClassVar[str] = "single"
    defaults: ClassVar[Mapping[str, int | str]] = {"entries": 32768, "timeout_ms": 1000}

    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """Queue the range and its pages, under the lock that every CPU takes."""
        self.meter.spend("lock.global")
        super().unmapped(domain, iova, size, freed, cpu)

    def _ring_of(self, cpu: int) -> int:
        return 0
