"""What a walk asks of paging-structure caches and tells them. The caches themselves belong to a unit."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pagetables.address import Gpa
from pagetables.request import Permissions
from pagetables.source import TranslationType

__all__ = ["KnownTable", "TableCaches"]


class KnownTable(NamedTuple):
    """What a paging-structure cache knows: the entry of `level` leads to `table`; all entries down to it grant this."""

    level: int
    table: Gpa
    permissions: Permissions


class TableCaches(Protocol):
    """The paging-structure caches as one request may use them. `stage` is FIRST_STAGE or SECOND_STAGE."""

    def find(self, stage: TranslationType, address: int, levels: int) -> KnownTable | None:
        """The lowest entry known on the way of the stage's input `address` through `levels` levels."""
        ...

    def keep(self, stage: TranslationType, address: int, known: KnownTable) -> None:
        """An entry on the way of `address` was read, found present and valid, and is marked as accessed."""
        ...
