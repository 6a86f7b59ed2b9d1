"""What the root, context and PASID entries say of a requester: the start of every walk."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pagetables.address import DomainId, Gpa

__all__ = ["Source", "TranslationType"]


class TranslationType(enum.IntEnum):
    """How addresses of a source are translated; the values are PGTT's."""

    FIRST_STAGE = 1
    SECOND_STAGE = 2
    NESTED = 3
    PASS_THROUGH = 4


@dataclass(frozen=True, slots=True)
class Source:
    """Stage, tables and tags of one (source-id, PASID), decoded from its entries.

    `legacy` decides which fault codes a walk ends in. `ss_levels` and `fs_levels` are 0 where that stage is unused.
    """

    translation: TranslationType
    domain_id: DomainId
    legacy: bool
    ss_table: Gpa = Gpa(0)
    ss_levels: int = 0
    fs_table: Gpa = Gpa(0)
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
