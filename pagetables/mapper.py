"""The software side of a page table: map, unmap, split."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Protocol

from pagetables.address import GPA_LIMIT, PAGE_SIZE, Gpa, Iova, level_shift, level_size
from pagetables.errors import AlreadyMapped, MappingError, NoMemory, NotMapped, OutOfPages
from pagetables.formats import ALL_LEAF_LEVELS, FIRST_STAGE, SECOND_STAGE, Format, Kind
from pagetables.memory import WritableMemory
from pagetables.request import Permissions

__all__ = [
    "ENTRIES",
    "Mapper",
    "PageTable",
    "Stage",
    "TableAllocator",
    "TableMapper",
    "Unmapped",
    "check_map",
    "check_unmap",
    "largest_page_level",
]

ENTRIES = 512  # of a table


class Stage(enum.Enum):
    """Which paging format a table uses."""

    FIRST = "first-stage"
    SECOND = "second-stage"


@dataclass(frozen=True, slots=True)
class PageTable:
    """A set of tables as its owner knows it: format, root page, levels, and the levels at which it may map pages."""

    stage: Stage
    root: Gpa
    levels: int
    leaf_levels: frozenset[int] = ALL_LEAF_LEVELS
    snoop: bool = False  # set SNP in second-stage leaves

    @property
    def limit(self) -> int:
        """The first address that cannot be mapped: the width, of which a first-stage table has the lower half."""
        width = level_shift(self.levels + 1)
        return 1 << (width - 1 if self.stage is Stage.FIRST else width)


class TableAllocator(Protocol):
    """Where table pages come from."""

    def take(self) -> Gpa | None:
        """A page for a table, or None if there is none now. The mapper zeroes it before linking it."""
        ...


@dataclass(frozen=True, slots=True)
class Unmapped:
    """What an unmap did: bytes removed, and table pages no longer linked.

    The pages may be reused only after the invalidation that covers the range has completed.
    """

    size: int
    freed: tuple[Gpa, ...] = ()


class TableMapper(Protocol):
    """Maps and unmaps in one `PageTable`; both engines write the same bytes and take pages in the same order."""

    table: PageTable

    def map(self, iova: Iova, gpa: Gpa, size: int, permissions: Permissions) -> tuple[Gpa, ...]:
        """Map `size` bytes, each part with the largest page that alignment, size and `leaf_levels` allow.

        Returns table pages that a larger leaf replaced (empty tables only). All or nothing: AlreadyMapped if any part
        is live, OutOfPages if a table page is missing; leaves written by this call are then removed again, tables
        stay linked (Linux does the same).
        """
        ...

    def unmap(self, iova: Iova, size: int) -> Unmapped:
        """Remove what is mapped in the range, from its start up to the first hole.

        A larger leaf that starts in the range is removed whole (more than asked may be removed); NotMapped if the
        range starts in the middle of one, or where nothing is mapped. Tables are freed only where the range covers
        them fully.
        """
        ...

    def split(self, iova: Iova) -> None:
        """Replace the leaf that maps `iova` by a table of leaves one level down, with the same translation."""
        ...


def largest_page_level(table: PageTable, iova: int, gpa: int, size: int) -> int:
    """The highest level whose page fits: both addresses aligned to it, `size` at least that much, and allowed."""
    for level in sorted(table.leaf_levels, reverse=True):
        page = level_size(level)
        if level <= table.levels and not (iova | gpa) & (page - 1) and size >= page:
            return level
    raise MappingError(f"no page size of levels {sorted(table.leaf_levels)} fits {size:#x} bytes at {iova:#x}", iova)


def check_unmap(table: PageTable, iova: int, size: int) -> None:
    """Nothing, if [iova, iova + size) is made of whole pages within the table's width; MappingError otherwise."""
    if size <= 0 or size % PAGE_SIZE:
        raise MappingError(f"size {size:#x} is not a positive multiple of the page size {PAGE_SIZE:#x}", iova)
    if iova % PAGE_SIZE:
        raise MappingError(f"iova {iova:#x} is not aligned to the page size {PAGE_SIZE:#x}", iova)
    if iova < 0 or iova + size > table.limit:
        raise MappingError(
            f"iova {iova:#x}+{size:#x} is beyond a {table.levels}-level {table.stage.value} table, "
            f"which ends at {table.limit:#x}",
            iova,
        )


def check_map(table: PageTable, iova: int, gpa: int, size: int, permissions: Permissions) -> None:
    """Nothing, if `table` can hold this mapping; MappingError says what cannot be."""
    check_unmap(table, iova, size)
    if gpa % PAGE_SIZE:
        raise MappingError(f"gpa {gpa:#x} is not aligned to the page size {PAGE_SIZE:#x}", iova)
    if gpa < 0 or gpa + size > GPA_LIMIT:
        raise MappingError(f"gpa {gpa:#x}+{size:#x} does not fit an entry, which ends at {GPA_LIMIT:#x}", iova)
    if not permissions & (Permissions.R | Permissions.W):
        raise MappingError(f"a mapping at {iova:#x} with neither read nor write permission would be no mapping", iova)


class Mapper:
    """Maps and unmaps in one `PageTable` whose tables lie in `memory`; the readable `TableMapper`."""

    def __init__(self, memory: WritableMemory, table: PageTable, allocator: TableAllocator) -> None:
        if table.root % PAGE_SIZE:
            raise MappingError(f"the root table at {table.root:#x} is not aligned to {PAGE_SIZE:#x}", 0)
        self.table = table
        self._memory = memory
        self._allocator = allocator
        self._format: Format = FIRST_STAGE if table.stage is Stage.FIRST else SECOND_STAGE

    def map(self, iova: Iova, gpa: Gpa, size: int, permissions: Permissions) -> tuple[Gpa, ...]:
        """Map `size` bytes with the largest pages possible; table pages that larger leaves replaced. All or nothing."""
        check_map(self.table, iova, gpa, size, permissions)
        written: list[tuple[int, int]] = []  # (address, entry before), to undo
        replaced: list[Gpa] = []
        at, end = int(iova), iova + size
        try:
            while at < end:
                at += self._map_run(at, gpa + at - iova, end - at, permissions, written, replaced)
        except MappingError:
            for address, before in reversed(written):
                self._store(address, before)
            raise
        return tuple(replaced)

    def _map_run(
        self,
        iova: int,
        gpa: int,
        size: int,
        permissions: Permissions,
        written: list[tuple[int, int]],
        replaced: list[Gpa],
    ) -> int:
        # One table's worth of leaves at most, all of one page size.
        level = largest_page_level(self.table, iova, gpa, size)
        page = level_size(level)
        entries = self._table_for(iova, level)
        done = 0
        while True:
            address = _entry_address(entries, iova + done, level)
            self._make_room(address, iova + done, level, written, replaced)
            self._store(address, self._format.leaf(Gpa(gpa + done), level, permissions, snoop=self.table.snoop))
            done += page
            if done == size or _index(iova + done, level) == 0:
                return done
            if largest_page_level(self.table, iova + done, gpa + done, size - done) != level:
                return done

    def _make_room(
        self, address: int, iova: int, level: int, written: list[tuple[int, int]], replaced: list[Gpa]
    ) -> None:
        before = self._load(address)
        kind = self._format.kind(before, level)
        if kind is Kind.LEAF:
            raise AlreadyMapped(f"{iova:#x} is mapped already", iova)
        if kind is Kind.TABLE:
            self._collect_empty(self._format.table(before), level - 1, iova, replaced)
        written.append((address, before))

    def _collect_empty(self, table: Gpa, level: int, iova: int, collected: list[Gpa]) -> None:
        for index in range(ENTRIES):
            entry = self._load(table + 8 * index)
            at = iova + (index << level_shift(level))
            kind = self._format.kind(entry, level)
            if kind is Kind.LEAF:
                raise AlreadyMapped(f"{at:#x} is mapped already", at)
            if kind is Kind.TABLE:
                self._collect_empty(self._format.table(entry), level - 1, at, collected)
        collected.append(table)

    def _table_for(self, iova: int, level: int) -> Gpa:
        # The table of `level` that holds iova's entry; missing tables are made from the top down.
        table = self.table.root
        for upper in range(self.table.levels, level, -1):
            address = _entry_address(table, iova, upper)
            entry = self._load(address)
            kind = self._format.kind(entry, upper)
            if kind is Kind.LEAF:
                raise AlreadyMapped(f"{iova:#x} is mapped already, by a page of {level_size(upper):#x} bytes", iova)
            table = self._format.table(entry) if kind is Kind.TABLE else self._link_new(address, iova)
        return table

    def _link_new(self, address: int, iova: int) -> Gpa:
        page = self._take(iova)
        self._memory.write(page, bytes(PAGE_SIZE))
        self._store(address, self._format.table_entry(page))
        return page

    def _take(self, iova: int) -> Gpa:
        page = self._allocator.take()
        if page is None:
            raise OutOfPages(f"no page for a table at {iova:#x}", iova)
        return page

    def unmap(self, iova: Iova, size: int) -> Unmapped:
        """Remove what is mapped from `iova` on, up to the first hole; tables that the range covers are handed back."""
        check_unmap(self.table, iova, size)
        freed: list[Gpa] = []
        removed, _ = self._unmap_in(self.table.root, self.table.levels, iova, iova + size, freed)
        if not removed:
            raise NotMapped(f"nothing is mapped at {iova:#x}", iova)
        return Unmapped(removed, tuple(freed))

    def _unmap_in(self, table: Gpa, level: int, start: int, end: int, freed: list[Gpa]) -> tuple[int, bool]:
        # Bytes removed, and whether a hole was met. `end` stays the caller's: what it covers decides about tables.
        page = level_size(level)
        at = start
        while at < end:
            address = _entry_address(table, at, level)
            entry = self._load(address)
            kind = self._format.kind(entry, level)
            if kind is Kind.EMPTY:
                return at - start, True
            first = at & -page
            if kind is Kind.LEAF:
                if at != first:
                    raise NotMapped(f"{at:#x} lies in the middle of the page of {page:#x} bytes at {first:#x}", at)
                self._store(address, 0)
                at += page
            else:
                child = self._format.table(entry)
                removed, hole = self._unmap_in(child, level - 1, at, min(end, first + page), freed)
                if hole:
                    return at + removed - start, True
                if at == first and first + page <= end:
                    self._store(address, 0)
                    freed.append(child)
                at += removed
            if _index(at, level) == 0:
                break
        return at - start, False

    def split(self, iova: Iova) -> None:
        """Replace the leaf that maps `iova` by a table of leaves one level down that say the same."""
        check_unmap(self.table, iova & -PAGE_SIZE, PAGE_SIZE)
        table, level = self.table.root, self.table.levels
        while True:
            address = _entry_address(table, iova, level)
            entry = self._load(address)
            kind = self._format.kind(entry, level)
            if kind is Kind.EMPTY:
                raise NotMapped(f"nothing is mapped at {iova:#x}", iova)
            if kind is Kind.LEAF:
                return self._split_leaf(address, entry, level, iova)
            table, level = self._format.table(entry), level - 1

    def _split_leaf(self, address: int, entry: int, level: int, iova: int) -> None:
        if level == 1 or level - 1 not in self.table.leaf_levels:
            raise MappingError(f"the page of {level_size(level):#x} bytes at {iova:#x} cannot be split", iova)
        page = self._take(iova)
        # Filled before it is linked: a walk meets the old leaf or the new ones, never a half.
        self._memory.write(page, struct.pack(f"<{ENTRIES}Q", *self._format.split_leaf(entry, level)))
        self._store(address, self._format.table_entry(page))

    def _load(self, address: int) -> int:
        entry = self._memory.load(address)
        if entry is None:
            raise NoMemory(address, 8)
        return entry

    def _store(self, address: int, entry: int) -> None:
        if not self._memory.store(address, entry):
            raise NoMemory(address, 8)


def _index(iova: int, level: int) -> int:
    return iova >> level_shift(level) & ENTRIES - 1


def _entry_address(table: int, iova: int, level: int) -> int:
    return table + 8 * _index(iova, level)
