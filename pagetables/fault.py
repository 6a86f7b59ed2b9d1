"""Fault reasons, by the specification's code, with condition name and meaning; and the fault a request ends in.

Codes from 0x30 on are those of scalable mode; 0x20 to 0x29 belong to interrupt remapping. Tests hold every row against
fixtures/layouts/fault-codes.csv.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pagetables.request import Request

__all__ = ["Fault", "FaultReason"]


class FaultReason(enum.IntEnum):
    """An 8-bit fault reason. `condition` is the spec's condition code, `qualified` ones are silenced by FPD."""

    condition: str
    meaning: str
    qualified: bool

    def __new__(cls, code: int, condition: str, qualified: bool, meaning: str) -> FaultReason:
        member = int.__new__(cls, code)
        member._value_ = code
        member.condition = condition
        member.meaning = meaning
        member.qualified = qualified
        return member

    ROOT_NOT_PRESENT = 0x01, "LRT.2", False, "P=0 in the root entry"
    CONTEXT_NOT_PRESENT = 0x02, "LCT.2", True, "P=0 in the context entry"
    CONTEXT_INVALID = (
        0x03,
        "LCT.4",
        True,
        "context entry programmed wrongly: AW not in SAGAW (or not the largest when TT=10); TT reserved or "
        "not supported by DT/PT; SSPTPTR leads to an access error (sub-conditions .1-.3 share the code)",
    )
    ADDRESS_BEYOND_WIDTH = (
        0x04,
        "LGN.1",
        True,
        "input address too large (sub-conditions .1-.3 share the code): above min(MGAW, AW of the entry) when "
        "translated, untranslated or translation request; above HAW when TT=10 or for translated requests",
    )
    WRITE_DENIED = 0x05, "LGN.2", True, "write or AtomicOp without accumulated W permission"
    READ_DENIED = (
        0x06,
        "LGN.3",
        True,
        "read or AtomicOp without accumulated R permission (zero-length read counts as read only if CAP.ZLR=0)",
    )
    SS_ENTRY_ACCESS = 0x07, "LSS.1 (LSL.1)", True, "access error on a second-stage entry other than the root table"
    ROOT_ACCESS = 0x08, "LRT.1", False, "access error on the root entry"
    CONTEXT_ACCESS = 0x09, "LCT.1", False, "access error on the context entry"
    ROOT_RESERVED = 0x0A, "LRT.3", False, "reserved bit set in a present root entry"
    CONTEXT_RESERVED = 0x0B, "LCT.3", True, "reserved bit set in a present context entry"
    SS_ENTRY_RESERVED = 0x0C, "LSS.2 (LSL.2)", True, "reserved bit set in a present second-stage entry"
    TRANSLATION_TYPE_BLOCKED = 0x0D, "LCT.5", True, "translation request or translated request while TT is not 01"
    OUTPUT_IN_INTERRUPT_RANGE = (
        0x0E,
        "LGN.4",
        True,
        "address after translation lies in 0xFEE00000-0xFEEFFFFF (for TT=10 and translated requests: the "
        "address itself); any overlap of a large page counts",
    )
    IR_REQUEST_RESERVED = (
        0x20,
        "IR.20",
        False,
        "reserved field set in a remappable interrupt request (for instance data 31:16 with SHV=1)",
    )
    IR_INDEX_BEYOND_TABLE = (
        0x21,
        "IR.21",
        False,
        "interrupt index is not below the table size 2^(S+1), or the resulting IRTE address is above HAW",
    )
    IR_NOT_PRESENT = 0x22, "IR.22", True, "P=0 in the IRTE"
    IR_TABLE_ACCESS = 0x23, "IR.23", False, "access error on the interrupt remapping table"
    IR_RESERVED = (
        0x24,
        "IR.24",
        True,
        "reserved field set in a present IRTE (also IM=1 when CAP.PI=0; whether reserved encodings such as "
        "DLM 3/6 or SVT=3 belong here or to 26h is not settled)",
    )
    IR_COMPATIBILITY_BLOCKED = 0x25, "IR.25", False, "compatibility-format request blocked (EIME=1 or CFIS=0)"
    IR_SOURCE_INVALID = 0x26, "IR.26", True, "source validation failed (SID/SQ/SVT check; QEMU also puts SVT=3 here)"
    IR_POSTED_ACCESS = 0x27, "IR.27", True, "access error on the posted interrupt descriptor"
    IR_POSTED_RESERVED = 0x28, "IR.28", True, "reserved field set in the posted interrupt descriptor"
    IR_NOT_AN_INTERRUPT = (
        0x29,
        "IR.29",
        False,
        "untranslated request without PASID to the interrupt range that is not a valid interrupt request (not "
        "a DWORD-sized write, and similar); one source only",
    )
    TTM_INVALID = (
        0x30,
        "RTA.1",
        False,
        "RTADDR.TTM unusable: 10 always, 11 without ADMS (with ADMS: abort, see text), 01 without SMTS",
    )
    PASID_IN_LEGACY_MODE = 0x31, "RTA.2", False, "request with PASID while TTM=00"
    PAGE_REQUEST_IN_LEGACY_MODE = 0x32, "RTA.3", False, "page request while TTM=00"
    RTA_4 = 0x33, "RTA.4", False, "name listed by one source only, condition not known"
    SM_ROOT_ACCESS = 0x38, "SRT.1", False, "access error on the root entry"
    SM_ROOT_NOT_PRESENT = 0x39, "SRT.2", False, "LP=0 (devfn<128) or UP=0 (devfn>=128)"
    SM_ROOT_RESERVED = 0x3A, "SRT.3", False, "reserved bit set in a present root entry half"
    SM_CONTEXT_ACCESS = 0x40, "SCT.1", False, "access error on the context entry"
    SM_CONTEXT_NOT_PRESENT = 0x41, "SCT.2", True, "P=0 in the context entry"
    SM_CONTEXT_RESERVED = 0x42, "SCT.3", True, "reserved bit set in a present context entry"
    SM_CONTEXT_INVALID = (
        0x43,
        "SCT.4",
        True,
        "context entry programmed wrongly: DTE without DT, PASIDE without PASID, PRE without PRS, PDTS beyond "
        "PSS; one source also puts RID_PASID beyond the directory here",
    )
    DEVICE_TLB_DISABLED = 0x44, "SCT.5", True, "DTE=0 and the request is a translation or translated request"
    PASID_DISABLED = 0x45, "SCT.6", True, "PASIDE=0 and the request has a PASID"
    PASID_BEYOND_DIRECTORY = 0x46, "SCT.7", True, "PASID of the request is not below 64 * 2^(PDTS+7)"
    PAGE_REQUEST_DISABLED = 0x47, "SCT.8", True, "PRE=0 and the request is a page request"
    RID_PASID_BEYOND_DIRECTORY = 0x48, "SCT.9", True, "RID_PASID is not below 64 * 2^(PDTS+7)"
    PASID_DIRECTORY_ACCESS = 0x50, "SPD.1", False, "access error on the directory entry"
    PASID_DIRECTORY_NOT_PRESENT = 0x51, "SPD.2", True, "P=0 in the directory entry"
    PASID_DIRECTORY_RESERVED = 0x52, "SPD.3", True, "reserved bit set in a present directory entry"
    PASID_ENTRY_ACCESS = 0x58, "SPT.1", False, "access error on the PASID table entry"
    PASID_ENTRY_NOT_PRESENT = 0x59, "SPT.2", True, "P=0 in the PASID table entry"
    PASID_ENTRY_RESERVED = 0x5A, "SPT.3", True, "reserved bit set in a present PASID table entry"
    PASID_ENTRY_INVALID = (
        0x5B,
        "SPT.4",
        True,
        "entry programmed wrongly: PGTT 0 or 5-7, or not supported; AW not in SAGAW; FSPM reserved or 5-level "
        "without FS5LP; SSADE without SSADS; SRE/EAFE/PWSNP and similar without the capability",
    )
    EXECUTE_REQUEST_DISABLED = 0x5C, "SPT.5", True, "ERE=0 and the request has execute-requested set"
    SUPERVISOR_REQUEST_DISABLED = 0x5D, "SPT.6", True, "SRE=0 and the request has privileged-mode set"
    FS_ENTRY_ACCESS = 0x70, "SFS.1 (SFL.1)", True, "access error on a first-stage entry below the root table"
    FS_NOT_PRESENT = 0x71, "SFS.2 (SFL.2)", True, "P=0 in a first-stage entry"
    FS_RESERVED = 0x72, "SFS.3 (SFL.3)", True, "reserved bit set in a present first-stage entry"
    FS_ROOT_ACCESS = 0x73, "SFS.4 (SFL.4)", True, "access error on the first table, reached through FSPTPTR"
    FS_TABLE_BEYOND_WIDTH = (
        0x74,
        "SFS.5 (SFL.5)",
        True,
        "address of a first-stage table (second-stage input) above min(MGAW, AW)",
    )
    FS_ROOT_READ_DENIED = 0x75, "SFS.6 (SFL.6)", True, "no second-stage read permission for the first-stage root table"
    FS_TABLE_READ_DENIED = 0x76, "SFS.7 (SFL.7)", True, "no second-stage read permission for a lower first-stage table"
    FS_UPDATE_DENIED = (
        0x77,
        "SFS.8 (SFL.8)",
        True,
        "no second-stage write permission where an A/D/EA bit of a first-stage entry must be set",
    )
    SM_SS_ENTRY_ACCESS = 0x78, "SSS.1 (SSL.1)", True, "access error on a second-stage entry below the root table"
    SM_SS_NOT_PRESENT = (
        0x79,
        "SSS.2 (SSL.2)",
        True,
        "R=W=0 in an entry of the walk, or R=W=0 after accumulating the permissions",
    )
    SM_SS_RESERVED = 0x7A, "SSS.3 (SSL.3)", True, "reserved bit set in a present second-stage entry"
    SM_SS_ROOT_ACCESS = 0x7B, "SSS.4 (SSL.4)", True, "access error on the first table, reached through SSPTPTR"
    SS_UPDATE_NOT_SNOOPED = (
        0x7C,
        "SSS.5 (SSL.5)",
        True,
        "an A or D bit must be set but the walk is not snooped (PWSNP=0 or SMPWCS=0)",
    )
    SS_UPDATE_FAILED = 0x7D, "SSS.6 (SSL.6)", True, "atomic update of an A or D bit failed"
    NOT_CANONICAL = 0x80, "SGN.1", True, "input address of a first-stage walk is not canonical for the paging mode"
    USER_DENIED = 0x81, "SGN.2", True, "user request hits U/S=0 in a first-stage entry"
    EXECUTE_DENIED = 0x82, "SGN.3", True, "execute request without execute permission (XD, SMEP or X=0)"
    SM_ADDRESS_BEYOND_HAW = 0x83, "SGN.4", True, "address above HAW with PGTT=100 (or translated request)"
    SM_ADDRESS_BEYOND_WIDTH = 0x84, "SGN.5", True, "input of the second stage above min(MGAW, AW)"
    SM_WRITE_DENIED = 0x85, "SGN.6", True, "write or AtomicOp without write permission (either stage)"
    SM_READ_DENIED = 0x86, "SGN.7", True, "read or AtomicOp without read permission (second stage)"
    SM_OUTPUT_IN_INTERRUPT_RANGE = (
        0x87,
        "SGN.8",
        True,
        "result address in 0xFEE00000-0xFEEFFFFF; pass-through or translated request to that range; request "
        "with PASID in pass-through",
    )
    SGN_9 = 0x88, "SGN.9", True, "name listed by one source only, condition not known"
    SGN_10 = 0x89, "SGN.10", True, "name listed by one source only, condition not known"
    FS_UPDATE_NOT_SNOOPED = 0x90, "SFS.9 (SFL.9)", True, "an A, D or EA bit must be set but the walk is not snooped"
    FS_UPDATE_FAILED = 0x91, "SFS.10 (SFL.10)", True, "atomic update of an A, D or EA bit failed"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request was blocked: the spec's reason, the request as it came, and where the walk stood.

    `at` is the physical address of the structure that decided (None where no structure did), `level` the level of the
    paging entry (0 outside paging), `disabled` is True where FPD silences the recording of a qualified fault. `silent`
    is a refusal that the unit never records: abort-DMA mode has no reason of its own, TTM_INVALID stands nearest.
    `index` is that of an interrupt whose remapping failed, 0 where it has none; a record holds its lower 16 bits.
    """

    reason: FaultReason
    request: Request
    at: int | None = None
    level: int = 0
    disabled: bool = False
    silent: bool = False
    index: int = 0

    @property
    def recorded(self) -> bool:
        """False if the refusal is silent, or FPD is set for this requester and the reason obeys it."""
        return not (self.silent or (self.disabled and self.reason.qualified))
