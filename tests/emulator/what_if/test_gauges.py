"""Gauges: peaks, means weighted by time, and a series that stays short."""

from __future__ import annotations

import itertools

from emulator.what_if.gauges import Gauges


class Bench:
    """One gauge whose value is set by hand."""

    def __init__(self, limit: int = 8) -> None:
        self.value = 0
        self.gauges = Gauges(("held",), lambda: (self.value,), limit)

    def at(self, now: int, value: int) -> None:
        self.value = value
        self.gauges.tick(now)


def test_a_mean_weighs_each_value_with_the_time_it_held():
    bench = Bench()
    bench.at(0, 10)
    bench.at(90, 100)
    bench.at(100, 7)
    assert bench.gauges.mean("held") == 19  # (90 * 10 + 10 * 100) / 100
    assert bench.gauges.highest("held") == 100


def test_a_mean_over_no_time_is_the_last_value():
    bench = Bench()
    bench.at(5, 3)
    assert bench.gauges.mean("held") == 3


def test_a_series_stays_below_its_limit_and_evenly_spread():
    bench = Bench(limit=8)
    for now in range(1000):
        bench.at(now, now)
    bench.gauges.finish(1000)
    times = [time for time, _ in bench.gauges.samples]
    assert len(times) <= 9
    assert (times[0], times[-1]) == (0, 1000)
    steps = {after - before for before, after in itertools.pairwise(times[:-1])}
    assert len(steps) == 1


def test_a_short_series_has_every_tick():
    bench = Bench()
    for now in (1, 5, 9):
        bench.at(now, now * 2)
    bench.gauges.finish(9)
    assert bench.gauges.samples == [(1, 2), (5, 10), (9, 18)]
