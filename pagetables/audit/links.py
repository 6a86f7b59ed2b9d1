"""Which page is a table of which set of tables: every link followed once, every table page known.

What the tables map is the scan's to say; here it only counts how they hang together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pagetables.address import PAGE_SIZE, Gpa, level_shift
from pagetables.formats import FirstStage, Format, Kind
from pagetables.memory import Memory
from pagetables.request import Permissions
from pagetables.table_scan import read_page

__all__ = ["Link", "Sharing", "TableIndex", "Tree"]

_PAGE = struct.Struct("<512Q")
_EMPTY = bytes(PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class Tree:
    """A set of tables: its root as the entry that names it says, its levels, its format.

    `host` tells where in memory a table lies: elsewhere only for first-stage tables of a nested space.
    """

    root: Gpa
    levels: int
    form: Format
    host: Callable[[int], int | None]


@dataclass(frozen=True, slots=True)
class Link:
    """An entry at `at` that leads to the table at `table`, which is of `level` and serves addresses from `iova` on.

    `user` is false where a first-stage entry above keeps users out.
    """

    at: Gpa | None
    table: Gpa
    level: int
    iova: int
    user: bool = True


@dataclass(frozen=True, slots=True)
class Sharing:
    """A table that `link` of tree `tree` leads to, and that tree `other` was found to use as one of `level`."""

    link: Link
    tree: int
    other: int
    level: int


@dataclass(slots=True)
class TableIndex:
    """What the trees added so far are made of."""

    pages: dict[Gpa, tuple[int, int]] = field(default_factory=dict)  # page to the first (tree, level) that used it
    between: list[Sharing] = field(default_factory=list)  # tables that two trees link at one level
    levels: list[Sharing] = field(default_factory=list)  # tables that are used at two levels
    empty: dict[int, list[Link]] = field(default_factory=dict)  # tree to its linked tables without a present entry
    _visited: dict[tuple[Gpa, int], int] = field(default_factory=dict)

    def add(self, index: int, tree: Tree, memory: Memory) -> None:
        """Follow every link of `tree`, which is known as `index` from now on."""
        pending = [Link(None, tree.root, tree.levels, 0)]
        while pending:
            link = pending.pop()
            page = tree.host(link.table)
            if page is not None and self._note(index, link, Gpa(page)):
                pending += reversed(list(self._links(index, tree, link, Gpa(page), memory)))

    def _note(self, index: int, link: Link, page: Gpa) -> bool:
        # True if the table is to be followed: nobody did at this level.
        first, level = self.pages.setdefault(page, (index, link.level))
        if level != link.level:
            self.levels.append(Sharing(link, index, first, level))
        owner = self._visited.get((page, link.level))
        if owner is None:
            self._visited[page, link.level] = index
        elif owner != index and link.user:
            self.between.append(Sharing(link, index, owner, link.level))
        return owner is None

    def _links(self, index: int, tree: Tree, link: Link, page: Gpa, memory: Memory) -> Iterator[Link]:
        data, missing = read_page(memory, page)
        form, found = tree.form, data != _EMPTY
        if found and link.level > 1:
            found = False
            shift = level_shift(link.level)
            for number, entry in enumerate(_PAGE.unpack(data)):
                kind = form.kind(entry, link.level) if entry else Kind.EMPTY
                found |= kind is not Kind.EMPTY
                if kind is Kind.TABLE and not entry & form.reserved(link.level, kind):
                    user = link.user and _is_user(form, entry)
                    at = Gpa(page + 8 * number)
                    yield Link(at, form.table(entry), link.level - 1, link.iova + (number << shift), user)
        if not found and not missing and link.at is not None:
            self.empty.setdefault(index, []).append(link)


def _is_user(form: Format, entry: int) -> bool:
    return not isinstance(form, FirstStage) or bool(form.permissions(entry) & Permissions.USER)
