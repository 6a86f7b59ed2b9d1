"""The memory under the supplies: who holds what, what frees it, what was promised, and for how long it was low."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.pressure import DoubleFree, Gfp, Held, Zone
from emulator.mapping.zones import Zones
from pagetables.errors import InputError, VtdError
from tests.emulator.supplies.model import PAGE, START, new_zone

quick = settings(max_examples=40, deadline=None)


def full(kind: Held, leave: int = 80, **more) -> Zone:
    """A zone of which all but `leave` pages are held by others, in one way."""
    zone = new_zone(**more)
    zone.occupy("holder", zone.managed - leave, kind, Gfp.MEMALLOC)
    return zone


@pytest.mark.parametrize(
    "gfp, frees",
    [
        (Gfp.KERNEL, {Held.CLEAN, Held.DIRTY, Held.ANONYMOUS}),
        (Gfp.NOFS, {Held.CLEAN, Held.ANONYMOUS}),
        (Gfp.NOIO, {Held.CLEAN}),
        (Gfp.NOWAIT, set()),
        (Gfp.ATOMIC, set()),
    ],
)
@pytest.mark.parametrize("kind", list(Held))
def test_direct_reclaim_frees_for_a_supply_what_its_class_may_write(gfp: Gfp, frees: set, kind: Held) -> None:
    zone = full(kind, leave=30)
    assert (zone.take(gfp) is not None) == (kind in frees)
    assert (zone.holding("holder") < 370) == (kind in frees)


def test_the_reclaimer_behind_a_supply_frees_clean_pages_before_it_writes() -> None:
    clock = Clock()
    zone = new_zone(clock=clock, reclaim_per_ms=10)
    zone.occupy("swap", 200, Held.ANONYMOUS, Gfp.MEMALLOC)
    zone.occupy("cache", 105, Held.CLEAN, Gfp.MEMALLOC)
    clock.advance(MILLISECOND)
    assert zone.holders() == {"swap": {"anonymous": 200}, "cache": {"clean": 95}}
    clock.advance(20 * MILLISECOND)
    assert zone.free == zone.marks.high


def test_a_taker_beside_a_supply_gets_what_its_class_leaves() -> None:
    zone = new_zone()
    assert zone.occupy("a", 1000, Held.PINNED, Gfp.KERNEL) == 400 - 80
    assert zone.occupy("b", 1000, Held.PINNED, Gfp.ATOMIC) == 50
    assert zone.occupy("c", 1000, Held.PINNED, Gfp.MEMALLOC) == 30
    assert zone.free == 0
    assert zone.vacate("b", 20) == 20
    assert zone.vacate("b") == 30
    assert zone.vacate("nobody") == 0
    assert zone.holders() == {"a": {"pinned": 320}, "c": {"pinned": 30}}


def test_time_below_each_mark_is_counted_for_supply_reports() -> None:
    clock = Clock()
    zone = new_zone(clock=clock, reclaim_per_ms=0)
    clock.advance(5)
    zone.occupy("a", 290, Held.PINNED, Gfp.MEMALLOC)  # 110 free: below high, 120
    clock.advance(7)
    zone.occupy("a", 20, Held.PINNED, Gfp.MEMALLOC)  # 90: below low, 100
    clock.advance(11)
    zone.take(Gfp.ATOMIC)
    zone.occupy("a", 19, Held.PINNED, Gfp.MEMALLOC)  # 70: below min, 80
    clock.advance(13)
    assert zone.statistics.below_ns == {"min": 13, "low": 24, "high": 31}
    assert zone.statistics.below_ns == {"min": 13, "low": 24, "high": 31}


@quick
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["promise", "release", "take", "occupy", "vacate", "take promised"]),
                  st.integers(0, 200), st.sampled_from(list(Held)), st.sampled_from(list(Gfp))),
        max_size=40,
    )
)  # fmt: skip
def test_a_promise_to_a_supply_is_kept_whatever_others_do(steps) -> None:
    zone = new_zone()
    for step, pages, kind, gfp in steps:
        match step:
            case "promise":
                before = zone.promised
                assert zone.promise(pages) == (zone.promised == before + pages)
            case "release" if zone.promised >= pages:
                zone.release_promise(pages)
            case "take":
                zone.take(gfp)
            case "occupy":
                zone.occupy("others", pages, kind, gfp)
            case "vacate":
                zone.vacate("others", pages)
            case "take promised" if zone.promised:
                zone.take_promised()
        assert zone.promised <= zone.free + zone.clean
        assert zone.free + zone.holding("others") + zone.held == zone.managed
    for _ in range(zone.promised):
        zone.take_promised()
    assert zone.promised == 0


def test_a_promise_that_is_released_is_news_only_after_one_was_refused() -> None:
    zone = new_zone()
    told = []
    zone.on_available.append(lambda: told.append(zone.promised))
    zone.promise(300)
    zone.release_promise(100)
    assert told == []
    assert not zone.promise(300)
    zone.release_promise(50)
    zone.release_promise(50)
    assert told == [150]


def test_a_promised_page_of_a_supply_needs_a_promise() -> None:
    zone = new_zone()
    with pytest.raises(VtdError, match="no page is promised"):
        zone.take_promised()
    zone.promise(3)
    with pytest.raises(VtdError, match="3 are promised"):
        zone.release_promise(4)


def test_a_reclaimer_that_frees_nothing_is_left_alone_until_a_page_comes_back_to_a_supply() -> None:
    clock = Clock()
    zone = full(Held.ANONYMOUS, leave=30, clock=clock)
    zone.write_out = lambda pages: 0
    for _ in range(100):
        zone.take(Gfp.ATOMIC)
        clock.advance(2 * MILLISECOND)
    runs = zone.statistics.reclaimer_wakeups
    assert runs == 16
    zone.vacate("holder", 1)
    zone.take(Gfp.ATOMIC)
    assert zone.statistics.reclaimer_wakeups > runs


def test_pages_are_written_by_who_was_asked_to_before_a_supply_gets_them() -> None:
    clock = Clock()
    zone = full(Held.DIRTY, leave=90, clock=clock)
    asked = []
    zone.write_out = lambda pages: asked.append(pages) or pages
    zone.take(Gfp.ATOMIC)
    clock.advance(MILLISECOND)
    assert asked == [20]
    assert zone.free == 89
    assert zone.written(20) == 20
    assert zone.free == 109
    assert zone.written(1000) == 290
    assert (zone.writable, zone.statistics.reclaimed) == (0, 310)


@quick
@given(runs=st.lists(st.integers(1, 9), min_size=1, max_size=60), freed=st.sets(st.integers(0, 399)))
def test_runs_of_pages_for_a_supply_are_whole_and_never_overlap(runs: list[int], freed: set[int]) -> None:
    zone = new_zone()
    singles = [zone.take(Gfp.MEMALLOC) for _ in range(300)]
    zone.give_back([page for page in singles if (page - START) // PAGE in freed])
    out = {page for page in singles if (page - START) // PAGE not in freed}
    for pages in runs:
        first = zone.take_run(Gfp.MEMALLOC, pages)
        if first is None:
            continue
        run = {first + index * PAGE for index in range(pages)}
        assert not run & out
        out |= run
    assert zone.held == len(out)


def test_a_run_for_a_supply_is_found_among_pages_that_came_back_only_if_it_is_whole() -> None:
    zone = Zone(Clock(), START, 16 * PAGE, 0, 4)
    pages = [zone.take(Gfp.MEMALLOC) for _ in range(16)]
    zone.give_back([pages[0], pages[2], pages[4], pages[5], pages[7]])
    assert zone.take_run(Gfp.MEMALLOC, 3) is None
    assert zone.take_run(Gfp.MEMALLOC, 2) == pages[4]


def two_zones() -> Zones:
    clock = Clock()
    return Zones(
        {
            "DMA32": Zone(clock, START - (1 << 20), 256 * PAGE, 0, 4 * 8),
            "NORMAL": Zone(clock, START, 1024 * PAGE, 0, 4 * 8),
        }
    )


def test_a_request_falls_back_to_a_lower_zone_and_leaves_there_what_is_kept_for_those_who_need_it() -> None:
    zones = two_zones()
    got = 0
    while zones.take(Gfp.NOWAIT) is not None:
        got += 1
    assert zones.by_name["NORMAL"].free == 8
    assert zones.by_name["DMA32"].free == 8 + 1024 // 256
    assert got == 1024 - 8 + 256 - 12
    assert zones.take(Gfp.NOWAIT, highest="DMA32") is not None


def test_a_request_for_low_memory_never_gets_high_memory() -> None:
    zones = two_zones()
    pages = []
    while (page := zones.take(Gfp.MEMALLOC, highest="DMA32")) is not None:
        pages.append(page)
    assert len(pages) == 256
    assert max(pages) < START
    zones.give_back(pages)
    assert zones.by_name["DMA32"].free == 256
    with pytest.raises(DoubleFree, match="no zone"):
        zones.give_back([0x1000])


def test_zones_follow_the_limits_of_the_machine() -> None:
    zones = Zones.of(Clock(), [(0, 3 << 30), (4 << 30, 1 << 30)])
    assert {name: (zone.start, zone.size) for name, zone in zones.by_name.items()} == {
        "DMA": (0, 16 << 20),
        "DMA32": (16 << 20, (3 << 30) - (16 << 20)),
        "NORMAL": (4 << 30, 1 << 30),
    }
    assert list(zones.fallbacks("DMA32")) == ["DMA32", "DMA"]
    with pytest.raises(InputError, match="did you mean DMA32"):
        zones.fallbacks("DMA23")
    with pytest.raises(InputError, match="known: DMA"):
        Zones({"HIGHMEM": new_zone()})
    with pytest.raises(InputError, match="at least one zone"):
        Zones({})
