"""The mapping layer: domains, devices, maps and unmaps, over a driver, a page supply and an invalidation policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from emulator.engine import Engine
from emulator.mapping.domain import BeyondWidth, Domain, DomainIds, NoAddress, NoDomainId, TableShape
from emulator.mapping.driver import UnitDriver
from emulator.mapping.flush.policy import InvalidationPolicy
from emulator.mapping.supply import PageSupply
from pagetables.address import DomainId, Gpa, Iova, SourceId
from pagetables.errors import AlreadyMapped, MappingError, NotMapped, OutOfPages
from pagetables.mapper import Stage
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions

__all__ = ["FAILURES", "LayerStatistics", "MappingLayer", "TablePages", "failure_cause"]

FAILURES = ("page", "address", "overlap", "not-mapped", "no-domain", "misaligned")


def failure_cause(error: MappingError) -> str:
    """One word of `FAILURES` for why a map or unmap was refused."""
    match error:
        case OutOfPages():
            return "page"
        case BeyondWidth() | NoAddress():
            return "address"
        case AlreadyMapped():
            return "overlap"
        case NotMapped():
            return "not-mapped"
        case NoDomainId():
            return "no-domain"
        case _:
            return "misaligned"


@dataclass(slots=True)
class LayerStatistics:
    """What was asked of the layer, and what it refused, by cause."""

    maps: int = 0
    unmaps: int = 0
    failed_maps: dict[str, int] = field(default_factory=dict)
    failed_unmaps: dict[str, int] = field(default_factory=dict)


class TablePages:
    """The page supply as mappers see it: counts the pages that are tables, or wait to be released."""

    def __init__(self, supply: PageSupply) -> None:
        self.live = 0
        self.peak = 0
        self.freed = 0
        self.unlinked = 0  # taken out of tables so far; what of it is not freed yet waits for its invalidation
        self._supply = supply

    def take(self) -> Gpa | None:
        """A page of the supply, counted."""
        page = self._supply.take()
        if page is not None:
            self.live += 1
            self.peak = max(self.peak, self.live)
        return page

    def released(self, count: int) -> None:
        """So many pages went back to the supply."""
        self.live -= count
        self.freed += count

    def as_dict(self) -> dict[str, int]:
        """The counts as a report prints them."""
        return {"peak": self.peak, "final": self.live, "freed": self.freed}


class MappingLayer:
    """Maps and unmaps for devices of one unit. Tables of new domains have `shape`."""

    def __init__(
        self,
        memory: PhysicalMemory,
        driver: UnitDriver,
        engine: Engine,
        supply: PageSupply,
        policy: InvalidationPolicy,
        shape: TableShape,
        haw: int = 52,
    ) -> None:
        self.driver, self.supply, self.policy, self.shape = driver, supply, policy, shape
        self.statistics = LayerStatistics()
        self.pages = TablePages(supply)
        self.domain_ids = DomainIds(driver.capabilities.domain_id_width)
        self.domains: dict[DomainId, Domain] = {}
        self._memory, self._engine = memory, engine
        self._hears_of_maps = bool(driver.capabilities.cap.cm or driver.capabilities.cap.rwbf)
        self._gpa_limit = 1 << haw
        # MGAW limits second-stage input; first-stage input is limited by its tables alone.
        self._iova_limit = 1 << (64 if shape.stage is Stage.FIRST else driver.capabilities.mgaw)
        policy.released = self.pages.released

    def create_domain(self, wanted: int | None = None) -> Domain:
        """A domain with empty tables, with the id `wanted` if that is free; NoDomainId or OutOfPages otherwise."""
        domain_id = self.domain_ids.take(wanted)
        try:
            domain = Domain(
                domain_id, self.shape, self._memory, self._engine, self.pages, self._iova_limit, self._gpa_limit
            )
        except OutOfPages:
            self.domain_ids.give_back(domain_id)
            raise
        self.domains[domain_id] = domain
        return domain

    def attach(self, domain: Domain, source_id: SourceId) -> None:
        """Requests of `source_id` are translated by the domain's tables from now on."""
        if not domain.tagged:
            domain.domain_id, domain.tagged = self.domain_ids.take(domain.domain_id), True
            self.domains[domain.domain_id] = domain
        self.driver.attach(source_id, domain.domain_id, domain.table)
        domain.devices.add(source_id)

    def detach(self, domain: Domain, source_id: SourceId) -> None:
        """Requests of `source_id` find nothing from now on. What waits in the domain's flush queue is done first."""
        self.policy.detach(domain)
        self.driver.detach(source_id)
        domain.devices.discard(source_id)
        if not domain.devices:
            domain.tagged = False
            self.domain_ids.give_back(domain.domain_id)
            del self.domains[domain.domain_id]

    def map(
        self,
        domain: Domain,
        iova: Iova,
        gpa: Gpa,
        size: int,
        permissions: Permissions,
        leaf_levels: frozenset[int] | None = None,
        notify: bool = True,
    ) -> None:
        """Map [iova, iova + size) to gpa; a MappingError, counted by cause, leaves the range as it was.

        Without `notify` a unit that has to hear of new mappings is not told: the caller does that (`notify`).
        """
        try:
            domain.check(iova, gpa, size)
            self.policy.mapped(domain, iova, size)
            replaced = domain.mapper(leaf_levels).map(iova, gpa, size, permissions)
        except MappingError as error:
            _count(self.statistics.failed_maps, error)
            raise
        self.statistics.maps += 1
        if replaced:
            # A large leaf took the place of empty tables: paging-structure caches may still lead into them.
            if domain.tagged:
                self.driver.invalidate_range(domain.domain_id, domain.table.stage, iova, size, leaves_only=False)
            self.pages.unlinked += len(replaced)
            self._release(replaced)
        elif notify:
            self.notify(domain, iova, size)

    def notify(self, domain: Domain, iova: Iova, size: int) -> None:
        """Tell the unit of new mappings in [iova, iova + size), if it is of a kind that has to hear of them."""
        if domain.tagged and self._hears_of_maps:
            self.driver.mapped(domain.domain_id, domain.table.stage, iova, size)

    def unmap(self, domain: Domain, iova: Iova, size: int, cpu: int = 0, at_once: bool = False) -> int:
        """Remove what is mapped from `iova` on, up to `size` bytes or the first hole; the bytes removed.

        With `at_once` the range is invalidated before this returns, whatever the policy.
        """
        try:
            domain.check(iova, 0, size)
            removed = domain.mapper().unmap(iova, size)
        except MappingError as error:
            _count(self.statistics.failed_unmaps, error)
            raise
        self.statistics.unmaps += 1
        self.pages.unlinked += len(removed.freed)
        if not domain.tagged:
            self._release(removed.freed)
        elif at_once:
            self.policy.unmapped_at_once(domain, iova, removed.size, removed.freed)
        else:
            self.policy.unmapped(domain, iova, removed.size, removed.freed, cpu)
        return removed.size

    def _release(self, pages: tuple[Gpa, ...]) -> None:
        if pages:
            self.supply.give_back(pages)
            self.pages.released(len(pages))


def _count(failures: dict[str, int], error: MappingError) -> None:
    cause = failure_cause(error)
    failures[cause] = failures.get(cause, 0) + 1
