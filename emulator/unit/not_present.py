"""What caching mode lets a unit keep besides valid entries: that one was not present, or bad (VT-d, "Caching Mode").

Only with CAP.CM=1, and here only with the behaviour `cache_not_present`. A context entry that is not valid has no
domain-id and is kept under 0, which software sets aside for this. A second-stage entry is kept under the domain-id of
its context or PASID entry. Of a PASID entry that is not valid the domain-id is not known either: it goes whatever
domain-id an invalidation of its PASID names. First-stage entries are never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from emulator.unit.invalidation_scope import FUNCTION_BITS_IGNORED, meets
from pagetables.address import DomainId, Pasid, SourceId, level_shift
from pagetables.fault import Fault, FaultReason
from pagetables.memory import Memory
from pagetables.request import Request
from pagetables.source import Source, TranslationType

__all__ = ["NotPresent", "NotPresentCache"]

_BY_ACCESS = (FaultReason.WRITE_DENIED, FaultReason.READ_DENIED)  # legacy mode's words for "not present"
_NOT_PRESENT = (*_BY_ACCESS, FaultReason.SM_SS_NOT_PRESENT)  # or that rights are missing
_BAD = (
    FaultReason.CONTEXT_INVALID,
    FaultReason.SS_ENTRY_ACCESS,
    FaultReason.SS_ENTRY_RESERVED,
    FaultReason.SM_SS_ENTRY_ACCESS,
    FaultReason.SM_SS_RESERVED,
    FaultReason.SM_SS_ROOT_ACCESS,
)
_RIGHTS = 0b111


@dataclass(frozen=True, slots=True)
class NotPresent:
    """An entry that was found not present or bad, and the fault that requests end in because of it.

    `pasid` is set for a PASID entry and for a translation, `address` and `page_shift` say what a translation covers.
    """

    source_id: SourceId
    domain_id: DomainId | None
    fault: Fault
    pasid: Pasid | None = None
    address: int = 0
    page_shift: int = 0


class NotPresentCache:
    """Three caches of this kind: contexts, PASID entries and translations. A full one drops its oldest entry; those of
    no capacity (`keeps` is False) keep nothing."""

    def __init__(self, memory: Memory, capacity: int = 0) -> None:
        self.keeps = capacity > 0
        self._memory = memory
        self._capacity = capacity
        self._contexts: dict[object, NotPresent] = {}
        self._pasids: dict[object, NotPresent] = {}
        self._translations: dict[object, NotPresent] = {}

    def entries(self) -> list[NotPresent]:
        """Contexts, PASID entries and translations, each in the order in which they came."""
        return [*self._contexts.values(), *self._pasids.values(), *self._translations.values()]

    def _keep(self, cache: dict[object, NotPresent], key: object, entry: NotPresent) -> None:
        if not self.keeps:
            return
        if len(cache) >= self._capacity:
            del cache[next(iter(cache))]
        cache[key] = entry

    def context(self, request: Request) -> Fault | None:
        """The fault that this requester's context entry is known for."""
        return _again(self._contexts.get(request.source_id), request)

    def keep_context(self, fault: Fault) -> None:
        """The root or context entry of a requester was not present or bad."""
        source_id = fault.request.source_id
        scalable = fault.reason >= FaultReason.SM_ROOT_ACCESS
        self._keep(self._contexts, source_id, NotPresent(source_id, None if scalable else DomainId(0), fault))

    def pasid(self, pasid: Pasid, request: Request) -> Fault | None:
        """The fault that the requester's entry of this PASID is known for."""
        return _again(self._pasids.get((request.source_id, pasid)), request)

    def keep_pasid(self, pasid: Pasid, fault: Fault) -> None:
        """The directory or table entry of a PASID was not present or bad."""
        source_id = fault.request.source_id
        self._keep(self._pasids, (source_id, pasid), NotPresent(source_id, None, fault, pasid))

    def translation(self, source: Source, request: Request) -> Fault | None:
        """The fault that this page is known for."""
        for level in range(1, source.ss_levels + 1):
            known = self._translations.get(_page(source, request, level_shift(level)))
            if known is not None:
                return _again(known, request)
        return None

    def keep_translation(self, source: Source, fault: Fault) -> None:
        """A translation ended in `fault`: kept if a second-stage entry was not present or bad."""
        if source.translation is not TranslationType.SECOND_STAGE or not self._is_of_an_entry(fault):
            return
        shift = level_shift(fault.level)
        request = fault.request
        pasid = source.rid_pasid if request.pasid is None else request.pasid
        start = request.iova >> shift << shift
        entry = NotPresent(request.source_id, source.domain_id, fault, pasid, start, shift)
        self._keep(self._translations, _page(source, request, shift), entry)

    def _is_of_an_entry(self, fault: Fault) -> bool:
        if fault.at is None or not fault.level:
            return False
        entry = self._memory.load(fault.at)
        absent = fault.reason in _NOT_PRESENT and entry is not None and not entry & _RIGHTS
        return absent or fault.reason in _BAD

    def forget(self) -> None:
        """Remove everything."""
        for cache in (self._contexts, self._pasids, self._translations):
            cache.clear()

    def forget_contexts(self, domain_id: int | None = None) -> None:
        """Remove contexts: all, or those kept under a domain-id."""
        _drop(self._contexts, lambda entry: domain_id is None or entry.domain_id in (None, domain_id))

    def forget_device(self, domain_id: int, source_id: int, function_mask: int) -> None:
        """Remove contexts of a device, but for the function bits that `function_mask` names."""
        compared = ~FUNCTION_BITS_IGNORED[function_mask]
        _drop(
            self._contexts,
            lambda entry: entry.source_id & compared == source_id & compared and entry.domain_id in (None, domain_id),
        )

    def forget_pasids(self, pasid: int | None = None) -> None:
        """Remove PASID entries: all, or those of one PASID."""
        _drop(self._pasids, lambda entry: pasid is None or entry.pasid == pasid)

    def forget_translations(self, domain_id: int | None = None, pasid: int | None = None) -> None:
        """Remove translations: all, or those of a domain-id, or of a PASID in it."""
        _drop(
            self._translations,
            lambda entry: domain_id in (None, entry.domain_id) and pasid in (None, entry.pasid),
        )

    def forget_pages(self, domain_id: int, address: int, mask: int) -> None:
        """Remove translations of a domain-id that meet 2**mask pages."""
        _drop(
            self._translations,
            lambda entry: entry.domain_id == domain_id and meets(entry.address, entry.page_shift, address, mask),
        )


def _page(source: Source, request: Request, shift: int) -> tuple[object, ...]:
    pasid = source.rid_pasid if request.pasid is None else request.pasid
    return source.domain_id, request.source_id, pasid, shift, request.iova >> shift


def _again(known: NotPresent | None, request: Request) -> Fault | None:
    if known is None:
        return None
    reason = known.fault.reason
    if reason in _BY_ACCESS:
        reason = FaultReason.WRITE_DENIED if request.access.writes else FaultReason.READ_DENIED
    return replace(known.fault, reason=reason, request=request)


def _drop(cache: dict[object, NotPresent], doomed: Callable[[NotPresent], bool]) -> None:
    for key in [key for key, entry in cache.items() if doomed(entry)]:
        del cache[key]
