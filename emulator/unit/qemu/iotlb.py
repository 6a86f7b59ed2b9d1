"""An IOTLB that looks an entry up by page, requester and PASID alone, and is emptied when it is full."""

from __future__ import annotations

from collections.abc import Callable

from emulator.engine import IotlbEntry, IotlbGeometry, TableEntry
from pagetables.address import PAGE_SHIFT, SourceId
from pagetables.request import Request
from pagetables.source import Source, TranslationType

__all__ = ["QemuIotlb"]

_PAGE_SHIFTS = (12, 21, 30)
_Key = tuple[SourceId, int | None, int, int]
_PAGE_NUMBER = 52  # bits


class QemuIotlb:
    """At most `geometry.limit` entries; invalidations compare `geometry.compared_bits` of page numbers (0: all)."""

    def __init__(self, geometry: IotlbGeometry) -> None:
        self.geometry = geometry
        self._compared = (1 << (geometry.compared_bits or _PAGE_NUMBER)) - 1
        self._entries: dict[_Key, IotlbEntry] = {}

    def find(self, source_id: SourceId, pasid: int | None, iova: int) -> IotlbEntry | None:
        """The entry of a page, small pages first, whatever it permits. `pasid` is the effective one, None in legacy
        mode."""
        for shift in _PAGE_SHIFTS:
            found = self._entries.get((source_id, pasid, shift, iova >> shift))
            if found is not None:
                return found
        return None

    def keep(self, pasid: int | None, entry: IotlbEntry) -> None:
        """Insert `entry` for the effective PASID `pasid`."""
        if len(self._entries) >= self.geometry.limit:
            self._entries.clear()
        self._entries[entry.source_id, pasid, entry.page_shift, entry.iova >> entry.page_shift] = entry

    def lookup(self, source: Source, request: Request) -> IotlbEntry | None:
        """The entry for this request (any permissions), or None."""
        return self.find(request.source_id, _effective(source, request.pasid), request.iova)

    def fill(self, entry: IotlbEntry) -> None:
        """Insert `entry` as one of scalable mode."""
        self.keep(entry.effective_pasid, entry)

    def _drop(self, doomed: Callable[[_Key, IotlbEntry], bool]) -> None:
        self._entries = {key: entry for key, entry in self._entries.items() if not doomed(key, entry)}

    def invalidate_all(self) -> None:
        """Remove everything."""
        self._entries.clear()

    def invalidate_domain(self, domain_id: int) -> None:
        """Remove everything of a domain-id."""
        self._drop(lambda key, entry: entry.domain_id == domain_id)

    def invalidate_pages(self, domain_id: int, address: int, mask: int, hint: bool = False) -> None:
        """Remove entries of a domain-id that meet 2**mask pages, and all its first-stage ones."""

        first, compared, page = TranslationType.FIRST_STAGE, self._compared & -1 << mask, address >> PAGE_SHIFT
        doomed = [
            key
            for key, entry in self._entries.items()
            if entry.domain_id == domain_id
            and (
                not (entry.iova >> PAGE_SHIFT ^ page) & compared
                or entry.translation is first
                or self._meets(entry, address, mask)
            )
        ]
        for key in doomed:
            del self._entries[key]

    def _meets(self, entry: IotlbEntry, address: int, mask: int) -> bool:
        # A page that begins among those named (by the bits compared), or that the first of them lies in.
        compared = self._compared & -1 << mask
        if (entry.iova ^ address) >> PAGE_SHIFT & compared == 0:
            return True
        return entry.iova >> entry.page_shift == address >> entry.page_shift

    def invalidate_pasid(self, domain_id: int, pasid: int) -> None:
        """Remove everything of (domain-id, PASID)."""
        self._drop(lambda key, entry: entry.domain_id == domain_id and key[1] == pasid)

    def invalidate_pasid_pages(self, domain_id: int, pasid: int, address: int, mask: int, hint: bool = False) -> None:
        """Remove first-stage entries of (domain-id, PASID) that meet 2**mask pages."""

        def doomed(key: _Key, entry: IotlbEntry) -> bool:
            first = entry.translation is TranslationType.FIRST_STAGE
            return first and entry.domain_id == domain_id and key[1] == pasid and self._meets(entry, address, mask)

        self._drop(doomed)

    def entries(self) -> list[IotlbEntry]:
        """What is cached, sorted."""
        return sorted(self._entries.values(), key=_order)

    def tables(self) -> list[TableEntry]:
        """Nothing: there are no paging-structure caches."""
        return []


def _effective(source: Source, pasid: int | None) -> int | None:
    if pasid is not None:
        return pasid
    return None if source.legacy else source.rid_pasid


def _order(entry: IotlbEntry) -> tuple[int, ...]:
    pasid = -1 if entry.pasid is None else entry.pasid
    return (entry.domain_id, entry.source_id, pasid, entry.translation, entry.iova, entry.page_shift)
