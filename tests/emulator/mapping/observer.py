"""Who watches the watchers: what may still be cached, worked out from descriptors alone.

The unit executes what its queue says; the observer reads each descriptor's bits and forgets what it covers. It shares
nothing with the policies: no counters, no rings, no stale windows.
"""

from __future__ import annotations

from emulator.clock import MILLISECOND, Clock
from emulator.engine import load_engine
from emulator.mapping.addresses import AddressPlan, AddressSpaces
from emulator.mapping.dma import MappingLayer
from emulator.mapping.domain import TableShape
from emulator.mapping.driver import UnitDriver
from emulator.mapping.flush.policy import make_policy
from emulator.mapping.pools.os import SystemSupply
from emulator.mapping.pressure import Gfp, Zone
from pagetables.address import Iova, source_id
from pagetables.mapper import Stage
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions
from tests.fake_unit import PSI, Descriptor, FakeUnit

RW = Permissions.R | Permissions.W
KERNEL = 0x400_0000
ONLY_4K = frozenset({1})


class WatchedUnit(FakeUnit):
    """Tells an observer of each descriptor, before its wait completes."""

    observer: Observer

    def _execute(self, descriptor: Descriptor) -> None:
        super()._execute(descriptor)
        if descriptor.type == 2:
            self.observer.invalidated(descriptor)


class Observer:
    """Pages (domain-id, page) that were unmapped and not invalidated; table pages that were unlinked and not either."""

    def __init__(self) -> None:
        self.stale: set[tuple[int, int]] = set()
        self.unlinked: dict[int, tuple[int, int]] = {}  # table page: the domain-id and page it was last reached by
        self.too_early: list[int] = []  # table pages that came back while they could be walked
        self.reused = 0

    def invalidated(self, descriptor: Descriptor) -> None:
        granularity, did = descriptor.bits(5, 4), descriptor.bits(31, 16)
        order, first = descriptor.bits(69, 64), descriptor.bits(127, 76)

        def left(domain_id: int, page: int) -> bool:
            if granularity == 1:
                return False
            if domain_id != did:
                return True
            return granularity == 3 and page >> order != first >> order

        self.stale = {key for key in self.stale if left(*key)}
        leaves_only = descriptor.bits(70, 70) and granularity == 3
        if not leaves_only:
            self.unlinked = {page: key for page, key in self.unlinked.items() if left(*key)}

    def handed_out(self, domain_id: int, first: int, pages: int) -> None:
        self.reused += any((domain_id, first + index) in self.stale for index in range(pages))


class WatchedSupply(SystemSupply):
    """The system's pages; one that comes back although it can still be walked is noted."""

    observer: Observer

    def give_back(self, pages) -> None:
        pages = list(pages)
        self.observer.too_early += [page for page in pages if page in self.observer.unlinked]
        super().give_back(pages)


class World:
    """A mapping layer with address spaces over a watched unit."""

    def __init__(self, plan: AddressPlan, policy: str, levels: int = 4, cap: int = PSI, **options):
        self.clock, self.observer = Clock(), Observer()
        self.memory = PhysicalMemory([(0, 256 << 20)])
        self.unit = WatchedUnit(self.memory, cap=cap)
        self.unit.observer = self.observer
        zone = Zone(self.clock, KERNEL, 64 << 20)
        self.driver = UnitDriver(self.memory, self.unit, SystemSupply(zone, Gfp.KERNEL))
        self.supply = WatchedSupply(zone)
        self.supply.observer = self.observer
        self.policy = make_policy(policy, self.driver, self.supply, self.clock, options)
        engine = load_engine("python")
        self.layer = MappingLayer(
            self.memory, self.driver, engine, self.supply, self.policy, TableShape(Stage.SECOND, levels, ONLY_4K)
        )
        self.driver.enable()
        self.unit.fetched.clear()
        self.spaces = AddressSpaces(self.layer, self.clock, plan)
        self.live: list[tuple[int, Iova, int]] = []
        self._watch_unmaps()

    def _watch_unmaps(self) -> None:
        told = self.policy.unmapped

        def unmapped(domain, iova, size, freed, cpu) -> None:
            self.observer.unlinked.update(dict.fromkeys(freed, (domain.domain_id, iova >> 12)))
            told(domain, iova, size, freed, cpu)

        self.policy.unmapped = unmapped  # type: ignore[method-assign]

    def domain(self, key: int):
        """The domain of a key, with a device of its own."""
        domain = self.spaces.space(key).domain
        device = source_id(0, key + 1, 0)
        if device not in self.driver.attached:
            self.layer.attach(domain, device)
        return domain

    def map(self, key: int, pages: int, cpu: int = 0, align: int = 1) -> Iova | None:
        """Allocate and map; what the observer thinks of the address is counted."""
        domain = self.domain(key)
        iova = self.spaces.allocate(key, pages, cpu=cpu, align=align)
        if iova is None:
            return None
        self.observer.handed_out(domain.domain_id, iova >> 12, pages)
        self.layer.map(domain, iova, 0, pages << 12, RW)
        self.live.append((key, iova, pages))
        return iova

    def unmap(self, which: int, cpu: int = 0) -> None:
        """Unmap and free one live run."""
        key, iova, pages = self.live.pop(which % len(self.live))
        domain = self.domain(key)
        self.observer.stale |= {(domain.domain_id, (iova >> 12) + index) for index in range(pages)}
        assert self.layer.unmap(domain, iova, pages << 12, cpu) == pages << 12
        self.spaces.free(key, iova, pages, cpu)

    def play(self, script) -> None:
        """Do what a script says."""
        for step in script:
            match step:
                case ("map", key, pages, cpu):
                    self.map(key, pages, cpu, align=512 if pages == 512 else 1)
                case ("unmap", which, cpu) if self.live:
                    self.unmap(which, cpu)
                case ("wait", milliseconds):
                    self.clock.advance(milliseconds * MILLISECOND)
                case ("flush",):
                    self.policy.flush()
