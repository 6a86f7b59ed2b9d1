"""The software side of a page table: map, unmap, split."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from pagetables.address import Gpa, Iova
from pagetables.request import Permissions

__all__ = ["PageTable", "Stage", "TableAllocator", "TableMapper", "Unmapped"]


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
    leaf_levels: frozenset[int] = frozenset({1, 2, 3})
    snoop: bool = False  # set SNP in second-stage leaves


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
