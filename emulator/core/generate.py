"""layout.h: the core's masks and codes, made from the declared layouts, with a digest that tells a stale build.

Imports `pagetables` only, so that it runs before anything is compiled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pagetables.bits import Access, Bits, Word
from pagetables.fault import FaultReason
from pagetables.layouts import (
    FsPde2M,
    FsPdpe1G,
    FsPte,
    InvalidationWait,
    IotlbInvalidate,
    PasidIotlbInvalidate,
    SsPde2M,
    SsPdpe1G,
    SsPte,
)
from pagetables.layouts.registers import (
    REGISTERS,
    FaultStatus,
    GlobalStatus,
    InvalidationQueueHead,
    InvalidationQueueTail,
)

__all__ = ["header", "layout_digest"]

ENTRIES: dict[str, tuple[type[Word], tuple[str, ...]]] = {
    "SS": (SsPde2M, ("r", "w", "x", "ps", "a", "d", "snp")),
    "FS": (FsPde2M, ("p", "rw", "us", "a", "d", "ps", "ea", "pat", "xd")),
    "SS_PTE": (SsPte, ("addr",)),
    "SS_2M": (SsPde2M, ("addr",)),
    "SS_1G": (SsPdpe1G, ("addr",)),
    "FS_PTE": (FsPte, ("addr", "pat")),
    "FS_2M": (FsPde2M, ("addr",)),
    "FS_1G": (FsPdpe1G, ("addr",)),
    "IQH": (InvalidationQueueHead, ("qh",)),
    "IQT": (InvalidationQueueTail, ("qt",)),
    "GSTS": (GlobalStatus, ("qies",)),
    "FSTS": (FaultStatus, ("iqe",)),
}
DESCRIPTORS: dict[str, type[Word]] = {
    "IOTLB": IotlbInvalidate,
    "WAIT": InvalidationWait,
    "PASID_IOTLB": PasidIotlbInvalidate,
}
OFFSETS = ("GSTS", "FSTS", "IQH", "IQT")
QWORD = (1 << 64) - 1
# What a walk can end in; everything before it is the unit's.
WALK_FAULTS = frozenset(
    reason
    for reason in FaultReason
    if reason >= FaultReason.FS_ENTRY_ACCESS
    or FaultReason.CONTEXT_INVALID <= reason <= FaultReason.SS_ENTRY_ACCESS
    or reason in (FaultReason.SS_ENTRY_RESERVED, FaultReason.OUTPUT_IN_INTERRUPT_RANGE)
)


def _define(name: str, value: int) -> str:
    return f"#define {name} UINT64_C({value:#x})"


def _entry_masks() -> Iterator[str]:
    for prefix, (layout, names) in ENTRIES.items():
        for name in names:
            yield _define(f"{prefix}_{layout.field(name).label}", layout.field(name).mask)


def _descriptor_field(prefix: str, field: Bits) -> Iterator[str]:
    # A field is read as (its qword & MASK) >> SHIFT; none of them crosses a qword.
    shift = field.lo % 64
    yield _define(f"{prefix}_{field.label}", field.limit << shift)
    if field.width > 1 and shift:
        yield f"#define {prefix}_{field.label}_SHIFT {shift}"


def _descriptor_masks() -> Iterator[str]:
    hidden = (Access.RSVD, Access.IGN)
    for prefix, layout in DESCRIPTORS.items():
        for field in layout.fields_by_name.values():
            if field.access not in hidden:
                yield from _descriptor_field(prefix, field)
        for qword in range(4):
            reserved = layout.reserved_mask >> 64 * qword & QWORD
            yield _define(f"{prefix}_RESERVED{qword}", reserved if qword < layout.width // 64 else QWORD)


def _offsets() -> Iterator[str]:
    for name in OFFSETS:
        yield f"#define {name}_OFFSET {REGISTERS[name].__dict__['mmio_offset']:#x}"


def _faults() -> Iterator[str]:
    return (f"#define FAULT_{reason.name} {reason.value:#x}" for reason in FaultReason if reason in WALK_FAULTS)


def _body() -> str:
    return "\n".join([*_entry_masks(), *_descriptor_masks(), *_offsets(), *_faults()]) + "\n"


def layout_digest() -> str:
    """What the layouts imported now generate, as a SHA-256 in hexadecimal."""
    return hashlib.sha256(_body().encode()).hexdigest()


def header() -> str:
    """The text of layout.h."""
    return (
        "/* Generated from pagetables.layouts by emulator/core/generate.py: never edited, never committed. */\n"
        "#ifndef VTD_LAYOUT_H\n#define VTD_LAYOUT_H\n\n#include <stdint.h>\n\n"
        f'{_body()}#define CORE_LAYOUT_DIGEST "{layout_digest()}"\n\n#endif\n'
    )
