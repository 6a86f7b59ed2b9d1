"""Context-cache and PASID-cache: the entries of requesters as they were when they were read (VT-d, "Caching").

What is kept are the entries' raw bits, so a stale entry is used as hardware would use it: whole, and until software
invalidates it. A cached entry was valid when it was read and is not checked again. With CAP.CM=0 only present and
valid entries are kept. With CM=1 a `NotPresentCache` may keep the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emulator.unit.invalidation_scope import FUNCTION_BITS_IGNORED
from emulator.unit.not_present import NotPresentCache
from emulator.unit.performance import Event
from pagetables.address import DomainId, Pasid, SourceId
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault
from pagetables.memory import Memory
from pagetables.request import Access, AddressType, Request
from pagetables.source import (
    ContextEntry,
    PasidEntry,
    Source,
    check_mode,
    from_context,
    from_pasid_entry,
    lookup_context,
    lookup_pasid_entry,
)
from pagetables.step import Step

__all__ = ["ContextCacheEntry", "PasidCacheEntry", "SourceCaches"]

_DECODED = 4096  # decoded sources that are kept; then all are dropped


@dataclass(frozen=True, slots=True)
class ContextCacheEntry:
    """A context entry with its tags: the source-id, and in legacy mode the domain-id (None in scalable mode)."""

    source_id: SourceId
    context: ContextEntry

    @property
    def domain_id(self) -> DomainId | None:
        """The domain-id that the entry names, None where it is a scalable-mode one and names none."""
        return self.context.domain_id if self.context.legacy else None


@dataclass(frozen=True, slots=True)
class PasidCacheEntry:
    """A PASID table entry with its tags: source-id and PASID, and the domain-id that the entry names."""

    source_id: SourceId
    pasid: Pasid
    entry: PasidEntry

    @property
    def domain_id(self) -> DomainId:
        """The domain-id that the entry names."""
        return self.entry.domain_id


class SourceCaches:
    """Who a request's requester is, answered from the caches where they know. A full cache drops its oldest entry."""

    def __init__(
        self,
        memory: Memory,
        capabilities: Capabilities,
        contexts: int,
        pasids: int,
        absent: NotPresentCache | None = None,
    ) -> None:
        self._absent = absent or NotPresentCache(memory)
        self._memory = memory
        self._capabilities = capabilities
        self._context_capacity = contexts
        self._pasid_capacity = pasids
        self._contexts: dict[SourceId, ContextCacheEntry] = {}
        self._pasids: dict[tuple[SourceId, Pasid], PasidCacheEntry] = {}
        # What the cached bits mean, by all that a lookup depends on; emptied whenever an entry or the root goes.
        self._decoded: dict[tuple[object, ...], Source] = {}

    def source(self, request: Request, rtaddr: int) -> Source | Fault:
        """The source of a request, under the root table that `rtaddr` (as latched) names."""
        executes = request.access is Access.EXECUTE
        key = (request.source_id, request.pasid, request.privileged, executes, request.address_type)
        known = self._decoded.get(key)
        if known is not None:
            return known
        found = self._look_up(request, rtaddr)
        if isinstance(found, Source):
            if len(self._decoded) >= _DECODED:  # a device may send any PASID with translated requests
                self._decoded.clear()
            self._decoded[key] = found
        return found

    def events(self, request: Request, scalable: bool) -> list[Event]:
        """What looking for the request's source will count as; `scalable` is the mode of the root table."""
        context = self._contexts.get(request.source_id)
        events = [Event.CONTEXT_LOOKUP] if context is None else [Event.CONTEXT_LOOKUP, Event.CONTEXT_HIT]
        if scalable and request.address_type is not AddressType.TRANSLATED:  # which stops at the context entry
            pasid = request.pasid
            if context is not None:
                found = from_context(context.context, request, self._capabilities)
                pasid = found if isinstance(found, int) else None
            events.append(Event.PASID_LOOKUP)
            events += [Event.PASID_HIT] if pasid is not None and (request.source_id, pasid) in self._pasids else []
        return events

    def _look_up(self, request: Request, rtaddr: int) -> Source | Fault:
        fault = check_mode(rtaddr, request, self._capabilities)
        if fault is not None:
            return fault
        context = self.context(request, rtaddr)
        if isinstance(context, Fault):
            return context
        found = from_context(context, request, self._capabilities)
        if isinstance(found, (Source, Fault)):
            return found
        entry = self._pasid_entry(context, found, request)
        return entry if isinstance(entry, Fault) else from_pasid_entry(entry, context, request, found)

    def context(self, request: Request, rtaddr: int) -> ContextEntry | Fault:
        """The context entry of a request's source-id: cached from now on, if it may be."""
        cached = self._contexts.get(request.source_id)
        if cached is not None:
            return cached.context
        known = self._absent.context(request)
        if known is not None:
            return known
        steps: list[Step] = []
        found = lookup_context(self._memory, rtaddr, request, self._capabilities, steps)
        if isinstance(found, ContextEntry):
            if len(self._contexts) >= self._context_capacity:
                self._forget_contexts([next(iter(self._contexts))])
            self._contexts[request.source_id] = ContextCacheEntry(request.source_id, found)
        else:
            self._absent.keep_context(found)
        return found

    def _pasid_entry(self, context: ContextEntry, pasid: Pasid, request: Request) -> PasidEntry | Fault:
        cached = self._pasids.get((request.source_id, pasid))
        if cached is not None:
            return cached.entry
        known = self._absent.pasid(pasid, request)
        if known is not None:
            return known
        steps: list[Step] = []
        found = lookup_pasid_entry(self._memory, context, pasid, request, self._capabilities, steps)
        if isinstance(found, PasidEntry):
            if len(self._pasids) >= self._pasid_capacity:
                self._forget_pasids([next(iter(self._pasids))])
            self._pasids[request.source_id, pasid] = PasidCacheEntry(request.source_id, pasid, found)
        else:
            self._absent.keep_pasid(pasid, found)
        return found

    def root_changed(self) -> None:
        """Another root table is in force. Cached entries stay; the mode of the table is looked at again."""
        self._decoded.clear()

    def _forget_contexts(self, keys: Iterable[SourceId]) -> None:
        for key in keys:
            del self._contexts[key]
        self._decoded.clear()

    def _forget_pasids(self, keys: Iterable[tuple[SourceId, Pasid]]) -> None:
        for key in keys:
            del self._pasids[key]
        self._decoded.clear()

    def invalidate_contexts(self) -> None:
        """Remove every context entry."""
        self._forget_contexts(list(self._contexts))

    def invalidate_context_domain(self, domain_id: int) -> None:
        """Remove the context entries of a domain-id; those of scalable mode name none and go all."""
        doomed = (None, domain_id)
        self._forget_contexts([key for key, entry in self._contexts.items() if entry.domain_id in doomed])

    def invalidate_context_device(self, domain_id: int, source_id: int, function_mask: int) -> None:
        """Remove context entries of a device: its source-id but for the function bits that `function_mask` names.

        In legacy mode the domain-id is part of the tag and must match too; in scalable mode it is ignored.
        """
        compared = ~FUNCTION_BITS_IGNORED[function_mask]
        doomed = [
            key
            for key, entry in self._contexts.items()
            if entry.source_id & compared == source_id & compared and entry.domain_id in (None, domain_id)
        ]
        self._forget_contexts(doomed)

    def invalidate_pasids(self) -> None:
        """Remove every PASID entry."""
        self._forget_pasids(list(self._pasids))

    def invalidate_pasid_domain(self, domain_id: int) -> None:
        """Remove every PASID entry of a domain-id."""
        self._forget_pasids([key for key, entry in self._pasids.items() if entry.domain_id == domain_id])

    def invalidate_pasid(self, domain_id: int, pasid: int) -> None:
        """Remove the entries of one PASID in a domain-id, whoever the requester is."""
        doomed = [key for key, entry in self._pasids.items() if (entry.domain_id, entry.pasid) == (domain_id, pasid)]
        self._forget_pasids(doomed)

    def contexts(self) -> list[ContextCacheEntry]:
        """The context-cache, by source-id."""
        return [self._contexts[key] for key in sorted(self._contexts)]

    def pasids(self) -> list[PasidCacheEntry]:
        """The PASID-cache, by source-id and PASID."""
        return [self._pasids[key] for key in sorted(self._pasids)]
