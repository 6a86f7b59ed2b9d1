"""Who a requester is: root, context and PASID entries in the order and by the codes of QEMU.

Scalable mode ends in the codes of legacy mode for root and context entries. A context entry is only good if the entry
of its first PASID is; of PASID entries only type and number of levels are looked at, before they are looked at for
being present; reserved bits of PASID structures are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from emulator.profile import Profile
from pagetables.address import DomainId, Gpa, Pasid
from pagetables.fault import Fault, FaultReason
from pagetables.layouts.context import LegacyContextEntry, LegacyRootEntry, ScalableContextEntry, ScalableRootEntry
from pagetables.layouts.pasid import PasidDirectoryEntry, PasidTableEntry
from pagetables.layouts.registers import RootTableAddress
from pagetables.layouts.values import LegacyTranslation, TranslationType
from pagetables.memory import PhysicalMemory
from pagetables.request import Request
from pagetables.source import ContextEntry, Source
from pagetables.step import load_words

__all__ = ["SourceReader"]

_PAGE = 12
_SCALABLE = 1 << 10  # the bit of RTADDR that is looked at
_UPPER_HALF = 128
_FIRST_STAGE_LEVELS = 4
_MADE_FOR = (TranslationType.FIRST_STAGE, TranslationType.SECOND_STAGE, TranslationType.NESTED)


@dataclass(frozen=True, slots=True)
class _Found:
    # A PASID table entry, and whether FPD of it or of its directory silences faults.
    entry: PasidTableEntry
    silences: bool


class SourceReader:
    """Reads the structures of one unit. Reasons are returned as they are; who asks makes them faults."""

    def __init__(self, memory: PhysicalMemory, profile: Profile) -> None:
        self._memory = memory
        self._capabilities = profile.capabilities
        self._one_code = profile.behaves("one_pasid_table_fault")
        self._uses_rid_pasid = profile.behaves("rid_pasid_without_rps")

    def scalable(self, rtaddr: int) -> bool:
        """Whether tables are scalable-mode ones: any mode with its lower bit set, where there is scalable mode."""
        return bool(rtaddr & _SCALABLE and self._capabilities.ecap.smts)

    def context(self, request: Request, rtaddr: int) -> ContextEntry | Fault:
        """The context entry of a request's requester."""
        found = self._context(request, rtaddr)
        if isinstance(found, FaultReason):
            return Fault(found, request)
        context, reason = found
        if reason is None:
            return context
        return self._fault(reason, request, bool(context.entry.fpd))

    def _fault(self, reason: FaultReason, request: Request, fpd: bool) -> Fault:
        return Fault(reason, request, disabled=fpd and reason is not FaultReason.CONTEXT_RESERVED)

    def _context(self, request: Request, rtaddr: int) -> FaultReason | tuple[ContextEntry, FaultReason | None]:
        scalable = self.scalable(rtaddr)
        bus, devfn = divmod(request.source_id, 256)
        root = RootTableAddress(rtaddr).rta << _PAGE & self._capabilities.address_limit - 1
        raw = load_words(self._memory, root + 16 * bus, LegacyRootEntry)
        if raw is None:
            return FaultReason.ROOT_ACCESS
        upper = scalable and devfn >= _UPPER_HALF
        half = raw >> 64 if upper else raw & (1 << 64) - 1
        if not half & 1:
            return FaultReason.ROOT_NOT_PRESENT
        if self._root_reserved(raw, scalable):
            return FaultReason.ROOT_RESERVED
        layout = ScalableContextEntry if scalable else LegacyContextEntry
        at = Gpa((half >> _PAGE << _PAGE) + (devfn - _UPPER_HALF * upper) * layout.width // 8)
        word = load_words(self._memory, at, layout)
        if word is None:
            return FaultReason.CONTEXT_ACCESS
        context = ContextEntry(layout(word), at)
        entry = context.entry
        reason = self._scalable_error(entry) if isinstance(entry, ScalableContextEntry) else self._legacy_error(entry)
        return context, reason

    def _beyond(self, address: int) -> bool:
        return address << _PAGE >= self._capabilities.address_limit

    def _root_reserved(self, raw: int, scalable: bool) -> bool:
        if scalable:
            word = ScalableRootEntry(raw)
            return bool(raw & word.reserved_mask) or self._beyond(word.lctp) or self._beyond(word.uctp)
        return bool(raw & LegacyRootEntry.reserved_mask) or self._beyond(LegacyRootEntry(raw).ctp)

    def _legacy_error(self, entry: LegacyContextEntry) -> FaultReason | None:
        capabilities = self._capabilities
        if not entry.p:
            return FaultReason.CONTEXT_NOT_PRESENT
        if entry & entry.reserved_mask or self._beyond(entry.ssptptr):
            return FaultReason.CONTEXT_RESERVED
        usable: dict[int, int] = {
            LegacyTranslation.SECOND_STAGE: 1,
            LegacyTranslation.DEVICE_TLB: capabilities.ecap.dt,
            LegacyTranslation.PASS_THROUGH: capabilities.ecap.pt,
        }
        if entry.aw + 2 not in capabilities.second_stage_levels or not usable.get(entry.tt):
            return FaultReason.CONTEXT_INVALID
        return None

    def _scalable_error(self, entry: ScalableContextEntry) -> FaultReason | None:
        if not entry.p:
            return FaultReason.CONTEXT_NOT_PRESENT
        if entry & entry.reserved_mask or self._beyond(entry.pasiddirptr):
            return FaultReason.CONTEXT_RESERVED
        found = self._pasid_entry(entry, self.rid_pasid(entry))
        return found if isinstance(found, FaultReason) else None

    def rid_pasid(self, entry: ScalableContextEntry) -> Pasid:
        """The PASID of requests that have none."""
        return Pasid(entry.rid_pasid if self._uses_rid_pasid else 0)

    def _pasid_code(self, reason: FaultReason) -> FaultReason:
        return FaultReason.PASID_ENTRY_ACCESS if self._one_code else reason

    def _pasid_entry(self, context: ScalableContextEntry, pasid: int) -> _Found | FaultReason:
        at = (context.pasiddirptr << _PAGE) + 8 * (pasid >> 6)
        raw = load_words(self._memory, at, PasidDirectoryEntry)
        if raw is None:
            return self._pasid_code(FaultReason.PASID_DIRECTORY_ACCESS)
        directory = PasidDirectoryEntry(raw)
        if not directory.p:
            return self._pasid_code(FaultReason.PASID_DIRECTORY_NOT_PRESENT)
        at = (directory.smptblptr << _PAGE) + 64 * (pasid & 63)
        raw = load_words(self._memory, at, PasidTableEntry)
        if raw is None:
            return self._pasid_code(FaultReason.PASID_ENTRY_ACCESS)
        entry = PasidTableEntry(raw)
        if not self._made_for(entry):
            return self._pasid_code(FaultReason.PASID_ENTRY_INVALID)
        if not entry.p:
            return self._pasid_code(FaultReason.PASID_ENTRY_NOT_PRESENT)
        return _Found(entry, bool(directory.fpd or entry.fpd))

    def _made_for(self, entry: PasidTableEntry) -> bool:
        # Whether this unit knows the type, and as many levels.
        ecap, pgtt = self._capabilities.ecap, entry.pgtt
        second = entry.aw + 2 in self._capabilities.second_stage_levels
        if self._one_code:
            return second and (pgtt in _MADE_FOR or (pgtt == TranslationType.PASS_THROUGH and bool(ecap.pt)))
        if pgtt == TranslationType.PASS_THROUGH:
            return bool(ecap.pt)
        if pgtt == TranslationType.FIRST_STAGE:
            return bool(ecap.fsts) and entry.fspm == 0
        return pgtt == TranslationType.SECOND_STAGE and bool(ecap.ssts) and second

    def source(self, context: ContextEntry, request: Request) -> Source | Fault:
        """What a good context entry, and in scalable mode the PASID entry as it is now, say of a request."""
        entry = context.entry
        if isinstance(entry, LegacyContextEntry):
            return self._of_context(entry)
        pasid = self.rid_pasid(entry) if request.pasid is None else request.pasid
        found = self._pasid_entry(entry, pasid)
        if isinstance(found, FaultReason):
            return self._fault(found, request, bool(entry.fpd))
        return self._of_pasid(found.entry, pasid, bool(entry.fpd) or found.silences)

    def _of_context(self, entry: LegacyContextEntry) -> Source:
        passes = entry.tt == LegacyTranslation.PASS_THROUGH
        return Source(
            TranslationType.PASS_THROUGH if passes else TranslationType.SECOND_STAGE,
            DomainId(entry.did),
            legacy=True,
            ss_table=Gpa(entry.ssptptr << _PAGE),
            ss_levels=entry.aw + 2,
            fault_processing_disabled=bool(entry.fpd),
        )

    def _of_pasid(self, entry: PasidTableEntry, pasid: Pasid, fpd: bool) -> Source:
        # One walker for the whole unit: the first stage's where there is one, else the second's.
        walked = TranslationType.FIRST_STAGE if self._capabilities.ecap.fsts else TranslationType.SECOND_STAGE
        passes = entry.pgtt == TranslationType.PASS_THROUGH
        return Source(
            TranslationType.PASS_THROUGH if passes else walked,
            DomainId(entry.did),
            legacy=False,
            ss_table=Gpa(entry.ssptptr << _PAGE),
            ss_levels=entry.aw + 2,
            fs_table=Gpa(entry.fsptptr << _PAGE),
            fs_levels=_FIRST_STAGE_LEVELS,
            fault_processing_disabled=fpd,
            rid_pasid=pasid,
        )
