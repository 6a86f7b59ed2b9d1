"""Map, unmap and split on both engines: the words written, the pages taken and given back, and what is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest

from emulator.engine import Engine
from pagetables.errors import AlreadyMapped, MappingError, NoMemory, NotMapped, OutOfPages
from pagetables.mapper import (
    Mapper,
    PageTable,
    Stage,
    TableMapper,
    Unmapped,
    check_map,
    check_unmap,
    largest_page_level,
)
from pagetables.memory import PhysicalMemory
from tests.builders import GIB, MIB, Scene, granted, shift_of

RW = granted("rw")
PAGE = 0x1000
ALL = frozenset({1, 2, 3})


class Pages:
    """An allocator that gives numbered pages and can run out; freed pages stay out of use."""

    def __init__(self, scene: Scene, limit: int | None = None) -> None:
        self.scene = scene
        self.taken: list[int] = []
        self.limit = limit

    def take(self) -> int | None:
        """The next page, filled with ones: a mapper has to clear it."""
        if self.limit is not None and len(self.taken) >= self.limit:
            return None
        page = self.scene.page()
        self.scene.memory.write(page, b"\xff" * PAGE)
        self.taken.append(page)
        return page


class Map:
    """A mapper on fresh tables."""

    def __init__(
        self,
        engine: Engine,
        levels: int = 4,
        stage: Stage = Stage.SECOND,
        leaf_levels: frozenset[int] = ALL,
        limit: int | None = None,
        snoop: bool = False,
    ) -> None:
        self.scene = Scene(size=8 * MIB)
        self.pages = Pages(self.scene, limit)
        self.table = PageTable(stage, self.scene.page(), levels, leaf_levels, snoop)
        self.mapper: TableMapper = engine.mapper(self.scene.memory, self.table, self.pages)

    def entry(self, iova: int, level: int = 1) -> int:
        """The qword of the entry of `level`, by a walk of our own; 0 where a table above is missing."""
        table = self.table.root
        for upper in range(self.table.levels, level, -1):
            table = self.scene.qword(table + 8 * (iova >> shift_of(upper) & 511)) & 0xFFFFFFFFFF000
            if not table:
                return 0
        return self.scene.qword(table + 8 * (iova >> shift_of(level) & 511))

    def tables(self) -> bytes:
        """All memory, to see that nothing changed."""
        return self.scene.memory.read(0, self.scene.size)


# What is written


@pytest.mark.parametrize(
    "stage, levels, link, leaf",
    [
        (Stage.SECOND, 3, 0x3, 0x3),
        (Stage.SECOND, 4, 0x3, 0x3),
        (Stage.SECOND, 5, 0x3, 0x3),
        (Stage.FIRST, 4, 0x27, 0x67),
        (Stage.FIRST, 5, 0x27, 0x67),
    ],
)
def test_tables_are_made_from_the_top_and_cleared(
    engine: Engine, levels: int, stage: Stage, link: int, leaf: int
) -> None:
    one = Map(engine, levels, stage)
    iova = sum(3 << shift_of(level) for level in range(1, levels + 1)) % one.table.limit
    assert one.mapper.map(iova, 0x5000, PAGE, RW) == ()
    assert [one.entry(iova, level) for level in range(levels, 1, -1)] == [page | link for page in one.pages.taken]
    assert one.entry(iova) == 0x5000 | leaf
    for page in one.pages.taken:
        assert sum(one.scene.qword(page + at) != 0 for at in range(0, PAGE, 8)) == 1


@pytest.mark.parametrize(
    "stage, permissions, leaf",
    [
        (Stage.SECOND, "r", 0x1),
        (Stage.SECOND, "w", 0x2),
        (Stage.SECOND, "rw", 0x3),
        (Stage.FIRST, "r", 0x25),
        (Stage.FIRST, "rw", 0x67),
        (Stage.FIRST, "w", 0x67),
    ],
)
def test_leaf_by_permissions(engine: Engine, stage: Stage, permissions: str, leaf: int) -> None:
    one = Map(engine, stage=stage)
    one.mapper.map(0, 0x5000, PAGE, granted(permissions))
    assert one.entry(0) == 0x5000 | leaf


def test_snoop_sets_snp_in_every_leaf_and_in_no_table(engine: Engine) -> None:
    one = Map(engine, snoop=True)
    one.mapper.map(0, 0, 2 * MIB + PAGE, RW)
    assert one.entry(0, 2) == 0x883
    assert one.entry(2 * MIB, 1) == 2 * MIB | 0x803
    assert [one.entry(0, level) & 0x800 for level in (3, 4)] == [0, 0]


@pytest.mark.parametrize("stage, bits", [(Stage.SECOND, 0x83), (Stage.FIRST, 0xE7)], ids=["second", "first"])
@pytest.mark.parametrize("level", [2, 3])
def test_a_range_that_is_one_large_page_is_one_leaf(engine: Engine, stage: Stage, bits: int, level: int) -> None:
    one = Map(engine, stage=stage)
    size = 1 << shift_of(level)
    one.mapper.map(4 * GIB, 8 * GIB, size, RW)
    assert one.entry(4 * GIB, level) == 8 * GIB | bits
    assert len(one.pages.taken) == 4 - level


def test_a_range_is_cut_into_the_largest_pages_that_fit(engine: Engine) -> None:
    one = Map(engine)
    start = GIB - 2 * MIB - PAGE
    size = PAGE + 2 * MIB + GIB + 2 * MIB + PAGE
    one.mapper.map(start, start, size, RW)
    found = [one.entry(start), one.entry(GIB - 2 * MIB, 2), one.entry(GIB, 3), one.entry(2 * GIB, 2)]
    assert found == [start | 3, GIB - 2 * MIB | 0x83, GIB | 0x83, 2 * GIB | 0x83]
    assert one.entry(2 * GIB + 2 * MIB) == 2 * GIB + 2 * MIB | 3


def test_pages_stay_small_where_the_addresses_do_not_agree(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, PAGE, 4 * MIB, RW)
    assert [one.entry(index * PAGE) for index in range(1024)] == [(index + 1) * PAGE | 3 for index in range(1024)]


@pytest.mark.parametrize("leaf_levels, level", [({1}, 1), ({1, 2}, 2), ({1, 3}, 3), ({1, 2, 3}, 3)])
def test_only_leaf_levels_are_used(engine: Engine, leaf_levels: set[int], level: int) -> None:
    one = Map(engine, leaf_levels=frozenset(leaf_levels))
    one.mapper.map(0, 0, GIB, RW)
    assert one.entry(0, level) == (0x83 if level > 1 else 3)


def test_top_level_leaves_fit_the_top_table(engine: Engine) -> None:
    one = Map(engine, levels=3)
    one.mapper.map(511 * GIB, 0, GIB, RW)
    assert one.entry(511 * GIB, 3) == 0x83
    assert one.pages.taken == []


@pytest.mark.parametrize("levels, level", [(1, 1), (2, 2)])
def test_a_small_table_of_a_window_has_no_larger_pages_than_its_top(engine: Engine, levels: int, level: int) -> None:
    one = Map(engine, levels)
    one.mapper.map(0, 0, one.table.limit, RW)
    assert one.entry(0, level) == (0x83 if level > 1 else 3)
    assert one.pages.taken == []
    assert one.mapper.unmap(0, one.table.limit) == Unmapped(one.table.limit)


def largest_by_trial(iova: int, gpa: int, size: int, levels: frozenset[int]) -> int:
    """The obvious form that the clever one is held against."""
    fits = [
        n for n in levels if iova % (1 << shift_of(n)) == gpa % (1 << shift_of(n)) == 0 and size >= 1 << shift_of(n)
    ]
    return max(fits)


@pytest.mark.parametrize("seed", range(4))
def test_largest_page_is_the_obvious_one(seed: int) -> None:
    rng = random.Random(seed)
    levels = [frozenset({1}), frozenset({1, 2}), frozenset({1, 3}), ALL]
    for _ in range(500):
        step = rng.choice([PAGE, 2 * MIB, GIB])
        iova, gpa = (rng.randrange(64) * rng.choice([step, PAGE]) for _ in range(2))
        size = rng.randrange(1, 2048) * rng.choice([PAGE, 2 * MIB])
        allowed = rng.choice(levels)
        table = PageTable(Stage.SECOND, 0, 4, allowed)
        assert largest_page_level(table, iova, gpa, size) == largest_by_trial(iova, gpa, size, allowed)


# What is refused


@pytest.mark.parametrize(
    "iova, gpa, size, permissions, words",
    [
        (0, 0, 0, "rw", "size 0x0 is not a positive multiple of the page size"),
        (0, 0, -PAGE, "rw", "not a positive multiple"),
        (0, 0, PAGE + 1, "rw", "size 0x1001 is not a positive multiple"),
        (8, 0, PAGE, "rw", "iova 0x8 is not aligned"),
        (0, 8, PAGE, "rw", "gpa 0x8 is not aligned"),
        (1 << 48, 0, PAGE, "rw", "beyond a 4-level second-stage table, which ends at 0x1000000000000"),
        ((1 << 48) - PAGE, 0, 2 * PAGE, "rw", "beyond a 4-level"),
        (-PAGE, 0, PAGE, "rw", "beyond a 4-level"),
        (0, 1 << 52, PAGE, "rw", "does not fit an entry"),
        (0, -PAGE, PAGE, "rw", "does not fit an entry"),
        (0, 0, PAGE, "", "neither read nor write"),
        (0, 0, PAGE, "x", "neither read nor write"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_with_a_reason(
    engine: Engine, iova: int, gpa: int, size: int, permissions: str, words: str
) -> None:
    one = Map(engine)
    with pytest.raises(MappingError, match=words) as error:
        one.mapper.map(iova, gpa, size, granted(permissions))
    assert error.value.iova == iova
    assert one.pages.taken == []


@pytest.mark.parametrize(
    "iova, size, words",
    [(0, 0, "positive"), (8, PAGE, "aligned"), (0, 5, "multiple"), ((1 << 48) - PAGE, 2 * PAGE, "beyond")],
)
def test_an_unmapping_that_cannot_be_is_refused_with_a_reason(engine: Engine, iova: int, size: int, words: str) -> None:
    with pytest.raises(MappingError, match=words):
        Map(engine).mapper.unmap(iova, size)


@pytest.mark.parametrize(
    "stage, levels, limit",
    [
        (Stage.SECOND, 3, 1 << 39),
        (Stage.SECOND, 4, 1 << 48),
        (Stage.SECOND, 5, 1 << 57),
        (Stage.FIRST, 4, 1 << 47),
        (Stage.FIRST, 5, 1 << 56),
    ],
)
def test_the_last_page_below_the_limit_can_be_mapped(engine: Engine, stage: Stage, levels: int, limit: int) -> None:
    one = Map(engine, levels, stage)
    assert one.table.limit == limit
    one.mapper.map(limit - PAGE, 0x5000, PAGE, RW)
    assert one.entry(limit - PAGE) & -PAGE == 0x5000
    with pytest.raises(MappingError):
        one.mapper.map(limit, 0x5000, PAGE, RW)
    check_map(one.table, limit - PAGE, 0, PAGE, RW)
    check_unmap(one.table, limit - PAGE, PAGE)


def test_a_root_that_is_not_a_page_is_refused(engine: Engine) -> None:
    scene = Scene()
    with pytest.raises(MappingError, match="root table at 0x1008 is not aligned"):
        engine.mapper(scene.memory, PageTable(Stage.SECOND, 0x1008, 4), Pages(scene))


def test_tables_outside_memory_are_the_hosts_mistake(engine: Engine) -> None:
    scene = Scene()
    mapper = engine.mapper(scene.memory, PageTable(Stage.SECOND, scene.size, 4), Pages(scene))
    with pytest.raises(NoMemory):
        mapper.map(0, 0, PAGE, RW)


def test_leaf_levels_without_4_kib_refuse_what_they_cannot_cut(engine: Engine) -> None:
    one = Map(engine, leaf_levels=frozenset({2}))
    with pytest.raises(MappingError, match="no page size of levels"):
        one.mapper.map(0, 0, 2 * MIB + PAGE, RW)
    assert one.entry(0, 2) == 0  # the 2 MiB page that did fit is gone again


# All or nothing


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_live_page_anywhere_in_the_range_refuses_all_of_it(engine: Engine, level: int) -> None:
    one = Map(engine)
    size = 1 << shift_of(level)
    one.mapper.map(2 * GIB, 0, size, RW)
    before = one.entry(2 * GIB, level)
    with pytest.raises(AlreadyMapped) as error:
        one.mapper.map(2 * GIB - 3 * PAGE, 0x100000, 6 * PAGE, RW)
    assert error.value.iova == 2 * GIB
    assert [one.entry(2 * GIB - n * PAGE) for n in (1, 2, 3)] == [0, 0, 0]
    assert one.entry(2 * GIB, level) == before


def test_a_page_inside_a_large_page_is_mapped_already(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, 0, 2 * MIB, RW)
    with pytest.raises(AlreadyMapped) as error:
        one.mapper.map(5 * PAGE, 0, PAGE, RW)
    assert error.value.iova == 5 * PAGE


def test_a_large_page_over_a_live_small_one_names_the_lowest(engine: Engine) -> None:
    one = Map(engine)
    for page in (300, 7, 511):
        one.mapper.map(2 * MIB + page * PAGE, 0, PAGE, RW)
    before = one.tables()
    with pytest.raises(AlreadyMapped) as error:
        one.mapper.map(2 * MIB, 0, 2 * MIB, RW)
    assert error.value.iova == 2 * MIB + 7 * PAGE
    assert one.tables() == before


def test_a_large_page_over_empty_tables_hands_them_back_lower_ones_first(engine: Engine) -> None:
    one = Map(engine)
    for iova in (2 * MIB, 0, 6 * MIB):
        one.mapper.map(GIB + iova, 0, PAGE, RW)
        one.mapper.unmap(GIB + iova, PAGE)
    _, middle, second, first, third = one.pages.taken
    assert one.mapper.map(GIB, 0, GIB, RW) == (first, second, third, middle)
    assert one.entry(GIB, 3) == 0x83


def test_without_pages_a_map_leaves_no_leaf_but_keeps_its_tables(engine: Engine) -> None:
    one = Map(engine, limit=3)
    with pytest.raises(OutOfPages) as error:
        one.mapper.map(2 * MIB - 2 * PAGE, 0, 4 * PAGE, RW)
    assert error.value.iova == 2 * MIB
    assert [one.entry(2 * MIB - n * PAGE) for n in (1, 2)] == [0, 0]
    assert one.entry(0, 2) == one.pages.taken[2] | 3
    one.pages.limit = 4
    one.mapper.map(2 * MIB - 2 * PAGE, 0, 4 * PAGE, RW)
    assert len(one.pages.taken) == 4


def test_a_large_page_taken_back_puts_the_empty_table_in_its_place_again(engine: Engine) -> None:
    one = Map(engine, limit=3)
    one.mapper.map(0, 0, PAGE, RW)
    one.mapper.unmap(0, PAGE)
    before = one.tables()
    with pytest.raises(OutOfPages):
        one.mapper.map(0, 0, 2 * MIB + PAGE, RW)  # the page at 2 MiB needs a table of its own
    assert one.tables() == before


# Unmap


@pytest.mark.parametrize("level", [1, 2, 3])
def test_unmap_clears_the_leaf_and_keeps_tables_that_it_does_not_cover(engine: Engine, level: int) -> None:
    one = Map(engine, levels=5)
    size = 1 << shift_of(level)
    one.mapper.map(0, 0, size, RW)
    assert one.mapper.unmap(0, size) == Unmapped(size)
    assert one.entry(0, level) == 0
    assert one.entry(0, level + 1) != 0


def test_unmap_of_a_whole_table_hands_it_back(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(2 * MIB, PAGE, 2 * MIB, RW)
    assert one.mapper.unmap(2 * MIB, 2 * MIB) == Unmapped(2 * MIB, (one.pages.taken[2],))
    assert one.entry(2 * MIB, 2) == 0
    assert one.entry(0, 3) == one.pages.taken[1] | 3


def test_freed_tables_are_listed_lower_ones_first_and_by_address(engine: Engine) -> None:
    one = Map(engine, leaf_levels=frozenset({1}))
    one.mapper.map(0, 0, GIB, RW)
    top, middle, *bottom = one.pages.taken
    assert one.mapper.unmap(0, GIB) == Unmapped(GIB, (*bottom, middle))
    assert (one.entry(0, 4), one.entry(0, 3)) == (top | 3, 0)


def test_a_table_is_kept_if_the_range_starts_or_ends_inside_it(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, PAGE, 6 * MIB, RW)
    first, second, third = one.pages.taken[2:]
    assert one.mapper.unmap(PAGE, 6 * MIB - 2 * PAGE) == Unmapped(6 * MIB - 2 * PAGE, (second,))
    assert [one.entry(at, 2) for at in (0, 2 * MIB, 4 * MIB)] == [first | 3, 0, third | 3]
    assert (one.entry(0), one.entry(6 * MIB - PAGE)) == (PAGE | 3, 6 * MIB | 3)


def test_unmap_stops_at_the_first_hole(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, 0, 3 * PAGE, RW)
    one.mapper.map(4 * PAGE, 0, PAGE, RW)
    assert one.mapper.unmap(0, 8 * PAGE) == Unmapped(3 * PAGE)
    assert one.entry(4 * PAGE) == 3


def test_a_hole_keeps_the_table_even_if_the_range_covers_it(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, 0, 511 * PAGE, RW)
    assert one.mapper.unmap(0, 2 * MIB) == Unmapped(511 * PAGE)
    assert one.entry(0, 2) == one.pages.taken[2] | 3


def test_a_hole_in_the_next_table_keeps_the_freed_ones(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, PAGE, 2 * MIB + PAGE, RW)
    assert one.mapper.unmap(0, 4 * MIB) == Unmapped(2 * MIB + PAGE, (one.pages.taken[2],))
    assert one.entry(2 * MIB, 2) == one.pages.taken[3] | 3


@pytest.mark.parametrize("level", [2, 3])
def test_a_large_page_is_removed_whole_from_its_start(engine: Engine, level: int) -> None:
    one = Map(engine)
    size = 1 << shift_of(level)
    one.mapper.map(0, 0, size, RW)
    assert one.mapper.unmap(0, PAGE) == Unmapped(size)
    assert one.entry(0, level) == 0


def test_a_large_page_at_the_end_of_the_range_is_removed_whole(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(2 * MIB - PAGE, 2 * MIB - PAGE, 2 * MIB + PAGE, RW)
    assert one.mapper.unmap(2 * MIB - PAGE, 2 * PAGE) == Unmapped(PAGE + 2 * MIB)


@pytest.mark.parametrize("level", [2, 3])
def test_unmap_from_the_middle_of_a_large_page_is_refused(engine: Engine, level: int) -> None:
    one = Map(engine)
    size = 1 << shift_of(level)
    one.mapper.map(0, 0, size, RW)
    before = one.tables()
    with pytest.raises(NotMapped, match="in the middle of the page") as error:
        one.mapper.unmap(PAGE, size - PAGE)
    assert error.value.iova == PAGE
    assert one.tables() == before


@pytest.mark.parametrize("mapped", [False, True])
def test_unmap_of_nothing_is_refused(engine: Engine, mapped: bool) -> None:
    one = Map(engine)
    if mapped:
        one.mapper.map(PAGE, 0, PAGE, RW)
    with pytest.raises(NotMapped, match="nothing is mapped at 0x0") as error:
        one.mapper.unmap(0, 2 * PAGE)
    assert error.value.iova == 0


def test_unmap_clears_bits_that_hardware_and_software_left(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, 0, PAGE, RW)
    at = one.pages.taken[2]
    one.scene.store(at, 1 << 63 | 1 << 52 | 0x303)
    one.mapper.unmap(0, PAGE)
    assert one.scene.qword(at) == 0


def test_a_page_can_be_mapped_again_after_its_unmap(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, 0x5000, PAGE, RW)
    one.mapper.unmap(0, PAGE)
    one.mapper.map(0, 0x6000, PAGE, granted("r"))
    assert one.entry(0) == 0x6001
    assert len(one.pages.taken) == 3


# Split


@pytest.mark.parametrize("stage, bits", [(Stage.SECOND, 0x3), (Stage.FIRST, 0x67)], ids=["second", "first"])
@pytest.mark.parametrize("level", [2, 3])
def test_split_replaces_a_leaf_by_a_table_that_says_the_same(
    engine: Engine, stage: Stage, bits: int, level: int
) -> None:
    one = Map(engine, stage=stage)
    size = 1 << shift_of(level)
    one.mapper.map(0, 8 * GIB, size, RW)
    one.mapper.split(size - 1)
    part, large = size // 512, 0x80 if level == 3 else 0
    expected = [8 * GIB + index * part | bits | large for index in range(512)]
    assert [one.entry(index * part, level - 1) for index in range(512)] == expected
    assert one.entry(0, level) == one.pages.taken[-1] | (0x27 if stage is Stage.FIRST else 3)


def test_a_part_of_a_split_page_can_be_unmapped(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, 0, 2 * MIB, RW)
    one.mapper.split(0)
    assert one.mapper.unmap(5 * PAGE, PAGE) == Unmapped(PAGE)


def test_split_keeps_what_else_the_leaf_says(engine: Engine) -> None:
    one = Map(engine, snoop=True)
    one.mapper.map(0, 0, 2 * MIB, granted("r"))
    one.scene.store(one.pages.taken[1], 1 << 63 | 1 << 55 | 0x300 | 0x881)
    one.mapper.split(0)
    assert one.entry(PAGE) == 1 << 63 | 1 << 55 | PAGE | 0x300 | 0x801


def test_a_4_kib_page_cannot_be_split(engine: Engine) -> None:
    one = Map(engine)
    one.mapper.map(0, 0, PAGE, RW)
    with pytest.raises(MappingError, match="cannot be split"):
        one.mapper.split(0)


def test_a_page_cannot_be_split_into_pages_that_are_not_allowed(engine: Engine) -> None:
    one = Map(engine, leaf_levels=frozenset({1, 3}))
    one.mapper.map(0, 0, GIB, RW)
    with pytest.raises(MappingError, match="cannot be split"):
        one.mapper.split(0)


def test_nothing_cannot_be_split(engine: Engine) -> None:
    one = Map(engine)
    with pytest.raises(NotMapped):
        one.mapper.split(0)
    one.mapper.map(PAGE, 0, PAGE, RW)
    with pytest.raises(NotMapped):
        one.mapper.split(0)


def test_split_without_a_page_changes_nothing(engine: Engine) -> None:
    one = Map(engine, limit=2)
    one.mapper.map(0, 0, 2 * MIB, RW)
    before = one.tables()
    with pytest.raises(OutOfPages):
        one.mapper.split(0)
    assert one.tables() == before


def test_split_beyond_the_width_is_refused(engine: Engine) -> None:
    with pytest.raises(MappingError, match="beyond"):
        Map(engine).mapper.split(1 << 48)


# Against a model


def expand(model: dict[int, tuple[int, int]], iova: int, gpa: int, size: int, permissions: Any) -> None:
    """Note each 4 KiB page of a mapping."""
    for offset in range(0, size, PAGE):
        model[iova + offset] = (gpa + offset, int(permissions))


def readback(one: Map, table: int, level: int, base: int, model: dict[int, tuple[int, int]]) -> None:
    """Each 4 KiB page that the tables map, read by a walk of our own."""
    for index in range(512):
        entry = one.scene.qword(table + 8 * index)
        iova = base + (index << shift_of(level))
        if entry and (level == 1 or entry & 0x80):
            expand(model, iova, entry & 0xFFFFFFFFFF000, 1 << shift_of(level), entry & 3)
        elif entry:
            readback(one, entry & 0xFFFFFFFFFF000, level - 1, iova, model)


@pytest.mark.parametrize("seed", range(4))
def test_random_maps_and_unmaps_agree_with_a_model(engine: Engine, seed: int) -> None:
    rng = random.Random(seed)
    one = Map(engine, levels=3, leaf_levels=frozenset({1, 2}))
    model: dict[int, tuple[int, int]] = {}
    for _ in range(60):
        iova = rng.randrange(1536) * PAGE if rng.random() < 0.7 else rng.randrange(3) * 2 * MIB
        size = rng.choice([PAGE, 3 * PAGE, 2 * MIB, 2 * MIB + PAGE, rng.randrange(1, 700) * PAGE])
        if rng.random() < 0.5:
            gpa = iova + rng.choice([0, GIB, PAGE])
            permissions = rng.choice([granted("r"), granted("w"), RW])
            clash = [at for at in range(iova, iova + size, PAGE) if at in model]
            if clash:
                with pytest.raises(AlreadyMapped) as error:
                    one.mapper.map(iova, gpa, size, permissions)
                assert error.value.iova == clash[0]
            else:
                one.mapper.map(iova, gpa, size, permissions)
                expand(model, iova, gpa, size, permissions)
        else:
            try:
                done = one.mapper.unmap(iova, size).size
            except NotMapped:
                done = 0
            for at in range(iova, iova + done, PAGE):
                del model[at]  # everything reported as removed was there
        found: dict[int, tuple[int, int]] = {}
        readback(one, one.table.root, 3, 0, found)
        assert found == model


def test_no_page_is_lost(engine: Engine) -> None:
    one = Map(engine, leaf_levels=frozenset({1}))
    one.mapper.map(0, 0, 8 * MIB, RW)
    freed = one.mapper.unmap(0, 8 * MIB).freed
    linked = {one.entry(0, 4) & -PAGE, one.entry(0, 3) & -PAGE}
    assert sorted(one.pages.taken) == sorted({*freed, *linked})


class ReadOnly(PhysicalMemory):
    """Memory that refuses to be written."""

    def store(self, address: int, value: int) -> bool:
        """Refused."""
        return False


def test_memory_that_refuses_a_store_is_the_hosts_mistake() -> None:
    scene = Scene(size=8 * MIB)
    table = PageTable(Stage.SECOND, scene.page(), 4)
    with pytest.raises(NoMemory):
        Mapper(ReadOnly([(0, scene.size)]), table, Pages(scene)).map(0, 0, PAGE, RW)
