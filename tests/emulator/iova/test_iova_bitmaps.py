"""The bitmaps: GART, the pools of sparc (and their hole) and powerpc, the stale bitmap, gen_pool, static slots."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from emulator.mapping.iova.allocator import Window
from emulator.mapping.iova.gart import GartBitmap
from emulator.mapping.iova.gen_pool import GenPool
from emulator.mapping.iova.pools import cut, pool_number
from emulator.mapping.iova.powerpc import PowerpcPools
from emulator.mapping.iova.sparc_generic import PooledBitmap
from emulator.mapping.iova.stale_bitmap import StaleBitmap
from emulator.mapping.iova.static_aperture import StaticAperture
from tests.emulator.iova.twin import WINDOW, Twin, operations, power_of_two

quick = settings(max_examples=60, deadline=None)
TEN = Window(0, 10)


def exhaust(allocator, pages: int = 1, cpu: int = 0) -> list[int]:
    out = []
    while (page := allocator.allocate(pages, cpu=cpu)) is not None:
        out.append(page)
    return out


def free_stale(allocator, *pages: int) -> None:
    for page in pages:
        allocator.free(page, 1, stale=True)


# GART


def gart(window: Window = TEN, full_flush: bool = False, emergency: int = 0) -> GartBitmap:
    return GartBitmap(window, emergency, full_flush=full_flush)


def test_gart_by_default_flushes_at_each_map_even_a_failed_one() -> None:
    allocator = gart(full_flush=True)
    assert len(exhaust(allocator)) == 9
    assert allocator.statistics.flushes == 10


def test_lazy_gart_flushes_only_at_a_wrap() -> None:
    allocator = gart()
    out = [allocator.allocate(1) for _ in range(9)]
    assert allocator.statistics.flushes == 0
    free_stale(allocator, out[2])
    assert allocator.allocate(1) == out[2]
    assert allocator.statistics.flushes == 1
    assert allocator.statistics.reused_before_flush == 0


def test_freeing_above_the_cursor_moves_it_so_that_the_entry_stays_behind_a_wrap() -> None:
    allocator = gart()
    out = [allocator.allocate(1) for _ in range(9)]
    free_stale(allocator, out[0])
    allocator.allocate(1)  # wraps: the cursor is at 1
    flushes = allocator.statistics.flushes
    free_stale(allocator, out[5])
    assert allocator.allocate(1) == out[5]
    assert allocator.statistics.flushes == flushes + 1


def test_the_first_entries_are_emergency_pages_and_the_last_is_never_used() -> None:
    assert exhaust(gart(emergency=4)) == [4, 5, 6, 7, 8]


# Pools


def one_pool(window: Window = TEN, lazy: bool = True) -> PooledBitmap:
    return PooledBitmap(window, pools=1, large_pool=False, lazy=lazy)


def test_the_hole_an_entry_freed_above_the_hint_is_handed_out_without_a_flush() -> None:
    allocator = one_pool()
    out = exhaust(allocator)
    free_stale(allocator, out[0])
    assert allocator.allocate(1) == out[0]  # a wrap, and a flush
    flushes = allocator.statistics.flushes
    free_stale(allocator, out[5])
    assert allocator.allocate(1) == out[5]  # above the hint, and no flush is due
    assert allocator.statistics.flushes == flushes
    assert allocator.statistics.reused_before_flush == 1


def test_an_entry_freed_below_the_hint_waits_for_the_flush_of_the_wrap() -> None:
    allocator = one_pool()
    out = exhaust(allocator)
    free_stale(allocator, *out[:3])
    assert [allocator.allocate(1) for _ in range(3)] == out[:3]
    assert allocator.statistics.flushes == 1
    assert allocator.statistics.reused_before_flush == 0


def test_without_lazy_flush_the_pools_never_ask_for_one() -> None:
    allocator = one_pool(lazy=False)
    assert not allocator.flushes_itself
    for page in exhaust(allocator):
        allocator.free(page, 1)
    exhaust(allocator)
    assert allocator.statistics.flushes == 0


@pytest.mark.parametrize("large, usable", [(False, 16 * (64 - 2)), (True, 16 * (48 - 2) + 256 - 1)])
def test_two_entries_of_each_small_pool_and_one_of_the_large_are_never_used(large: bool, usable: int) -> None:
    allocator = PooledBitmap(Window(0, 1024), pools=16, large_pool=large)
    out = exhaust(allocator)
    while large and (run := allocator.allocate(16)) is not None:
        out += range(run, run + 16)
    size = 48 if large else 64
    assert not [page for page in out if page // size < 16 and page % size >= size - 2]
    assert len(out) == usable - (15 if large else 0)  # 255 entries hold fifteen runs of 16


def test_a_pool_belongs_to_a_hash_of_the_cpu() -> None:
    assert [pool_number(cpu, 16) for cpu in range(8)] == [0, 6, 12, 2, 8, 14, 4, 10]
    allocator = PooledBitmap(Window(0, 1024), pools=16, large_pool=False)
    assert [allocator.allocate(1, cpu=cpu) // 64 for cpu in range(8)] == [0, 6, 12, 2, 8, 14, 4, 10]


def test_more_than_15_pages_come_from_the_top_quarter_and_from_nowhere_else() -> None:
    allocator = PooledBitmap(Window(0, 1024), pools=4)
    assert allocator.allocate(15) < 768
    assert exhaust(allocator, 16) == list(range(768, 1008, 16))
    assert allocator.statistics.failed == 1


def test_a_full_pool_spills_into_the_next_and_makes_a_flush_due() -> None:
    allocator = PooledBitmap(Window(0, 64), pools=4, large_pool=False)
    out = [allocator.allocate(1) for _ in range(15)]
    assert out == [*range(14), 16]
    assert allocator.statistics.flushes == 1


def test_a_scatter_list_goes_on_where_it_ended() -> None:
    allocator = PooledBitmap(Window(0, 1024), pools=4, large_pool=False)
    first = allocator.allocate(4)
    allocator.allocate(4)
    assert allocator.allocate(4, after=first + 20) == first + 20
    assert allocator.allocate(4, after=900) == first + 24  # not in this CPU's pool: the hint


def test_a_scatter_list_that_goes_back_below_the_hint_makes_the_pool_flush() -> None:
    allocator = one_pool()
    allocator.free(allocator.allocate(4), 4, stale=True)
    assert allocator.allocate(2, after=1) == 1
    assert allocator.statistics.flushes == 1
    assert allocator.statistics.reused_before_flush == 0


def test_the_large_pool_wraps_too() -> None:
    allocator = PooledBitmap(Window(0, 1024), pools=4)
    first = exhaust(allocator, 16)[0]
    allocator.free(first, 16, stale=True)
    assert allocator.allocate(16) == first
    assert allocator.statistics.flushes == 1


def test_a_second_pass_for_a_short_reach_moves_the_hint_of_pool_0() -> None:
    allocator = PooledBitmap(Window(0, 1024), pools=16, large_pool=False)
    for _ in range(127):
        allocator.allocate(1, limit=128, cpu=1)
    allocator.free(5, 1)
    assert allocator.allocate(1, limit=128, cpu=1) == 5
    allocator.free(3, 1)
    allocator.free(20, 1)
    assert allocator.allocate(1, cpu=0) == 20


def test_a_device_with_a_short_reach_is_served_below_it_whatever_its_pool() -> None:
    allocator = PooledBitmap(Window(0, 1024), pools=16, large_pool=False)
    out = [allocator.allocate(1, limit=128, cpu=1) for _ in range(128)]  # the pool of CPU 1 starts at 384
    assert out[:127] == list(range(127))  # across pools; the last page below the limit is not used
    assert out[127] is None
    allocator.free(5, 1)
    assert allocator.allocate(1, limit=128, cpu=1) == 5


def test_what_does_not_divide_belongs_to_no_pool() -> None:
    small, large, size = cut(1000, 16, large=True)
    assert (size, small[-1].end, large.start, large.end) == (46, 735, 736, 1000)


# The pools of powerpc


def test_a_small_window_is_one_pool_and_a_large_one_four() -> None:
    small, large = PowerpcPools(Window(0, (1 << 18) - 1)), PowerpcPools(Window(0, 1 << 18))
    assert len({small.allocate(1, cpu=cpu) // (1 << 14) for cpu in range(16)}) == 1
    assert len({large.allocate(1, cpu=cpu) // (3 << 14) for cpu in range(16)}) == 4


def test_runs_of_different_buffers_begin_in_different_blocks_until_the_pool_wraps() -> None:
    allocator = PowerpcPools(Window(0, 1024))
    assert [allocator.allocate(pages) for pages in (1, 3, 15, 1)] == [0, 16, 32, 48]
    assert [allocator.allocate(17) for _ in range(2)] == [768, 785]  # the large pool is not cut into blocks
    for _ in range(44):
        allocator.allocate(1)
    assert allocator.allocate(1) == 1  # the hint was at the end: from the start


def test_a_small_pool_of_powerpc_uses_its_last_entry_but_one() -> None:
    allocator = PowerpcPools(Window(0, 64), block=1)
    out = [allocator.allocate(1) for _ in range(47)]
    assert out == list(range(47))
    assert allocator.allocate(1) == 48  # entry 47 is what the search gives away; the large pool helps out


def test_a_run_that_no_small_pool_holds_may_use_the_large_one_and_the_other_way_round() -> None:
    allocator = PowerpcPools(Window(0, 256), pools=4, block=1)
    out = exhaust(allocator)
    assert len(out) == 4 * 47 + 63
    for page in out[:40]:
        allocator.free(page, 1)
    assert allocator.allocate(16) == out[0]


def test_a_pool_that_helps_out_is_searched_from_its_start() -> None:
    allocator = PowerpcPools(Window(0, 256), pools=4, block=1)
    pool_of = {cpu: PowerpcPools(Window(0, 256), pools=4).allocate(1, cpu=cpu) // 48 for cpu in range(16)}
    own, following = next((a, b) for a in pool_of for b in pool_of if pool_of[b] == pool_of[a] + 1)
    for _ in range(47):
        allocator.allocate(1, cpu=own)
    low = [allocator.allocate(1, cpu=following) for _ in range(40)]
    for page in low:
        allocator.free(page, 1)
    assert allocator.allocate(8, cpu=own) == low[0]  # behind the hint there is room for 7


def test_a_device_with_a_short_reach_is_served_by_the_first_pool_of_powerpc() -> None:
    allocator = PowerpcPools(Window(0, 1024), pools=4, block=1)
    out = [allocator.allocate(1, limit=128, cpu=2) for _ in range(128)]  # its own pool begins at 192: 64 below the mask
    assert out[:127] == [*range(64, 127), *range(64)]
    assert out[127] is None


def test_a_scatter_list_goes_on_where_it_ended_on_powerpc_too() -> None:
    allocator = PowerpcPools(Window(0, 1024))
    first = allocator.allocate(4)
    assert allocator.allocate(4, after=first + 4) == first + 4
    assert allocator.allocate(4, after=900) == 16


# The stale bitmap


def test_a_freed_entry_stays_used_until_a_flush_that_only_a_full_bitmap_asks_for() -> None:
    allocator = StaleBitmap(TEN)
    out = [allocator.allocate(1) for _ in range(4)]
    free_stale(allocator, *out)
    assert allocator.stale_pages == 4
    assert exhaust_without_flush(allocator) == [4, 5, 6, 7]
    assert allocator.statistics.flushes == 0
    assert allocator.allocate(1) == 0
    assert allocator.statistics.flushes == 1
    assert allocator.stale_pages == 0


def exhaust_without_flush(allocator: StaleBitmap) -> list[int]:
    return [allocator.allocate(1) for _ in range(4)]


@quick
@given(script=operations)
def test_the_stale_bitmap_fails_only_if_nothing_would_fit_after_a_flush(script) -> None:
    allocator, twin = StaleBitmap(WINDOW, boundary=0), Twin(WINDOW)
    for step in script:
        match step:
            case ("map", pages, cpu, align, None):
                first = allocator.allocate(pages, cpu=cpu, align=align)
                if first is None:
                    assert not twin.fits(pages, WINDOW.first, WINDOW.end - 2, align, twin.pages)
                else:
                    twin.handed_out(first, pages)
            case ("unmap", which, cpu) if twin.live:
                first = list(twin.live)[which % len(twin.live)]
                allocator.free(first, twin.freed(first), cpu, stale=True)


@pytest.mark.parametrize("local, flushes, home", [(False, 0, False), (True, 1, True)])
def test_a_pool_full_of_stale_entries_spills_or_flushes_itself(local: bool, flushes: int, home: bool) -> None:
    allocator = StaleBitmap(Window(0, 64), pools=4, local=local)
    out = [allocator.allocate(1) for _ in range(14)]
    free_stale(allocator, *out)
    assert (allocator.allocate(1) in out) is home
    assert allocator.statistics.flushes == flushes


def test_the_flush_frees_what_is_stale_in_any_pool() -> None:
    allocator = StaleBitmap(Window(0, 64), pools=4)
    out = exhaust(allocator)
    free_stale(allocator, out[-1])
    assert allocator.allocate(1) == out[-1]


# gen_pool


@pytest.mark.parametrize("order_aligned", [True, False])
@quick
@given(script=operations)
def test_gen_pool_hands_out_the_lowest_place_that_fits(order_aligned: bool, script) -> None:
    allocator, twin = GenPool(WINDOW, order_aligned), Twin(WINDOW)
    for step in script:
        match step:
            case ("map", pages, cpu, align, limit):
                top = WINDOW.end if limit is None else min(WINDOW.first + limit, WINDOW.end)
                align = max(align, power_of_two(pages) if order_aligned else 1)
                places = twin.fits(pages, WINDOW.first, top, align, twin.pages)
                assert allocator.allocate(pages, top, cpu, align) == (places[0] if places else None)
                if places:
                    twin.handed_out(places[0], pages)
            case ("unmap", which, cpu) if twin.live:
                first = list(twin.live)[which % len(twin.live)]
                allocator.free(first, twin.freed(first), cpu)


# The static aperture


def test_a_small_buffer_gets_the_slot_that_has_been_free_longest() -> None:
    allocator = StaticAperture(Window(0, 16), slot=4)
    first, second = allocator.allocate(3), allocator.allocate(1)
    assert (first, second) == (0, 4)
    allocator.free(second, 1)
    allocator.free(first, 3)
    assert [allocator.allocate(4) for _ in range(4)] == [8, 12, 4, 0]
    assert allocator.statistics.occupied == 16


def test_a_large_buffer_gets_consecutive_slots() -> None:
    allocator = StaticAperture(Window(0, 32), slot=4)
    run = allocator.allocate(9)
    assert run == 0
    assert allocator.statistics.occupied == 12
    allocator.free(run, 9)
    assert allocator.allocate(32) == 0
    assert allocator.allocate(1) is None


def test_slots_start_at_multiples_of_their_size_whatever_the_window() -> None:
    assert exhaust(StaticAperture(Window(1, 19), slot=4), 4) == [4, 8, 12]


def test_many_large_buffers_leave_no_trace_in_the_queue() -> None:
    allocator = StaticAperture(Window(0, 64), slot=4)
    for _ in range(100):
        allocator.free(allocator.allocate(20), 20)
    assert len(allocator._queue) == 16
