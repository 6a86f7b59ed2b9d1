"""What holds of one page supply and not of the others: the invariants that each file of `pools` claims."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.clock import MICROSECOND, MILLISECOND, Clock
from emulator.mapping.pools.ladder import STEPS
from emulator.mapping.pools.mempool import Mempool
from emulator.mapping.pools.mempool_25 import LADDERS
from emulator.mapping.pressure import Gfp, Held
from emulator.mapping.supply import SIZE_OPTIONS, make_supply, supply_names
from emulator.python_engine import PythonEngine
from emulator.sizing import new_tables, table_pages
from pagetables.address import Gpa, Iova
from pagetables.errors import InputError, OutOfPages, VtdError
from pagetables.mapper import PageTable, Stage
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions
from tests.emulator.supplies.model import OPERATIONS, PAGE, START, Life, new_zone

quick = settings(max_examples=40, deadline=None)
DELAY = 50 * MICROSECOND


def calls(life: Life) -> int:
    """Requests that the system allocator has seen."""
    return sum(life.zone.statistics.calls.values())


@quick
@given(script=OPERATIONS)
def test_respool_supply_is_at_its_target_after_each_worker_without_a_refusal(script) -> None:
    life = Life("respool")
    for operation in script:
        refused = life.zone.statistics.refused["kernel"]
        worked = life.supply.statistics.wakeups
        life.do(operation)
        if operation[0] == "time" and life.supply.statistics.wakeups > worked:
            assert life.supply.statistics.idle <= 6 + 4
            if life.zone.statistics.refused["kernel"] == refused:
                assert life.supply.statistics.idle == 6 + 4


@quick
@given(turns=st.lists(st.integers(1, 4), min_size=1, max_size=30))
def test_respool_supply_wakes_no_worker_while_the_load_stays_within_its_band(turns: list[int]) -> None:
    life = Life("respool")
    life.take()
    life.clock.advance(DELAY)
    before = life.supply.statistics.wakeups
    for count in turns:  # 10 idle; fewer than 4 are out at a time, and never more than 6 + 2 * 4 come to be idle
        for _ in range(count - 1):
            life.take()
        life.give(count - 1)
        life.clock.advance(DELAY)
    assert life.supply.statistics.wakeups == before


def test_respool_supply_that_hits_its_pool_makes_no_call() -> None:
    life = Life("respool")
    before = calls(life)
    for _ in range(6):
        life.take()
    assert calls(life) == before
    life.take()
    assert calls(life) == before + 1


@pytest.mark.parametrize("form", ["mempool", "mempool-2.5", "mempool-2.5-d2", "mempool-preallocated"])
@quick
@given(script=OPERATIONS)
def test_mempool_supply_reserves_at_most_its_minimum_and_makes_sleepers_only_when_empty(form: str, script) -> None:
    life = Life(form)
    for operation in script:
        waits = life.supply.statistics.waits
        life.do(operation)
        assert life.supply.statistics.idle <= 8
        if life.supply.statistics.waits > waits and operation[0] == "take":
            assert life.supply.statistics.idle == 0


@pytest.mark.parametrize("form", ["mempool", "mempool-2.5", "mempool-2.5-d2", "mempool-preallocated"])
@quick
@given(script=OPERATIONS, seed=st.integers(0, 1000))
def test_mempool_supply_makes_progress_whenever_an_element_is_freed(form: str, script, seed: int) -> None:
    life = Life(form).play(script)
    life.zone.occupy("others", life.zone.managed, Held.PINNED, Gfp.MEMALLOC)  # nothing to be had but elements
    while life.take(Gfp.KERNEL) is not None:
        pass
    if life.live:
        life.give(1, seed)
        assert life.take(Gfp.KERNEL) is not None
        assert life.take(Gfp.KERNEL) is None


@quick
@given(script=OPERATIONS)
def test_mempool_supply_refills_its_reserve_before_anything_goes_back(script) -> None:
    life = Life("mempool")
    for operation in script:
        missing = 8 - life.supply.statistics.idle
        released, given_back = life.supply.statistics.released, life.supply.statistics.given_back
        life.do(operation)
        if operation[0] == "give":
            returned = life.supply.statistics.given_back - given_back
            assert life.supply.statistics.released - released == max(returned - missing, 0)


def test_mempool_supply_asks_the_system_first_even_while_its_reserve_is_full() -> None:
    life = Life("mempool")
    before = calls(life)
    life.take()
    assert (calls(life), life.supply.statistics.hits) == (before + 1, 0)


def test_mempool_supply_of_the_seed_uses_half_of_its_reserve_before_it_reclaims() -> None:
    seed, merged = Life("mempool-2.5-d2", reclaim_per_ms=0), Life("mempool-2.5", reclaim_per_ms=0)
    for life in (seed, merged):
        life.zone.occupy("cache", life.zone.free - 80, Held.CLEAN, Gfp.MEMALLOC)  # free memory is at min
        while life.zone.statistics.direct_reclaims == 0:
            life.take(Gfp.KERNEL)
    assert seed.supply.statistics.idle == 3  # 8, and the last one taken while 4 of them were there
    assert merged.supply.statistics.idle == 4  # it reclaims as soon as only half is left


def test_mempool_supply_under_pressure_makes_two_calls_for_one_page() -> None:
    life = Life("mempool", reclaim_per_ms=0)
    life.zone.occupy("others", life.zone.free - 80, Held.PINNED, Gfp.MEMALLOC)
    for _ in range(8):
        life.take(Gfp.KERNEL)
    before = calls(life)
    assert life.take(Gfp.KERNEL) is None
    assert calls(life) == before + 2


def test_mempool_supply_with_no_minimum_keeps_one_element() -> None:
    pool = make_supply("mempool", new_zone(), Clock(), {"min_nr": 0})
    assert pool.statistics.idle == 1


@quick
@given(count=st.integers(1, 8), others=st.integers(0, 400), taken=st.integers(0, 8))
def test_mempool_supply_in_bulk_gives_all_or_nothing(count: int, others: int, taken: int) -> None:
    zone = new_zone()
    pool = Mempool(zone, 8)
    zone.occupy("others", others, Held.PINNED, Gfp.MEMALLOC)
    elsewhere = [pool.take() for _ in range(taken)]
    free, idle = zone.free, pool.statistics.idle
    got = pool.take_many(count)
    if got is None:
        assert idle + max(free - 40, 0) < count
        assert (zone.free, pool.statistics.idle) == (free, idle)
    else:
        assert len(set(got)) == count
        assert not set(got) & set(elsewhere)
    with pytest.raises(InputError, match="reserves 8"):
        pool.take_many(9)


@pytest.mark.parametrize("gfp, waits", [(Gfp.KERNEL, 1), (Gfp.ATOMIC, 0)])
def test_mempool_supply_in_bulk_counts_a_wait_only_for_who_may_sleep(gfp: Gfp, waits: int) -> None:
    zone = new_zone()
    pool = Mempool(zone, 8)
    zone.occupy("others", 400, Held.PINNED, Gfp.MEMALLOC)
    pool.gfp = gfp
    assert pool.take() is not None
    assert pool.take_many(8) is None
    assert (pool.statistics.failures, pool.statistics.waits) == (1, waits)


def test_mempool_supply_can_be_resized_and_works_on_if_it_cannot_be_filled() -> None:
    zone = new_zone()
    pool = Mempool(zone, 8)
    assert pool.resize(20)
    assert pool.statistics.idle == 20
    assert pool.resize(3)
    assert (pool.statistics.idle, zone.held) == (3, 3)
    assert not pool.resize(1000)
    assert pool.statistics.idle == 400 - 80
    assert pool.take() is not None


@pytest.mark.parametrize(
    "ladder, message",
    [("os_nowait,pol", "did you mean pool"), ("sleep,pool", "nothing comes after sleep"), ("mreged", "merged")],
)
def test_a_wrong_ladder_of_a_supply_teaches(ladder: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_supply("mempool-2.5", new_zone(), Clock(), {"ladder": ladder})


def test_ladders_of_a_supply_are_data() -> None:
    zone = new_zone()
    pool = make_supply("mempool-2.5", zone, Clock(), {"min_nr": 5, "ladder": "pool, os_nowait"})
    for _ in range(5):
        pool.take()
    assert (pool.statistics.hits, pool.statistics.fallbacks) == (5, 0)
    assert pool.waits_for == ""
    assert all(step in STEPS for ladder in LADDERS.values() for step in ladder)


@quick
@given(script=OPERATIONS)
def test_static_supply_never_asks_the_system_after_the_start(script) -> None:
    life = Life("static")
    before = calls(life)
    life.play(script)
    assert calls(life) == before
    assert len(life.live) + life.supply.statistics.idle == 16 + 1 + 1  # 32 MiB in three levels


@settings(max_examples=15, deadline=None)
@given(
    ranges=st.lists(st.tuples(st.integers(0, 8191), st.integers(1, 1200), st.booleans()), min_size=1, max_size=30),
    base=st.sampled_from([0, 1 << 30, 3 << 20]),
)
def test_static_supply_never_refuses_a_table_inside_its_window(ranges, base: int) -> None:
    zone = new_zone()
    memory = PhysicalMemory([(START, zone.size)])
    options = {"window_mib": 32, "levels": 3, "base_mib": base >> 20}
    supply = make_supply("static", zone, Clock(), options)
    root = supply.take()
    memory.write(root, bytes(PAGE))
    mapper = PythonEngine().mapper(memory, PageTable(Stage.SECOND, root, 3, frozenset({1})), supply)
    for first, pages, unmap in ranges:
        iova, size = Iova(base + first * PAGE), min(pages, 8192 - first) * PAGE
        try:
            if unmap:
                supply.give_back(mapper.unmap(iova, size).freed)
            else:
                mapper.map(iova, Gpa(0), size, Permissions.R | Permissions.W)
        except OutOfPages:
            raise
        except VtdError:
            continue  # overlaps, or nothing is there
    assert supply.statistics.failures == 0


def test_static_supply_runs_out_just_outside_its_window() -> None:
    life = Life("static")
    for _ in range(18):
        assert life.take() is not None
    assert life.take() is None


def test_static_supply_hands_out_what_came_back_last_first() -> None:
    life = Life("static")
    pages = [life.take() for _ in range(3)]
    assert pages == sorted(pages)
    life.give(1, 1)
    assert life.take() == pages[1]


def test_a_static_supply_that_memory_does_not_hold_is_not_made() -> None:
    zone = new_zone()
    with pytest.raises(InputError, match="1,028 pages"):
        make_supply("static", zone, Clock(), {"window_mib": 1024, "levels": 3, "domains": 2})
    assert zone.held == 0


@pytest.mark.parametrize("form", ["prealloc-worker", "prealloc-doubling", "coherent-pool"])
@quick
@given(script=OPERATIONS)
def test_an_enlarged_supply_never_shrinks(form: str, script) -> None:
    life = Life(form)
    size = life.supply.statistics.details["size"]
    for operation in script:
        life.do(operation)
        assert life.supply.statistics.details["size"] >= size
        size = life.supply.statistics.details["size"]
        assert size >= 16


@quick
@given(script=OPERATIONS)
def test_pages_of_an_enlarged_supply_return_to_it_and_others_to_the_system(script) -> None:
    life = Life("prealloc-worker").play(script)
    fallback = life.supply.statistics.fallbacks
    life.give(len(life.live))
    assert life.supply.statistics.idle == life.supply.statistics.details["size"]
    assert life.supply.statistics.released == fallback


def test_an_enlarged_supply_grows_by_its_step_and_tells_how_long_that_took() -> None:
    life = Life("prealloc-worker")
    for _ in range(9):
        life.take()
    details = life.supply.statistics.details
    assert (details["size"], details["enlargements"]) == (16, 0)
    life.clock.advance(DELAY)
    assert (details["size"], details["enlargements"], details["longest_enlarge_ns"]) == (24, 1, DELAY)
    assert details["overshoot"] == 24 - 9


def test_an_enlarged_supply_wakes_its_worker_below_the_mark_not_at_it() -> None:
    life = Life("prealloc-worker")  # 16 pages, the mark at 8
    for _ in range(8):
        life.take()
    life.clock.advance(DELAY)
    assert life.supply.statistics.wakeups == 0
    life.take()
    life.clock.advance(DELAY)
    assert life.supply.statistics.wakeups == 1


def test_each_enlargement_of_a_supply_is_timed_from_its_own_wake_up() -> None:
    life = Life("prealloc-worker")
    for _ in range(2):
        for _ in range(9):
            life.take()
        life.clock.advance(20 * DELAY)
    details = life.supply.statistics.details
    assert (details["enlargements"], details["longest_enlarge_ns"]) == (2, DELAY)


def test_a_doubling_supply_doubles() -> None:
    life = Life("prealloc-doubling")
    for _ in range(9):
        life.take()
    life.clock.advance(DELAY)
    assert life.supply.statistics.details["size"] == 32


def test_a_burst_before_the_first_enlargement_of_a_supply_lives_on_the_fallback() -> None:
    life = Life("prealloc-worker")
    for _ in range(20):
        assert life.take() is not None
    details = life.supply.statistics.details
    assert (details["exhausted"], details["exhausted_before_first_enlarge"]) == (4, 4)
    assert life.supply.statistics.fallbacks == 4
    life.clock.advance(DELAY)
    for _ in range(10):
        life.take()
    assert details["exhausted_before_first_enlarge"] == 4
    assert details["exhausted"] == 6


def test_an_enlarged_supply_without_fallback_fails_while_memory_is_free() -> None:
    zone = new_zone()
    supply = make_supply("prealloc-worker", zone, Clock(), {"initial": 4, "low": 0, "fallback": 0})
    assert [supply.take() is None for _ in range(5)] == [False] * 4 + [True]
    assert zone.free > 300


@quick
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 200), st.sampled_from(list(Held))), max_size=20
    )
)
def test_an_admitted_operation_of_a_reservation_supply_never_fails(steps) -> None:
    life = Life("reservation")
    zone, supply = life.zone, life.supply
    for bound, used, others, kind in steps:
        can = zone.free + zone.clean - zone.promised
        admitted = supply.admit(bound)
        assert admitted == (can >= bound)
        zone.occupy("others", others, kind, Gfp.MEMALLOC)
        while zone.take(Gfp.MEMALLOC) is not None:
            pass  # everybody else takes what they may: what is promised stays
        assert zone.promised <= zone.free + zone.clean
        if admitted:
            assert all(life.take() is not None for _ in range(min(used, bound)))
        supply.settle()
        assert zone.promised == 0
        assert supply.statistics.failures == 0


def test_reserved_pages_of_a_supply_stay_useful_as_clean_cache() -> None:
    life = Life("reservation", used=400)
    assert life.zone.free == 0
    assert life.supply.admit(10)
    assert life.zone.holding("others") == 400
    assert life.take() is not None
    assert life.zone.holding("others") == 399
    assert life.supply.statistics.details["clean_dropped"] == 1
    assert life.zone.statistics.direct_reclaims == 0
    life.supply.settle()
    assert life.supply.statistics.details["unused"] == 9


def test_a_reservation_supply_makes_wait_at_admission_and_tells_when_that_may_end() -> None:
    life = Life("reservation")
    life.zone.occupy("others", 395, Held.PINNED, Gfp.MEMALLOC)
    assert not life.supply.admit(6)
    told = []
    life.supply.on_available.append(lambda: told.append(life.supply.admit(6)))
    life.zone.vacate("others", 1)
    assert told == [True]
    with pytest.raises(VtdError, match="not been settled"):
        life.supply.admit(1)


@pytest.mark.parametrize("levels", [3, 4])
@settings(max_examples=15, deadline=None)
@given(first=st.integers(0, (1 << 27) - 3000), pages=st.integers(1, 1500))
def test_the_bound_of_a_reservation_supply_is_what_a_map_into_empty_tables_takes(levels, first, pages) -> None:
    zone = new_zone()
    memory = PhysicalMemory([(START, zone.size)])
    supply = make_supply("reservation", zone, Clock(), {})
    root = supply.take()
    memory.write(root, bytes(PAGE))
    mapper = PythonEngine().mapper(memory, PageTable(Stage.SECOND, root, levels, frozenset({1})), supply)
    bound = new_tables(first, pages, levels)
    assert supply.admit(bound)
    mapper.map(Iova(first * PAGE), Gpa(0), pages * PAGE, Permissions.R | Permissions.W)
    assert supply.left == 0


@quick
@given(script=OPERATIONS)
def test_a_block_supply_keeps_every_page_it_ever_got(script) -> None:
    life = Life("dma-pool")
    pages = 0
    for operation in script:
        life.do(operation)
        assert life.supply.statistics.details["pages"] >= pages
        pages = life.supply.statistics.details["pages"]
        assert life.zone.held == pages


def test_a_block_supply_says_how_few_of_its_blocks_were_ever_idle() -> None:
    supply = make_supply("dma-pool", new_zone(), Clock(), {"preallocated": 4})
    supply.give_back([page for page in (supply.take() for _ in range(3)) if page is not None])
    assert (supply.statistics.idle, supply.statistics.idle_lowest) == (4, 1)


def test_a_block_supply_of_2002_asks_atomically_whoever_calls() -> None:
    life = Life("dma-pool-2002")
    life.take(Gfp.KERNEL)
    assert life.zone.statistics.calls["kernel"] == 0
    assert life.zone.statistics.calls["atomic"] == 1
    today = Life("dma-pool")
    today.take(Gfp.KERNEL)
    assert today.zone.statistics.calls["kernel"] == 1


def test_a_block_supply_refuses_a_page_that_is_free_already() -> None:
    life = Life("dma-pool")
    page = life.take()
    life.give(1)
    with pytest.raises(VtdError, match="already free"):
        life.supply.give_back([page])


def test_a_coherent_supply_doubles_after_a_success_and_fails_while_memory_is_free() -> None:
    life = Life("coherent-pool")
    for _ in range(16):
        assert life.take() is not None
    assert life.take() is None
    assert life.zone.free > 300
    life.clock.advance(MILLISECOND)
    assert life.supply.statistics.details["size"] == 32
    assert life.take() is not None


@pytest.mark.parametrize("name", SIZE_OPTIONS)
def test_every_supply_that_has_a_size_takes_it_by_that_name(name: str) -> None:
    own = SIZE_OPTIONS[name]
    by_size, by_own = (make_supply(name, new_zone(), Clock(), {option: 16}) for option in ("size", own))
    assert by_size.statistics == by_own.statistics
    assert by_size.statistics.idle > 0
    with pytest.raises(InputError, match="are the same"):
        make_supply(name, new_zone(), Clock(), {"size": 16, own: 16})


@pytest.mark.parametrize("name", sorted(set(supply_names()) - set(SIZE_OPTIONS)))
def test_a_supply_that_keeps_nothing_has_no_size(name: str) -> None:
    with pytest.raises(InputError, match="no option 'size'"):
        make_supply(name, new_zone(), Clock(), {"size": 16})


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("os", {"gfp": "caler"}, "did you mean caller"),
        ("os+memalloc", {"gfp": "atomic"}, "no option"),
        ("mempool", {"min_nr": -1}, "cannot reserve"),
        ("mempool", {"min_nr": "many"}, "wants a number"),
        ("mempool", {"min_nr": 399}, "cannot be filled"),
        ("static", {"levels": 7}, "do not exist"),
        ("static", {"domains": -1}, "no tables"),
        ("static", {"window_mib": 1 << 20, "levels": 3}, "reach 39 bits"),
        ("prealloc-worker", {"growth": "doubel"}, "did you mean double"),
        ("prealloc-worker", {"step": 0}, "one page or more"),
        ("prealloc-worker", {"low": 500}, "low <= initial"),
        ("prealloc-worker", {"initial": 399}, "cannot be filled"),
        ("dma-pool", {"generation": "2003"}, "did you mean 2002"),
        ("dma-pool", {"coherent_gfp": "kernal"}, "did you mean kernel"),
        ("dma-pool", {"preallocated": 399}, "cannot be filled"),
        ("coherent-pool", {"delay_us": -1}, "delay >= 0"),
    ],
)
def test_a_wrong_option_of_a_supply_teaches(name: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_supply(name, new_zone(), Clock(), options)


@pytest.mark.parametrize(
    "window, levels, pages",
    [(1 << 30, 2, 513), (1 << 30, 3, 514), (4 << 30, 3, 2048 + 4 + 1), (256 << 20, 3, 130), (256 << 20, 4, 131)],
)
def test_the_tables_of_a_static_supply_are_what_the_formula_says(window: int, levels: int, pages: int) -> None:
    assert table_pages(window, levels) == pages
