"""Sets of addresses against sets of numbers."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pagetables.audit.ranges import NOTHING, Ranges, shared_ranges

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=12)


def plainly(pairs: list[tuple[int, int]]) -> set[int]:
    return {address for start, size in pairs for address in range(start, start + size)}


def numbers(ranges: Ranges) -> set[int]:
    assert all(size > 0 for _, size in ranges)
    pairs = list(ranges)
    assert all(one[0] + one[1] < other[0] for one, other in pairwise(pairs)), "touching or unsorted"
    return plainly(pairs)


@settings(deadline=None)
@given(PAIRS)
def test_a_union_holds_every_address_once(pairs: list[tuple[int, int]]) -> None:
    ranges = Ranges.of(pairs)
    assert numbers(ranges) == plainly(pairs)
    assert ranges.size == len(plainly(pairs))
    assert ranges.largest == max((size for _, size in ranges), default=0)


@settings(deadline=None)
@given(PAIRS, PAIRS)
def test_both_either_and_without(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    mine, others = Ranges.of(one), Ranges.of(other)
    assert numbers(mine & others) == plainly(one) & plainly(other)
    assert numbers(mine | others) == plainly(one) | plainly(other)
    assert numbers(mine - others) == plainly(one) - plainly(other)


@settings(deadline=None)
@given(st.lists(PAIRS, max_size=6))
def test_what_several_sets_share_is_told_by_combination(sets: list[list[tuple[int, int]]]) -> None:
    expected: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for address in set().union(*map(plainly, sets)):
        members = tuple(index for index, pairs in enumerate(sets) if address in plainly(pairs))
        if len(members) > 1:
            expected[members].add(address)
    found = list(shared_ranges([Ranges.of(pairs) for pairs in sets]))
    assert {members: numbers(ranges) for members, ranges in found} == expected
    sizes = [ranges.size for _, ranges in found]
    assert sizes == sorted(sizes, reverse=True)


def test_ranges_compare_print_and_are_empty() -> None:
    assert Ranges.of([(16, 16)]) == Ranges.of([(24, 8), (16, 8)])
    assert hash(Ranges.of([(16, 16)])) == hash(Ranges.of([(24, 8), (16, 8)]))
    assert repr(Ranges.of([(16, 16)])) == "Ranges(0x10+0x10)"
    assert (NOTHING.size, len(NOTHING), NOTHING.largest) == (0, 0, 0)
    assert NOTHING != 0


def test_a_million_ranges_of_many_sets_are_one_sweep() -> None:
    size = 1 << 20
    starts = np.arange(size, dtype=np.uint64) * np.uint64(0x2000)
    one = Ranges.union(starts[::-1], starts[::-1] + np.uint64(0x1000))
    other = Ranges.union(starts + np.uint64(0x800), starts + np.uint64(0x1800))
    ((members, shared),) = shared_ranges([one, other])
    assert (members, len(shared), shared.size) == ((0, 1), size, size * 0x800)
