"""The readable IOTLB: set-associative, tagged, with the replacement that `emulator.engine.Iotlb` lays down.

An entry may be used until software invalidates it, also when the tables say something else by now (VT-d, "Caching
Translation Information").
"""

from __future__ import annotations

from collections.abc import Callable

from emulator.engine import IotlbEntry, IotlbGeometry, TableEntry
from emulator.unit.invalidation_scope import meets
from emulator.unit.paging_caches import ReadableTables, table_order
from pagetables.address import PAGE_SHIFT, Iova, Pasid, level_shift
from pagetables.request import Access, Permissions, Request, Translation
from pagetables.source import Source, TranslationType
from pagetables.table_caches import TableCaches

__all__ = ["ReadableIotlb", "entry_of", "permits", "translation_from"]

_PAGE_SHIFTS = tuple(level_shift(level) for level in (1, 2, 3))
_FIRST_STAGE = (TranslationType.FIRST_STAGE, TranslationType.NESTED)


def entry_of(source: Source, request: Request, translation: Translation) -> IotlbEntry:
    """What the IOTLB keeps of a translation. It is dirty if it was filled by a write, which set the tables' D bit."""
    offset = (1 << translation.page_shift) - 1
    return IotlbEntry(
        domain_id=source.domain_id,
        source_id=request.source_id,
        pasid=request.pasid,
        translation=source.translation,
        privileged=request.privileged,
        iova=Iova(request.iova & ~offset),
        page_shift=translation.page_shift,
        gpa=type(translation.gpa)(translation.gpa & ~offset),
        permissions=translation.permissions,
        dirty=request.access.writes,
        rid_pasid=source.rid_pasid if request.pasid is None else Pasid(0),
    )


def permits(entry: IotlbEntry, source: Source, request: Request) -> bool:
    """True if a cached entry answers the request. Where it does not, the tables are walked again."""
    allowed = entry.permissions
    if request.access is Access.EXECUTE:  # what execution needs depends on the request's privilege too
        return False
    if request.access.reads and not allowed & Permissions.R:
        return False
    if request.access.writes and not (allowed & Permissions.W and (entry.dirty or not _keeps_dirty(source))):
        return False
    user = source.translation in _FIRST_STAGE and not (request.privileged or source.privileged)
    return not user or bool(allowed & Permissions.USER)


def _keeps_dirty(source: Source) -> bool:
    return source.translation in _FIRST_STAGE or source.ss_accessed_dirty


def translation_from(entry: IotlbEntry, request: Request) -> Translation:
    """The translation that a cached entry gives a request."""
    return Translation(type(entry.gpa)(entry.gpa + request.iova - entry.iova), entry.page_shift, entry.permissions)


class ReadableIotlb:
    """An IOTLB as lists of ways, for reading."""

    def __init__(self, geometry: IotlbGeometry) -> None:
        self.geometry = geometry
        self._bits = geometry.sets.bit_length() - 1
        self._sets: list[list[IotlbEntry | None]] = [[None] * geometry.ways for _ in range(geometry.sets)]
        self._victims = [0] * geometry.sets
        self._count = dict.fromkeys(_PAGE_SHIFTS, 0)
        self._tables = ReadableTables(geometry.tables)

    def _index(self, iova: int, page_shift: int, domain_id: int) -> int:
        page = iova >> page_shift
        return (page ^ page >> self._bits ^ domain_id) & (self.geometry.sets - 1)

    def lookup(self, source: Source, request: Request) -> IotlbEntry | None:
        """The entry for this request (any permissions), or None. Small pages are looked for first."""
        for page_shift in _PAGE_SHIFTS:
            if not self._count[page_shift]:
                continue
            iova = request.iova >> page_shift << page_shift
            for entry in self._sets[self._index(iova, page_shift, source.domain_id)]:
                if (
                    entry is not None
                    and entry.iova == iova
                    and entry.page_shift == page_shift
                    and entry.source_id == request.source_id
                    and entry.pasid == request.pasid
                    and (request.pasid is not None or entry.rid_pasid == source.rid_pasid)
                    and entry.domain_id == source.domain_id
                    and entry.translation == source.translation
                    and entry.privileged == request.privileged
                ):
                    return entry
        return None

    def fill(self, entry: IotlbEntry) -> None:
        """Insert `entry`, replacing one with the same tags or, in a full set, the set's next victim."""
        if self.geometry.limit and sum(self._count.values()) >= self.geometry.limit:
            self._drop(lambda old: True)
        index = self._index(entry.iova, entry.page_shift, entry.domain_id)
        ways = self._sets[index]
        way = next((n for n, old in enumerate(ways) if old is not None and _tags(old) == _tags(entry)), None)
        if way is None:
            way = next((n for n, old in enumerate(ways) if old is None), None)
        if way is None:
            way = self._victims[index]
            self._victims[index] = (way + 1) % self.geometry.ways
        old = ways[way]
        if old is not None:
            self._count[old.page_shift] -= 1
        ways[way] = entry
        self._count[entry.page_shift] += 1

    def _drop(self, doomed: Callable[[IotlbEntry], bool]) -> None:
        for ways in self._sets:
            for way, entry in enumerate(ways):
                if entry is not None and doomed(entry):
                    ways[way] = None
                    self._count[entry.page_shift] -= 1

    def invalidate_all(self) -> None:
        """Remove everything."""
        self._drop(lambda entry: True)
        self._tables.drop(lambda entry: True)

    def invalidate_domain(self, domain_id: int) -> None:
        """Remove everything of a domain-id."""
        self._drop(lambda entry: entry.domain_id == domain_id)
        self._tables.drop(lambda entry: entry.domain_id == domain_id)

    def invalidate_pages(self, domain_id: int, address: int, mask: int, hint: bool = False) -> None:
        """Remove second-stage entries of a domain-id that meet 2**mask pages, and its other entries wherever they are:
        the address is a second-stage one, which first-stage and nested entries do not hold. Tables go likewise, those
        of the second stage only without `hint`."""

        def doomed(entry: IotlbEntry) -> bool:
            if entry.domain_id != domain_id:
                return False
            if entry.translation is not TranslationType.SECOND_STAGE or self._agrees(entry, address, mask):
                return True
            return meets(entry.iova, entry.page_shift, address, mask)

        self._drop(doomed)
        self._tables.drop(lambda entry: entry.domain_id == domain_id and not (hint and entry.pasid is None))

    def _agrees(self, entry: IotlbEntry, address: int, mask: int) -> bool:
        bits = self.geometry.compared_bits
        compared = (1 << bits) - 1 & ~((1 << mask) - 1)
        return bool(bits) and not (entry.iova ^ address) >> PAGE_SHIFT & compared

    def invalidate_pasid(self, domain_id: int, pasid: int) -> None:
        """Remove everything of (domain-id, PASID) but second-stage tables; no PASID counts as RID_PASID."""
        self._drop(lambda entry: entry.domain_id == domain_id and entry.effective_pasid == pasid)
        self._tables.drop(lambda entry: (entry.domain_id, entry.pasid) == (domain_id, pasid))

    def invalidate_pasid_pages(self, domain_id: int, pasid: int, address: int, mask: int, hint: bool = False) -> None:
        """Remove first-stage and nested entries of (domain-id, PASID) that meet 2**mask pages, and its first-stage
        tables without `hint`."""

        def doomed(entry: IotlbEntry) -> bool:
            same = entry.domain_id == domain_id and entry.effective_pasid == pasid
            return same and entry.translation in _FIRST_STAGE and meets(entry.iova, entry.page_shift, address, mask)

        self._drop(doomed)
        if not hint:
            self._tables.drop(lambda entry: (entry.domain_id, entry.pasid) == (domain_id, pasid))

    def entries(self) -> list[IotlbEntry]:
        """What is cached, sorted."""
        return sorted((entry for ways in self._sets for entry in ways if entry is not None), key=_order)

    def tables(self) -> list[TableEntry]:
        """What the paging-structure caches hold, sorted."""
        return sorted(self._tables, key=table_order)

    def serving(self, source: Source, request: Request) -> TableCaches | None:
        """The paging-structure caches as a walk for this request uses them; None where there are none."""
        return self._tables.serving(source, request) if self.geometry.tables else None


def _tags(entry: IotlbEntry) -> tuple[object, ...]:
    return (
        entry.source_id,
        entry.pasid,
        entry.effective_pasid,
        entry.domain_id,
        entry.translation,
        entry.privileged,
        entry.iova,
        entry.page_shift,
    )


def _order(entry: IotlbEntry) -> tuple[int, ...]:
    pasid = -1 if entry.pasid is None else entry.pasid
    return (entry.domain_id, entry.source_id, pasid, entry.translation, entry.privileged, entry.iova, entry.page_shift)
