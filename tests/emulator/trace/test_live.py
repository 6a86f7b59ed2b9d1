"""Live ranges against a model that keeps every page by itself."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from emulator.trace.live import Live, Range

ranges = st.tuples(st.integers(0, 30), st.integers(1, 8)).map(lambda r: (r[0], r[0] + r[1]))


@given(st.lists(st.tuples(st.booleans(), ranges)))
def test_take_removes_the_pages_of_the_range_and_no_other(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    live, pages = Live(), {}
    for row, (add, (start, end)) in enumerate(steps):
        asked = range(start, end)
        overlapping = {pages[page] for page in asked if page in pages}
        assert {found.row for found in live.overlapping(start, end)} == overlapping
        assert live.covers(start, end) == all(page in pages for page in asked)
        if add and not overlapping:
            live.add(Range(start, end, row))
            pages.update(dict.fromkeys(asked, row))
        elif not add:
            whole = live.fits(start, end)
            taken = live.take(start, end)
            got = {page: piece.row for piece in taken for page in range(piece.start, piece.end)}
            assert got == {page: pages.pop(page) for page in asked if page in pages}
            assert taken == sorted(taken)
            assert not whole or (taken[0].start, taken[-1].end) == (start, end)
    rows = defaultdict(set)
    for found in live.overlapping(0, 1 << 64):
        rows[found.row] |= set(range(found.start, found.end))
    assert {page: row for row, found in rows.items() for page in found} == pages


def test_ranges_at_one_address_are_kept_in_order() -> None:
    live = Live()
    first, second = Range(0, 4, 1), Range(0, 8, 2)
    live.add(first)
    live.add(second)
    assert live.at(0) == [first, second]
    live.remove(first)
    assert live.at(0) == [second]
    assert live.at(1) == []


def test_next_start_is_the_lowest_above() -> None:
    live = Live()
    for start in (8, 2, 5):
        live.add(Range(start, start + 1, start))
    assert [live.next_start(after) for after in (0, 2, 5, 8)] == [2, 5, 8, None]


def test_fits_needs_whole_ranges() -> None:
    live = Live()
    live.add(Range(0, 4, 1))
    live.add(Range(4, 8, 2))
    assert live.fits(0, 8)
    assert live.fits(4, 8)
    assert not live.fits(0, 6)
    assert not live.fits(2, 8)
    assert not live.fits(0, 9)
    assert live.covers(2, 6)
    assert not live.covers(2, 9)
    assert len(live) == 2
