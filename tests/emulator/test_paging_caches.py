"""Paging-structure caches of both engines: what they hold, that they are used, and what removes it."""

from __future__ import annotations

import pytest

from emulator.engine import Engine, Iotlb, IotlbGeometry
from pagetables.request import Permissions, Request
from pagetables.source import Source, TranslationType
from tests.builders import GIB, MIB, Scene, Tables, execute, nested, read, scalable, source_of, write

FIRST, SECOND = TranslationType.FIRST_STAGE, TranslationType.SECOND_STAGE
ACCESSED = 0x100


class Cached:
    """A scene whose translations go through one IOTLB with paging-structure caches."""

    def __init__(self, engine: Engine, capacity: int = 256) -> None:
        self.engine = engine
        self.scene = Scene()
        self.caches: Iotlb = engine.iotlb(IotlbGeometry(16, 4, tables=capacity))

    def go(self, source: Source | Tables, request: Request) -> int:
        """The GPA, or minus the fault reason."""
        answer = self.engine.translate(
            self.caches, self.scene.memory, source_of(source), request, self.scene.capabilities
        )
        return int(getattr(answer, "gpa", -int(getattr(answer, "reason", 0))))

    def held(self) -> set[tuple[TranslationType, int, int]]:
        """Stage, level and address of each entry."""
        return {(one.stage, one.level, one.address) for one in self.caches.tables()}


@pytest.fixture
def cached(engine: Engine) -> Cached:
    return Cached(engine)


def test_a_walk_leaves_each_entry_that_led_to_a_table(cached: Cached) -> None:
    tables = cached.scene.second_stage(4)
    tables.leaf(5 * GIB + 0x1000, gpa=0x5000)
    cached.go(tables, read(5 * GIB + 0x1000))
    assert cached.held() == {(SECOND, 4, 0), (SECOND, 3, 5 * GIB), (SECOND, 2, 5 * GIB)}
    lowest = cached.caches.tables()[0]
    assert lowest.table == tables.entry(5 * GIB, 1) & -0x1000
    assert (lowest.domain_id, lowest.source_id, lowest.pasid) == (7, None, None)
    assert lowest.permissions == Permissions.R | Permissions.W | (lowest.permissions & Permissions.X)


def test_without_capacity_nothing_is_kept(engine: Engine) -> None:
    cached = Cached(engine, capacity=0)
    tables = cached.scene.second_stage()
    tables.leaf(0x1000, gpa=0x5000)
    assert cached.go(tables, read(0x1000)) == 0x5000
    assert cached.caches.tables() == []


def test_a_miss_starts_below_the_lowest_entry_known(cached: Cached) -> None:
    tables = cached.scene.second_stage()
    tables.leaf(0x1000, gpa=0x5000)
    tables.leaf(0x2000, gpa=0x6000)
    cached.go(tables, read(0x1000))
    for level in (2, 3, 4):
        tables.put(0x1000, level, 0)  # gone, and not invalidated: stale entries lead past it
        assert cached.go(tables, read(0x2000)) == 0x6000
        cached.caches.invalidate_pages(7, 0x2000, 0, True)
    assert cached.go(tables, read(0x3000)) < 0  # the level 1 table itself is read each time
    cached.caches.invalidate_all()
    assert cached.go(tables, read(0x2000)) < 0


def test_leaves_and_entries_that_are_not_present_are_never_kept(cached: Cached) -> None:
    tables = cached.scene.second_stage()
    tables.leaf(2 * MIB, gpa=4 * MIB, level=2)
    assert cached.go(tables, read(2 * MIB)) == 4 * MIB
    assert cached.go(tables, read(GIB)) < 0
    assert cached.held() == {(SECOND, 3, 0), (SECOND, 4, 0)}


def test_an_entry_with_a_reserved_bit_is_not_kept(cached: Cached) -> None:
    tables = cached.scene.second_stage()
    tables.leaf(0x1000, gpa=0x5000)
    tables.change(0, 3, set=1 << 62)
    assert cached.go(tables, read(0x1000)) == -0x0C
    assert cached.held() == {(SECOND, 4, 0)}


def test_rights_withheld_above_a_cached_table_stay_withheld(cached: Cached) -> None:
    tables = cached.scene.second_stage()
    tables.leaf(0x1000, gpa=0x5000)
    tables.change(0, 3, clear=2)
    assert cached.go(tables, read(0x1000)) == 0x5000
    assert cached.go(tables, write(0x1000)) == -0x05


def test_an_entry_that_only_executes_is_not_kept_for_those_who_read(cached: Cached) -> None:
    tables = cached.scene.second_stage()
    tables.leaf(0x1000, gpa=0x5000, permissions="x")
    tables.change(0, 2, clear=3, set=4)
    source = scalable(tables, ss_execute=True, execute_requests=True)
    cached.go(source, execute(0x1000))
    assert cached.held() == {(SECOND, 3, 0), (SECOND, 4, 0)}


def test_an_entry_is_marked_accessed_before_it_is_kept(cached: Cached) -> None:
    tables = cached.scene.second_stage()
    tables.leaf(0x1000, gpa=0x5000)
    tables.leaf(0x2000, gpa=0x6000)
    source = scalable(tables, ss_accessed_dirty=True)
    cached.go(source, read(0x1000))
    assert all(tables.raw(0, level) & ACCESSED for level in (2, 3, 4))
    tables.change(0, 3, clear=ACCESSED)  # without an invalidation: it is not seen again, nor marked
    assert cached.go(source, read(0x2000)) == 0x6000
    assert not tables.raw(0, 3) & ACCESSED


def test_two_devices_of_a_domain_share_second_stage_tables_and_no_first_stage_ones(cached: Cached) -> None:
    second, first = cached.scene.second_stage(), cached.scene.first_stage()
    second.leaf(0x1000, gpa=0x5000)
    first.leaf(0x1000, gpa=0x6000)
    other = Request(0x77, 0x1000)
    for request in (read(0x1000), other):
        cached.go(second, request)
        cached.go(first, request)
    tables = cached.caches.tables()
    assert [one.source_id for one in tables if one.stage is SECOND] == [None] * 3
    assert sorted(one.source_id for one in tables if one.stage is FIRST) == [0x10] * 3 + [0x77] * 3


def test_a_request_without_pasid_uses_the_tables_of_rid_pasid(cached: Cached) -> None:
    first = cached.scene.first_stage()
    first.leaf(0x1000, gpa=0x6000)
    cached.go(source_of(first, rid_pasid=9), read(0x1000))
    assert {one.pasid for one in cached.caches.tables()} == {9}
    first.put(0, 4, 0)
    assert cached.go(first, read(0x1000, pasid=9)) == 0x6000
    assert cached.go(first, read(0x1000, pasid=8)) < 0
    assert [(one.pasid, one.effective_pasid) for one in cached.caches.entries()] == [(None, 9), (9, 9)]
    cached.caches.invalidate_pasid(7, 9)
    assert (cached.caches.tables(), cached.caches.entries()) == ([], [])


def test_nested_walks_keep_both_stages(cached: Cached) -> None:
    first, second = cached.scene.first_stage(offset=GIB), cached.scene.second_stage(3)
    first.leaf(0x1000, gpa=0x5000)
    for page in first.pages:
        second.leaf(page + GIB, gpa=page)
    second.leaf(0x5000, gpa=0x9000)
    source = nested(first, second)
    assert cached.go(source, read(0x1000)) == 0x9000
    assert {(stage, level) for stage, level, _ in cached.held()} == {
        (FIRST, 2),
        (FIRST, 3),
        (FIRST, 4),
        (SECOND, 2),
        (SECOND, 3),
    }
    guest_tables = [one.table for one in cached.caches.tables() if one.stage is FIRST]
    assert all(table >= GIB for table in guest_tables)  # as the guest wrote them: the second stage is walked again


@pytest.fixture
def full(cached: Cached) -> Cached:
    """Both stages' tables of two domains, first-stage ones of two PASIDs."""
    second, first = cached.scene.second_stage(3), cached.scene.first_stage()
    second.leaf(0x1000, gpa=0x5000)
    first.leaf(0x1000, gpa=0x6000)
    for did in (7, 8):
        assert cached.go(source_of(second, domain_id=did), read(0x1000)) == 0x5000
        for pasid in (1, 2):
            assert cached.go(source_of(first, domain_id=did), read(0x1000, pasid=pasid)) == 0x6000
    assert tags(cached) == EVERYTHING
    return cached


EVERYTHING = {(7, None), (7, 1), (7, 2), (8, None), (8, 1), (8, 2)}


def tags(cached: Cached) -> set[tuple[int, int | None]]:
    return {(one.domain_id, one.pasid) for one in cached.caches.tables()}


@pytest.mark.parametrize(
    "invalidate, removed",
    [
        (lambda caches: caches.invalidate_all(), EVERYTHING),
        (lambda caches: caches.invalidate_domain(7), {(7, None), (7, 1), (7, 2)}),
        (lambda caches: caches.invalidate_pages(7, 0x9000, 0), {(7, None), (7, 1), (7, 2)}),
        (lambda caches: caches.invalidate_pages(7, 0x9000, 0, True), {(7, 1), (7, 2)}),
        (lambda caches: caches.invalidate_pasid(7, 1), {(7, 1)}),
        (lambda caches: caches.invalidate_pasid(7, 0), set()),
        (lambda caches: caches.invalidate_pasid_pages(7, 1, 0x9000, 0), {(7, 1)}),
        (lambda caches: caches.invalidate_pasid_pages(7, 1, 0x1000, 0, True), set()),
    ],
)
def test_an_invalidation_removes_what_it_must_and_no_more(full: Cached, invalidate, removed: set) -> None:
    invalidate(full.caches)
    assert tags(full) == EVERYTHING - removed


@pytest.mark.parametrize("capacity", [1, 2, 8])
def test_a_small_cache_forgets_and_stays_right(engine: Engine, capacity: int) -> None:
    cached = Cached(engine, capacity)
    tables = cached.scene.second_stage(5)
    for page in range(0, 40 * GIB, GIB):
        tables.leaf(page, gpa=page % (64 * MIB) + page // GIB * 0x1000)
    for _ in range(2):
        for page in range(0, 40 * GIB, GIB):
            assert cached.go(tables, read(page)) == page % (64 * MIB) + page // GIB * 0x1000
            assert len(cached.caches.tables()) <= capacity
