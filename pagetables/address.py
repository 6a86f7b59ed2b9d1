"""Addresses and identifiers, each its own type: mixing an IOVA with a GPA is the bug of this field.

The types cost nothing at run time. A device is written `BB:DD.F` (hexadecimal, `SSSS:BB:DD.F` with a segment) and
its source-id is the 16-bit requester id: bus 15:8, device 7:3, function 2:0.
"""

from __future__ import annotations

import re
from typing import NewType

from pagetables.errors import InputError

__all__ = [
    "GPA_LIMIT",
    "INDEX_BITS",
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "DomainId",
    "Gpa",
    "Iova",
    "Pasid",
    "SourceId",
    "format_source_id",
    "level_shift",
    "level_size",
    "parse_number",
    "parse_size",
    "parse_source_id",
    "source_id",
]

Gpa = NewType("Gpa", int)
Iova = NewType("Iova", int)
SourceId = NewType("SourceId", int)
DomainId = NewType("DomainId", int)
Pasid = NewType("Pasid", int)

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
GPA_LIMIT = 1 << 52  # an entry holds address bits 51:12, and no x86 processor has more
INDEX_BITS = 9  # a table holds 512 entries of 8 bytes, at every level

_SIZE = re.compile(r"(?:(0x[0-9a-f][0-9a-f_]*)|([0-9][0-9_]*)(?:\.([0-9]+))?) *([bkmgtpe]?)(?:i?b)?", re.IGNORECASE)
_QEMU_SIZE = re.compile(r"0x[0-9a-f]+[kmgt]?|[0-9.]+[bkmgtpe]?", re.IGNORECASE)
_SIZE_LIMIT = 1 << 64
_MOST_DIGITS = 40
_DEVICE = re.compile(r"(?:[0-9a-f]{1,8}:)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)


def level_shift(level: int) -> int:
    """The lowest address bit that indexes a table of `level` (1 is the table of 4 KiB leaves)."""
    return PAGE_SHIFT + INDEX_BITS * (level - 1)


def level_size(level: int) -> int:
    """Bytes that one entry of a table of `level` spans."""
    return 1 << level_shift(level)


def source_id(bus: int, device: int, function: int) -> SourceId:
    """The source-id of bus, device and function; InputError for numbers that PCI does not have."""
    if not (0 <= bus <= 0xFF and 0 <= device <= 0x1F and 0 <= function <= 7):
        raise InputError(f"no PCI function has bus {bus:#x}, device {device:#x}, function {function:#x}")
    return SourceId(bus << 8 | device << 3 | function)


def parse_source_id(text: str) -> SourceId:
    """`00:1f.2` or `0000:00:1f.2` as a source-id; InputError otherwise."""
    match = _DEVICE.fullmatch(text.strip())
    if match is None or int(match[2], 16) > 0x1F:  # two digits could say more than five bits hold
        raise InputError(f"{text!r} is not a device: expected BUS:DEVICE.FUNCTION in hexadecimal, such as 00:1f.2")
    return source_id(int(match[1], 16), int(match[2], 16), int(match[3], 16))


def format_source_id(sid: int) -> str:
    """A source-id as `00:1f.2`."""
    return f"{sid >> 8:02x}:{sid >> 3 & 0x1F:02x}.{sid & 7}"


def parse_number(text: str) -> int:
    """A number as people write it (`0x1000`, `4096`, `0x1000_0003`); InputError otherwise."""
    try:
        return int(text, 0)
    except ValueError:
        raise InputError(f"{text!r} is not a number: expected decimal, or hexadecimal with 0x") from None


def parse_size(text: str, letters_only: bool = False) -> int:
    """A number of bytes below 2^64: `4096`, `0x1000`, `512M`, `1.5G`, `1 GiB`; InputError otherwise.

    K, M, G, T, P and E are powers of 1024, and a part of a byte is dropped, as QEMU does. `letters_only` takes no more
    than QEMU's options do: no blank, no underscore, no `iB`.
    """
    match = _SIZE.fullmatch(text.strip()) if len(text) <= _MOST_DIGITS else None
    shift = 10 * "bkmgtpe".find((match[4] or "b").lower()) if match else 0
    if match is None or (match[3] and not shift) or (letters_only and not _QEMU_SIZE.fullmatch(text)):
        raise InputError(f"{_brief(text)} is not a size such as 4096, 64K, 512M or 1.5G")
    fraction = match[3] or ""
    number = int(match[1], 16) if match[1] else int(match[2] + fraction)
    size: int = (number << shift) // 10 ** len(fraction)
    if size >= _SIZE_LIMIT:
        raise InputError(f"{text!r} is too large for a size: expected less than 16E")
    return size


def _brief(text: str) -> str:
    return repr(text if len(text) <= _MOST_DIGITS else f"{text[:_MOST_DIGITS]}...")
