"""Which table pages lead to a mapping: what is linked beyond them is empty, and idle in all but name.

Linux frees a table only if one unmap covers all of it, so traffic of small maps leaves empty tables behind. They are
counted here from what is mapped, without a look at the tables: pages of each table that are mapped, level by level.
"""

from __future__ import annotations

from collections.abc import Iterator

from pagetables.address import PAGE_SHIFT

__all__ = ["Occupancy", "leaf_runs"]

_TABLE_BITS = 9
_SPACE_SHIFT = 56  # a key is a number: space, level, index of the table
_LEVEL_SHIFT = 52


def leaf_runs(iova: int, gpa: int, size: int, leaf_levels: frozenset[int]) -> Iterator[tuple[int, int, int]]:
    """Level, start and size of runs of leaves of one level, chosen as a mapper does: the largest that fits."""
    end, run, level = iova + size, iova, 0
    at = iova
    while at < end:
        fits = _largest(at, gpa + at - iova, end - at, leaf_levels)
        if fits != level and at > run:
            yield level, run, at - run
            run = at
        level = fits
        # Up to the next place where a larger leaf may begin, all leaves are of this level.
        at = min(_next_boundary(at, level, leaf_levels), at + _whole(end - at, level))
    yield level, run, end - run


def _largest(iova: int, gpa: int, size: int, leaf_levels: frozenset[int]) -> int:
    for level in (3, 2):
        page = 1 << PAGE_SHIFT + _TABLE_BITS * (level - 1)
        if level in leaf_levels and not (iova | gpa) & page - 1 and size >= page:
            return level
    return 1


def _next_boundary(at: int, level: int, leaf_levels: frozenset[int]) -> int:
    larger = [above for above in leaf_levels if above > level]
    if not larger:
        return 1 << 64
    page = 1 << PAGE_SHIFT + _TABLE_BITS * (min(larger) - 1)
    return (at // page + 1) * page


def _whole(size: int, level: int) -> int:
    page = 1 << PAGE_SHIFT + _TABLE_BITS * (level - 1)
    return size // page * page


class Occupancy:
    """Table pages in use below the roots, over all spaces. `needed` counts them."""

    def __init__(self, levels: int) -> None:
        self.needed = 0
        self._levels = levels
        self._mapped: dict[int, int] = {}
        self._large: dict[int, int] = {}  # level of a larger leaf, by space and 2 MiB

    def map(self, space: int, iova: int, gpa: int, size: int, leaf_levels: frozenset[int]) -> int:
        """[iova, iova + size) is mapped now; the number of leaves that takes."""
        if size < 1 << 21:
            self._add(space, 1, iova, size, size >> PAGE_SHIFT)
            return size >> PAGE_SHIFT
        leaves = 0
        for level, start, length in leaf_runs(iova, gpa, size, leaf_levels):
            leaves += length >> PAGE_SHIFT + _TABLE_BITS * (level - 1)
            if level > 1:
                for chunk in range(start >> 21, start + length >> 21):
                    self._large[space << _SPACE_SHIFT | chunk] = level
            self._spread(space, level, start, length, 1)
        return leaves

    def unmap(self, space: int, iova: int, size: int) -> int:
        """[iova, iova + size) is mapped no more; the number of leaves that were."""
        if not self._large:
            self._spread(space, 1, iova, size, -1)
            return size >> PAGE_SHIFT
        leaves = 0
        for level, start, length in self._known_runs(space, iova, size):
            leaves += length >> PAGE_SHIFT + _TABLE_BITS * (level - 1)
            self._spread(space, level, start, length, -1)
        return leaves

    def _known_runs(self, space: int, iova: int, size: int) -> Iterator[tuple[int, int, int]]:
        at, end = iova, iova + size
        while at < end:
            chunk = at >> 21
            until = min((chunk + 1) << 21, end)
            yield self._large.pop(space << _SPACE_SHIFT | chunk, 1), at, until - at
            at = until

    def _spread(self, space: int, level: int, start: int, length: int, sign: int) -> None:
        shift = PAGE_SHIFT + _TABLE_BITS * level
        at, end = start, start + length
        while at < end:
            until = min((at >> shift) + 1 << shift, end)
            self._add(space, level, at, until - at, sign * (until - at >> PAGE_SHIFT))
            at = until

    def _add(self, space: int, level: int, iova: int, size: int, pages: int) -> None:
        shift = PAGE_SHIFT + _TABLE_BITS * level
        if iova >> shift != iova + size - 1 >> shift:
            self._spread(space, level, iova, size, 1 if pages > 0 else -1)
            return
        while level < self._levels:
            key = space << _SPACE_SHIFT | level << _LEVEL_SHIFT | iova >> PAGE_SHIFT + _TABLE_BITS * level
            before = self._mapped.get(key, 0)
            after = before + pages
            self._mapped[key] = after
            if before and after:
                return
            if after:
                self.needed += 1
            else:
                self.needed -= 1
                del self._mapped[key]
            level, pages = level + 1, (1 if after else -1)
