"""Where table pages come from."""

from __future__ import annotations

import pytest

from emulator.clock import MICROSECOND, Clock
from emulator.mapping.pools.os import SystemSupply
from emulator.mapping.pools.respool import ResourcePool
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.supply import make_supply, supply_names
from pagetables.errors import InputError

PAGE = 4096
START = 0x1_0000_0000
DELAY = 50 * MICROSECOND


def respool(minimum: int = 4, grow: int = 3, pages: int = 1000, used: int = 0, min_pages: int = 80):
    clock = Clock()
    zone = Zone(clock, START, pages * PAGE, used, min_pages * 4, reclaim_per_ms=0)
    return ResourcePool(zone, clock, minimum, grow, DELAY), zone, clock


def test_a_resource_pool_starts_with_min_pages() -> None:
    pool, zone, _ = respool(minimum=4)
    assert pool.statistics.idle == 4
    assert zone.held == 4


def test_a_resource_pool_that_cannot_be_filled_is_not_made() -> None:
    with pytest.raises(InputError, match="cannot be filled"):
        respool(minimum=200, pages=200)


def test_take_asks_the_pool_and_not_the_system() -> None:
    pool, zone, _ = respool()
    calls = dict(zone.statistics.calls)
    assert pool.take() is not None
    assert zone.statistics.calls == calls
    assert pool.statistics.hits == 1


def test_the_worker_is_queued_once_and_fills_to_min_plus_grow() -> None:
    pool, _, clock = respool(minimum=4, grow=3)
    pool.take()
    pool.take()
    clock.advance(DELAY - 1)
    assert pool.statistics.wakeups == 0
    clock.advance(1)
    assert pool.statistics.wakeups == 1
    assert pool.statistics.idle == 4 + 3
    assert clock.next_due is None


def test_no_worker_runs_while_more_than_min_pages_stay() -> None:
    pool, _, clock = respool(minimum=4, grow=3)
    pool.take()
    clock.advance(DELAY)  # 7 idle
    pool.take()
    pool.take()
    assert pool.statistics.idle == 5
    assert clock.next_due is None
    pool.take()
    assert clock.next_due is not None


def test_a_burst_beyond_the_pool_falls_back_to_atomic_requests() -> None:
    pool, zone, _ = respool(minimum=4)
    pages = [pool.take() for _ in range(6)]
    assert None not in pages
    assert len(set(pages)) == 6
    assert (pool.statistics.hits, pool.statistics.fallbacks) == (4, 2)
    assert zone.statistics.calls["atomic"] == 2


def test_a_burst_under_pressure_fails_at_the_atomic_floor() -> None:
    pool, _, _ = respool(minimum=4, pages=100, min_pages=80)
    got = 0
    while pool.take() is not None:
        got += 1
    assert got == 100 - 30  # the floor of GFP_ATOMIC is 0.375 of min
    assert pool.statistics.failures == 1


def test_the_worker_stops_at_the_first_refusal() -> None:
    pool, zone, clock = respool(minimum=4, grow=50, pages=100, min_pages=80)
    pool.take()
    clock.advance(DELAY)
    assert zone.free == 80
    assert pool.statistics.idle == 100 - 80 - 1
    assert zone.statistics.refused["kernel"] == 1


def test_a_pool_that_grew_beyond_the_band_is_shrunk_to_the_target() -> None:
    pool, zone, clock = respool(minimum=4, grow=3)
    pages = [pool.take() for _ in range(20)]
    clock.advance(DELAY)
    assert pool.statistics.idle == 7
    pool.give_back(pages[:3])
    assert pool.statistics.idle == 10
    assert clock.next_due is None  # min + 2*grow: still inside the band
    pool.give_back(pages[3:5])
    clock.advance(DELAY)
    assert pool.statistics.idle == 7
    assert pool.statistics.released == 5
    assert zone.held == 15 + 7


def test_the_page_given_back_last_is_taken_first() -> None:
    pool, _, _ = respool()
    first, second = pool.take(), pool.take()
    pool.give_back([first])
    pool.give_back([second])
    assert [pool.take(), pool.take()] == [second, first]


def test_statistics_remember_the_lowest_and_highest_pool() -> None:
    pool, _, clock = respool(minimum=4, grow=3)
    for _ in range(4):
        pool.take()
    clock.advance(DELAY)
    assert (pool.statistics.idle_lowest, pool.statistics.idle_highest) == (0, 7)


def test_closing_a_pool_returns_every_idle_page() -> None:
    pool, zone, clock = respool()
    pool.take()
    pool.close()
    assert zone.held == 1
    assert clock.next_due is None


@pytest.mark.parametrize("gfp, floor", [(Gfp.ATOMIC, 30), (Gfp.NOWAIT, 80), (Gfp.MEMALLOC, 0)])
def test_the_os_supply_digs_as_deep_as_its_class(gfp: Gfp, floor: int) -> None:
    zone = Zone(Clock(), START, 100 * PAGE, 0, 80 * 4)
    supply = SystemSupply(zone, gfp)
    while supply.take() is not None:
        pass
    assert zone.free == floor
    assert supply.statistics.fallbacks == 100 - floor
    assert supply.statistics.failures == 1


def test_the_os_supply_returns_pages_at_once() -> None:
    zone = Zone(Clock(), START, 100 * PAGE)
    supply = SystemSupply(zone)
    page = supply.take()
    assert zone.held == 1
    supply.give_back([page])
    supply.close()
    assert zone.held == 0
    assert supply.statistics.released == 1


def test_supplies_are_found_by_name() -> None:
    assert {"os", "respool"} <= set(supply_names())
    zone = Zone(Clock(), START, 1 << 24)
    pool = make_supply("respool", zone, Clock(), {"min": 10})
    assert pool.statistics.idle == 10


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("respol", {}, "did you mean respool"),
        ("respool", {"minimum": 3}, "did you mean min"),
        ("respool", {"grow": 0}, "grow >= 1"),
        ("os", {"gfp": "atomc"}, "did you mean atomic"),
    ],
)
def test_a_wrong_name_or_option_teaches(name: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_supply(name, Zone(Clock(), START, 1 << 24), Clock(), options)


class _Plugged:
    name, value, group = "mine", "nowhere:make", "vtd.pools"

    def load(self):
        return lambda zone, clock, options: SystemSupply(zone, Gfp.NOWAIT)


def test_a_supply_of_another_distribution_is_found_by_its_entry_point(monkeypatch) -> None:
    monkeypatch.setattr("emulator.mapping.registry.entry_points", lambda group: [_Plugged()])
    assert "mine" in supply_names()
    assert make_supply("mine", Zone(Clock(), START, 1 << 24), Clock(), {}).asks is Gfp.NOWAIT
