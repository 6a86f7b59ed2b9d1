"""What is wrong with an interrupt remapping entry, and whom it serves.

Checks stand in the order of the specification: present, reserved fields, source. Where sources disagree, or units are
known to do otherwise, `InterruptRules` has a switch (VT-d, "Interrupt Remapping Table Entry").
"""

from __future__ import annotations

from dataclasses import dataclass

from pagetables.capabilities import Capabilities
from pagetables.fault import FaultReason
from pagetables.layouts.interrupt import PostedInterruptEntry, RemappedInterruptEntry
from pagetables.layouts.values import DeliveryMode, SourceValidation

__all__ = [
    "SPECIFIED",
    "InterruptRules",
    "compared_bits",
    "interrupt_entry",
    "interrupt_entry_error",
    "reserved_bits",
    "serves_source",
]

_SHORT_DESTINATION = 0xFF << RemappedInterruptEntry.dst.lo + 8  # bits 47:40, where EIME=0 has its 8-bit APIC id
_FUNCTION_BITS_IGNORED = (0b000, 0b100, 0b110, 0b111)  # by SQ
_DELIVERY_MODES = frozenset(DeliveryMode)


@dataclass(frozen=True, slots=True)
class InterruptRules:
    """How a unit deviates from the specification's remapping of interrupts; all False: it does not."""

    pass_compatibility_format: bool = False  # CFIS and EIME block nothing
    wrap_interrupt_index: bool = False  # handle + subhandle in 16 bits
    check_subhandle_late: bool = False  # 20h for reserved data bits comes after the entry's own faults
    ignore_posted_mode: bool = False  # IM is not looked at
    ignore_wide_destination: bool = False  # EIME=0: DST outside its 8 bits is not looked at
    ignore_delivery_mode: bool = False  # the reserved modes 3 and 6 are delivered
    swap_bus_range: bool = False  # SVT=2: last bus in SID 15:8, first in 7:0
    reserve_source_type: bool = False  # SVT=3 is a reserved field (24h), not a failed source check (26h)
    ignore_descriptor_tail: bool = False  # bits 511:320 of a posted descriptor are software's


SPECIFIED = InterruptRules()


def interrupt_entry(raw: int, rules: InterruptRules = SPECIFIED) -> RemappedInterruptEntry | PostedInterruptEntry:
    """The 128-bit entry in the format that its mode (IM) names."""
    entry = RemappedInterruptEntry(raw)
    return PostedInterruptEntry(raw) if entry.im and not rules.ignore_posted_mode else entry


def reserved_bits(
    entry: RemappedInterruptEntry | PostedInterruptEntry, extended: bool, rules: InterruptRules = SPECIFIED
) -> int:
    """Reserved bits that are set; `extended` (EIME) says how wide the destination is."""
    reserved = entry.reserved_mask
    if isinstance(entry, RemappedInterruptEntry) and not extended and not rules.ignore_wide_destination:
        reserved |= RemappedInterruptEntry.dst.mask & ~_SHORT_DESTINATION
    return int(entry) & reserved


def interrupt_entry_error(
    entry: RemappedInterruptEntry | PostedInterruptEntry,
    extended: bool,
    capabilities: Capabilities,
    rules: InterruptRules = SPECIFIED,
) -> FaultReason | None:
    """22h or 24h. A posted entry is one reserved bit too many where CAP.PI=0."""
    if not entry.p:
        return FaultReason.IR_NOT_PRESENT
    unknown = rules.reserve_source_type and entry.svt not in frozenset(SourceValidation)
    if isinstance(entry, PostedInterruptEntry):
        unknown = unknown or not capabilities.cap.pi
    elif not rules.ignore_delivery_mode:
        unknown = unknown or entry.dlm not in _DELIVERY_MODES
    return FaultReason.IR_RESERVED if unknown or reserved_bits(entry, extended, rules) else None


def compared_bits(qualifier: int) -> int:
    """The bits of a source-id that SVT=1 compares, by SQ."""
    return 0xFFFF & ~_FUNCTION_BITS_IGNORED[qualifier]


def serves_source(
    entry: RemappedInterruptEntry | PostedInterruptEntry, source: int, rules: InterruptRules = SPECIFIED
) -> bool:
    """True if the entry lets the requester `source` pass. SVT=3 lets nobody."""
    match entry.svt:
        case SourceValidation.NONE:
            return True
        case SourceValidation.SOURCE_ID:
            return not (source ^ entry.sid) & compared_bits(entry.sq)
        case SourceValidation.BUS_RANGE:
            first, last = entry.sid >> 8, entry.sid & 0xFF
            if rules.swap_bus_range:
                first, last = last, first
            return first <= source >> 8 <= last
    return False
