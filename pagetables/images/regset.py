"""Registers as text: Linux's debugfs `iommu_regset`, and QEMU's `xp`. Both may hold several units."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pagetables.address import PAGE_SIZE
from pagetables.errors import ImageError
from pagetables.layouts.registers import REGISTERS, Register

__all__ = ["RegisterText", "as_text", "register_text"]

PREFACE = 256  # lines of a session, before the registers
UNIT_LIMIT = 256  # a large machine has some dozen
WORD = 4  # bytes; what is known is known in these
_NEEDED = ("VER", "CAP", "ECAP", "GSTS", "RTADDR")

_UNIT = re.compile(r"IOMMU: (\S+) Register Base Address: (?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)
_HEADING = re.compile(r"Name\s+Offset\s+Contents|\[\.\.\.\]")
_ROW = re.compile(r"(\w+)\s+0x([0-9a-f]{1,4})\s+0x([0-9a-f]{1,16})", re.IGNORECASE)
_DUMP = re.compile(r"([0-9a-f]{8,16}):((?:\s+0x[0-9a-f]{2,16})+)", re.IGNORECASE)
_ITEM_DIGITS = (2, 4, 8, 16)  # of /xb, /xh, /xw, /xg
_UNREADABLE = "Cannot access memory"  # QEMU, behind what it answers


class RegisterText(NamedTuple):
    """The registers of one unit as a text gives them. What it does not give is 0 in `page`.

    `known` holds the offsets of the 32-bit words that it does give.
    """

    name: str
    base: int
    page: bytes
    known: frozenset[int]


def register_text(name: str, data: bytes) -> tuple[RegisterText, ...] | None:
    """The units of debugfs `iommu_regset` or `xp` text in `data`, or None where it is neither; ImageError if damaged.

    A prompt and a command may stand before the first line; `name` is the file's, for messages.
    """
    lines = [line.strip() for line in data.decode("ascii", "replace").splitlines()]
    for start, line in enumerate(lines[:PREFACE]):
        for pattern, read in _READERS:
            if pattern.fullmatch(line):
                units = read(name, lines, start)
                return tuple(unit.checked(name) for unit in units)
    return None


def as_text(base: int, page: bytes, known: frozenset[int] | None = None) -> str:
    """The register page of a unit as `xp` prints it; words that are not `known` (None: all are) are left out."""
    lines = []
    for at in range(0, len(page) - WORD + 1, WORD):
        if known is None or at in known:
            lines.append(f"{base + at:016x}: 0x{int.from_bytes(page[at : at + WORD], 'little'):08x}\n")
    return "".join(lines)


class _Page:
    def __init__(self, unit: str, base: int, line: int) -> None:
        self.unit, self.base, self.line = unit, base, line
        self.page = bytearray(PAGE_SIZE)
        self.known: set[int] = set()

    def put(self, offset: int, value: int, size: int) -> None:
        self.page[offset : offset + size] = value.to_bytes(size, "little")
        self.known.update(range(offset, offset + size))

    def checked(self, name: str) -> RegisterText:
        words = {at for at in range(0, PAGE_SIZE, WORD) if all(at + i in self.known for i in range(WORD))}
        for needed in _NEEDED:
            register = REGISTERS[needed]
            if not words.issuperset(range(register.mmio_offset, _end(register), WORD)):
                raise ImageError(f"{name}: line {self.line}: {self.unit} at {self.base:#x} lacks {needed}: cut short?")
        return RegisterText(self.unit, self.base, bytes(self.page), frozenset(words))


def _new_page(where: str, unit: str, base: int, line: int, before: int) -> _Page:
    if before == UNIT_LIMIT:
        raise ImageError(f"{where}: more than {UNIT_LIMIT} units")
    return _Page(unit, base, line)


def _end(register: type[Register]) -> int:
    return register.mmio_offset + register.width // 8


def _regset(name: str, lines: list[str], start: int) -> list[_Page]:
    units: list[_Page] = []
    for number, line in enumerate(lines[start:], start + 1):
        where = f"{name}: line {number}"
        if unit := _UNIT.fullmatch(line):
            units.append(_new_page(where, unit[1], int(unit[2], 16), number, len(units)))
        elif row := _ROW.fullmatch(line):
            _put_row(where, units[-1], row[1], int(row[2], 16), int(row[3], 16))
        elif line and not _HEADING.fullmatch(line):
            raise ImageError(f"{where}: {line[:40]!r}; expected a register's name, offset and contents")
    return units


def _put_row(where: str, unit: _Page, label: str, offset: int, value: int) -> None:
    stem = label.rstrip("0123456789")
    register = REGISTERS.get(label) or REGISTERS.get(stem)
    if register is None:  # a newer kernel's; without its width nobody could tell what else the value covers
        return
    index = 0 if label in REGISTERS else int(label[len(stem) :])
    expected = register.mmio_offset + index * register.spacing
    if offset != expected or register.mmio_base or index >= register.copies:
        raise ImageError(f"{where}: {label} at {offset:#x}; the register page has it at {expected:#x}")
    if value >> register.width:
        raise ImageError(f"{where}: {label} is {value:#x}, but has {register.width} bits")
    unit.put(offset, value, register.width // 8)


def _xp(name: str, lines: list[str], start: int) -> list[_Page]:
    units: dict[int, _Page] = {}
    for number, line in enumerate(lines[start:], start + 1):
        where = f"{name}: line {number}"
        if dump := _DUMP.fullmatch(line):
            for address, value, size in _items(where, int(dump[1], 16), dump[2].split()):
                base, offset = address & -PAGE_SIZE, address % PAGE_SIZE
                if base not in units:
                    units[base] = _new_page(where, "the unit", base, number, len(units))
                units[base].put(offset, value, size)
        elif line and not line.startswith("(qemu)") and not line.endswith(_UNREADABLE):
            raise ImageError(f"{where}: {line[:40]!r}; expected an address and the words there, as `xp /1024xw` prints")
    return list(units.values())


def _items(where: str, address: int, items: list[str]) -> Iterator[tuple[int, int, int]]:
    digits = len(items[0]) - 2
    if digits not in _ITEM_DIGITS or any(len(item) - 2 != digits for item in items) or address % (digits // 2):
        raise ImageError(f"{where}: items of no width that `xp` prints: {' '.join(items)[:40]}")
    for index, item in enumerate(items):
        yield address + index * digits // 2, int(item, 16), digits // 2


_READERS: tuple[tuple[re.Pattern[str], Callable[[str, list[str], int], list[_Page]]], ...] = (
    (_UNIT, _regset),
    (_DUMP, _xp),
)
