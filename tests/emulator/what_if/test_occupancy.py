"""Which tables lead to a mapping, held against tables in memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.what_if.occupancy import Occupancy, leaf_runs
from pagetables.mapper import Mapper, PageTable, Stage
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions

PAGE, BIG, HUGE = 1 << 12, 1 << 21, 1 << 30
ALL = frozenset({1, 2, 3})
BOTH = Permissions.R | Permissions.W


class Pages:
    """A table allocator that never takes a page back."""

    def __init__(self) -> None:
        self.taken = [0]

    def take(self) -> int:
        self.taken.append(self.taken[-1] + PAGE)
        return self.taken[-1]


def useful(memory: PhysicalMemory, table: int, level: int) -> int:
    """Table pages below `table` that lead to a leaf, and whether there is one: counted from the bytes."""
    total = 0
    for entry in np.frombuffer(memory.read(table, PAGE), np.uint64).tolist():
        if not entry & 3:
            continue
        if level > 1 and not entry & 0x80:
            below = useful(memory, entry & 0x000F_FFFF_FFFF_F000, level - 1)
            total += below + 1 if leads(memory, entry & 0x000F_FFFF_FFFF_F000, level - 1) else 0
    return total


def leads(memory: PhysicalMemory, table: int, level: int) -> bool:
    for entry in np.frombuffer(memory.read(table, PAGE), np.uint64).tolist():
        if entry & 3 and (level == 1 or entry & 0x80 or leads(memory, entry & 0x000F_FFFF_FFFF_F000, level - 1)):
            return True
    return False


ranges = st.tuples(
    st.sampled_from([0, PAGE, BIG - PAGE, BIG, 3 * BIG, HUGE - BIG, HUGE, 512 * HUGE - PAGE]),
    st.sampled_from([0, PAGE, BIG]),
    st.sampled_from([1, 2, 511, 512, 513, 1024, 1500]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ranges, min_size=1, max_size=6), st.data())
def test_needed_tables_are_those_that_lead_to_a_leaf(wanted, data):
    memory = PhysicalMemory([(0, 16 << 20)])
    pages, live = Pages(), []
    table = PageTable(Stage.SECOND, 0, 4, ALL)
    mapper, occupancy = Mapper(memory, table, pages), Occupancy(4)
    for iova, gpa, count in wanted:
        size = count * PAGE
        if all(iova + size <= start or start + length <= iova for start, length in live):
            mapper.map(iova, gpa, size, BOTH)
            occupancy.map(0, iova, gpa, size, ALL)
            live.append((iova, size))
            assert occupancy.needed == useful(memory, 0, 4)
    while live:
        iova, size = live.pop(data.draw(st.integers(0, len(live) - 1)))
        mapper.unmap(iova, size)
        occupancy.unmap(0, iova, size)
        assert occupancy.needed == useful(memory, 0, 4)
    assert occupancy.needed == 0


def test_a_small_map_needs_a_table_of_each_level_but_the_root():
    occupancy = Occupancy(4)
    assert occupancy.map(0, 0x5000, 0, PAGE, ALL) == 1
    assert occupancy.needed == 3
    occupancy.map(0, 0x6000, 0, PAGE, ALL)
    assert occupancy.needed == 3
    occupancy.map(1, 0x5000, 0, PAGE, ALL)
    assert occupancy.needed == 6


def test_what_is_unmapped_in_parts_needs_its_tables_to_the_last():
    occupancy = Occupancy(3)
    occupancy.map(0, BIG - PAGE, 0, 2 * PAGE, frozenset({1}))
    assert occupancy.needed == 3  # two of level 1, one of level 2
    assert occupancy.unmap(0, BIG, PAGE) == 1
    assert occupancy.needed == 2
    assert occupancy.unmap(0, BIG - PAGE, PAGE) == 1
    assert occupancy.needed == 0


def test_leaves_are_as_large_as_both_addresses_and_the_unit_allow():
    assert list(leaf_runs(BIG - PAGE, BIG - PAGE, PAGE + BIG, ALL)) == [(1, BIG - PAGE, PAGE), (2, BIG, BIG)]
    assert list(leaf_runs(BIG, BIG + PAGE, 2 * BIG, ALL)) == [(1, BIG, 2 * BIG)]
    assert list(leaf_runs(HUGE, 0, HUGE + BIG, ALL)) == [(3, HUGE, HUGE), (2, 2 * HUGE, BIG)]
    assert list(leaf_runs(HUGE, 0, HUGE, frozenset({1, 2}))) == [(2, HUGE, HUGE)]
