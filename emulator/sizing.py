"""How much memory the page supplies take, before anything runs: pure arithmetic over tables and defaults."""

from __future__ import annotations

from collections.abc import Iterable

from pagetables.address import PAGE_SHIFT, PAGE_SIZE
from pagetables.errors import InputError

__all__ = ["LEVELS", "aperture_pages", "new_tables", "table_pages", "tables_outside"]

LEVELS = (1, 2, 3, 4, 5)
INDEX_BITS = 9


def new_tables(first: int, pages: int, levels: int) -> int:
    """The most table pages that a map of `pages` 4-KiB pages from page `first` on can need, the root left out.

    The sum over levels k = 1 .. levels-1 of the tables of level k that the range touches.
    """
    if first < 0 or pages < 1 or levels not in LEVELS:
        raise InputError(f"no tables map {pages} pages from page {first:#x} on in {levels} levels")
    last = first + pages - 1
    shifts = (INDEX_BITS * level for level in range(1, levels))
    return sum((last >> shift) - (first >> shift) + 1 for shift in shifts)


def table_pages(window: int, levels: int, base: int = 0) -> int:
    """Every table page, the root among them, of a window of `window` bytes at `base` in tables of `levels` levels.

    InputError if the window is no whole pages, or reaches beyond the tables.
    """
    if window <= 0 or base < 0 or (window | base) % PAGE_SIZE:
        raise InputError(f"a window of {window:#x} bytes at {base:#x} is not made of whole pages")
    if levels not in LEVELS or base + window > 1 << PAGE_SHIFT + INDEX_BITS * levels:
        reach = f"reach {PAGE_SHIFT + INDEX_BITS * levels} bits" if levels in LEVELS else "do not exist"
        raise InputError(f"a window of {window:#x} bytes at {base:#x}: tables of {levels} levels {reach}")
    return 1 + new_tables(base >> PAGE_SHIFT, window >> PAGE_SHIFT, levels)


def aperture_pages(window: int, levels: int, domains: int = 1, base: int = 0) -> int:
    """The table pages of a static aperture in each of `domains` domains."""
    if domains < 1:
        raise InputError(f"{domains} domains have no tables")
    return domains * table_pages(window, levels, base)


def tables_outside(ranges: Iterable[tuple[int, int]], window: int, levels: int, base: int = 0) -> int:
    """The tables that `ranges` (start and size in bytes, each in a domain of its own) need and the window has not."""
    inside = [(base >> shift, base + window - 1 >> shift) for shift in _shifts(levels)]
    return sum(_touched_outside(start, start + size - 1, levels, inside) for start, size in ranges)


def _touched_outside(start: int, last: int, levels: int, inside: list[tuple[int, int]]) -> int:
    found = 0
    for shift, (low, high) in zip(_shifts(levels), inside, strict=True):
        first, end = start >> shift, last >> shift
        found += end - first + 1 - max(min(end, high) - max(first, low) + 1, 0)
    return found


def _shifts(levels: int) -> range:
    return range(PAGE_SHIFT + INDEX_BITS, PAGE_SHIFT + INDEX_BITS * levels, INDEX_BITS)
