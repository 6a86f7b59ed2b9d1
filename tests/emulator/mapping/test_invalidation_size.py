"""Which invalidation an unmap becomes: the mask of a page-selective one, and when it is the whole domain instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.clock import Clock
from emulator.mapping.driver import UnitDriver, covering_order
from emulator.mapping.pools.os import SystemSupply
from emulator.mapping.pressure import Gfp, Zone
from pagetables.mapper import Stage
from pagetables.memory import PhysicalMemory
from tests.fake_unit import PSI, FakeUnit

PAGE = 4096
ranges = st.tuples(
    st.one_of(st.integers(0, 1 << 20), st.integers(0, 1 << 36)),
    st.one_of(st.integers(1, 70), st.sampled_from((512, 513, 1024, 262144))),
    st.integers(0, PAGE - 1),
    st.integers(0, PAGE - 1),
)


def block(first: int, order: int) -> tuple[int, int]:
    """The naturally aligned block of 2**order pages that holds a page: first page and end."""
    return first >> order << order, (first >> order) + 1 << order


def smallest(first: int, last: int) -> int:
    """The order of the smallest naturally aligned block that holds both pages, by trying."""
    order = 0
    while not block(first, order)[0] <= last < block(first, order)[1]:
        order += 1
    return order


@given(ranges)
def test_the_mask_covers_the_range_and_is_minimal_for_its_size_rounded_up(described) -> None:
    first, pages, _, _ = described
    order = covering_order(first * PAGE, pages * PAGE)
    low, high = block(first, order)
    assert low <= first
    assert first + pages <= high
    rounded = 1
    while rounded < pages:
        rounded *= 2
    assert order == smallest(first, first + rounded - 1)


@given(ranges)
def test_the_mask_of_a_power_of_two_of_pages_is_minimal(described) -> None:
    first, pages, _, _ = described
    rounded = 1 << (pages - 1).bit_length()
    assert covering_order(first * PAGE, rounded * PAGE) == smallest(first, first + rounded - 1)


@given(ranges)
def test_a_range_of_bytes_has_the_mask_of_the_pages_it_touches(described) -> None:
    first, pages, head, tail = described
    start, end = first * PAGE + head, (first + pages) * PAGE + tail
    touched = -(-end // PAGE) - first
    assert covering_order(start, end - start) == covering_order(first * PAGE, touched * PAGE)


def test_rounding_up_first_may_invalidate_twice_what_the_range_needs() -> None:
    assert smallest(3, 7) == 3
    assert covering_order(3 * PAGE, 5 * PAGE) == 4  # Linux rounds 5 pages up to 8, and those reach page 10


@pytest.mark.parametrize("cap, mamv, pages, granularity", [(PSI, 4, 16, 3), (PSI, 4, 17, 2), (0, 18, 1, 2)])
def test_a_range_beyond_the_largest_mask_or_without_psi_is_the_whole_domain(
    cap: int, mamv: int, pages: int, granularity: int
) -> None:
    memory = PhysicalMemory([(0, 16 << 20)])
    unit = FakeUnit(memory, cap=cap, mamv=mamv)
    driver = UnitDriver(memory, unit, SystemSupply(Zone(Clock(), 0x10_0000, 1 << 20), Gfp.KERNEL))
    driver.enable()
    unit.fetched.clear()
    driver.invalidate_range(5, Stage.SECOND, 0, pages * PAGE, leaves_only=True)
    assert [descriptor.bits(5, 4) for descriptor in unit.of_type(2)] == [granularity]


def test_a_global_invalidation_names_no_domain() -> None:
    memory = PhysicalMemory([(0, 16 << 20)])
    unit = FakeUnit(memory, cap=PSI)
    driver = UnitDriver(memory, unit, SystemSupply(Zone(Clock(), 0x10_0000, 1 << 20), Gfp.KERNEL))
    driver.enable()
    unit.fetched.clear()
    before = driver.counts.global_
    driver.invalidate_global()
    (descriptor,) = unit.of_type(2)
    assert (descriptor.bits(5, 4), descriptor.bits(31, 16)) == (1, 0)
    assert driver.counts.global_ == before + 1
