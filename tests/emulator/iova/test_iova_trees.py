"""The tree searched from the top, and the magazines in front of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.iova.allocator import LIMIT_32BIT, Window
from emulator.mapping.iova.rbtree import RangeTree
from emulator.mapping.iova.rcache import MagazineTree
from tests.emulator.iova.twin import ACROSS, WINDOW, Twin, operations, play, power_of_two

quick = settings(max_examples=60, deadline=None)
SMALL = Window(1, 101)
TRIM = 100 * MILLISECOND


def magazines(window: Window = SMALL, clock: Clock | None = None, **options: Any) -> MagazineTree:
    return MagazineTree(window, clock or Clock(), **{"magazine": 3, "trim": 0, "cpus": 1, **options})


class TreeTwin(Twin):
    """The rules of the tree said over pages: where the last node of each region stands, and the highest free place."""

    cached = cached_32bit = None  # the first page of a run, None above all of them
    too_many = LIMIT_32BIT

    def place(self, pages: int, limit: int, align: int) -> int | None:
        if limit <= LIMIT_32BIT and pages >= self.too_many:
            return None
        cached = self.cached_32bit if limit <= LIMIT_32BIT else self.cached
        found = self.fits(pages, self.window.first, limit if cached is None else min(limit, cached), align, self.pages)
        if not found and cached is not None and (above := cached + self.live[cached]) - 1 < limit:
            found = self.fits(pages, above, limit, align, self.pages)
        if not found:
            self.too_many = pages
            return None
        self.handed_out(found[-1], pages)
        if found[-1] + pages <= LIMIT_32BIT:
            self.cached_32bit = found[-1]
        else:
            self.cached = found[-1]
        return found[-1]

    def gone(self, first: int) -> int:
        following = min((other for other in self.live if other > first), default=None)
        below = first + self.live[first] <= LIMIT_32BIT
        if self.cached_32bit is not None and (first == self.cached_32bit or (below and first >= self.cached_32bit)):
            self.cached_32bit = following
        if first < LIMIT_32BIT:
            self.too_many = LIMIT_32BIT
        if self.cached is not None and first >= self.cached:
            self.cached = following
        return self.freed(first)


@pytest.mark.parametrize("size_aligned", [True, False])
@pytest.mark.parametrize("window", [WINDOW, ACROSS], ids=["below-4gib", "across-4gib"])
@quick
@given(script=operations)
def test_the_tree_hands_out_what_its_rules_over_pages_say(window: Window, size_aligned: bool, script) -> None:
    tree, twin = RangeTree(window, size_aligned), TreeTwin(window)
    for step in script:
        match step:
            case ("map", pages, cpu, align, limit):
                top = window.end if limit is None else min(window.first + limit, window.end)
                expected = twin.place(pages, top, max(align, power_of_two(pages) if size_aligned else 1))
                assert tree.allocate(pages, top, cpu, align) == expected
            case ("unmap", which, cpu) if twin.live:
                first = list(twin.live)[which % len(twin.live)]
                tree.free(first, twin.gone(first), cpu)
        assert tree.statistics.occupied == len(twin.pages)


def test_addresses_come_from_the_top_and_are_reused_like_a_stack() -> None:
    tree = RangeTree(SMALL)
    first, second, third = (tree.allocate(1) for _ in range(3))
    assert (first, second, third) == (100, 99, 98)
    tree.free(second, 1)
    assert tree.allocate(1) == second
    assert tree.allocate(1) == 97


def test_a_run_starts_at_a_multiple_of_its_size_rounded_up() -> None:
    assert RangeTree(SMALL).allocate(5) == 96
    assert RangeTree(SMALL, size_aligned=False).allocate(5) == 96
    assert RangeTree(SMALL, size_aligned=False).allocate(6) == 95


def test_page_0_is_outside_the_usual_window() -> None:
    tree = RangeTree(Window(1, 5))
    assert [tree.allocate(1) for _ in range(5)] == [4, 3, 2, 1, None]


def test_the_walk_starts_again_from_the_limit_for_gaps_above_where_it_began() -> None:
    tree = RangeTree(SMALL)
    out = [tree.allocate(1) for _ in range(100)]
    tree.free(out[0], 1)
    tree.free(out[60], 1)  # below the node cached by the first free: nothing is at or above it
    assert {tree.allocate(1), tree.allocate(1)} == {out[0], out[60]}
    assert tree.allocate(1) is None


def test_the_second_walk_reaches_the_page_just_above_where_the_first_began() -> None:
    tree = RangeTree(Window(1, 8))
    assert [tree.allocate(1, limit=4) for _ in range(3)] == [3, 2, 1]
    assert (tree.allocate(1), tree.allocate(2)) == (7, 4)  # alignment leaves page 6
    assert tree.allocate(1) == 6


def test_a_run_that_crosses_4_gib_is_not_where_32_bit_requests_begin() -> None:
    tree = RangeTree(ACROSS, size_aligned=False)
    low = tree.allocate(1, LIMIT_32BIT)
    tree.free(low, 1)
    across = tree.allocate(2, LIMIT_32BIT + 1)
    assert across == LIMIT_32BIT - 1
    visited = tree.statistics.visited
    assert tree.allocate(1, LIMIT_32BIT) == LIMIT_32BIT - 2
    assert tree.statistics.visited == visited + 2  # the anchor, then the run


def test_a_32_bit_failure_is_remembered_until_something_below_4_gib_is_freed() -> None:
    tree = RangeTree(SMALL)
    page = tree.allocate(1)
    assert tree.allocate(128) is None
    searches = tree.statistics.searches
    assert tree.allocate(128) is None
    assert tree.allocate(200) is None
    assert tree.statistics.searches == searches
    assert tree.allocate(4) is not None
    tree.free(page, 1)
    assert tree.allocate(128) is None
    assert tree.statistics.searches == searches + 2


def test_a_failure_under_a_lower_limit_makes_a_later_request_fail_that_would_fit() -> None:
    tree = RangeTree(SMALL)
    assert tree.allocate(8, limit=8) is None
    assert tree.allocate(8) is None  # there are 100 free pages
    assert tree.allocate(7) is not None


def test_a_tree_that_got_its_last_address_back_still_refuses_what_never_fits() -> None:
    tree = RangeTree(Window(LIMIT_32BIT, LIMIT_32BIT + 8))
    (first,) = {tree.allocate(1)}
    assert first == LIMIT_32BIT + 7
    tree.free(first, 1)  # where the next search would have begun
    assert tree.allocate(9) is None
    assert tree.allocate(1) == first


def test_the_walk_visits_each_live_node_below_the_cached_one() -> None:
    tree = RangeTree(Window(1, 1001))
    out = [tree.allocate(1) for _ in range(500)]
    tree.free(out[0], 1)
    tree.allocate(2)  # the gap at the top is too small: the walk passes all 499
    assert tree.statistics.visited > 499


def test_a_node_that_cannot_be_had_fails_the_request() -> None:
    tree = RangeTree(SMALL)
    tree.memory = lambda: False
    assert tree.allocate(1) is None
    assert tree.statistics.out_of_memory == 1


def test_reservations_that_overlap_are_merged() -> None:
    tree = RangeTree(SMALL)
    tree.reserve(10, 10)
    tree.reserve(5, 30)
    tree.reserve(12, 3)
    assert tree.statistics.occupied == 30
    assert tree.largest_free_run() == 100 - 34


# The magazines


@quick
@given(script=operations)
def test_the_tree_holds_what_is_live_rounded_up_and_what_the_magazines_hold(script) -> None:
    allocator, twin = play("magazines", script)
    held = sum(power_of_two(pages) if pages < 32 else pages for pages in twin.live.values())
    assert allocator.statistics.occupied == held + allocator.statistics.cached


def test_a_freed_address_is_the_next_one_handed_out() -> None:
    cache = magazines()
    first, second = cache.allocate(1), cache.allocate(1)
    cache.free(first, 1)
    cache.free(second, 1)
    assert [cache.allocate(1), cache.allocate(1)] == [second, first]
    assert cache.statistics.cache_hits == 2


def test_a_freed_address_in_a_magazine_still_occupies_the_tree() -> None:
    cache = magazines(Window(4, 8))
    page = cache.allocate(4)
    cache.free(page, 4)
    assert cache.statistics.live == 0
    assert cache.statistics.occupied == cache.statistics.cached == 4
    assert cache.largest_free_run() == 0


def test_17_to_31_pages_take_32_and_32_or_more_are_as_asked() -> None:
    cache = magazines(Window(64, 1024))
    for pages, occupied in ((17, 32), (31, 32), (32, 32), (33, 33)):
        before = cache.statistics.occupied
        cache.allocate(pages)
        assert cache.statistics.occupied - before == occupied


def test_what_is_larger_than_the_largest_size_goes_to_the_tree() -> None:
    cache = magazines(Window(64, 1024))
    run = cache.allocate(33)
    cache.free(run, 33)
    assert cache.statistics.cached == cache.statistics.occupied == 0
    assert cache.statistics.locks["global"] == 2


def test_sizes_do_not_mix() -> None:
    cache = magazines()
    run = cache.allocate(2)
    cache.free(run, 2)
    assert cache.allocate(1) != run
    assert cache.allocate(2) == run


def test_magazines_belong_to_cpus() -> None:
    cache = magazines()
    page = cache.allocate(1, cpu=0)
    cache.free(page, 1, cpu=0)
    assert cache.allocate(1, cpu=1) != page
    assert cache.allocate(1, cpu=0) == page


def test_two_full_magazines_send_one_to_the_depot_for_any_cpu() -> None:
    cache = magazines()
    pages = [cache.allocate(1) for _ in range(7)]
    for page in pages:
        cache.free(page, 1, cpu=0)
    assert cache.statistics.cached == 7
    assert [cache.allocate(1, cpu=1) for _ in range(3)] == pages[5:2:-1]  # loaded when the seventh came
    assert cache.allocate(1, cpu=1) not in pages


def test_an_address_above_the_limit_is_skipped_inside_the_magazine() -> None:
    cache = magazines()
    high, low = cache.allocate(1), cache.allocate(1, limit=50)
    cache.free(low, 1)
    cache.free(high, 1)
    assert cache.allocate(1, limit=50) == low
    assert cache.allocate(1, limit=high) != high


def test_when_the_tree_is_full_every_magazine_is_emptied_and_the_request_tried_again() -> None:
    cache = magazines(Window(0, 8))
    for cpu, page in enumerate([cache.allocate(1) for _ in range(8)]):
        cache.free(page, 1, cpu=cpu)
    assert cache.allocate(8, reclaim=False) is None
    assert cache.allocate(8) == 0
    assert cache.statistics.reclaims == 1
    assert cache.statistics.cached == 0


def test_a_depot_of_more_magazines_than_cpus_loses_one_each_100_ms() -> None:
    clock = Clock()
    cache = magazines(clock=clock, trim=TRIM)
    for page in [cache.allocate(1) for _ in range(18)]:
        cache.free(page, 1)
    assert cache.statistics.cached == 18  # two magazines, and four of three in the depot
    clock.advance(TRIM - 1)
    assert cache.statistics.cached == 18
    clock.advance(1)
    assert cache.statistics.cached == 15
    clock.advance(10 * TRIM)
    assert cache.statistics.cached == 9  # one magazine for the one CPU stays
    assert clock.next_due is None
    assert cache.statistics.occupied == 9


def test_a_depot_with_a_bound_frees_what_does_not_fit_address_by_address() -> None:
    cache = magazines(depot=1)
    for page in [cache.allocate(1) for _ in range(10)]:
        cache.free(page, 1)
    # Six fill two magazines, the seventh sends three to the depot, the tenth finds the depot full.
    assert cache.statistics.cached == 7
    assert cache.statistics.occupied == 7


def test_without_memory_for_a_magazine_the_address_goes_to_the_tree() -> None:
    cache = magazines()
    pages = [cache.allocate(1) for _ in range(7)]
    cache.memory = lambda: False
    for page in pages:
        cache.free(page, 1)
    assert cache.statistics.cached == cache.statistics.occupied == 6
    assert cache.statistics.out_of_memory == 1


def test_a_cpu_that_goes_offline_leaves_its_magazines_to_the_tree() -> None:
    cache = magazines(cpus=0)
    for page in [cache.allocate(1, cpu=3) for _ in range(5)]:
        cache.free(page, 1, cpu=3)
    cache.free(cache.allocate(1, cpu=4), 1, cpu=4)
    assert cache.online == 2
    cache.offline(3)
    assert cache.online == 1
    assert cache.statistics.cached == cache.statistics.occupied == 1


def test_an_alignment_beyond_the_size_goes_past_the_magazines() -> None:
    cache = magazines()
    page = cache.allocate(1)
    cache.free(page, 1)
    assert cache.allocate(1, align=8) % 8 == 0
    assert cache.statistics.cached == 1
