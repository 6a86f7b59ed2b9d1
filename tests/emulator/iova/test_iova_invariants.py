"""What holds of every address allocator, whatever it is asked, each held against sets of pages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from emulator.clock import Clock
from emulator.mapping.iova.allocator import Window, make_allocator
from emulator.mapping.iova.bitmap import Bitmap
from tests.emulator.iova.twin import (
    ACROSS,
    CROSSES_NOTHING,
    FORMS,
    NATURAL,
    SAFE,
    WINDOW,
    operations,
    play,
    power_of_two,
)

RESERVED = (40, 12)
quick = settings(max_examples=40, deadline=None)


def new(form: str, window: Window = WINDOW):
    name, options = FORMS[form]
    return make_allocator(name, window, Clock(), options)


@pytest.mark.parametrize("form", FORMS)
@quick
@given(script=operations)
def test_live_runs_never_overlap_and_keep_to_window_limit_and_alignment(form: str, script) -> None:
    play(form, script)


@pytest.mark.parametrize("form", ["tree", "tree-unaligned", "magazines", "magazines-of-old"])
@quick
@given(script=operations)
def test_the_same_holds_where_the_window_crosses_4_gib(form: str, script) -> None:
    play(form, script, ACROSS)


@pytest.mark.parametrize("form", SAFE)
@quick
@given(script=operations)
def test_gart_and_stale_bitmap_never_hand_out_an_entry_freed_since_the_last_flush(form: str, script) -> None:
    allocator, _ = play(form, script)
    assert allocator.statistics.reused_before_flush == 0


@pytest.mark.parametrize("form", NATURAL)
@quick
@given(script=operations)
def test_runs_are_aligned_to_their_size_where_the_kernel_aligns_them(form: str, script) -> None:
    _, twin = play(form, script)
    assert all(first % power_of_two(pages) == 0 for first, pages in twin.live.items())


@pytest.mark.parametrize("form", CROSSES_NOTHING)
@quick
@given(script=operations)
def test_runs_do_not_cross_the_segment_boundary(form: str, script) -> None:
    _, twin = play(form, script)
    assert all(first // 64 == (first + pages - 1) // 64 for first, pages in twin.live.items())


@pytest.mark.parametrize("form", FORMS)
@quick
@given(script=operations)
def test_after_everything_is_freed_and_reclaimed_the_window_is_whole_again(form: str, script) -> None:
    allocator, twin = play(form, script)
    for first in list(twin.live):
        allocator.free(first, twin.freed(first))
    if form.startswith("magazines"):
        allocator.empty_caches()
    if form.startswith("stale"):
        allocator.reserve(WINDOW.end, 1)  # outside the window: reserves nothing
        allocator._flush_pools(range(len(allocator._pools)))
    assert allocator.statistics.live == 0
    assert allocator.statistics.cached == 0
    assert allocator.statistics.occupied == new(form).statistics.occupied
    assert allocator.largest_free_run() == new(form).largest_free_run()


@pytest.mark.parametrize("form", FORMS)
def test_reserved_pages_are_never_handed_out(form: str) -> None:
    allocator = new(form)
    first, pages = RESERVED
    allocator.reserve(first, pages)
    allocator.reserve(first - 2, 4)  # overlapping reservations are one
    out = set()
    for cpu in range(400):
        page = allocator.allocate(1, cpu=cpu)
        out.add(page)
    assert None in out
    assert not out & set(range(first - 2, first + pages))


@pytest.mark.parametrize("form", FORMS)
def test_a_full_window_fails_and_serves_again_after_a_free(form: str) -> None:
    allocator = new(form)
    out = []
    while (page := allocator.allocate(1)) is not None:
        out.append(page)
    assert allocator.statistics.failed == 1
    allocator.free(out[7], 1, stale=True)
    assert allocator.allocate(1) == out[7]


@pytest.mark.parametrize("form", FORMS)
def test_a_device_that_reaches_no_page_of_the_window_gets_none(form: str) -> None:
    assert new(form).allocate(1, limit=WINDOW.first) is None
    assert new(form).allocate(1, limit=0) is None


@pytest.mark.parametrize("form", FORMS)
def test_closing_stops_what_runs_in_the_background(form: str) -> None:
    clock = Clock()
    name, options = FORMS[form]
    allocator = make_allocator(name, WINDOW, clock, options)
    pages = [page for page in (allocator.allocate(1) for _ in range(30)) if page is not None]
    for page in pages:
        allocator.free(page, 1)
    allocator.close()
    assert clock.next_due is None


def test_a_run_as_long_as_the_boundary_fits_between_two_of_them() -> None:
    bitmap = Bitmap(40, base=3)
    assert bitmap.find_area(0, 40, 8, boundary=8) == 5
    assert bitmap.find_area(0, 40, 9, boundary=8) is None


@quick
@given(script=operations)
def test_a_bitmap_finds_the_lowest_place_a_set_of_pages_finds(script) -> None:
    bitmap, used = Bitmap(120, base=3), set()
    for step in script:
        if step[0] != "map":
            continue
        _, pages, start, align, limit = step
        limit = 120 if limit is None else min(limit, 120)
        free = [
            at
            for at in range(start, limit - pages + 1)
            if (at + 3) % align == 0 and used.isdisjoint(range(at, at + pages))
        ]
        found = bitmap.find(start, limit, pages, align)
        assert found == (free[0] if free else None)
        if found is not None:
            bitmap.take(found, pages)
            used |= set(range(found, found + pages))
        assert bitmap.used == len(used)
