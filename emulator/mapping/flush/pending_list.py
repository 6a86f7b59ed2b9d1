"""The list of 2.6.25 (Linux commit 5e0d2a6fc094, drivers/pci/intel-iommu.c): one for all domains of the machine.

    unmap      if the list holds `entries` (250), flush it first; append; set a timer of 10 ms unless it is set
    flush      one global IOTLB invalidation for each unit with an entry, then every address and page of the list is
               free; the timer is off
    per_cpu    (4.7, commit aa4732406e12) a list and a timer for each CPU; the first that is full has all of them
               flushed, one after the other

Invariant: what is on a list is released only after the flush that takes it off. At most `entries` mappings of all
devices together are stale, for at most 10 ms and one flush.
Wins: one descriptor for up to 250 unmaps. Loses: one lock for all CPUs, and a global invalidation empties the IOTLB of
devices that unmapped nothing.

Until 2014 (commit ea8ea460c9ac) table pages were free at once: `free_before_flush`. With `granularity` domain, each
domain that has an entry is invalidated by itself, which no kernel did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from emulator.clock import MILLISECOND, Timer
from emulator.mapping.domain import Domain
from emulator.mapping.flush.pending import DeferringPolicy, Pending
from pagetables.address import Gpa

__all__ = ["PendingList"]


class _List:
    # One list and its timer.

    def __init__(self) -> None:
        self.pending = Pending()
        self.timer: Timer | None = None


class PendingList(DeferringPolicy):
    """Ranges of all domains wait in one list, or in one for each CPU."""

    name: ClassVar[str] = "list"
    defaults: ClassVar[Mapping[str, int | str]] = {
        "entries": 250,
        "timeout_ms": 10,
        "per_cpu": 0,
        "granularity": "global",
    }

    def _prepare(self) -> None:
        super()._prepare()
        self.entries = self._number("entries", 1)
        self.timeout = self._number("timeout_ms", 1) * MILLISECOND
        self.per_cpu = bool(self.options["per_cpu"])
        self.granularity = self._choice("granularity", "global", "domain")
        self._lists: dict[int, _List] = {}

    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """Put the range and its pages on the list."""
        self.meter.spend("invalidate.defer")
        if not self.per_cpu:
            self.meter.spend("lock.global")
        own = self._lists.setdefault(cpu if self.per_cpu else 0, _List())
        if len(own.pending.entries) >= self.entries:
            self._flush_all(cpu)
        own.pending.add(self._entry(domain, iova, size, freed))
        if own.timer is None:
            own.timer = self._clock.after(self.timeout, lambda: self._expired(own, cpu))

    def demand(self, domain: Domain) -> None:
        """Flush every list; if nothing waits, the domain is invalidated all the same."""
        if not self._flush_all(0):
            self._invalidate_domain(domain)

    def flush(self) -> None:
        """Invalidate and release whatever waits."""
        self._flush_all(0)

    def detach(self, domain: Domain) -> None:
        """The lists are shared: all of them are flushed."""
        self._flush_all(0)
        self._forget(domain)

    def _holds(self, domain: Domain, iova: int, size: int) -> bool:
        return any(one.pending.holds(domain, iova, size) for one in self._lists.values())

    def _flush_all(self, cpu: int) -> bool:
        return sum(self._flush(one, cpu) for one in self._lists.values()) > 0

    def _expired(self, one: _List, cpu: int) -> None:
        self._flush(one, cpu)

    def _flush(self, one: _List, cpu: int) -> bool:
        # True if something was on the list.
        if one.timer is not None:
            one.timer.cancel()
            one.timer = None
        if not one.pending.entries:
            return False
        domains = one.pending.domains
        one.pending.start()
        if self.granularity == "global":
            self._invalidate_all()
        else:
            for domain in domains:
                self._invalidate_domain(domain)
        covered = one.pending.finish()
        self._covered(covered)
        for entry in covered:
            self._release(entry, cpu)
        return True
