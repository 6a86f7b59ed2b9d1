"""Each policy by its own rule: when it flushes, with which descriptor, and what it keeps until then."""

from __future__ import annotations

import pytest

from emulator.clock import MILLISECOND, SECOND
from emulator.mapping.flush.policy import make_policy, policy_names, waits_for_allocator
from tests.emulator.mapping.flush.test_flush_queue import Bench, StandIn

GLOBAL, DOMAIN, PAGE = 1, 2, 3
NAMES = {"strict", "list", "percpu", "deferred", "single", "lazy-on-wrap", "stale-bitmap", "flush-every-map", "none"}


def test_policies_are_found_by_name_and_answer_to_it() -> None:
    assert set(policy_names()) >= NAMES
    for name in NAMES:
        assert Bench(name).policy.name == ("percpu" if name == "deferred" else name)


class _Plugged:
    name, value, group = "mine", "nowhere:Mine", "vtd.flush"

    def load(self):
        return lambda driver, supply, clock, options: make_policy("strict", driver, supply, clock)


def test_a_policy_of_another_distribution_is_found_by_its_entry_point(monkeypatch) -> None:
    monkeypatch.setattr("emulator.mapping.registry.entry_points", lambda group: [_Plugged()])
    assert "mine" in policy_names()
    assert Bench("mine").policy.name == "strict"


def test_only_the_policies_that_are_asked_wait_for_an_allocator(monkeypatch) -> None:
    assert {name for name in NAMES if waits_for_allocator(name)} == {"lazy-on-wrap", "stale-bitmap"}
    monkeypatch.setattr("emulator.mapping.registry.entry_points", lambda group: [_Plugged()])
    assert not waits_for_allocator("mine")


# The list of 2.6.25


def test_the_list_policy_lets_250_ranges_of_all_domains_wait_for_one_global_invalidation() -> None:
    bench, other = Bench("list"), StandIn(6)
    for page in range(250):
        bench.unmap(page << 12, freed=[(page + 1) << 16], domain=bench.domain if page % 2 else other, cpu=page % 3)
    assert bench.granularities() == []
    assert bench.policy.window.pending == 250
    bench.unmap(0x100_0000)
    assert bench.granularities() == [GLOBAL]
    assert len(bench.returned) == 250
    assert bench.policy.window.pending == 1


def test_the_list_policy_waits_ten_milliseconds_from_the_first_range_on() -> None:
    bench = Bench("list")
    bench.unmap(0x1000, freed=[0x5000])
    bench.clock.advance(9 * MILLISECOND)
    bench.unmap(0x2000)
    bench.clock.advance(1 * MILLISECOND)
    assert bench.granularities() == [GLOBAL]
    assert bench.returned == [(0x5000, 1)]
    assert bench.policy.window.longest_ns == 10 * MILLISECOND
    bench.clock.advance(1 * SECOND)
    assert bench.granularities() == [GLOBAL]


def test_a_flush_of_a_full_list_policy_turns_its_timer_off() -> None:
    bench = Bench("list", entries=2)
    for page in range(3):
        bench.unmap(page << 12)
        bench.clock.advance(3 * MILLISECOND)
    assert bench.granularities() == [GLOBAL]
    bench.clock.advance(6 * MILLISECOND)  # the first timer would have been due at 10 ms
    assert bench.granularities() == [GLOBAL]
    bench.clock.advance(1 * MILLISECOND)
    assert bench.granularities() == [GLOBAL] * 2


def test_the_list_policy_of_4_7_has_a_list_for_each_cpu_and_the_first_full_one_flushes_all() -> None:
    bench = Bench("list", entries=2, per_cpu=1)
    for cpu in (0, 1):
        bench.unmap(cpu << 12, cpu=cpu)
    bench.unmap(0x8000, cpu=0)
    assert bench.granularities() == []
    bench.unmap(0x9000, cpu=0)
    assert bench.granularities() == [GLOBAL] * 2  # one for each list
    assert bench.policy.window.pending == 1


def test_a_list_policy_by_domain_invalidates_each_domain_that_waits_once() -> None:
    bench, other = Bench("list", granularity="domain"), StandIn(6)
    for page in range(4):
        bench.unmap(page << 12)
        bench.unmap(page << 12, domain=other)
    bench.policy.flush()
    assert bench.granularities() == [DOMAIN] * 2
    assert [d.bits(31, 16) for d in bench.unit.of_type(2)] == [5, 6]


def test_the_list_policy_knows_what_is_stale_by_domain() -> None:
    bench, other = Bench("list"), StandIn(6)
    bench.unmap(0x1000, 0x2000)
    assert bench.policy.is_stale(bench.domain, 0x2FFF)
    assert not bench.policy.is_stale(bench.domain, 0x3000)
    assert not bench.policy.is_stale(other, 0x1000)
    bench.policy.mapped(bench.domain, 0x0, 0x2000)
    bench.policy.mapped(other, 0x0, 0x2000)
    assert bench.policy.window.reused_before_flush == 1


def test_a_device_that_goes_has_the_shared_list_policy_flushed_for_all() -> None:
    bench = Bench("list")
    bench.unmap(0x1000, freed=[0x5000])
    bench.policy.detach(StandIn(6))
    assert bench.granularities() == [GLOBAL]
    assert bench.returned == [(0x5000, 1)]


def test_a_list_policy_with_nothing_on_it_still_answers_a_demand() -> None:
    bench = Bench("list")
    bench.policy.demand(bench.domain)
    assert bench.granularities() == [DOMAIN]
    bench.unmap(0x1000)
    bench.policy.demand(bench.domain)
    assert bench.granularities() == [DOMAIN, GLOBAL]


# One queue for all CPUs


def test_the_single_queue_policy_is_one_ring_of_32767_ranges_for_every_cpu() -> None:
    bench = Bench("single")
    for page in range(32767):
        bench.unmap(page << 12, cpu=page % 4)
    assert bench.granularities() == []
    bench.unmap(1 << 40, cpu=3)
    assert bench.granularities() == [DOMAIN]


def test_the_single_queue_policy_waits_a_second() -> None:
    bench = Bench("single")
    bench.unmap(0x1000)
    bench.clock.advance(1 * SECOND - 1)
    assert bench.granularities() == []
    bench.clock.advance(1)
    assert bench.granularities() == [DOMAIN]
    assert bench.policy.window.longest_ns == 1 * SECOND


# Flush queues


def test_a_flush_queue_policy_flushes_on_demand_even_if_nothing_waits() -> None:
    bench = Bench("percpu")
    bench.policy.demand(bench.domain)
    bench.unmap(0x1000, freed=[0x5000])
    bench.policy.demand(bench.domain)
    assert bench.granularities() == [DOMAIN] * 2
    assert bench.returned == [(0x5000, 2)]


def test_a_drained_flush_queue_policy_has_no_timer_left() -> None:
    bench = Bench("percpu")
    bench.unmap(0x1000)
    bench.policy.detach(bench.domain)
    assert bench.granularities() == [DOMAIN]
    assert bench.clock.next_due is None


def test_what_is_to_happen_after_a_flush_policy_is_done_happens_with_the_newest_entry() -> None:
    bench, done = Bench("percpu", entries=3), []
    bench.policy.after(bench.domain, done.append, cpu=7)
    assert done == [7]  # nothing waits
    bench.unmap(0x1000, cpu=1)
    bench.policy.after(bench.domain, done.append, cpu=1)
    bench.unmap(0x2000, cpu=2)
    bench.policy.after(bench.domain, done.append, cpu=2)
    bench.policy.after(StandIn(6), done.append, cpu=9)
    assert done == [7, 9]
    bench.clock.advance(10 * MILLISECOND)
    assert done == [7, 9, 1, 1]  # CPU 1 armed the timer, and does what is left
    bench.policy.after(bench.domain, done.append, cpu=2)
    assert done == [7, 9, 1, 1, 2]


# Policies that are asked


@pytest.mark.parametrize("name", ["lazy-on-wrap", "stale-bitmap"])
def test_a_policy_that_waits_to_be_asked_keeps_ranges_and_pages_for_ever(name: str) -> None:
    bench = Bench(name)
    bench.unmap(0x1000, freed=[0x5000])
    bench.clock.advance(1000 * SECOND)
    assert bench.granularities() == []
    assert bench.returned == []
    bench.policy.demand(StandIn(6))  # another domain's allocator; the flush is global
    assert bench.granularities() == [GLOBAL]
    assert bench.returned == [(0x5000, 1)]
    assert bench.policy.window.longest_ns == 1000 * SECOND


def test_a_policy_that_is_asked_by_domain_releases_that_domain_only() -> None:
    bench, other = Bench("lazy-on-wrap", granularity="domain"), StandIn(6)
    bench.unmap(0x1000, freed=[0x5000])
    bench.unmap(0x1000, freed=[0x6000], domain=other)
    bench.policy.demand(other)
    assert bench.granularities() == [DOMAIN]
    assert bench.returned == [(0x6000, 1)]
    assert bench.policy.is_stale(bench.domain, 0x1000)
    assert not bench.policy.is_stale(other, 0x1000)
    bench.policy.detach(bench.domain)
    bench.policy.detach(other)
    assert bench.granularities() == [DOMAIN] * 2


def test_a_demand_of_a_domain_without_a_tag_costs_no_descriptor() -> None:
    bench = Bench("lazy-on-wrap", granularity="domain")
    bench.domain.tagged = False
    told = []
    bench.policy.flushed = told.append
    bench.policy.demand(bench.domain)
    assert bench.granularities() == []
    assert told == [bench.domain]


def test_the_flush_every_map_policy_flushes_on_the_map_side_only() -> None:
    bench = Bench("flush-every-map")
    bench.policy.mapped(bench.domain, 0x1000, 0x1000)
    bench.unmap(0x1000, freed=[0x5000])
    assert bench.granularities() == [GLOBAL]
    bench.policy.demand(bench.domain)  # the allocator's, for the map that follows
    bench.policy.mapped(bench.domain, 0x1000, 0x1000)
    assert bench.granularities() == [GLOBAL] * 2
    assert bench.policy.window.reused_before_flush == 0
    bench.policy.mapped(bench.domain, 0x3000, 0x1000)
    assert bench.granularities() == [GLOBAL] * 3


def test_pieces_of_a_scatter_list_are_one_map_to_the_flush_every_map_policy() -> None:
    bench = Bench("flush-every-map")
    for piece in (0x1000, 0x2000, 0x3000):
        bench.policy.mapped(bench.domain, piece, 0x1000)
    assert bench.granularities() == [GLOBAL]
    bench.unmap(0x1000)
    bench.policy.mapped(bench.domain, 0x4000, 0x1000)  # continues the list, but something was unmapped meanwhile
    assert bench.granularities() == [GLOBAL] * 2


def test_an_unmap_between_the_demand_and_the_map_asks_the_flush_every_map_policy_again() -> None:
    bench = Bench("flush-every-map")
    bench.policy.demand(bench.domain)
    bench.unmap(0x1000)
    bench.policy.mapped(bench.domain, 0x1000, 0x1000)
    assert bench.granularities() == [GLOBAL] * 2
    assert bench.policy.window.reused_before_flush == 0


def test_the_policy_without_invalidation_hears_no_demand_and_counts_what_is_reused() -> None:
    bench = Bench("none")
    bench.unmap(0x1000, freed=[0x5000])
    bench.policy.demand(bench.domain)
    bench.policy.mapped(bench.domain, 0x1000, 0x1000)
    assert bench.granularities() == []
    assert bench.policy.window.reused_before_flush == 1
    bench.policy.detach(bench.domain)
    assert bench.granularities() == [DOMAIN]
    assert bench.returned == [(0x5000, 1)]


# Freed before the flush


@pytest.mark.parametrize("name", sorted(NAMES))
def test_any_policy_can_free_pages_before_its_flush_and_counts_them(name: str) -> None:
    bench = Bench(name, free_before_flush=1)
    bench.unmap(0x1000, freed=[0x5000, 0x6000])
    bench.unmap(0x2000)
    assert bench.returned == [(0x5000, 0), (0x6000, 0)]
    assert bench.policy.window.pages_freed_early == 2
    bench.policy.flush()
    assert len(bench.returned) == 2


# At once, whatever the policy


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_is_unmapped_at_once_waits_under_no_policy(name: str) -> None:
    bench = Bench(name)
    bench.policy.unmapped_at_once(bench.domain, 0x1000, 0x1000, (0x5000,))
    assert bench.granularities() == [PAGE]
    assert bench.returned == [(0x5000, 1)]
    assert not bench.policy.is_stale(bench.domain, 0x1000)
