"""Why an interrupt was refused: the interrupt remapping entry that its index names."""

from __future__ import annotations

from pagetables.address import PAGE_SHIFT, SourceId, format_source_id
from pagetables.explain.codes import describe
from pagetables.explain.judging import Judgement
from pagetables.explain.tables import Tables
from pagetables.explain.verdict import Verdict
from pagetables.fault import FaultReason
from pagetables.images.interrupts import interrupts
from pagetables.images.registers import RegisterPage
from pagetables.interrupt import ENTRY_SIZE
from pagetables.interrupt_entry import serves_source

__all__ = ["judge_interrupt", "refusal"]

_OPEN = {FaultReason.IR_REQUEST_RESERVED, FaultReason.IR_NOT_AN_INTERRUPT}  # the message itself decides


def judge_interrupt(source: SourceId, index: int, reason: int | None, tables: Tables | None) -> Judgement:
    """The verdict on an interrupt of `source` with `index` that was refused for `reason`."""
    who = f"{format_source_id(source)} sent an interrupt with index {index:#x}"
    why = "" if reason is None else f", refused with {describe(reason)}"
    if tables is None or not tables.pages:
        return Judgement(Verdict.UNKNOWN, f"{who}{why}; an image is needed to see its entry")
    found = [refusal(tables, page, source, index) for page in tables.pages]
    told = "; ".join(text for _, text in found)
    if any(_agrees(reason, code, page) for (code, _), page in zip(found, tables.pages, strict=True)):
        return Judgement(Verdict.INTERRUPT_REFUSED, f"{who}{why}: {told}")
    return Judgement(Verdict.TABLES_DIFFER, f"{who}{why}; today {told}")


def _agrees(reason: int | None, found: FaultReason | None, page: RegisterPage) -> bool:
    if reason == FaultReason.IR_COMPATIBILITY_BLOCKED:
        return bool(page.interrupt_table.eime) or not page.status.cfis
    return reason in _OPEN or (found is not None and reason in (None, found))


def refusal(tables: Tables, page: RegisterPage, source: SourceId, index: int) -> tuple[FaultReason | None, str]:
    """Why a unit refuses the interrupt (None: it does not), and the same in words."""
    table = page.interrupt_table
    entries = 1 << table.s + 1
    if index >= entries:
        return FaultReason.IR_INDEX_BEYOND_TABLE, f"the table has {entries} entries"
    at = (table.irta << PAGE_SHIFT) + index * ENTRY_SIZE
    if tables.memory.load(at) is None:
        return FaultReason.IR_TABLE_ACCESS, f"the entry at {at:#x} is outside memory"
    entry = next((one for one in interrupts(tables.memory, table) if one.index == index), None)
    if entry is None:
        return FaultReason.IR_NOT_PRESENT, f"the entry at {at:#x} is not present"
    if entry.reserved_bits:
        return FaultReason.IR_RESERVED, f"the entry at {at:#x} has reserved bits set: {entry.reserved_bits:#x}"
    if not serves_source(entry.entry, source):
        return FaultReason.IR_SOURCE_INVALID, f"the entry at {at:#x} is for {format_source_id(entry.entry.sid)}"
    return None, f"the entry at {at:#x} is present and lets {format_source_id(source)} pass"
