"""Scatter lists: what the device reads is what the driver passed, and what else it could reach is counted."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.mapping.addresses import AddressPlan
from emulator.mapping.domain import NoAddress
from emulator.mapping.pressure import Gfp
from emulator.mapping.scatter import DmaSegment, ScatterLists, Segment, lay_out
from pagetables.errors import InputError, OutOfPages
from tests.emulator.mapping.observer import RW, World

PAGE = 4096
quick = settings(max_examples=120, deadline=None)

segments = st.lists(
    st.builds(
        Segment,
        st.one_of(st.integers(0, 1 << 20), st.integers(0, 64).map(lambda page: page * PAGE)),
        st.one_of(st.integers(1, 5 * PAGE), st.integers(1, 5).map(lambda pages: pages * PAGE)),
        st.one_of(st.none(), st.none(), st.none(), st.integers(1 << 40, 1 << 41)),
    ),
    min_size=1,
    max_size=8,
)


class Bench:
    """A world, lists over it, and tables read by hand."""

    def __init__(self, boundary: int = 1 << 32, longest: int = 1 << 16, allocator="rbtree", policy="strict"):
        self.world = World(AddressPlan(allocator), policy)
        self.domain = self.world.domain(0)
        self.lists = ScatterLists(self.world.layer, self.world.spaces, boundary, longest)

    def map(self, *parts: Segment):
        return self.lists.map(0, parts, RW)

    def target(self, iova: int) -> int | None:
        """Where an address leads."""
        table = self.domain.table.root
        for shift in (39, 30, 21, 12):
            (entry,) = struct.unpack("<Q", self.world.memory.read(table + 8 * (iova >> shift & 511), 8))
            if not entry & 3:
                return None
            table = entry & 0xF_FFFF_FFFF_F000
        return table + iova % PAGE

    def reached(self, outputs) -> list[tuple[int, int]]:
        """The memory that these output segments are, in runs."""
        parts = []
        for output in outputs:
            at, end = output.address, output.address + output.size
            if at >= 1 << 40:
                parts.append((at, output.size))
                continue
            while at < end:
                size = min(PAGE - at % PAGE, end - at)
                parts.append((self.target(at), size))
                at += size
        return runs(parts)


def runs(parts) -> list[tuple[int, int]]:
    """Neighbours joined."""
    joined: list[tuple[int, int]] = []
    for start, size in parts:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + size)
        else:
            joined.append((start, size))
    return joined


def passed(parts) -> list[tuple[int, int]]:
    """The memory that the driver passed, in runs."""
    return runs([(part.gpa if part.bus is None else part.bus, part.size) for part in parts])


@pytest.mark.parametrize("boundary", [1 << 32, 8 * PAGE])
@pytest.mark.parametrize("longest", [1 << 16, 2 * PAGE, 1000])
@quick
@given(parts=segments)
def test_the_output_segments_are_the_bytes_the_driver_passed_in_order(boundary: int, longest: int, parts) -> None:
    bench = Bench(boundary, longest)
    mapping = bench.map(*parts)
    assert bench.reached(mapping.outputs) == passed(parts)
    assert len(mapping.outputs) <= len(parts)


@quick
@given(parts=segments)
def test_no_output_segment_crosses_a_boundary_or_grows_beyond_the_longest(parts) -> None:
    boundary, longest = 8 * PAGE, 3 * PAGE
    mapping = Bench(boundary, longest).map(*parts)
    for output in mapping.outputs:
        if output.address < 1 << 40:
            assert output.address // boundary == (output.address + output.size - 1) // boundary
        assert output.size <= max(longest, max(part.size for part in parts))


@quick
@given(parts=segments)
def test_neighbours_are_merged_wherever_they_may_be(parts) -> None:
    boundary, longest = 8 * PAGE, 6 * PAGE
    mapping = Bench(boundary, longest).map(*parts)
    at, first = 0, []  # the size of the first input segment of each output
    for output in mapping.outputs:
        first.append(parts[at].size)
        size = 0
        while size < output.size:
            size += parts[at].size
            at += 1
        assert size == output.size
    assert at == len(parts)
    for (before, after), more in zip(itertools.pairwise(mapping.outputs), first[1:], strict=True):
        touching = before.address + before.size == after.address and after.address % PAGE == 0
        mapped = before.address < 1 << 40 and after.address < 1 << 40
        if touching and mapped and after.address % boundary:
            assert before.size + more > longest


@quick
@given(parts=segments)
def test_what_is_exposed_beyond_the_buffers_is_every_byte_mapped_and_not_passed(parts) -> None:
    bench = Bench(8 * PAGE)
    mapping = bench.map(*parts)
    mapped = [bench.target(mapping.iova + page * PAGE) for page in range(mapping.pages)]
    assert None not in mapped
    assert bench.target(mapping.iova + mapping.pages * PAGE) is None
    own = sum(part.size for part in parts if part.bus is None)
    assert mapping.exposed == len(mapped) * PAGE - own
    needed = sum(-(-(part.gpa % PAGE + part.size) // PAGE) for part in parts if part.bus is None)
    assert bench.lists.exposed.padding == (len(mapped) - needed) * PAGE
    assert bench.lists.exposed.total == mapping.exposed


@quick
@given(lists=st.lists(segments, min_size=1, max_size=4))
def test_unmapping_takes_the_whole_range_and_frees_its_address(lists) -> None:
    bench = Bench(8 * PAGE, policy="percpu")
    mapped = [bench.map(*parts) for parts in lists]
    for mapping in mapped:
        bench.lists.unmap(mapping)
        assert all(bench.target(mapping.iova + page * PAGE) is None for page in range(mapping.pages))
    bench.world.policy.flush()
    allocator = bench.world.spaces.space(0).allocator
    assert allocator.statistics.live == 0


def test_padding_maps_the_memory_behind_the_previous_segment() -> None:
    bench = Bench(boundary=4 * PAGE)
    mapping = bench.map(Segment(0x10_0000, 3 * PAGE), Segment(0x20_0000, 2 * PAGE))
    assert mapping.pages == 6
    assert mapping.iova % (4 * PAGE) == 0
    assert mapping.outputs == (
        DmaSegment(mapping.iova, 3 * PAGE),
        DmaSegment(mapping.iova + 4 * PAGE, 2 * PAGE),
    )
    assert bench.target(mapping.iova + 3 * PAGE) == 0x10_3000  # nobody passed this page
    assert bench.lists.exposed.padding == PAGE
    assert mapping.exposed == PAGE


def test_a_segment_that_ends_on_the_boundary_needs_no_padding() -> None:
    pieces = lay_out([Segment(0, 3 * PAGE), Segment(0x10_0000, PAGE), Segment(0x20_0000, 2 * PAGE)], 4 * PAGE)
    assert [piece.padding for piece in pieces] == [0, 0, 0]
    pieces = lay_out([Segment(0, 3 * PAGE), Segment(0x10_0000, 2 * PAGE)], 4 * PAGE)
    assert [(piece.size, piece.padding) for piece in pieces] == [(4 * PAGE, PAGE), (2 * PAGE, 0)]


def test_a_sub_page_buffer_exposes_the_rest_of_its_pages() -> None:
    bench = Bench()
    mapping = bench.map(Segment(0x10_0F80, 0x100))
    assert mapping.pages == 2
    assert mapping.outputs == (DmaSegment(mapping.iova + 0xF80, 0x100),)
    assert (mapping.exposed, bench.lists.exposed.rounding) == (0x1F00, 0x1F00)


def test_segments_that_meet_on_a_boundary_are_not_merged() -> None:
    mapping = Bench(boundary=4 * PAGE).map(*(Segment(0x10_0000 * number, 2 * PAGE) for number in (1, 2, 3)))
    assert mapping.outputs == (DmaSegment(mapping.iova, 4 * PAGE), DmaSegment(mapping.iova + 4 * PAGE, 2 * PAGE))
    assert mapping.exposed == 0


def test_segments_that_follow_each_other_in_memory_are_one_map() -> None:
    bench = Bench()
    bench.map(Segment(0x10_0000, PAGE), Segment(0x10_1000, PAGE), Segment(0x30_0000, PAGE))
    assert bench.world.layer.statistics.maps == 2


def test_a_segment_reached_over_the_bus_keeps_its_address_and_is_not_mapped() -> None:
    bench = Bench()
    mapping = bench.map(Segment(0, PAGE, bus=0xC000_0000), Segment(0x10_0000, PAGE), Segment(0, 512, bus=0xC010_0000))
    assert mapping.pages == 1
    assert mapping.outputs == (
        DmaSegment(0xC000_0000, PAGE),
        DmaSegment(mapping.iova, PAGE),
        DmaSegment(0xC010_0000, 512),
    )
    alone = bench.map(Segment(0, PAGE, bus=0xC000_0000))
    assert (alone.pages, alone.exposed) == (0, 0)
    bench.lists.unmap(alone)
    bench.lists.unmap(mapping)


def test_a_list_that_finds_no_table_page_leaves_nothing_mapped_and_no_address_taken() -> None:
    bench = Bench()
    zone = bench.world.supply._zone
    bench.map(Segment(0, PAGE))
    far = Segment(0x40_0000, 1200 * PAGE)
    zone.squeeze(zone.managed - zone.held - zone.marks.floor(Gfp.ATOMIC) - 1)  # one table, and the list needs three
    with pytest.raises(OutOfPages):
        bench.map(Segment(0x10_0000, PAGE), far)
    allocator = bench.world.spaces.space(0).allocator
    assert allocator.statistics.live == 1
    assert bench.world.layer.statistics.maps == 2  # the list's first page was mapped, and is not any more
    assert len(bench.world.unit.of_type(2)) == 1
    zone.squeeze(0)
    again = bench.map(Segment(0x10_0000, PAGE), far)
    assert bench.reached(again.outputs) == [(0x10_0000, PAGE), (0x40_0000, 1200 * PAGE)]


def test_a_list_that_finds_no_address_is_refused() -> None:
    bench = World(AddressPlan("rbtree", window=(0, 8 * PAGE)), "strict")
    lists = ScatterLists(bench.layer, bench.spaces)
    bench.domain(0)
    with pytest.raises(NoAddress):
        lists.map(0, [Segment(0, 9 * PAGE)], RW)


@pytest.mark.parametrize("allocator", ["gart-lazy", "sparc-generic", "static-aperture", "gen-pool", "powerpc"])
def test_the_layout_meets_the_boundary_whatever_the_allocator(allocator: str) -> None:
    bench = Bench(boundary=4 * PAGE, allocator=allocator)
    for _ in range(5):
        bench.map(Segment(0x5000, 1))  # moves the cursor off the boundary
        mapping = bench.map(Segment(0x10_0000, 3 * PAGE), Segment(0x20_0000, 3 * PAGE))
        assert all(o.address // (4 * PAGE) == (o.address + o.size - 1) // (4 * PAGE) for o in mapping.outputs)


@pytest.mark.parametrize("boundary, longest", [(2048, 1), (3 * PAGE, 1), (PAGE, 0)])
def test_a_boundary_that_is_none_is_refused(boundary: int, longest: int) -> None:
    with pytest.raises(InputError, match="boundary"):
        Bench(boundary, longest)


@pytest.mark.parametrize("parts", [[], [Segment(0x1000, 0)]])
def test_an_empty_list_or_segment_is_refused(parts) -> None:
    with pytest.raises(InputError):
        Bench().map(*parts)
