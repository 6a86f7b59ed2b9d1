"""The paging-structure caches, for reading: entries that lead to tables, by the place that `emulator.engine.Iotlb` lays
down. A walk starts below the lowest one that it finds (VT-d, "Paging-Structure Caches").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from emulator.engine import TableEntry
from pagetables.address import DomainId, Pasid, SourceId, level_shift
from pagetables.request import Request
from pagetables.source import Source, TranslationType
from pagetables.table_caches import KnownTable

__all__ = ["ReadableTables", "ServingTables", "table_order"]

_Tags = tuple[TranslationType, DomainId, SourceId | None, Pasid | None]


def table_order(entry: TableEntry) -> tuple[int, ...]:
    """By stage, domain-id, requester, level and address."""
    source_id = -1 if entry.source_id is None else entry.source_id
    pasid = -1 if entry.pasid is None else entry.pasid
    return (entry.stage, entry.domain_id, source_id, pasid, entry.level, entry.address)


def _tags(entry: TableEntry) -> _Tags:
    return entry.stage, entry.domain_id, entry.source_id, entry.pasid


class ReadableTables:
    """Both stages' caches as one list of places; a new entry replaces what has its place."""

    def __init__(self, capacity: int) -> None:
        self._places: list[TableEntry | None] = [None] * capacity
        self._bits = capacity.bit_length() - 1

    def __iter__(self) -> Iterator[TableEntry]:
        return (entry for entry in self._places if entry is not None)

    def serving(self, source: Source, request: Request) -> ServingTables:
        """The caches as a walk for this request uses them."""
        return ServingTables(self, source, request)

    def place(self, tags: _Tags, address: int, level: int) -> int:
        """The place of the entry of `level` for `address`."""
        page = address >> level_shift(level)
        mixed = page ^ page >> self._bits ^ tags[1] ^ (tags[2] or 0) ^ (tags[3] or 0) ^ level << 1
        return mixed & len(self._places) - 1

    def look(self, tags: _Tags, address: int, level: int) -> TableEntry | None:
        """The entry with these tags, of `level` for `address`."""
        entry = self._places[self.place(tags, address, level)]
        if entry is None or entry.level != level or _tags(entry) != tags:
            return None
        return entry if entry.address == address >> level_shift(level) << level_shift(level) else None

    def fill(self, entry: TableEntry) -> None:
        """Put `entry` in its place."""
        self._places[self.place(_tags(entry), entry.address, entry.level)] = entry

    def drop(self, doomed: Callable[[TableEntry], bool]) -> None:
        """Remove what is doomed."""
        self._places = [None if entry is None or doomed(entry) else entry for entry in self._places]


class ServingTables:
    """The caches with the tags of one request: a second-stage entry serves all of its domain-id, a first-stage entry
    one source-id and PASID."""

    def __init__(self, tables: ReadableTables, source: Source, request: Request) -> None:
        self._tables = tables
        pasid = source.rid_pasid if request.pasid is None else request.pasid
        self._tags: dict[TranslationType, _Tags] = {
            TranslationType.FIRST_STAGE: (
                TranslationType.FIRST_STAGE,
                source.domain_id,
                request.source_id,
                pasid,
            ),
            TranslationType.SECOND_STAGE: (TranslationType.SECOND_STAGE, source.domain_id, None, None),
        }

    def find(self, stage: TranslationType, address: int, levels: int) -> KnownTable | None:
        """The lowest entry known on the way of `address`."""
        for level in range(2, levels + 1):
            entry = self._tables.look(self._tags[stage], address, level)
            if entry is not None:
                return KnownTable(level, entry.table, entry.permissions)
        return None

    def keep(self, stage: TranslationType, address: int, known: KnownTable) -> None:
        """Cache what was read."""
        _, domain_id, source_id, pasid = self._tags[stage]
        start = address >> level_shift(known.level) << level_shift(known.level)
        self._tables.fill(
            TableEntry(stage, domain_id, source_id, pasid, known.level, start, known.table, known.permissions)
        )
