"""Context-cache and PASID-cache: the entries of requesters as they were when they were read (VT-d, "Caching").

What is kept are the entries' raw bits, so a stale entry is used as hardware would use it: whole, and until software
invalidates it. A lookup is always the same one, over a memory in which cached entries stand where they were found.
With CAP.CM=0 only present and valid entries are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pagetables.address import DomainId, Gpa, Pasid, SourceId
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault
from pagetables.layouts import PasidDirectoryEntry, PasidTableEntry, ScalableContextEntry
from pagetables.memory import Memory
from pagetables.request import Access, Request
from pagetables.source import Lookup, Source, lookup

__all__ = ["ContextCacheEntry", "PasidCacheEntry", "SourceCaches"]

_FUNCTIONS_IGNORED = (0b000, 0b100, 0b110, 0b111)  # by function mask
_QWORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class ContextCacheEntry:
    """Root and context entry of a source-id, where they were found, and under which root table.

    In legacy mode the domain-id of the context entry is part of the tag; in scalable mode there is none.
    """

    source_id: SourceId
    domain_id: DomainId | None
    rtaddr: int
    root_at: Gpa
    root: int
    context_at: Gpa
    context: int


@dataclass(frozen=True, slots=True)
class PasidCacheEntry:
    """PASID directory and table entry of (source-id, PASID), tagged with the domain-id that the table entry names."""

    source_id: SourceId
    pasid: Pasid
    domain_id: DomainId
    directory: int
    entry: int


class _Overlaid:
    # A memory with words of the caches in front of it.
    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._words: dict[int, int] = {}

    def put(self, address: int, value: int, width: int) -> None:
        for index in range(width // 64):
            self._words[address + 8 * index] = value >> 64 * index & _QWORD

    def load(self, address: int) -> int | None:
        word = self._words.get(address)
        return self._memory.load(address) if word is None else word

    def read(self, address: int, size: int) -> bytes:
        data = bytearray(self._memory.read(address, size))
        for position in range(0, size - 7, 8):
            word = self._words.get(address + position)
            if word is not None:
                data[position : position + 8] = word.to_bytes(8, "little")
        return bytes(data)


class SourceCaches:
    """Who a request's requester is, answered from the caches where they know. A full cache drops its oldest entry."""

    def __init__(self, memory: Memory, capabilities: Capabilities, contexts: int, pasids: int) -> None:
        self._memory = memory
        self._capabilities = capabilities
        self._context_capacity = contexts
        self._pasid_capacity = pasids
        self._contexts: dict[int, ContextCacheEntry] = {}
        self._pasids: dict[tuple[int, int], PasidCacheEntry] = {}
        self._decoded: dict[tuple[object, ...], Source] = {}  # what the cached bits mean, by what a lookup depends on

    def source(self, request: Request, rtaddr: int) -> Source | Fault:
        """The source of a request, under the root table that `rtaddr` (as latched) names."""
        key = (
            request.source_id,
            request.pasid,
            request.privileged,
            request.access is Access.EXECUTE,
            request.address_type,
        )
        known = self._decoded.get(key)
        if known is not None:
            return known
        outcome = self._look_up(request, rtaddr)
        if isinstance(outcome, Source):
            self._decoded[key] = outcome
        return outcome

    def _look_up(self, request: Request, rtaddr: int) -> Source | Fault:
        context = self._contexts.get(request.source_id)
        if context is None:
            found = lookup(self._memory, rtaddr, request, self._capabilities)
            context = self._context_of(found, request, rtaddr)
            if context is None:
                return found.outcome
            self._keep_context(context)
        memory = _Overlaid(self._memory)
        self._overlay_context(memory, context)
        if context.domain_id is None:
            self._overlay_pasid(memory, context, request)
        found = lookup(memory, context.rtaddr, request, self._capabilities)
        self._keep_pasid(found, request)
        return found.outcome

    def _context_of(self, found: Lookup, request: Request, rtaddr: int) -> ContextCacheEntry | None:
        # A context entry proved valid if the lookup ended well or went on to the PASID directory.
        steps = found.steps
        if len(steps) < 2 or (isinstance(found.outcome, Fault) and len(steps) == 2):
            return None
        legacy = isinstance(found.outcome, Source) and found.outcome.legacy
        return ContextCacheEntry(
            source_id=request.source_id,
            domain_id=found.outcome.domain_id if legacy and isinstance(found.outcome, Source) else None,
            rtaddr=rtaddr,
            root_at=steps[0].at,
            root=steps[0].entry,
            context_at=steps[1].at,
            context=steps[1].entry,
        )

    def _keep_context(self, entry: ContextCacheEntry) -> None:
        if len(self._contexts) >= self._context_capacity:
            self._forget_contexts([next(iter(self._contexts))])
        self._contexts[entry.source_id] = entry

    def _keep_pasid(self, found: Lookup, request: Request) -> None:
        if isinstance(found.outcome, Fault) or len(found.steps) != 4:
            return
        directory, entry = found.steps[2], found.steps[3]
        pasid = Pasid(directory.index << 6 | entry.index)
        key = (request.source_id, pasid)
        if key in self._pasids:
            return
        if len(self._pasids) >= self._pasid_capacity:
            self._forget_pasids([next(iter(self._pasids))])
        self._pasids[key] = PasidCacheEntry(
            request.source_id, pasid, found.outcome.domain_id, directory.entry, entry.entry
        )

    def _overlay_context(self, memory: _Overlaid, context: ContextCacheEntry) -> None:
        memory.put(context.root_at, context.root, 128)
        width = ScalableContextEntry.width if context.domain_id is None else 128
        memory.put(context.context_at, context.context, width)

    def _overlay_pasid(self, memory: _Overlaid, context: ContextCacheEntry, request: Request) -> None:
        entry = ScalableContextEntry(context.context)
        own = entry.rid_pasid if self._capabilities.ecap.rps else 0
        pasid = own if request.pasid is None else request.pasid
        cached = self._pasids.get((request.source_id, pasid))
        if cached is None:
            return
        memory.put((entry.pasiddirptr << 12) + 8 * (pasid >> 6), cached.directory, PasidDirectoryEntry.width)
        table = PasidDirectoryEntry(cached.directory).smptblptr << 12
        memory.put(table + 64 * (pasid & 0x3F), cached.entry, PasidTableEntry.width)

    def _forget_contexts(self, keys: Iterable[int]) -> None:
        for key in keys:
            del self._contexts[key]
        self._decoded.clear()

    def _forget_pasids(self, keys: Iterable[tuple[int, int]]) -> None:
        for key in keys:
            del self._pasids[key]
        self._decoded.clear()

    def invalidate_contexts(self) -> None:
        """Remove every context entry."""
        self._forget_contexts(list(self._contexts))

    def invalidate_context_domain(self, domain_id: int) -> None:
        """Remove legacy context entries of a domain-id, and all of scalable mode, which name none."""
        doomed = (None, domain_id)
        self._forget_contexts([key for key, entry in self._contexts.items() if entry.domain_id in doomed])

    def invalidate_context_device(self, domain_id: int, source_id: int, function_mask: int) -> None:
        """Remove context entries of a device: its source-id but for the function bits that `function_mask` names.

        In legacy mode the domain-id is part of the tag and must match too; in scalable mode it is ignored.
        """
        compared = ~_FUNCTIONS_IGNORED[function_mask]
        self._forget_contexts(
            [
                key
                for key, entry in self._contexts.items()
                if entry.source_id & compared == source_id & compared and entry.domain_id in (None, domain_id)
            ]
        )

    def invalidate_pasids(self) -> None:
        """Remove every PASID entry."""
        self._forget_pasids(list(self._pasids))

    def invalidate_pasid_domain(self, domain_id: int) -> None:
        """Remove every PASID entry of a domain-id."""
        self._forget_pasids([key for key, entry in self._pasids.items() if entry.domain_id == domain_id])

    def invalidate_pasid(self, domain_id: int, pasid: int) -> None:
        """Remove the entries of one PASID in a domain-id, whoever the requester is."""
        self._forget_pasids(
            [key for key, entry in self._pasids.items() if (entry.domain_id, entry.pasid) == (domain_id, pasid)]
        )

    def contexts(self) -> list[ContextCacheEntry]:
        """The context-cache, by source-id."""
        return [self._contexts[key] for key in sorted(self._contexts)]

    def pasids(self) -> list[PasidCacheEntry]:
        """The PASID-cache, by source-id and PASID."""
        return [self._pasids[key] for key in sorted(self._pasids)]
