"""Which fault reasons mean the same, and what kind of trouble a reason is.

The specification gives scalable mode codes of its own. QEMU reports legacy mode's where it can, whatever the mode, and
so one condition may come under two codes; legacy mode also has one code where scalable mode tells what is not mapped
(71h, 79h) from what lacks the right (85h, 86h).
"""

from __future__ import annotations

from pagetables.fault import FaultReason as R

__all__ = ["BEYOND_WIDTH", "DENIED", "INCOMPLETE", "NO_ENTRY", "UNMAPPED", "describe", "is_same", "named"]

_NAMED: dict[int | None, R] = {int(reason): reason for reason in R}
_SCALABLE: dict[int, frozenset[R]] = {
    R.ROOT_NOT_PRESENT: frozenset({R.SM_ROOT_NOT_PRESENT}),
    R.CONTEXT_NOT_PRESENT: frozenset({R.SM_CONTEXT_NOT_PRESENT}),
    R.CONTEXT_INVALID: frozenset({R.SM_CONTEXT_INVALID, R.PASID_ENTRY_INVALID}),
    R.ADDRESS_BEYOND_WIDTH: frozenset({R.NOT_CANONICAL, R.SM_ADDRESS_BEYOND_HAW, R.SM_ADDRESS_BEYOND_WIDTH}),
    R.WRITE_DENIED: frozenset({R.FS_NOT_PRESENT, R.SM_SS_NOT_PRESENT, R.SM_WRITE_DENIED}),
    R.READ_DENIED: frozenset({R.FS_NOT_PRESENT, R.SM_SS_NOT_PRESENT, R.SM_READ_DENIED}),
    R.SS_ENTRY_ACCESS: frozenset({R.FS_ENTRY_ACCESS, R.FS_ROOT_ACCESS, R.SM_SS_ENTRY_ACCESS, R.SM_SS_ROOT_ACCESS}),
    R.ROOT_ACCESS: frozenset({R.SM_ROOT_ACCESS}),
    R.CONTEXT_ACCESS: frozenset({R.SM_CONTEXT_ACCESS}),
    R.ROOT_RESERVED: frozenset({R.SM_ROOT_RESERVED}),
    R.CONTEXT_RESERVED: frozenset({R.SM_CONTEXT_RESERVED}),
    R.SS_ENTRY_RESERVED: frozenset({R.FS_RESERVED, R.SM_SS_RESERVED}),
    R.TRANSLATION_TYPE_BLOCKED: frozenset({R.DEVICE_TLB_DISABLED}),
    R.OUTPUT_IN_INTERRUPT_RANGE: frozenset({R.SM_OUTPUT_IN_INTERRUPT_RANGE}),
}

NO_ENTRY = frozenset(
    {R.ROOT_NOT_PRESENT, R.CONTEXT_NOT_PRESENT, R.SM_ROOT_NOT_PRESENT, R.SM_CONTEXT_NOT_PRESENT}
)  # the requester is unknown
BEYOND_WIDTH = frozenset({R.ADDRESS_BEYOND_WIDTH}) | _SCALABLE[R.ADDRESS_BEYOND_WIDTH]
DENIED = frozenset({R.WRITE_DENIED, R.READ_DENIED, R.SM_WRITE_DENIED, R.SM_READ_DENIED, R.USER_DENIED})
UNMAPPED = frozenset({R.FS_NOT_PRESENT, R.SM_SS_NOT_PRESENT})  # codes of what is not mapped at all
INCOMPLETE = frozenset(
    {
        R.SS_ENTRY_ACCESS,
        R.ROOT_ACCESS,
        R.CONTEXT_ACCESS,
        R.SM_ROOT_ACCESS,
        R.SM_CONTEXT_ACCESS,
        R.PASID_DIRECTORY_ACCESS,
        R.PASID_ENTRY_ACCESS,
        R.FS_ENTRY_ACCESS,
        R.FS_ROOT_ACCESS,
        R.SM_SS_ENTRY_ACCESS,
        R.SM_SS_ROOT_ACCESS,
    }
)  # what a walk of an image ends in where the image lacks a page


def is_same(reported: int, walked: int) -> bool:
    """True if a unit may report `reported` for what the specification calls `walked`."""
    return reported == walked or walked in _SCALABLE.get(reported, ())


def named(code: int | None) -> R | None:
    """The reason with that code; None for codes that the specification does not name."""
    return _NAMED.get(code)


def describe(code: int) -> str:
    """A reason as people read it: `0x41 sm-context-not-present (SCT.2)`."""
    reason = named(code)
    if reason is None:
        return f"{code:#04x} (a reason that no specification names)"
    return f"{code:#04x} {reason.name.lower().replace('_', '-')} ({reason.condition})"
