"""The mapping layer: maps, unmaps, devices, and the life of a table page."""

from __future__ import annotations

import struct

import pytest

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.dma import MappingLayer
from emulator.mapping.domain import BeyondWidth, TableShape
from emulator.mapping.driver import Mode, UnitDriver
from emulator.mapping.flush.policy import make_policy
from emulator.mapping.pools.os import SystemSupply
from emulator.mapping.pressure import Gfp, Zone
from pagetables.address import source_id
from pagetables.errors import AlreadyMapped, MappingError, NotMapped, OutOfPages
from pagetables.mapper import Stage
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions
from tests.fake_unit import PSI, FakeUnit

RW = Permissions.R | Permissions.W
KERNEL = 0x100_0000
DEVICE = source_id(0, 3, 0)
MEGA = 1 << 20


class Bench:
    """A mapping layer over a fake unit."""

    def __init__(self, engine, flush: str = "strict", mode=Mode.LEGACY, shape: TableShape | None = None, pages=1000):
        self.memory = PhysicalMemory([(0, 64 << 20)])
        self.clock = Clock()
        self.zone = Zone(self.clock, KERNEL, pages << 12, min_free_kib=4)
        self.unit = FakeUnit(self.memory, cap=PSI)
        self.driver = UnitDriver(self.memory, self.unit, SystemSupply(self.zone, Gfp.KERNEL), mode)
        self.supply = SystemSupply(self.zone)
        policy = make_policy(flush, self.driver, self.supply, self.clock)
        self.layer = MappingLayer(self.memory, self.driver, engine, self.supply, policy, shape or TableShape(), haw=46)
        self.driver.enable()
        self.unit.fetched.clear()
        self.domain = self.layer.create_domain()

    def leaf(self, iova: int, levels: int = 4) -> int:
        """The lowest entry on the way to iova, read by hand."""
        table = self.domain.table.root
        for level in range(levels, 0, -1):
            at = table + 8 * (iova >> 12 + 9 * (level - 1) & 511)
            (entry,) = struct.unpack("<Q", self.memory.read(at, 8))
            if level == 1 or not entry or entry & 0x80:
                return entry
            table = entry & 0xF_FFFF_FFFF_F000
        raise AssertionError


def test_a_map_is_bytes_and_costs_no_invalidation(engine) -> None:
    bench = Bench(engine)
    bench.layer.map(bench.domain, 0x1_2345_6000, 0x789000, 0x1000, RW)
    assert bench.leaf(0x1_2345_6000) == 0x789003
    assert bench.unit.fetched == []
    assert bench.layer.pages.as_dict() == {"peak": 4, "final": 4, "freed": 0}


def test_an_unmap_invalidates_what_it_removed(engine) -> None:
    bench = Bench(engine)
    bench.layer.map(bench.domain, 0x10000, 0x789000, 0x4000, RW)
    assert bench.layer.unmap(bench.domain, 0x10000, 0x4000) == 0x4000
    iotlb = bench.unit.of_type(2)[0]
    assert (iotlb.bits(127, 76), iotlb.bits(69, 64), iotlb.bits(70, 70)) == (0x10, 2, 1)
    assert bench.leaf(0x10000) == 0


def test_a_partial_unmap_of_a_large_page_invalidates_all_of_it(engine) -> None:
    bench = Bench(engine)
    bench.layer.map(bench.domain, 2 * MEGA, 2 * MEGA, 2 * MEGA, RW)
    assert bench.layer.unmap(bench.domain, 2 * MEGA, 0x1000) == 2 * MEGA
    assert bench.unit.of_type(2)[0].bits(69, 64) == 9


def test_tables_that_an_unmap_covers_return_after_the_invalidation(engine) -> None:
    bench = Bench(engine)
    bench.layer.map(bench.domain, 2 * MEGA, 0, 2 * MEGA, RW, frozenset({1}))
    held = bench.zone.held
    bench.layer.unmap(bench.domain, 2 * MEGA, 2 * MEGA)
    assert bench.unit.of_type(2)[0].bits(70, 70) == 0
    assert bench.zone.held == held - 1
    assert bench.layer.pages.as_dict() == {"peak": 4, "final": 3, "freed": 1}


def test_deferred_keeps_tables_until_the_flush(engine) -> None:
    bench = Bench(engine, "deferred")
    bench.layer.map(bench.domain, 2 * MEGA, 0, 2 * MEGA, RW, frozenset({1}))
    held = bench.zone.held
    bench.layer.unmap(bench.domain, 2 * MEGA, 2 * MEGA)
    assert bench.zone.held == held
    assert bench.layer.pages.freed == 0
    bench.clock.advance(10 * MILLISECOND)
    assert bench.zone.held == held - 1
    assert bench.layer.pages.freed == 1


def test_a_large_leaf_over_empty_tables_is_invalidated_before_they_return(engine) -> None:
    bench = Bench(engine, "deferred")
    bench.layer.map(bench.domain, 2 * MEGA, 0, 0x1000, RW)
    bench.layer.unmap(bench.domain, 2 * MEGA, 0x1000)
    bench.layer.map(bench.domain, 2 * MEGA, 4 * MEGA, 2 * MEGA, RW)
    iotlb = bench.unit.of_type(2)[0]
    assert (iotlb.bits(5, 4), iotlb.bits(69, 64), iotlb.bits(70, 70)) == (3, 9, 0)
    assert bench.layer.pages.freed == 1


def test_first_stage_domains_use_pasid_descriptors(engine) -> None:
    bench = Bench(engine, mode=Mode.SCALABLE, shape=TableShape(Stage.FIRST, 4))
    bench.layer.map(bench.domain, 0x1000, 0x789000, 0x1000, Permissions.R)
    assert bench.leaf(0x1000) == 0x789025
    bench.layer.unmap(bench.domain, 0x1000, 0x1000)
    assert [d.type for d in bench.unit.fetched] == [6, 5]


@pytest.mark.parametrize(
    "call, error, cause",
    [
        (lambda b: b.layer.map(b.domain, 1 << 48, 0, 0x1000, RW), BeyondWidth, "address"),
        (lambda b: b.layer.map(b.domain, 0x5000, 0, 0x1000, RW), AlreadyMapped, "overlap"),
        (lambda b: b.layer.map(b.domain, 0x5001, 0, 0x1000, RW), MappingError, "misaligned"),
    ],
    ids=["address", "overlap", "misaligned"],
)
def test_a_refused_map_is_counted_by_cause(engine, call, error, cause: str) -> None:
    bench = Bench(engine)
    bench.layer.map(bench.domain, 0x5000, 0x9000, 0x1000, RW)
    with pytest.raises(error):
        call(bench)
    assert bench.layer.statistics.failed_maps == {cause: 1}
    assert bench.layer.statistics.maps == 1
    assert bench.leaf(0x5000) == 0x9003


def test_a_map_that_finds_no_page_leaves_nothing_mapped(engine) -> None:
    bench = Bench(engine)
    bench.zone.squeeze(bench.zone.free - 2 - 1)  # two pages above the atomic floor; a 4-level path needs three
    with pytest.raises(OutOfPages):
        bench.layer.map(bench.domain, 0x5000, 0x9000, 0x1000, RW)
    assert bench.layer.statistics.failed_maps == {"page": 1}
    bench.zone.squeeze(0)
    bench.layer.map(bench.domain, 0x5000, 0x9000, 0x1000, RW)
    assert bench.layer.pages.live == 4  # the two tables of the failed attempt were used


def test_an_unmap_of_nothing_is_refused_and_not_invalidated(engine) -> None:
    bench = Bench(engine)
    with pytest.raises(NotMapped):
        bench.layer.unmap(bench.domain, 0x5000, 0x1000)
    assert bench.layer.statistics.failed_unmaps == {"not-mapped": 1}
    assert bench.unit.fetched == []


def test_devices_come_and_go(engine) -> None:
    bench = Bench(engine, "deferred")
    bench.layer.attach(bench.domain, DEVICE)
    bench.layer.map(bench.domain, 0x5000, 0x9000, 0x1000, RW)
    bench.layer.unmap(bench.domain, 0x5000, 0x1000)
    assert bench.domain.devices == {DEVICE}
    bench.layer.detach(bench.domain, DEVICE)
    assert bench.domain.devices == set()
    assert [d.type for d in bench.unit.fetched] == [2, 5, 1, 2, 5]  # what waited is flushed before the entry goes


def test_domains_get_ids_and_tables_of_their_own(engine) -> None:
    bench = Bench(engine)
    other = bench.layer.create_domain()
    assert (bench.domain.domain_id, other.domain_id) == (2, 3)
    bench.layer.map(bench.domain, 0x5000, 0x9000, 0x1000, RW)
    bench.layer.map(other, 0x5000, 0xA000, 0x1000, RW)
    assert bench.leaf(0x5000) == 0x9003
    bench.layer.unmap(other, 0x5000, 0x1000)
    assert bench.unit.of_type(2)[0].bits(31, 16) == 3
    assert bench.leaf(0x5000) == 0x9003


def test_a_domain_that_gets_no_root_gives_its_id_back(engine) -> None:
    bench = Bench(engine)
    bench.zone.squeeze(bench.zone.managed - bench.zone.held)
    with pytest.raises(OutOfPages):
        bench.layer.create_domain()
    bench.zone.squeeze(0)
    assert bench.layer.create_domain().domain_id == 3


def test_a_domain_without_devices_lends_its_id_and_needs_no_invalidation(engine) -> None:
    bench = Bench(engine)
    bench.layer.attach(bench.domain, DEVICE)
    bench.layer.map(bench.domain, 2 * MEGA, 0, 2 * MEGA, RW, frozenset({1}))
    bench.layer.detach(bench.domain, DEVICE)
    bench.unit.fetched.clear()
    other = bench.layer.create_domain()
    assert other.domain_id == 2
    held = bench.zone.held
    bench.layer.unmap(bench.domain, 2 * MEGA, 2 * MEGA)
    assert bench.unit.fetched == []
    assert bench.zone.held == held - 1
    bench.layer.attach(bench.domain, DEVICE)
    assert bench.domain.domain_id == 3
    bench.layer.map(bench.domain, 0x5000, 0x9000, 0x1000, RW)
    bench.layer.unmap(bench.domain, 0x5000, 0x1000)
    assert bench.unit.of_type(2)[0].bits(31, 16) == 3
