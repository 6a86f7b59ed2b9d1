"""Whether what a unit has cached is still what the tables in memory say.

An entry that differs is stale: the unit goes on using it until software invalidates it. That is right while an
invalidation is under way, and a bug of the software afterwards.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pagetables.address import PAGE_SHIFT, Gpa, Iova, Pasid, SourceId
from pagetables.bits import Word
from pagetables.cached import (
    CachedAbsence,
    CachedContext,
    CachedInterrupt,
    CachedPasid,
    CachedTable,
    CachedTranslation,
    UnitCaches,
)
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault
from pagetables.interrupt import ENTRY_SIZE
from pagetables.interrupt_entry import interrupt_entry
from pagetables.layouts.interrupt import RemappedInterruptEntry
from pagetables.layouts.pasid import PasidTableEntry
from pagetables.layouts.registers import InterruptRemappingTableAddress
from pagetables.memory import Memory
from pagetables.request import Access, Permissions, Request, Translation
from pagetables.source import Source, TranslationType, lookup, lookup_context, lookup_pasid_entry
from pagetables.step import load_words
from pagetables.walk import walk
from pagetables.wording import human_size

__all__ = ["Cached", "CheckedEntry", "Freshness", "check_caches"]

Cached = CachedContext | CachedPasid | CachedTranslation | CachedTable | CachedInterrupt | CachedAbsence
_RIGHTS = Permissions.R | Permissions.W


class Freshness(enum.Enum):
    """How a cached entry stands to the tables in memory."""

    SAME = "same"
    STALE = "stale"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CheckedEntry:
    """A cached entry, and what the tables say now where that differs, or why it cannot be told."""

    entry: Cached
    freshness: Freshness
    why: str = ""


def check_caches(memory: Memory, caches: UnitCaches, capabilities: Capabilities) -> tuple[CheckedEntry, ...]:
    """Every entry of `caches` against the tables in `memory`, in the order of the fields of `UnitCaches`."""
    check = _Check(memory, caches, capabilities)
    entries: list[Cached] = [*caches.contexts, *caches.pasids, *caches.translations]
    entries += [*caches.tables, *caches.interrupts, *caches.absences]
    return tuple(check.entry(entry) for entry in entries)


class _Check:
    def __init__(self, memory: Memory, caches: UnitCaches, capabilities: Capabilities) -> None:
        self._memory = memory
        self._root = caches.root_table
        self._interrupts = InterruptRemappingTableAddress(caches.interrupt_table)
        self._capabilities = capabilities
        self._sources = dict(self._known_sources(caches))

    def entry(self, entry: Cached) -> CheckedEntry:
        match entry:
            case CachedTable():
                return self._table(entry)
            case CachedContext():
                why = self._context(entry)
            case CachedPasid():
                why = self._pasid(entry)
            case CachedTranslation():
                why = self._translation(entry)
            case CachedInterrupt():
                why = self._interrupt(entry)
            case CachedAbsence():
                why = self._absence(entry)
        return CheckedEntry(entry, Freshness.STALE if why else Freshness.SAME, why)

    def _context(self, known: CachedContext) -> str:
        now = lookup_context(self._memory, self._root, _request(known.source_id), self._capabilities, [])
        if isinstance(now, Fault):
            return _now(now)
        if now.legacy is not known.legacy:
            return f"now an entry of {'legacy' if now.legacy else 'scalable'} mode"
        return _changes(type(now.entry), known.entry, now.entry)

    def _pasid(self, known: CachedPasid) -> str:
        request = _request(known.source_id, known.pasid)
        context = lookup_context(self._memory, self._root, request, self._capabilities, [])
        if isinstance(context, Fault):
            return _now(context)
        if context.legacy:
            return "now an entry of legacy mode, which has no PASIDs"
        now = lookup_pasid_entry(self._memory, context, known.pasid, request, self._capabilities, [])
        return _now(now) if isinstance(now, Fault) else _changes(PasidTableEntry, known.entry, now.entry)

    def _answer(self, request: Request) -> tuple[Translation | Fault, Source | None]:
        source = lookup(self._memory, self._root, request, self._capabilities).outcome
        if isinstance(source, Fault):
            return source, None
        return walk(self._memory, source, request, self._capabilities).outcome, source

    def _translation(self, known: CachedTranslation) -> str:
        access = Access.READ if known.permissions & Permissions.R else Access.WRITE
        if not known.permissions & _RIGHTS:
            access = Access.EXECUTE
        request = _request(known.source_id, known.pasid, known.iova, access, known.privileged)
        now, source = self._answer(request)
        if isinstance(now, Fault) or source is None:
            return _now(now) if isinstance(now, Fault) else ""
        if source.domain_id != known.domain_id:
            return f"now of domain {source.domain_id}"
        if now.gpa != known.gpa:
            return f"now leads to {now.gpa:#x}"
        if now.page_shift != known.page_shift:
            return f"now in a page of {human_size(1 << now.page_shift)}"
        if (now.permissions ^ known.permissions) & _RIGHTS:
            return f"now grants {now.permissions.text()}"
        return ""

    def _interrupt(self, known: CachedInterrupt) -> str:
        at = (self._interrupts.irta << PAGE_SHIFT) + known.index * ENTRY_SIZE
        now = load_words(self._memory, at, RemappedInterruptEntry)
        if now is None:
            return f"there is no memory at {at:#x}"
        return _changes(type(interrupt_entry(now)), known.entry, now)

    def _absence(self, known: CachedAbsence) -> str:
        request = _request(known.source_id, known.pasid, known.address)
        now, _ = self._answer(request)
        return "now present" if isinstance(now, Translation) else ""

    # -- paging-structure caches, whose second-stage entries name a domain-id and no requester -------------------------

    def _known_sources(self, caches: UnitCaches) -> Iterator[tuple[int, tuple[Source, Request]]]:
        requesters: list[tuple[int, int | None]] = [(one.source_id, one.pasid) for one in caches.translations]
        requesters += [(one.source_id, None) for one in caches.contexts]
        requesters += [(one.source_id, one.pasid) for one in caches.pasids]
        for source_id, pasid in reversed(requesters):
            request = _request(source_id, pasid)
            source = lookup(self._memory, self._root, request, self._capabilities).outcome
            if isinstance(source, Source):
                yield source.domain_id, (source, request)

    def _table(self, known: CachedTable) -> CheckedEntry:
        second = known.stage == TranslationType.SECOND_STAGE
        found = self._second_stage(known) if second else self._first_stage(known)
        if isinstance(found, str):
            return CheckedEntry(known, Freshness.UNKNOWN, found)
        source, request = found
        steps = walk(self._memory, source, replace(request, iova=Iova(known.address)), self._capabilities).steps
        below = [step for step in steps if step.level == known.level - 1]
        if not below:
            return CheckedEntry(known, Freshness.STALE, "no table there now")
        now = below[0].at - below[0].index * 8
        if now != known.table:
            return CheckedEntry(known, Freshness.STALE, f"now leads to the table at {now:#x}")
        return CheckedEntry(known, Freshness.SAME)

    def _second_stage(self, known: CachedTable) -> tuple[Source, Request] | str:
        if known.domain_id not in self._sources:
            return f"no requester of domain {known.domain_id} is known"
        source, request = self._sources[known.domain_id]
        if not source.ss_levels:
            return f"domain {known.domain_id} has no second stage now"
        plain = replace(source, translation=TranslationType.SECOND_STAGE, fs_table=Gpa(0), fs_levels=0)
        return plain, replace(request, pasid=None)

    def _first_stage(self, known: CachedTable) -> tuple[Source, Request] | str:
        request = _request(known.source_id or 0, known.pasid)
        source = lookup(self._memory, self._root, request, self._capabilities).outcome
        if isinstance(source, Fault):  # one without PASID is known by the one that stands for it
            request = replace(request, pasid=None)
            source = lookup(self._memory, self._root, request, self._capabilities).outcome
        if isinstance(source, Fault) or source.translation is not TranslationType.FIRST_STAGE:
            return "only tables of a first stage alone are followed"
        return source, request


def _request(
    source_id: int, pasid: int | None = None, iova: int = 0, access: Access = Access.READ, privileged: bool = False
) -> Request:
    return Request(SourceId(source_id), Iova(iova), access, None if pasid is None else Pasid(pasid), privileged)


def _now(fault: Fault) -> str:
    return f"now fault {fault.reason:02x}h: {fault.reason.meaning}"


def _changes(layout: type[Word], before: int, after: int) -> str:
    if before == after:
        return ""
    old, new = layout(before).fields(), layout(after).fields()
    changed = [f"{name.upper()} {old[name]:#x} -> {new[name]:#x}" for name in new if old.get(name) != new[name]]
    return f"now {', '.join(changed)}" if changed else "ignored bits differ"
