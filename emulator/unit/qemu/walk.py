"""One address through one stage of tables, judged entry by entry.

In each entry, in this order: readable (all ones is not), present and permitting this access, reserved bits, accessed
bit. What a higher entry withholds therefore wins over an error in a lower one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pagetables.address import Gpa, level_shift
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault, FaultReason
from pagetables.layouts.first_stage import FsPte
from pagetables.layouts.second_stage import SsPte
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions, Request, Translation
from pagetables.source import Source, TranslationType
from pagetables.walk import meets_interrupt_range

__all__ = ["TableReader", "TableRules"]

_ALL_ONES = (1 << 64) - 1
_PS, _SNP, _TM = 1 << 7, 1 << 11, 1 << 62
_PHYSICAL = 52  # from this bit on first-stage entries are not looked at
_IGNORED = 0xBFF << _PHYSICAL  # bits 63 and 61:52
_FIRST, _LAST = 1, 4  # levels


@dataclass(frozen=True, slots=True)
class TableRules:
    """Reserved bits by level (0 to 4) of tables and small pages, and of large pages."""

    second: tuple[int, ...]
    second_large: tuple[int, ...]
    first: tuple[int, ...]
    first_large: tuple[int, ...]
    address: int  # the bits of an entry that are an address


@lru_cache(maxsize=16)
def _rules(capabilities: Capabilities, ignores_tm: bool) -> TableRules:
    beyond = _ALL_ONES & ~(_IGNORED | capabilities.address_limit - 1)
    leaf = beyond & ~(_TM if ignores_tm else 0)
    snoop = 0 if capabilities.ecap.sc or capabilities.ecap.smts else _SNP
    first = beyond & (1 << _PHYSICAL) - 1
    return TableRules(
        second=(0, leaf | snoop, beyond | _SNP, beyond | _SNP, beyond | _SNP | _PS),
        second_large=(0, 0, leaf | 0x1FF000 | snoop, leaf | 0x3FFFF000 | snoop, 0),
        first=(0, first, first, first, first | _PS),
        first_large=(0, 0, first | 0x1FE000, first | 0x3FFFE000, 0),
        address=capabilities.address_limit - 1 & ~0xFFF,
    )


class TableReader:
    """Walks of one unit. Where the option scalable-mode is on (ECAP.SMTS) the interrupt range has that mode's code."""

    def __init__(self, memory: PhysicalMemory, capabilities: Capabilities, ignores_tm: bool) -> None:
        self._memory = memory
        self._capabilities = capabilities
        self._rules = _rules(capabilities, ignores_tm)
        smts = bool(capabilities.ecap.smts)
        self._interrupt = FaultReason.SM_OUTPUT_IN_INTERRUPT_RANGE if smts else FaultReason.OUTPUT_IN_INTERRUPT_RANGE

    def walk(self, source: Source, request: Request) -> Translation | Fault:
        """Where the tables of `source` lead; a fault names no entry."""
        first = source.translation is TranslationType.FIRST_STAGE
        found = self._first_stage(source, request) if first else self._second_stage(source, request)
        if isinstance(found, Translation) and meets_interrupt_range(found.gpa, found.page_shift):
            found = self._interrupt
        if isinstance(found, Translation):
            return found
        return Fault(found, request, disabled=source.fault_processing_disabled)

    def _read(self, table: int, iova: int, level: int) -> tuple[int, int | None]:
        at = table + 8 * (iova >> level_shift(level) & 511)
        entry = self._memory.load(at)
        return at, None if entry == _ALL_ONES else entry

    def _second_stage(self, source: Source, request: Request) -> Translation | FaultReason:
        width = min(self._capabilities.haw, level_shift(source.ss_levels + 1))
        if request.iova >> width:
            return FaultReason.ADDRESS_BEYOND_WIDTH
        write, table = request.access.writes, int(source.ss_table)
        denied = FaultReason.WRITE_DENIED if write else FaultReason.READ_DENIED
        granted = SsPte.r.mask | SsPte.w.mask
        for level in range(source.ss_levels, 0, -1):
            _, entry = self._read(table, request.iova, level)
            if entry is None:
                top = level == source.ss_levels
                return FaultReason.CONTEXT_INVALID if top else FaultReason.SS_ENTRY_ACCESS
            granted &= entry
            if not entry & (SsPte.w.mask if write else SsPte.r.mask):
                return denied
            large = bool(entry & _PS) and level > 1
            if entry & (self._rules.second_large if large and level < _LAST else self._rules.second)[level]:
                return FaultReason.SS_ENTRY_RESERVED
            table = entry & self._rules.address
            if large or level == _FIRST:
                return self._page(table, request.iova, level, Permissions(granted))
        return denied

    def _first_stage(self, source: Source, request: Request) -> Translation | FaultReason:
        if not self._canonical(source, request.iova):
            return FaultReason.NOT_CANONICAL
        table, granted = int(source.fs_table), Permissions.R | Permissions.W
        for level in range(source.fs_levels, 0, -1):
            at, entry = self._read(table, request.iova, level)
            if entry is None:
                top = level == source.fs_levels
                return FaultReason.FS_ROOT_ACCESS if top else FaultReason.FS_ENTRY_ACCESS
            reason = self._judged(entry, level, request)
            if reason is not None:
                return reason
            granted &= ~Permissions.NONE if entry & FsPte.rw.mask else Permissions.R
            leaf = level == _FIRST or bool(entry & _PS)
            marks = FsPte.a.mask | (FsPte.d.mask if leaf and request.access.writes else 0)
            if not entry & marks and not self._memory.store(at, entry | marks):  # one of the two is enough
                return FaultReason.FS_UPDATE_FAILED
            table = entry & self._rules.address
            if leaf:
                return self._page(table, request.iova, level, granted)
        return FaultReason.FS_NOT_PRESENT

    def _judged(self, entry: int, level: int, request: Request) -> FaultReason | None:
        if not entry & FsPte.p.mask:
            return FaultReason.FS_NOT_PRESENT
        if not entry & FsPte.us.mask:
            return FaultReason.USER_DENIED
        if request.access.writes and not entry & FsPte.rw.mask:
            return FaultReason.SM_WRITE_DENIED
        large = entry & _PS and 1 < level < _LAST
        reserved = (self._rules.first_large if large else self._rules.first)[level]
        return FaultReason.FS_RESERVED if entry & reserved else None

    def _canonical(self, source: Source, iova: int) -> bool:
        # The width is that of the second stage (AW), and no wider than the unit.
        width = min(self._capabilities.haw, level_shift(source.ss_levels + 1))
        return iova >> width - 1 in (0, (1 << 65 - width) - 1)

    @staticmethod
    def _page(start: int, iova: int, level: int, granted: Permissions) -> Translation:
        shift = level_shift(level)
        return Translation(Gpa(start >> shift << shift | iova & (1 << shift) - 1), shift, granted)
