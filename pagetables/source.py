"""What root, context and PASID entries say of a requester: the start of every walk.

`lookup` reads the tables from the root table address down. Its parts stand alone for a unit with caches: a
`ContextEntry` and a `PasidEntry` are what a context-cache and a PASID-cache hold (raw words, found valid when they
were read); `from_context` and `from_pasid_entry` go on from them.

Checks come in the order of the specification: mode; root entry; context entry; the request's type against it; PASID
against the directory; directory entry; PASID entry; execute and supervisor requests. In each structure: readable,
present, reserved bits, programming. FPD counts as soon as the entry that has it was read, even where that entry is
not present or bad.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pagetables.address import PAGE_SHIFT, DomainId, Gpa, Pasid
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault, FaultReason
from pagetables.layouts.context import LegacyContextEntry, LegacyRootEntry, ScalableContextEntry, ScalableRootEntry
from pagetables.layouts.pasid import PasidDirectoryEntry, PasidTableEntry
from pagetables.layouts.registers import RootTableAddress
from pagetables.layouts.values import LegacyTranslation, TableMode, TranslationType
from pagetables.memory import Memory
from pagetables.request import Access, AddressType, Request
from pagetables.step import Step, load_words
from pagetables.validity import (
    legacy_context_error,
    legacy_root_error,
    pasid_directory_error,
    pasid_entry_error,
    scalable_context_error,
    scalable_root_error,
)

__all__ = [
    "ContextEntry",
    "Lookup",
    "PasidEntry",
    "Source",
    "TranslationType",
    "check_mode",
    "choose_pasid",
    "decode_context",
    "decode_pasid_entry",
    "from_context",
    "from_pasid_entry",
    "lookup",
    "lookup_context",
    "lookup_pasid_entry",
    "pasid_limit",
]

_NOWHERE = Gpa(0)
_FIRST_PASID = Pasid(0)


@dataclass(frozen=True, slots=True)
class Source:
    """Stage, tables and tags of one (source-id, PASID), decoded from its entries.

    `legacy` decides which fault codes a walk ends in. `ss_levels` and `fs_levels` are 0 where that stage is unused.
    """

    translation: TranslationType
    domain_id: DomainId
    legacy: bool
    ss_table: Gpa = _NOWHERE
    ss_levels: int = 0
    fs_table: Gpa = _NOWHERE
    fs_levels: int = 0
    fault_processing_disabled: bool = False
    ss_accessed_dirty: bool = False  # SSADE
    ss_execute: bool = False  # SSEE
    write_protect: bool = False  # WPE
    no_execute: bool = False  # NXE
    supervisor_execute_prevention: bool = False  # SMEP
    extended_accessed: bool = False  # EAFE
    supervisor_requests: bool = False  # SRE
    execute_requests: bool = False  # ERE
    walk_snoop: bool = False  # PWSNP
    privileged: bool = False  # RID_PRIV: requests without PASID are supervisor requests
    rid_pasid: Pasid = _FIRST_PASID  # RID_PASID, where the request had no PASID of its own: what invalidations call it


@dataclass(frozen=True, slots=True)
class ContextEntry:
    """A valid context entry as a context-cache holds it: its raw words, and where they were."""

    entry: LegacyContextEntry | ScalableContextEntry
    at: Gpa

    @property
    def legacy(self) -> bool:
        """True for an entry of legacy mode."""
        return isinstance(self.entry, LegacyContextEntry)

    @property
    def domain_id(self) -> DomainId:
        """The tag that domain-selective invalidation compares: DID in legacy mode, else 0."""
        return DomainId(self.entry.did if isinstance(self.entry, LegacyContextEntry) else 0)


@dataclass(frozen=True, slots=True)
class PasidEntry:
    """A valid PASID table entry as a PASID-cache holds it: raw words, where they were, and FPD from above."""

    entry: PasidTableEntry
    at: Gpa
    fault_processing_disabled: bool = False

    @property
    def domain_id(self) -> DomainId:
        """The tag that domain-selective invalidation compares."""
        return DomainId(self.entry.did)


@dataclass(frozen=True, slots=True)
class Lookup:
    """The source of a request or the fault it ends in, and every entry that was read."""

    outcome: Source | Fault
    steps: tuple[Step, ...] = ()


def lookup(memory: Memory, rtaddr: int, request: Request, capabilities: Capabilities) -> Lookup:
    """What the tables under `rtaddr` (the register's value, TTM included) say of the request's source."""
    fault = check_mode(rtaddr, request, capabilities)
    if fault is not None:
        return Lookup(fault)
    steps: list[Step] = []
    context = lookup_context(memory, rtaddr, request, capabilities, steps)
    if isinstance(context, Fault):
        return Lookup(context, tuple(steps))
    source = from_context(context, request, capabilities)
    if isinstance(source, int):
        entry = lookup_pasid_entry(memory, context, source, request, capabilities, steps)
        if isinstance(entry, Fault):
            return Lookup(entry, tuple(steps))
        source = from_pasid_entry(entry, context, request, source)
    return Lookup(source, tuple(steps))


def check_mode(rtaddr: int, request: Request, capabilities: Capabilities) -> Fault | None:
    """30h or 31h, or None where the table mode lets the request go on.

    Abort-DMA mode refuses everything and records nothing: a silent fault.
    """
    mode = RootTableAddress(rtaddr).ttm
    if mode == TableMode.LEGACY:
        return None if request.pasid is None else Fault(FaultReason.PASID_IN_LEGACY_MODE, request)
    if mode == TableMode.SCALABLE and capabilities.ecap.smts:
        return None
    silent = mode == TableMode.ABORT and bool(capabilities.ecap.adms)
    return Fault(FaultReason.TTM_INVALID, request, silent=silent)


def lookup_context(
    memory: Memory, rtaddr: int, request: Request, capabilities: Capabilities, steps: list[Step]
) -> ContextEntry | Fault:
    """The context entry of the request's source-id, present and valid; what was read is added to `steps`."""
    register = RootTableAddress(rtaddr)
    root = register.rta << PAGE_SHIFT & capabilities.address_limit - 1  # 63:HAW are not implemented
    if register.ttm == TableMode.LEGACY:
        return _legacy_context(memory, root, request, capabilities, steps)
    return _scalable_context(memory, root, request, capabilities, steps)


def _legacy_context(
    memory: Memory, root: int, request: Request, capabilities: Capabilities, steps: list[Step]
) -> ContextEntry | Fault:
    bus, devfn = divmod(request.source_id, 256)
    at = root + bus * 16
    raw = load_words(memory, at, LegacyRootEntry)
    if raw is None:
        return Fault(FaultReason.ROOT_ACCESS, request, at)
    entry = LegacyRootEntry(raw)
    steps.append(Step.of(entry, bus, at))
    if reason := legacy_root_error(entry, capabilities):
        return Fault(reason, request, at)
    at = (entry.ctp << PAGE_SHIFT) + devfn * 16
    raw = load_words(memory, at, LegacyContextEntry)
    if raw is None:
        return Fault(FaultReason.CONTEXT_ACCESS, request, at)
    context = LegacyContextEntry(raw)
    steps.append(Step.of(context, devfn, at))
    if reason := legacy_context_error(context, capabilities):
        return Fault(reason, request, at, disabled=bool(context.fpd))
    return ContextEntry(context, Gpa(at))


def _scalable_context(
    memory: Memory, root: int, request: Request, capabilities: Capabilities, steps: list[Step]
) -> ContextEntry | Fault:
    bus, devfn = divmod(request.source_id, 256)
    upper, index = divmod(devfn, 128)
    at = root + bus * 16
    raw = load_words(memory, at, ScalableRootEntry)
    if raw is None:
        return Fault(FaultReason.SM_ROOT_ACCESS, request, at)
    entry = ScalableRootEntry(raw)
    steps.append(Step.of(entry, bus, at, note="upper half" if upper else "lower half"))
    if reason := scalable_root_error(entry, bool(upper), capabilities):
        return Fault(reason, request, at)
    at = ((entry.uctp if upper else entry.lctp) << PAGE_SHIFT) + index * 32
    raw = load_words(memory, at, ScalableContextEntry)
    if raw is None:
        return Fault(FaultReason.SM_CONTEXT_ACCESS, request, at)
    context = ScalableContextEntry(raw)
    steps.append(Step.of(context, index, at))
    if reason := scalable_context_error(context, capabilities):
        return Fault(reason, request, at, disabled=bool(context.fpd))
    return ContextEntry(context, Gpa(at))


def from_context(context: ContextEntry, request: Request, capabilities: Capabilities) -> Source | Pasid | Fault:
    """The source, if the context entry decides it, or the PASID whose table entry does; 0Dh, 44h, 45h, 46h or 48h.

    A translated request is done here: its address is used as it is, so its source is a pass-through.
    """
    if isinstance(context.entry, LegacyContextEntry):
        return _legacy_source(context.entry, context.at, request)
    pasid = choose_pasid(context.entry, context.at, request, capabilities)
    if isinstance(pasid, int) and request.address_type is AddressType.TRANSLATED:
        return _untouched(DomainId(0), bool(context.entry.fpd), legacy=False)
    return pasid


def _untouched(domain_id: DomainId, fpd: bool, *, legacy: bool) -> Source:
    return Source(TranslationType.PASS_THROUGH, domain_id, legacy, fault_processing_disabled=fpd)


def _legacy_source(entry: LegacyContextEntry, at: Gpa, request: Request) -> Source | Fault:
    fpd = bool(entry.fpd)
    if request.address_type is not AddressType.UNTRANSLATED and entry.tt != LegacyTranslation.DEVICE_TLB:
        return Fault(FaultReason.TRANSLATION_TYPE_BLOCKED, request, at, disabled=fpd)
    if request.address_type is AddressType.TRANSLATED:
        return _untouched(DomainId(entry.did), fpd, legacy=True)
    return decode_context(entry)


def decode_context(entry: LegacyContextEntry) -> Source:
    """What a valid legacy context entry says of untranslated requests."""
    fpd, domain_id = bool(entry.fpd), DomainId(entry.did)
    if entry.tt == LegacyTranslation.PASS_THROUGH:
        return _untouched(domain_id, fpd, legacy=True)
    return Source(
        TranslationType.SECOND_STAGE,
        domain_id,
        legacy=True,
        ss_table=Gpa(entry.ssptptr << PAGE_SHIFT),
        ss_levels=entry.aw + 2,
        fault_processing_disabled=fpd,
    )


def pasid_limit(entry: ScalableContextEntry) -> int:
    """The first PASID beyond the directory: 2**(PDTS + 7) directory entries of 64 PASIDs."""
    return 1 << entry.pdts + 13


def choose_pasid(entry: ScalableContextEntry, at: Gpa, request: Request, capabilities: Capabilities) -> Pasid | Fault:
    """The request's PASID, or RID_PASID (0 where RPS=0) for a request without one; 44h, 45h, 46h or 48h.

    A translated request without PASID has no use for RID_PASID, and none is too large for it.
    """
    fpd = bool(entry.fpd)
    if request.address_type is not AddressType.UNTRANSLATED and not entry.dte:
        return Fault(FaultReason.DEVICE_TLB_DISABLED, request, at, disabled=fpd)
    if request.pasid is None:
        pasid = Pasid(entry.rid_pasid if capabilities.ecap.rps else 0)
        reason = FaultReason.RID_PASID_BEYOND_DIRECTORY
    elif not entry.paside:
        return Fault(FaultReason.PASID_DISABLED, request, at, disabled=fpd)
    else:
        pasid, reason = request.pasid, FaultReason.PASID_BEYOND_DIRECTORY
    unused = request.pasid is None and request.address_type is AddressType.TRANSLATED
    return pasid if unused or pasid < pasid_limit(entry) else Fault(reason, request, at, disabled=fpd)


def lookup_pasid_entry(
    memory: Memory,
    context: ContextEntry,
    pasid: int,
    request: Request,
    capabilities: Capabilities,
    steps: list[Step],
) -> PasidEntry | Fault:
    """The PASID table entry under a scalable context entry, present and valid; what was read is added to `steps`."""
    word = ScalableContextEntry(context.entry)
    index, fpd = pasid >> 6, bool(word.fpd)
    at = (word.pasiddirptr << PAGE_SHIFT) + index * 8
    raw = load_words(memory, at, PasidDirectoryEntry)
    if raw is None:
        return Fault(FaultReason.PASID_DIRECTORY_ACCESS, request, at, disabled=fpd)
    directory = PasidDirectoryEntry(raw)
    steps.append(Step.of(directory, index, at))
    fpd |= bool(directory.fpd)
    if reason := pasid_directory_error(directory, capabilities):
        return Fault(reason, request, at, disabled=fpd)
    at = (directory.smptblptr << PAGE_SHIFT) + (pasid & 63) * 64
    raw = load_words(memory, at, PasidTableEntry)
    if raw is None:
        return Fault(FaultReason.PASID_ENTRY_ACCESS, request, at, disabled=fpd)
    entry = PasidTableEntry(raw)
    steps.append(Step.of(entry, pasid & 63, at))
    fpd |= bool(entry.fpd)
    if reason := pasid_entry_error(entry, capabilities):
        return Fault(reason, request, at, disabled=fpd)
    return PasidEntry(entry, Gpa(at), fpd)


def from_pasid_entry(
    pasid_entry: PasidEntry, context: ContextEntry, request: Request, pasid: int = 0
) -> Source | Fault:
    """The source that the PASID table entry of `pasid` describes; 5Ch or 5Dh where it does not serve this request."""
    entry, fpd = pasid_entry.entry, pasid_entry.fault_processing_disabled
    rid_priv = request.pasid is None and bool(ScalableContextEntry(context.entry).rid_priv)
    if request.access is Access.EXECUTE and not entry.ere:
        return Fault(FaultReason.EXECUTE_REQUEST_DISABLED, request, pasid_entry.at, disabled=fpd)
    if (request.privileged or rid_priv) and not entry.sre:
        return Fault(FaultReason.SUPERVISOR_REQUEST_DISABLED, request, pasid_entry.at, disabled=fpd)
    source = decode_pasid_entry(entry, fpd, privileged=rid_priv)
    return source if request.pasid is not None or not pasid else replace(source, rid_pasid=Pasid(pasid))


def decode_pasid_entry(entry: PasidTableEntry, fpd: bool, *, privileged: bool = False) -> Source:
    """What a valid PASID table entry says. `fpd` is FPD of all entries; `privileged` is RID_PRIV where it applies."""
    translation = TranslationType(entry.pgtt)
    first = translation in (TranslationType.FIRST_STAGE, TranslationType.NESTED)
    second = translation in (TranslationType.SECOND_STAGE, TranslationType.NESTED)
    return Source(
        translation,
        DomainId(entry.did),
        legacy=False,
        ss_table=Gpa(entry.ssptptr << PAGE_SHIFT if second else 0),
        ss_levels=entry.aw + 2 if second else 0,
        fs_table=Gpa(entry.fsptptr << PAGE_SHIFT if first else 0),
        fs_levels=entry.fspm + 4 if first else 0,
        fault_processing_disabled=fpd,
        ss_accessed_dirty=bool(entry.ssade),
        ss_execute=bool(entry.ssee),
        write_protect=bool(entry.wpe),
        no_execute=bool(entry.nxe),
        supervisor_execute_prevention=bool(entry.smep),
        extended_accessed=bool(entry.eafe),
        supervisor_requests=bool(entry.sre),
        execute_requests=bool(entry.ere),
        walk_snoop=bool(entry.pwsnp),
        privileged=privileged,
    )
