"""Policies that wait for the address allocator to ask.

    lazy-on-wrap   the generic pooled allocator (sparc, 2015) and GART without its full flush: an unmap tells the unit
                   nothing; the allocator asks for a flush when its search wraps, before it hands the address out
    stale-bitmap   Herrenschmidt's proposal (2015): the same, but the allocator asks only when nothing else is free, and
                   frees what waited only then

Here both do the same: ranges and table pages wait until `demand`, then one invalidation covers them all. GART and sun4u
had one table for every device, and the flush emptied the unit's whole cache: `granularity` global. With a space for
each domain, `granularity` domain flushes the one that asks.

Invariant: pages wait for the flush. Addresses do not: they are the allocator's business, and whether one is handed out
again too early depends on it alone (`reused_before_flush`; the generic pool does it, GART and the stale bitmap do not).
How long a range stays stale has no bound: an idle device's last buffers stay reachable until something else wraps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from emulator.mapping.domain import Domain
from emulator.mapping.flush.pending import DeferringPolicy, Pending
from pagetables.address import Gpa

__all__ = ["LazyOnWrap", "StaleBitmapFlush"]


class LazyOnWrap(DeferringPolicy):
    """Nothing is invalidated until an allocator asks."""

    name: ClassVar[str] = "lazy-on-wrap"
    on_demand: ClassVar[bool] = True
    addresses_wait: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, int | str]] = {"granularity": "global"}

    def _prepare(self) -> None:
        super()._prepare()
        self.granularity = self._choice("granularity", "global", "domain")
        self._pending: dict[Domain, Pending] = {}

    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """Remember the range, and keep its pages."""
        entry = self._entry(domain, iova, size, freed)
        self._pending.setdefault(domain, Pending()).add(entry)

    def after(self, domain: Domain, action: Callable[[int], None], cpu: int = 0) -> None:
        """At once: the allocator knows that the address is stale."""
        action(cpu)

    def demand(self, domain: Domain) -> None:
        """One invalidation, and what it covers is released."""
        if self.granularity == "global":
            self._flush(list(self._pending), self._invalidate_all)
        else:
            self._flush_domain(domain)

    def flush(self) -> None:
        """Invalidate and release whatever waits."""
        for domain in [domain for domain, pending in self._pending.items() if pending.entries]:
            self._flush_domain(domain)

    def detach(self, domain: Domain) -> None:
        """Invalidate and release what waits in this domain."""
        pending = self._pending.get(domain)
        if pending is not None and pending.entries:
            self._flush_domain(domain)
        self._pending.pop(domain, None)
        self._forget(domain)

    def _holds(self, domain: Domain, iova: int, size: int) -> bool:
        pending = self._pending.get(domain)
        return pending is not None and pending.holds(domain, iova, size)

    def _flush_domain(self, domain: Domain) -> None:
        self._flush([domain], lambda: self._invalidate_domain(domain))

    def _flush(self, domains: list[Domain], invalidate: Callable[[], None]) -> None:
        flushed = [self._pending[domain] for domain in domains if domain in self._pending]
        for pending in flushed:
            pending.start()
        invalidate()
        for pending in flushed:
            covered = pending.finish()
            self._covered(covered)
            for entry in covered:
                self._release(entry, 0)


class StaleBitmapFlush(LazyOnWrap):
    """The same under the name of the proposal."""

    name: ClassVar[str] = "stale-bitmap"
