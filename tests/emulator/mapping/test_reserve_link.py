"""Reserve, link, sync, unlink, free, destroy: held against a dict of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.clock import MILLISECOND
from emulator.mapping.addresses import AddressPlan
from emulator.mapping.reserve_link import Reservation, ReservedRanges, UnalignedPiece
from pagetables.errors import AlreadyMapped, InputError, MappingError, NotMapped
from tests.emulator.mapping.observer import RW, World
from tests.emulator.mapping.test_scatter import Bench as Tables
from tests.fake_unit import CM, PSI, RWBF

PAGE = 4096
quick = settings(max_examples=60, deadline=None)


class Bench(Tables):
    """Reserved ranges over a world whose tables are read by hand."""

    def __init__(self, policy: str = "strict", cap: int = PSI, allocator: str = "rbtree"):
        self.world = World(AddressPlan(allocator), policy, cap=cap)
        self.domain = self.world.domain(0)
        self.world.unit.fetched.clear()
        self.world.unit.log.clear()
        self.ranges = ReservedRanges(self.world.layer, self.world.spaces)

    def link(self, reserved: Reservation, gpa: int, offset: int, size: int) -> None:
        self.ranges.link(reserved, gpa, offset, size, RW)

    @property
    def allocator(self):
        return self.world.spaces.space(0).allocator

    def invalidations(self) -> int:
        return len(self.world.unit.of_type(2))


# The first piece may begin inside a page, the last end inside one; those between are whole pages.
transfers = st.tuples(
    st.integers(0, PAGE - 1),
    st.lists(st.integers(1, 3), min_size=1, max_size=5),
    st.integers(1, PAGE),
    st.lists(st.integers(0, 200), min_size=6, max_size=6),
)


@quick
@given(transfers)
def test_a_linked_transfer_is_its_pieces_in_order_and_nothing_beyond_their_pages(transfer) -> None:
    start, pages, tail, places = transfer
    pieces = []
    for index, (count, place) in enumerate(zip(pages, places, strict=False)):
        begin = start if index == 0 else 0
        pieces.append((0x10_0000 + place * 8 * PAGE + begin, count * PAGE - begin))
    pieces.append((0x10_0000 + places[-1] * 8 * PAGE, tail))
    total = sum(size for _, size in pieces)
    bench = Bench()
    reserved = bench.ranges.try_reserve(0, pieces[0][0], total)
    offset = 0
    for gpa, size in pieces:
        bench.link(reserved, gpa, offset, size)
        offset += size
    assert reserved.address % PAGE == start
    at = reserved.address
    for gpa, size in pieces:
        assert bench.target(at) == gpa
        assert bench.target(at + size - 1) == gpa + size - 1
        at += size
    end = reserved.iova + reserved.pages * PAGE
    assert (bench.target(reserved.iova - PAGE), bench.target(end)) == (None, None)
    assert bench.ranges.exposed == reserved.pages * PAGE - total
    assert bench.invalidations() == 0
    bench.ranges.destroy(reserved, total)
    assert all(bench.target(reserved.iova + page * PAGE) is None for page in range(reserved.pages))
    assert bench.allocator.statistics.live == 0


@pytest.mark.parametrize("cap, per_sync", [(PSI, 0), (PSI | CM, 1)])
def test_the_unit_hears_of_a_transfer_once_at_its_sync_and_only_if_it_has_to(cap: int, per_sync: int) -> None:
    bench = Bench(cap=cap)
    reserved = bench.ranges.try_reserve(0, 0, 4 * PAGE)
    for page in range(4):
        bench.link(reserved, 0x10_0000 + 2 * page * PAGE, page * PAGE, PAGE)
    assert bench.invalidations() == 0
    bench.ranges.sync(reserved, 0, 4 * PAGE)
    assert bench.invalidations() == per_sync
    if per_sync:
        psi = bench.world.unit.of_type(2)[0]
        assert (psi.bits(127, 76) << 12, psi.bits(69, 64)) == (reserved.iova, 2)


def test_a_unit_with_a_write_buffer_is_flushed_at_the_sync() -> None:
    bench = Bench(cap=PSI | RWBF)
    reserved = bench.ranges.try_reserve(0, 0, 2 * PAGE)
    bench.link(reserved, 0x10_0000, 0, PAGE)
    bench.link(reserved, 0x30_0000, PAGE, PAGE)
    assert bench.world.unit.log == []
    bench.ranges.sync(reserved, 0, 2 * PAGE)
    assert bench.world.unit.log == ["wbf"]


def test_an_unlinked_part_is_invalidated_at_once_under_a_lazy_policy_and_can_be_linked_again() -> None:
    bench = Bench("percpu")
    reserved = bench.ranges.try_reserve(0, 0, 4 * PAGE)
    bench.link(reserved, 0x10_0000, 0, 4 * PAGE)
    bench.ranges.unlink(reserved, PAGE, 2 * PAGE)
    assert bench.invalidations() == 1
    assert [bench.target(reserved.iova + page * PAGE) for page in range(4)] == [0x10_0000, None, None, 0x10_3000]
    assert not bench.world.policy.is_stale(bench.domain, reserved.iova + PAGE)
    bench.link(reserved, 0x20_0000, PAGE, 2 * PAGE)
    assert bench.target(reserved.iova + PAGE) == 0x20_0000
    assert bench.world.policy.window.reused_before_flush == 0


def test_a_destroyed_range_waits_for_the_flush_of_a_lazy_policy_and_a_freed_one_does_not() -> None:
    bench = Bench("percpu")
    first = bench.ranges.try_reserve(0, 0, PAGE)
    bench.link(first, 0x10_0000, 0, PAGE)
    bench.ranges.destroy(first, PAGE)
    assert bench.invalidations() == 0
    assert bench.allocator.statistics.live == 1
    second = bench.ranges.try_reserve(0, 0, PAGE)
    bench.link(second, 0x10_0000, 0, PAGE)
    bench.ranges.unlink(second, 0, PAGE)
    bench.ranges.free(second)
    assert bench.allocator.statistics.live == 1
    bench.world.clock.advance(10 * MILLISECOND)
    assert bench.allocator.statistics.live == 0


def test_a_range_whose_first_link_failed_is_destroyed_without_a_word_to_the_unit() -> None:
    bench = Bench()
    reserved = bench.ranges.try_reserve(0, 0, PAGE)
    with pytest.raises(MappingError):
        bench.link(reserved, 1 << 52, 0, PAGE)
    bench.ranges.destroy(reserved, 0)
    assert bench.invalidations() == 0
    assert bench.allocator.statistics.live == 0


def test_a_later_piece_that_begins_inside_a_page_is_refused_and_earlier_ones_stay() -> None:
    bench = Bench()
    reserved = bench.ranges.try_reserve(0, 0, 3 * PAGE)
    bench.link(reserved, 0x10_0000, 0, PAGE)
    with pytest.raises(UnalignedPiece, match="begins inside a page"):
        bench.link(reserved, 0x20_0800, PAGE, PAGE)
    with pytest.raises(MappingError, match="not whole pages"):
        bench.link(reserved, 0x20_0000, PAGE + 512, PAGE)
    with pytest.raises(AlreadyMapped):
        bench.link(reserved, 0x20_0000, 0, PAGE)
    assert bench.target(reserved.address) == 0x10_0000
    with pytest.raises(NotMapped):
        bench.ranges.unlink(reserved, PAGE, PAGE)


@pytest.mark.parametrize("offset, size", [(0, 0), (-PAGE, PAGE), (PAGE, 2 * PAGE)])
def test_what_is_not_part_of_a_range_is_refused(offset: int, size: int) -> None:
    bench = Bench()
    reserved = bench.ranges.try_reserve(0, 0, 2 * PAGE)
    for call in (bench.ranges.sync, bench.ranges.unlink):
        with pytest.raises(InputError, match="not part of a range"):
            call(reserved, offset, size)
    with pytest.raises(InputError, match="not part of a range"):
        bench.link(reserved, 0, offset, size)


def test_a_range_of_no_bytes_is_refused_and_one_that_fits_nowhere_is_none() -> None:
    bench = Bench()
    with pytest.raises(InputError, match="cannot be reserved"):
        bench.ranges.try_reserve(0, 0, 0)
    assert bench.ranges.try_reserve(0, 0, PAGE, limit=PAGE) is None
