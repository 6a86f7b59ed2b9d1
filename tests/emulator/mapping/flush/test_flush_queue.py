"""Strict and deferred invalidation: when the unit hears of an unmap, and when pages come back."""

from __future__ import annotations

import pytest

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.driver import UnitDriver
from emulator.mapping.flush.policy import make_policy
from emulator.mapping.pools.os import SystemSupply
from emulator.mapping.pressure import Gfp, Zone
from pagetables.errors import InputError
from pagetables.mapper import PageTable, Stage
from pagetables.memory import PhysicalMemory
from tests.fake_unit import PSI, FakeUnit


class StandIn:
    """What a policy asks of a domain."""

    def __init__(self, domain_id: int):
        self.domain_id = domain_id
        self.tagged = True
        self.table = PageTable(Stage.SECOND, 0xABC000, 4)


class Bench:
    """A policy over a fake unit; `returned` notes pages with how many domain and page invalidations came before."""

    def __init__(self, policy: str = "deferred", **options: int):
        self.clock = Clock()
        memory = PhysicalMemory([(0, 16 << 20)])
        self.unit = FakeUnit(memory, cap=PSI)
        self.driver = UnitDriver(memory, self.unit, SystemSupply(Zone(self.clock, 0x10_0000, 1 << 20), Gfp.KERNEL))
        self.driver.enable()
        self.unit.fetched.clear()
        self.returned: list[tuple[int, int]] = []
        self.policy = make_policy(policy, self.driver, self, self.clock, options)
        self.domain = StandIn(5)

    def give_back(self, pages) -> None:
        self.returned += [(page, len(self.unit.of_type(2))) for page in pages]

    def unmap(self, iova: int, size: int = 0x1000, freed=(), cpu: int = 0, domain=None) -> None:
        self.policy.unmapped(domain or self.domain, iova, size, tuple(freed), cpu)

    def granularities(self) -> list[int]:
        return [descriptor.bits(5, 4) for descriptor in self.unit.of_type(2)]


def test_strict_invalidates_the_range_before_pages_return() -> None:
    bench = Bench("strict")
    bench.unmap(0x1000, freed=[0x5000])
    assert bench.granularities() == [3]
    assert bench.unit.of_type(2)[0].bits(70, 70) == 0
    assert bench.returned == [(0x5000, 1)]


def test_strict_hints_that_only_leaves_went() -> None:
    bench = Bench("strict")
    bench.unmap(0x1000)
    assert bench.unit.of_type(2)[0].bits(70, 70) == 1
    assert bench.returned == []


def test_deferred_says_nothing_for_ten_milliseconds_then_one_invalidation_for_the_domain() -> None:
    bench = Bench()
    for page in range(3):
        bench.unmap(page << 12, freed=[0x5000 + (page << 12)])
    bench.clock.advance(10 * MILLISECOND - 1)
    assert bench.granularities() == []
    assert bench.returned == []
    bench.clock.advance(1)
    assert bench.granularities() == [2]
    assert bench.unit.of_type(2)[0].bits(31, 16) == 5
    assert bench.returned == [(0x5000, 1), (0x6000, 1), (0x7000, 1)]


def test_the_timer_is_set_by_the_first_entry_and_again_by_the_next() -> None:
    bench = Bench()
    bench.unmap(0x1000)
    bench.clock.advance(9 * MILLISECOND)
    bench.unmap(0x2000)
    bench.clock.advance(1 * MILLISECOND)
    assert bench.granularities() == [2]
    assert bench.clock.next_due is None
    bench.unmap(0x3000)
    assert bench.clock.next_due == 20 * MILLISECOND


def test_a_full_ring_flushes_at_once() -> None:
    bench = Bench(entries=8)
    for page in range(7):
        bench.unmap(page << 12, freed=[(page + 1) << 16])
    assert bench.granularities() == []
    bench.unmap(7 << 12)
    assert bench.granularities() == [2]
    assert [page for page, _ in bench.returned] == [n << 16 for n in range(1, 8)]
    assert bench.policy.window.pending == 1


def test_each_cpu_has_its_own_ring_and_one_flush_covers_them_all() -> None:
    bench = Bench(entries=8)
    for cpu in (0, 1):
        for page in range(7):
            bench.unmap((cpu << 8 | page) << 12, freed=[(cpu << 8 | page + 1) << 12], cpu=cpu)
    bench.unmap(0x99_0000, cpu=0)
    assert bench.granularities() == [2]
    assert len(bench.returned) == 7  # the other CPU's entries are covered; it takes them out itself
    bench.unmap(0x98_0000, cpu=1)
    assert bench.granularities() == [2]
    assert len(bench.returned) == 14


def test_an_entry_is_not_released_by_a_flush_that_came_before_it() -> None:
    bench = Bench(entries=4)
    for page in range(4):
        bench.unmap(page << 12, freed=[0x5000 + (page << 12)])
    assert (0x8000, 1) not in bench.returned
    bench.policy.flush()
    assert bench.returned[-1] == (0x8000, 2)


def test_domains_do_not_share_rings() -> None:
    bench = Bench(entries=4)
    other = StandIn(6)
    for page in range(3):
        bench.unmap(page << 12)
        bench.unmap(page << 12, domain=other)
    assert bench.granularities() == []
    bench.policy.detach(bench.domain)
    assert [d.bits(31, 16) for d in bench.unit.of_type(2)] == [5]
    assert bench.policy.window.pending == 3


def test_a_domain_id_that_is_used_again_starts_with_an_empty_queue() -> None:
    bench = Bench()
    bench.unmap(0x1000)
    bench.policy.flush()
    second = StandIn(5)
    bench.policy.detach(second)
    assert bench.granularities() == [2]


def test_a_range_mapped_again_before_its_flush_is_counted() -> None:
    bench = Bench()
    bench.unmap(0x1000, 0x2000)
    bench.policy.mapped(bench.domain, 0x2000, 0x1000)
    bench.policy.mapped(bench.domain, 0x3000, 0x1000)
    bench.policy.mapped(StandIn(6), 0x2000, 0x1000)
    assert bench.policy.window.reused_before_flush == 1
    bench.clock.advance(10 * MILLISECOND)
    bench.policy.mapped(bench.domain, 0x1000, 0x1000)
    assert bench.policy.window.reused_before_flush == 1


def test_the_stale_window_is_the_time_to_the_flush_not_to_the_release() -> None:
    bench = Bench(entries=4)
    bench.unmap(0x1000, cpu=1)
    bench.clock.advance(2 * MILLISECOND)
    for page in range(4):
        bench.unmap(page + 8 << 12, cpu=0)  # the fourth flushes
    bench.clock.advance(5 * MILLISECOND)
    assert bench.policy.window.as_dict() == {
        "ranges": 4,
        "max_ns": 2 * MILLISECOND,
        "mean_ns": MILLISECOND // 2,
        "reused_before_flush": 0,
        "accesses": 0,
        "pending": 1,
        "pages_freed_early": 0,
    }


def test_strict_leaves_no_window() -> None:
    bench = Bench("strict")
    bench.unmap(0x1000)
    bench.policy.mapped(bench.domain, 0x1000, 0x1000)
    bench.policy.flush()
    assert bench.policy.window.as_dict() == {
        "ranges": 1,
        "max_ns": 0,
        "mean_ns": 0,
        "reused_before_flush": 0,
        "accesses": 0,
        "pending": 0,
        "pages_freed_early": 0,
    }


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("defered", {}, "did you mean deferred"),
        ("deferred", {"entries": 1}, "at least 2"),
        ("percpu", {"timeout_ms": 0}, "at least 1"),
        ("percpu", {"entris": 4}, "did you mean entries"),
        ("strict", {"entries": 4}, "strict has no option"),
        ("single", {"entries": "many"}, "wants a number"),
        ("list", {"granularity": "globl"}, "did you mean global"),
        ("lazy-on-wrap", {"granularity": "page"}, "domain"),
    ],
)
def test_a_policy_nobody_has_or_an_option_without_sense_is_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Bench(name, **options)
