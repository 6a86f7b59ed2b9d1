"""The native IOTLB: entries in C arrays, by the algorithm that `emulator.engine.Iotlb` lays down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from emulator.engine import IotlbEntry, IotlbGeometry, TableEntry
from emulator.unit.paging_caches import table_order
from pagetables.address import PAGE_SHIFT, DomainId, Gpa, Iova, Pasid, SourceId, level_shift
from pagetables.request import Permissions, Request
from pagetables.source import Source, TranslationType

if TYPE_CHECKING:
    from emulator._core import Lib

__all__ = ["NativeIotlb"]

# A tag, from bit 0: source-id 16, domain-id 16, PASID 20, without PASID 1, privileged 1, type 3, page shift 6.
WITHOUT_PASID = 1 << 52
PRIVILEGED = 53
TRANSLATION = 54
PAGE_SHIFT_AT = 57
DIRTY = 1 << 4


def _tag(source_id: int, pasid: int | None, rid_pasid: int, domain_id: int, translation: int, privileged: bool) -> int:
    requester = WITHOUT_PASID | rid_pasid << 32 if pasid is None else pasid << 32
    return source_id | domain_id << 16 | requester | privileged << PRIVILEGED | translation << TRANSLATION


def _entry(tag: int, page: int, gpa: int) -> IotlbEntry:
    page_shift = tag >> PAGE_SHIFT_AT
    return IotlbEntry(
        domain_id=DomainId(tag >> 16 & 0xFFFF),
        source_id=SourceId(tag & 0xFFFF),
        pasid=None if tag & WITHOUT_PASID else Pasid(tag >> 32 & 0xFFFFF),
        translation=TranslationType(tag >> TRANSLATION & 7),
        privileged=bool(tag >> PRIVILEGED & 1),
        iova=Iova(page << page_shift),
        page_shift=page_shift,
        gpa=Gpa(gpa >> PAGE_SHIFT << PAGE_SHIFT),
        permissions=Permissions(gpa & 15),
        dirty=bool(gpa & DIRTY),
        rid_pasid=Pasid(tag >> 32 & 0xFFFFF if tag & WITHOUT_PASID else 0),
    )


def _table(tag: int, page: int, gpa: int) -> TableEntry:
    stage, level = TranslationType(tag >> TRANSLATION & 7), tag >> PAGE_SHIFT_AT
    first = stage is TranslationType.FIRST_STAGE
    return TableEntry(
        stage=stage,
        domain_id=DomainId(tag >> 16 & 0xFFFF),
        source_id=SourceId(tag & 0xFFFF) if first else None,
        pasid=Pasid(tag >> 32 & 0xFFFFF) if first else None,
        level=level,
        address=page << level_shift(level),
        table=Gpa(gpa >> PAGE_SHIFT << PAGE_SHIFT),
        permissions=Permissions(gpa & 15),
    )


def _order(entry: IotlbEntry) -> tuple[int, ...]:
    pasid = -1 if entry.pasid is None else entry.pasid
    return (entry.domain_id, entry.source_id, pasid, entry.translation, entry.privileged, entry.iova, entry.page_shift)


class NativeIotlb:
    """An IOTLB in C. `struct` is a `struct core_iotlb`."""

    def __init__(self, ffi: Any, lib: Lib, geometry: IotlbGeometry) -> None:
        self.geometry = geometry
        self._ffi, self._lib = ffi, lib
        self._entries = ffi.new("struct core_entry[]", geometry.sets * geometry.ways)
        self._victims = ffi.new("uint8_t[]", geometry.sets)
        self.struct: Any = ffi.new("struct core_iotlb *")
        self.struct.entries, self.struct.victims = self._entries, self._victims
        self.struct.set_bits, self.struct.ways = geometry.sets.bit_length() - 1, geometry.ways
        self.struct.limit = geometry.limit
        self.struct.compared = (1 << geometry.compared_bits) - 1
        self._tables = ffi.new("struct core_entry[]", geometry.tables)
        if geometry.tables:
            self.struct.tables, self.struct.table_bits = self._tables, geometry.tables.bit_length() - 1

    def lookup(self, source: Source, request: Request) -> IotlbEntry | None:
        """The entry for this request (any permissions), or None."""
        found = self._ffi.new("struct core_entry *")
        tag = _tag(
            request.source_id,
            request.pasid,
            source.rid_pasid,
            source.domain_id,
            source.translation,
            request.privileged,
        )
        if not self._lib.core_iotlb_lookup(self.struct, tag, request.iova, found):
            return None
        return _entry(found.tag, found.page, found.gpa)

    def fill(self, entry: IotlbEntry) -> None:
        """Insert `entry`, replacing one with the same tags or, in a full set, the set's next victim."""
        tag = _tag(entry.source_id, entry.pasid, entry.rid_pasid, entry.domain_id, entry.translation, entry.privileged)
        gpa = entry.gpa | entry.permissions | (DIRTY if entry.dirty else 0)
        new = (tag | entry.page_shift << PAGE_SHIFT_AT, entry.iova >> entry.page_shift, gpa)
        self._lib.core_iotlb_fill(self.struct, self._ffi.new("struct core_entry *", new))

    def invalidate_all(self) -> None:
        """Remove everything."""
        self._lib.core_iotlb_invalidate_all(self.struct)

    def invalidate_domain(self, domain_id: int) -> None:
        """Remove everything of a domain-id."""
        self._lib.core_iotlb_invalidate_domain(self.struct, domain_id)

    def invalidate_pages(self, domain_id: int, address: int, mask: int, hint: bool = False) -> None:
        """Remove second-stage entries that meet 2**mask pages, and every other entry of the domain-id; its tables too,
        those of the second stage only without `hint`."""
        self._lib.core_iotlb_invalidate_pages(self.struct, domain_id, address, mask, hint)

    def invalidate_pasid(self, domain_id: int, pasid: int) -> None:
        """Remove everything of (domain-id, PASID) but second-stage tables; no PASID counts as RID_PASID."""
        self._lib.core_iotlb_invalidate_pasid(self.struct, domain_id, pasid)

    def invalidate_pasid_pages(self, domain_id: int, pasid: int, address: int, mask: int, hint: bool = False) -> None:
        """Remove first-stage and nested entries of (domain-id, PASID) that meet 2**mask pages, and its first-stage
        tables without `hint`."""
        self._lib.core_iotlb_invalidate_pasid_pages(self.struct, domain_id, pasid, address, mask, hint)

    def entries(self) -> list[IotlbEntry]:
        """What is cached, sorted."""
        return sorted(self._cached(), key=_order)

    def tables(self) -> list[TableEntry]:
        """What the paging-structure caches hold, sorted."""
        found = (_table(entry.tag, entry.page, entry.gpa) for entry in self._tables if entry.tag)
        return sorted(found, key=table_order)

    def _cached(self) -> Iterator[IotlbEntry]:
        for entry in self._entries:
            if entry.tag:
                yield _entry(entry.tag, entry.page, entry.gpa)
