"""Sets of addresses as sorted, disjoint ranges: a million of them cost a few sorts, never a loop over pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["NOTHING", "Numbers", "Ranges", "overlaps", "shared_ranges"]

Numbers = npt.NDArray[np.uint64]
_EMPTY: Numbers = np.zeros(0, np.uint64)


class Ranges:
    """Addresses in half-open ranges, ascending and disjoint; ranges that touch are one. Immutable by custom."""

    __slots__ = ("ends", "starts")

    def __init__(self, starts: Numbers = _EMPTY, ends: Numbers = _EMPTY) -> None:
        self.starts = starts
        self.ends = ends

    @classmethod
    def union(cls, starts: Numbers, ends: Numbers) -> Ranges:
        """The addresses of any number of ranges in any order, which may overlap. Empty ones count for nothing."""
        if not len(starts):
            return NOTHING
        kept = ends > starts
        starts, ends = starts[kept], ends[kept]
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], ends[order]
        reach = np.maximum.accumulate(ends)
        opens = np.ones(len(starts), bool)
        opens[1:] = starts[1:] > reach[:-1]
        firsts = np.flatnonzero(opens)
        return cls(starts[firsts], np.append(reach[firsts[1:] - 1], reach[-1:]))

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> Ranges:
        """The addresses of (start, size) pairs in any order."""
        pairs = list(ranges)
        starts = np.fromiter((start for start, _ in pairs), np.uint64, len(pairs))
        return cls.union(starts, np.fromiter((start + size for start, size in pairs), np.uint64, len(pairs)))

    @property
    def size(self) -> int:
        """How many bytes they are."""
        return int(np.sum(self.ends - self.starts))

    @property
    def largest(self) -> int:
        """The bytes of the largest range; 0 if there is none."""
        return int(np.max(self.ends - self.starts)) if len(self) else 0

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each range."""
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield start, end - start

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash((self.starts.tobytes(), self.ends.tobytes()))

    def __repr__(self) -> str:
        return f"Ranges({', '.join(f'{start:#x}+{size:#x}' for start, size in self)})"

    def __and__(self, other: Ranges) -> Ranges:
        """The addresses in both."""
        mine, others = overlaps(self, other)
        starts = np.maximum(self.starts[mine], other.starts[others])
        return Ranges(starts, np.minimum(self.ends[mine], other.ends[others]))

    def __or__(self, other: Ranges) -> Ranges:
        """The addresses in either."""
        starts = np.concatenate((self.starts, other.starts))
        return Ranges.union(starts, np.concatenate((self.ends, other.ends)))

    def __sub__(self, other: Ranges) -> Ranges:
        """The addresses that are not in `other`."""
        if not len(self) or not len(other):
            return self
        top = max(int(self.ends[-1]), int(other.ends[-1]))
        starts = np.append(np.zeros(1, np.uint64), other.ends)
        ends = np.append(other.starts, np.array([top], np.uint64))
        return self & Ranges.union(starts, ends)

    def around(self, address: int) -> tuple[int, int] | None:
        """(start, size) of the range that holds `address`, or None."""
        index = int(np.searchsorted(self.starts, np.uint64(address), "right")) - 1
        if index < 0 or address >= int(self.ends[index]):
            return None
        return int(self.starts[index]), int(self.ends[index] - self.starts[index])


NOTHING = Ranges()


def overlaps(one: Ranges, other: Ranges) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The index pairs of ranges that overlap: at most as many as there are ranges in both together."""
    first = np.searchsorted(other.ends, one.starts, "right")
    behind = np.searchsorted(other.starts, one.ends, "left")
    counts = np.maximum(behind - first, 0)
    mine = np.repeat(np.arange(len(one)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return mine, np.repeat(first, counts) + np.arange(len(mine)) - before


def shared_ranges(sets: Sequence[Ranges]) -> Iterator[tuple[tuple[int, ...], Ranges]]:
    """What two or more of the `sets` hold: each combination that occurs (indexes), and its addresses; most bytes first.

    A combination is known by the exclusive-or of a random label for each of its members, so that one sweep over the
    sorted ends of all ranges finds them all.
    """
    labels = np.random.default_rng(1).integers(1, 1 << 63, len(sets), np.uint64)
    counts = [len(one) for one in sets]
    starts = np.concatenate([one.starts for one in sets]) if sets else _EMPTY
    ends = np.concatenate([one.ends for one in sets]) if sets else _EMPTY
    owners = np.repeat(np.arange(len(sets)), counts)
    marks = np.concatenate((ends, starts))  # stable sorting puts an end before a start at the same place
    order = np.argsort(marks, kind="stable")
    steps = np.concatenate((np.full(len(ends), -1), np.full(len(starts), 1)))[order]
    depth = np.cumsum(steps)
    label = np.bitwise_xor.accumulate(np.concatenate((labels[owners], labels[owners]))[order])
    marks = marks[order]
    inside = np.flatnonzero((depth[:-1] > 1) & (marks[1:] > marks[:-1]))
    _, index = np.unique(label[inside], return_inverse=True)
    inside = inside[np.argsort(index, kind="stable")]  # by combination, ascending in each
    behind = np.cumsum(np.bincount(index)).tolist()
    spans = [inside[start:end] for start, end in zip([0, *behind], behind, strict=False)]
    for chosen in sorted(spans, key=lambda one: -int(np.sum(marks[one + 1] - marks[one]))):
        at = marks[chosen[0]]
        members = tuple(int(owner) for owner in np.unique(owners[(starts <= at) & (at < ends)]))
        yield members, Ranges.union(marks[chosen], marks[chosen + 1])
