"""The DMAR table in an image of memory, found as firmware leaves it: RSDP, RSDT or XSDT, DMAR (ACPI 6.5, §5.2.5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pagetables.address import PAGE_SIZE
from pagetables.errors import NoMemory
from pagetables.memory import Memory

__all__ = ["FoundDmar", "find_dmar"]

SEARCHED = range(0xE0000, 0x100000, PAGE_SIZE)  # where a BIOS keeps the RSDP; UEFI hands it over in other ways
EBDA_SEGMENT = 0x40E  # a BIOS may keep it in the first KiB of that segment, too
LONGEST = 1 << 20  # bytes of a table
POINTER, POINTER_2 = 20, 36  # bytes of the RSDP, in revision 0 and 2
HEADER = 36


@dataclass(frozen=True, slots=True)
class FoundDmar:
    """The DMAR table, and (start, size) of everything that led to it, itself the last."""

    table: bytes
    parts: tuple[tuple[int, int], ...]


def find_dmar(memory: Memory) -> FoundDmar | None:
    """The DMAR table that the firmware left in `memory`, or None."""
    for pointer in _pointers(memory):
        data = _read(memory, pointer, POINTER_2)
        if not data or sum(data[:POINTER]) & 0xFF:
            continue
        extended = data[15] >= 2
        at, width = (struct.unpack_from("<Q", data, 24)[0], 8) if extended else (_dword(data, 16), 4)
        root = _table(memory, at, b"XSDT" if extended else b"RSDT")
        for offset in range(HEADER, len(root) - width + 1, width):
            where = int.from_bytes(root[offset : offset + width], "little")
            if table := _table(memory, where, b"DMAR"):
                size = POINTER_2 if extended else POINTER
                return FoundDmar(table, ((pointer, size), (at, len(root)), (where, len(table))))
    return None


def _pointers(memory: Memory) -> Iterator[int]:
    segment = int.from_bytes(_read(memory, EBDA_SEGMENT, 2), "little") << 4
    for start, size in ((segment, 1024), *((page, PAGE_SIZE) for page in SEARCHED)):
        data = _read(memory, start, size)
        yield from (start + at for at in range(0, len(data), 16) if data.startswith(b"RSD PTR ", at))


def _table(memory: Memory, at: int, signature: bytes) -> bytes:
    head = _read(memory, at, HEADER)
    size = _dword(head, 4) if head.startswith(signature) else 0
    return _read(memory, at, size) if HEADER <= size <= LONGEST else b""


def _dword(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _read(memory: Memory, at: int, size: int) -> bytes:
    try:
        return memory.read(at, size)
    except NoMemory:
        return b""
