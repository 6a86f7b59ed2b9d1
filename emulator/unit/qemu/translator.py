"""The way of a request: the IOTLB, then the context entry (cached or read), the PASID entry, the tables.

A requester that is found to pass through passes from then on without a look at anything, until an invalidation of its
context entry (or SRTP, or a change of TE) has it looked at anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields

from emulator.engine import IotlbEntry
from emulator.profile import Profile
from emulator.unit.faults import StrayPasidFault
from emulator.unit.invalidation_scope import FUNCTION_BITS_IGNORED
from emulator.unit.qemu.iotlb import QemuIotlb
from emulator.unit.qemu.sources import SourceReader
from emulator.unit.qemu.walk import TableReader
from emulator.unit.source_caches import ContextCacheEntry, PasidCacheEntry, SourceCaches
from pagetables.address import PAGE_SHIFT, Gpa, Iova, SourceId
from pagetables.fault import Fault, FaultReason
from pagetables.memory import PhysicalMemory
from pagetables.request import AddressType, Permissions, Request, Translation
from pagetables.source import ContextEntry, Source, TranslationType

__all__ = ["QemuTranslator"]

_NO_PASID = 0xFFFF  # what is left of PCI_NO_PASID, all ones, in the record
_Requester = tuple[SourceId, int | None]


class QemuTranslator(SourceCaches):
    """Context-cache, pass-through switches and walks of one unit. `root` tells RTADDR as it was latched."""

    def __init__(self, memory: PhysicalMemory, profile: Profile, iotlb: QemuIotlb, root: Callable[[], int]) -> None:
        super().__init__(memory, profile.capabilities, profile.context_cache, profile.pasid_cache)
        self._iotlb = iotlb
        self._root = root
        self._reader = SourceReader(memory, profile)
        ignores_tm = bool(profile.capabilities.ecap.dt) and profile.behaves("ignore_transient_mapping")
        self._tables = TableReader(memory, profile.capabilities, ignores_tm)
        self._strays = profile.behaves("record_rid_pasid")
        self._trusts = profile.behaves("trust_translated_requests")
        self._looks_anew = profile.behaves("pasid_cache_switches")
        self._entries: dict[_Requester, ContextEntry] = {}
        self._passing: set[_Requester] = set()
        self._met: dict[_Requester, Request] = {}

    def meet(self, request: Request) -> None:
        """Note a requester: whether it passes through is looked at when context entries are invalidated."""
        self._met.setdefault((request.source_id, request.pasid), request)

    def translate(self, request: Request) -> Translation | Fault:
        """Where a request goes, or why it is blocked."""
        who = (request.source_id, request.pasid)
        self.meet(request)
        if self._trusts and self._is_translated(request):
            return _passed(request) if request.pasid is None else _untold(request)
        if who in self._passing:
            return _passed(request)
        if not self._reader.scalable(self._root()) or request.pasid is not None:
            entry = self._iotlb.find(request.source_id, request.pasid, request.iova)
            if entry is not None:
                return _answer(entry, request)
        source = self.source(request, self._root())
        if isinstance(source, Fault):
            return source
        if source.translation is TranslationType.PASS_THROUGH:
            self._passing.add(who)
            return _passed(request)
        return self.look(source, request)

    def _is_translated(self, request: Request) -> bool:
        return request.address_type is AddressType.TRANSLATED and self._reader.scalable(self._root())

    def look(self, source: Source, request: Request) -> Translation | Fault:
        """What the IOTLB, or else the tables of `source`, say."""
        if source.translation is TranslationType.PASS_THROUGH:
            return _passed(request)
        entry = self._iotlb.lookup(source, request)
        if entry is not None:
            return _answer(entry, request)
        found = self._tables.walk(source, request)
        if isinstance(found, Fault):
            return self._stray(found, source)
        pasid = None if source.legacy else source.rid_pasid
        self._iotlb.keep(pasid, _entry(source, request, found))
        return found

    def _stray(self, fault: Fault, source: Source) -> Fault:
        # Older versions put a PASID into the record that the request did not have.
        if not self._strays:
            return fault
        known = {field.name: getattr(fault, field.name) for field in fields(Fault)}
        if source.legacy:
            return StrayPasidFault(**known, pasid=_NO_PASID)
        return StrayPasidFault(**known, pasid=source.rid_pasid, present=True)

    # -- the context-cache

    def source(self, request: Request, rtaddr: int) -> Source | Fault:
        """The source of a request."""
        context = self.context(request, rtaddr)
        return context if isinstance(context, Fault) else self._reader.source(context, request)

    def context(self, request: Request, rtaddr: int) -> ContextEntry | Fault:
        """The context entry of a requester, cached or read."""
        who = (request.source_id, request.pasid)
        known = self._entries.get(who)
        if known is not None:
            return known
        found = self._reader.context(request, rtaddr)
        if isinstance(found, Fault):
            return found
        source = self._reader.source(found, request)
        if isinstance(source, Fault):
            return source
        self._entries[who] = found
        return found

    def root_changed(self) -> None:
        """Another root table is in force."""

    def _look_anew(self, whose: Iterable[_Requester]) -> None:
        for who in list(whose):
            self._entries.pop(who, None)
            self._passing.discard(who)
            request = self._met.get(who)
            if request is not None and self._passes(request):
                self._passing.add(who)

    def _passes(self, request: Request) -> bool:
        found = self._reader.context(request, self._root())
        source = found if isinstance(found, Fault) else self._reader.source(found, request)
        return isinstance(source, Source) and source.translation is TranslationType.PASS_THROUGH

    def invalidate_contexts(self) -> None:
        """Remove every context entry, and look at every requester anew."""
        self._look_anew({*self._entries, *self._passing, *self._met})

    def invalidate_context_domain(self, domain_id: int) -> None:
        """The same."""
        self.invalidate_contexts()

    def invalidate_context_device(self, domain_id: int, source_id: int, function_mask: int) -> None:
        """Remove context entries of a device, whatever its domain, and look at it anew."""
        compared = ~FUNCTION_BITS_IGNORED[function_mask]
        everyone = {*self._entries, *self._passing, *self._met}
        self._look_anew(who for who in everyone if who[0] & compared == source_id & compared)

    def invalidate_pasids(self) -> None:
        """Nothing of PASID entries is cached; newer versions look at requesters anew."""
        if self._looks_anew:
            for who, request in self._met.items():
                (self._passing.add if self._passes(request) else self._passing.discard)(who)

    def invalidate_pasid_domain(self, domain_id: int) -> None:
        """As `invalidate_pasids`."""
        self.invalidate_pasids()

    def invalidate_pasid(self, domain_id: int, pasid: int) -> None:
        """As `invalidate_pasids`."""
        self.invalidate_pasids()

    def contexts(self) -> list[ContextCacheEntry]:
        """The context-cache, by source-id."""
        return [
            ContextCacheEntry(who[0], self._entries[who])
            for who in sorted(self._entries, key=lambda who: (who[0], -1 if who[1] is None else who[1]))
        ]

    def pasids(self) -> list[PasidCacheEntry]:
        """Nothing."""
        return []


def _passed(request: Request) -> Translation:
    return Translation(Gpa(request.iova), PAGE_SHIFT, Permissions.R | Permissions.W | Permissions.X)


def _untold(request: Request) -> Fault:
    # A translated request with a PASID fails, and nothing is recorded.
    return Fault(FaultReason.TRANSLATION_TYPE_BLOCKED, request, silent=True)


def _answer(entry: IotlbEntry, request: Request) -> Translation | Fault:
    # A hit with too few rights blocks in silence.
    missing = request.access.needs & ~(entry.permissions | Permissions.X)
    if missing:
        reason = FaultReason.WRITE_DENIED if missing & Permissions.W else FaultReason.READ_DENIED
        return Fault(reason, request, silent=True)
    return Translation(Gpa(entry.gpa + request.iova - entry.iova), entry.page_shift, entry.permissions)


def _entry(source: Source, request: Request, found: Translation) -> IotlbEntry:
    offset = (1 << found.page_shift) - 1
    return IotlbEntry(
        domain_id=source.domain_id,
        source_id=request.source_id,
        pasid=request.pasid,
        translation=source.translation,
        privileged=False,
        iova=Iova(request.iova & ~offset),
        page_shift=found.page_shift,
        gpa=Gpa(found.gpa & ~offset),
        permissions=found.permissions,
        rid_pasid=source.rid_pasid,
    )
