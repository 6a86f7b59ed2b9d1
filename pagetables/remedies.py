"""What would have to change for a request that faulted to succeed: one sentence for each reason a walk ends in.

The sentences are templates: `{at}` is the entry that decided, `{who}` the requester, `{iova}` the address, `{access}`
what it wanted.
"""

from __future__ import annotations

from pagetables.address import format_source_id
from pagetables.fault import Fault, FaultReason

__all__ = ["REMEDIES", "remedy"]

_IN_MEMORY = "the structure that holds {at} must lie in memory (in an image: its page must have been dumped)"
_RESERVED = "the reserved bits of the entry at {at} must be 0"
_NOT_SNOOPED = "accessed and dirty bits need PWSNP=1 in the PASID table entry, or must be set beforehand in {at}"
_UPDATE = "the page of the entry at {at} must be writable"
_INTERRUPT_RANGE = "the page at {at} must lead outside 0xfee00000-0xfeefffff, where writes are interrupts"
_BEYOND_WIDTH = "{who} must use an address that MGAW and the entry's AW allow, not {iova}"
_NO_RIGHT = "{access} permission must be granted by every entry on the way; the one at {at} was the last"

REMEDIES: dict[FaultReason, str] = {
    FaultReason.ROOT_NOT_PRESENT: "the root entry of the bus of {who}, at {at}, must be present: the bus is not set up",
    FaultReason.CONTEXT_NOT_PRESENT: "the context entry of {who}, at {at}, must be present: the device is not attached",
    FaultReason.CONTEXT_INVALID: "the context entry of {who} must be one that the unit supports: AW in SAGAW, TT as "
    "DT and PT allow, SSPTPTR in memory",
    FaultReason.ADDRESS_BEYOND_WIDTH: _BEYOND_WIDTH,
    FaultReason.WRITE_DENIED: _NO_RIGHT,
    FaultReason.READ_DENIED: _NO_RIGHT,
    FaultReason.SS_ENTRY_ACCESS: _IN_MEMORY,
    FaultReason.ROOT_ACCESS: _IN_MEMORY,
    FaultReason.CONTEXT_ACCESS: _IN_MEMORY,
    FaultReason.ROOT_RESERVED: _RESERVED,
    FaultReason.CONTEXT_RESERVED: _RESERVED,
    FaultReason.SS_ENTRY_RESERVED: _RESERVED,
    FaultReason.TRANSLATION_TYPE_BLOCKED: "TT of the context entry at {at} must be 01 for a device that translates",
    FaultReason.OUTPUT_IN_INTERRUPT_RANGE: _INTERRUPT_RANGE,
    FaultReason.TTM_INVALID: "RTADDR must name a table mode that the unit has: legacy, or scalable with ECAP.SMTS",
    FaultReason.PASID_IN_LEGACY_MODE: "the request must have no PASID, or RTADDR must name scalable mode",
    FaultReason.SM_ROOT_ACCESS: _IN_MEMORY,
    FaultReason.SM_ROOT_NOT_PRESENT: "the half of the root entry at {at} that {who} is in must be present",
    FaultReason.SM_ROOT_RESERVED: _RESERVED,
    FaultReason.SM_CONTEXT_ACCESS: _IN_MEMORY,
    FaultReason.SM_CONTEXT_NOT_PRESENT: "the context entry of {who}, at {at}, must be present: the device is not "
    "attached (Linux leaves out the alias of a conventional-PCI bridge in scalable mode)",
    FaultReason.SM_CONTEXT_RESERVED: _RESERVED,
    FaultReason.SM_CONTEXT_INVALID: "DTE, PASIDE, PRE and PDTS of the context entry at {at} must be as ECAP allows",
    FaultReason.DEVICE_TLB_DISABLED: "DTE of the context entry at {at} must be 1",
    FaultReason.PASID_DISABLED: "PASIDE of the context entry at {at} must be 1",
    FaultReason.PASID_BEYOND_DIRECTORY: "the PASID must lie in the directory: a smaller one, or a larger PDTS in {at}",
    FaultReason.RID_PASID_BEYOND_DIRECTORY: "RID_PASID must lie in the directory: smaller, or a larger PDTS in {at}",
    FaultReason.PASID_DIRECTORY_ACCESS: _IN_MEMORY,
    FaultReason.PASID_DIRECTORY_NOT_PRESENT: "the PASID directory entry at {at} must be present",
    FaultReason.PASID_DIRECTORY_RESERVED: _RESERVED,
    FaultReason.PASID_ENTRY_ACCESS: _IN_MEMORY,
    FaultReason.PASID_ENTRY_NOT_PRESENT: "the PASID table entry at {at} must be present: nothing is bound to the PASID",
    FaultReason.PASID_ENTRY_RESERVED: _RESERVED,
    FaultReason.PASID_ENTRY_INVALID: "the PASID table entry at {at} must be one that the unit supports: PGTT, AW, FSPM "
    "and flags as CAP and ECAP allow",
    FaultReason.EXECUTE_REQUEST_DISABLED: "ERE of the PASID table entry at {at} must be 1",
    FaultReason.SUPERVISOR_REQUEST_DISABLED: "SRE of the PASID table entry at {at} must be 1",
    FaultReason.FS_ENTRY_ACCESS: _IN_MEMORY,
    FaultReason.FS_NOT_PRESENT: "{iova} must be mapped: the first-stage entry at {at} is not present",
    FaultReason.FS_RESERVED: _RESERVED,
    FaultReason.FS_ROOT_ACCESS: _IN_MEMORY,
    FaultReason.FS_TABLE_BEYOND_WIDTH: "the first-stage table must lie where MGAW and AW of the second stage allow",
    FaultReason.FS_ROOT_READ_DENIED: "the second stage must let the first-stage table be read; {at} does not",
    FaultReason.FS_TABLE_READ_DENIED: "the second stage must let the first-stage table be read; {at} does not",
    FaultReason.FS_UPDATE_DENIED: "the second stage must let the first-stage table be written; {at} does not",
    FaultReason.SM_SS_ENTRY_ACCESS: _IN_MEMORY,
    FaultReason.SM_SS_NOT_PRESENT: "{iova} must be mapped: the second-stage entry at {at} is not present",
    FaultReason.SM_SS_RESERVED: _RESERVED,
    FaultReason.SM_SS_ROOT_ACCESS: _IN_MEMORY,
    FaultReason.SS_UPDATE_NOT_SNOOPED: _NOT_SNOOPED,
    FaultReason.SS_UPDATE_FAILED: _UPDATE,
    FaultReason.NOT_CANONICAL: "{who} must use a canonical address: the bits above the paging width of {iova} equal",
    FaultReason.USER_DENIED: "U/S must be 1 in every first-stage entry on the way, or the request must be privileged",
    FaultReason.EXECUTE_DENIED: "execute permission must be granted by every entry on the way to {at}",
    FaultReason.SM_ADDRESS_BEYOND_HAW: "{who} must use an address within the host address width, not {iova}",
    FaultReason.SM_ADDRESS_BEYOND_WIDTH: _BEYOND_WIDTH,
    FaultReason.SM_WRITE_DENIED: _NO_RIGHT,
    FaultReason.SM_READ_DENIED: _NO_RIGHT,
    FaultReason.SM_OUTPUT_IN_INTERRUPT_RANGE: _INTERRUPT_RANGE,
    FaultReason.FS_UPDATE_NOT_SNOOPED: _NOT_SNOOPED,
    FaultReason.FS_UPDATE_FAILED: _UPDATE,
}
_EMPTY = "{iova} must be mapped: the entry at {at} is empty"


def remedy(fault: Fault, entry: int | None = None) -> str | None:
    """What would have to change; None for reasons no walk ends in. `entry` is the last one read, as it was read."""
    template = REMEDIES.get(fault.reason)
    if template is None:
        return None
    if template is _NO_RIGHT and not entry:  # legacy mode has no code of its own for what is not mapped at all
        template = _EMPTY
    request = fault.request
    at = "the structure" if fault.at is None else f"{fault.at:#x}"
    return template.format(
        at=at, who=format_source_id(request.source_id), iova=f"{request.iova:#x}", access=request.access.name.lower()
    )
