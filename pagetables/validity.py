"""What is wrong with a root, context or PASID entry: the fault reason its first error ends in, or None.

Checks stand in the order of the specification: present, then reserved bits, then programming. Being readable comes
before all of them and is the reader's to check. An address at or above the host address width counts as reserved
bits, since those bits of a pointer are not implemented; so does a domain-id wider than CAP.ND.
"""

from __future__ import annotations

from pagetables.address import PAGE_SHIFT
from pagetables.capabilities import Capabilities
from pagetables.fault import FaultReason
from pagetables.layouts.context import LegacyContextEntry, LegacyRootEntry, ScalableContextEntry, ScalableRootEntry
from pagetables.layouts.pasid import PasidDirectoryEntry, PasidTableEntry
from pagetables.layouts.values import LegacyTranslation, TranslationType

__all__ = [
    "legacy_context_error",
    "legacy_root_error",
    "pasid_directory_error",
    "pasid_entry_error",
    "scalable_context_error",
    "scalable_root_error",
]

_FIRST_STAGES = (TranslationType.FIRST_STAGE, TranslationType.NESTED)
_SECOND_STAGES = (TranslationType.SECOND_STAGE, TranslationType.NESTED)


def legacy_root_error(entry: LegacyRootEntry, capabilities: Capabilities) -> FaultReason | None:
    """01h or 0Ah."""
    if not entry.p:
        return FaultReason.ROOT_NOT_PRESENT
    if entry & LegacyRootEntry.reserved_mask or _beyond(entry.ctp, capabilities):
        return FaultReason.ROOT_RESERVED
    return None


def scalable_root_error(entry: ScalableRootEntry, upper: bool, capabilities: Capabilities) -> FaultReason | None:
    """39h or 3Ah, for the half asked about; the other half is not looked at."""
    half = ScalableRootEntry(entry >> 64 if upper else entry & (1 << 64) - 1)
    if not half.lp:
        return FaultReason.SM_ROOT_NOT_PRESENT
    if half & ScalableRootEntry.reserved_mask or _beyond(half.lctp, capabilities):
        return FaultReason.SM_ROOT_RESERVED
    return None


def legacy_context_error(entry: LegacyContextEntry, capabilities: Capabilities) -> FaultReason | None:
    """02h, 0Bh or 03h."""
    if not entry.p:
        return FaultReason.CONTEXT_NOT_PRESENT
    pass_through = entry.tt == LegacyTranslation.PASS_THROUGH  # its SSPTPTR is ignored
    if (
        entry & LegacyContextEntry.reserved_mask
        or (not pass_through and _beyond(entry.ssptptr, capabilities))
        or entry.did >> capabilities.domain_id_width
    ):
        return FaultReason.CONTEXT_RESERVED
    return None if _legacy_context_usable(entry, capabilities) else FaultReason.CONTEXT_INVALID


def _legacy_context_usable(entry: LegacyContextEntry, capabilities: Capabilities) -> bool:
    levels = capabilities.second_stage_levels
    if entry.tt == LegacyTranslation.SECOND_STAGE:
        return entry.aw + 2 in levels
    if entry.tt == LegacyTranslation.DEVICE_TLB:
        return bool(capabilities.ecap.dt) and entry.aw + 2 in levels
    # Pass-through must name the largest width there is.
    return entry.tt == LegacyTranslation.PASS_THROUGH and bool(
        capabilities.ecap.pt and entry.aw + 2 == max(levels, default=0)
    )


def scalable_context_error(entry: ScalableContextEntry, capabilities: Capabilities) -> FaultReason | None:
    """41h, 42h or 43h."""
    if not entry.p:
        return FaultReason.SM_CONTEXT_NOT_PRESENT
    if entry & ScalableContextEntry.reserved_mask or _beyond(entry.pasiddirptr, capabilities):
        return FaultReason.SM_CONTEXT_RESERVED
    ecap = capabilities.ecap
    # A directory of one page (PDTS 2) is fine for any PASID width: Linux allocates no less.
    invalid = (
        entry.dte > ecap.dt
        or entry.paside > ecap.pasid
        or entry.pre > ecap.prs
        or entry.rid_priv > ecap.rprivs
        or entry.pdts > max(2, ecap.pss + 1 - 13)
    )
    return FaultReason.SM_CONTEXT_INVALID if invalid else None


def pasid_directory_error(entry: PasidDirectoryEntry, capabilities: Capabilities) -> FaultReason | None:
    """51h or 52h."""
    if not entry.p:
        return FaultReason.PASID_DIRECTORY_NOT_PRESENT
    if entry & PasidDirectoryEntry.reserved_mask or _beyond(entry.smptblptr, capabilities):
        return FaultReason.PASID_DIRECTORY_RESERVED
    return None


def pasid_entry_error(entry: PasidTableEntry, capabilities: Capabilities) -> FaultReason | None:
    """59h, 5Ah or 5Bh. A bit whose capability is missing counts as programming, not as reserved."""
    if not entry.p:
        return FaultReason.PASID_ENTRY_NOT_PRESENT
    if (
        entry & PasidTableEntry.reserved_mask
        or (entry.pgtt in _SECOND_STAGES and _beyond(entry.ssptptr, capabilities))
        # Not where nested: FSPTPTR is then a guest address, which the second stage judges.
        or (entry.pgtt == TranslationType.FIRST_STAGE and _beyond(entry.fsptptr, capabilities))
        or entry.did >> capabilities.domain_id_width
    ):
        return FaultReason.PASID_ENTRY_RESERVED
    usable = _translation_usable(entry, capabilities) and not _bits_without_capability(entry, capabilities)
    return None if usable else FaultReason.PASID_ENTRY_INVALID


def _translation_usable(entry: PasidTableEntry, capabilities: Capabilities) -> bool:
    ecap = capabilities.ecap
    supported = {
        TranslationType.FIRST_STAGE: ecap.fsts,
        TranslationType.SECOND_STAGE: ecap.ssts,
        TranslationType.NESTED: ecap.nest,
        TranslationType.PASS_THROUGH: ecap.pt,
    }
    if not supported.get(entry.pgtt, 0):  # type: ignore[call-overload]  # an IntEnum is found by its integer
        return False
    if entry.pgtt in _SECOND_STAGES and entry.aw + 2 not in capabilities.second_stage_levels:
        return False
    return entry.pgtt not in _FIRST_STAGES or entry.fspm + 4 in capabilities.first_stage_levels


def _bits_without_capability(entry: PasidTableEntry, capabilities: Capabilities) -> bool:
    ecap = capabilities.ecap
    memory_types = entry.cd | entry.emte | _pat(entry)
    return (
        entry.ssade > ecap.ssads
        or entry.pwsnp > ecap.smpwcs
        or entry.pgsnp > ecap.sc
        or entry.sre > ecap.srs
        or entry.ere > ecap.ers
        or entry.eafe > ecap.eafs
        or bool(memory_types and not ecap.mts)
    )


def _pat(entry: PasidTableEntry) -> int:
    return int(entry) >> PasidTableEntry.pa0.lo & (1 << PasidTableEntry.pa7.hi + 1 - PasidTableEntry.pa0.lo) - 1


def _beyond(frame: int, capabilities: Capabilities) -> bool:
    return bool(frame << PAGE_SHIFT >> capabilities.haw)
