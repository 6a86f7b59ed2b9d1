"""What is wrong with a DMAR table: what operating systems complain about, and what contradicts itself.

A damaged table is read as far as it goes, as Linux does: a structure without a length ends it, one of an unknown type
is passed over. Only what is no DMAR table at all is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pagetables.dmar_rules import CHECKS, Complaint, Placed
from pagetables.dmar_scopes import check_scopes
from pagetables.errors import InputError
from pagetables.layouts.dmar import DmarTable, parse, parse_structure
from pagetables.layouts.dmar.frames import HEAD, HEADER
from pagetables.severity import Severity

__all__ = ["DmarReport", "check_dmar"]


@dataclass(frozen=True, slots=True)
class DmarReport:
    """A DMAR table as far as it could be read, where each structure is, and what is wrong, by offset."""

    table: DmarTable
    placed: tuple[Placed, ...]
    complaints: tuple[Complaint, ...]

    @property
    def worst(self) -> Severity | None:
        """The highest severity of a complaint; None if there is none."""
        return max((one.severity for one in self.complaints), default=None)


def check_dmar(data: bytes) -> DmarReport:
    """The DMAR table that `data` begins with, and what is wrong with it; InputError if it is none at all."""
    if len(data) < HEADER.sizeof():
        raise InputError(f"DMAR table: {len(data)} bytes, expected a header of {HEADER.sizeof()}")
    if data[:4] != b"DMAR":
        raise InputError(f"DMAR table: signature {data[:4]!r} at offset 0, expected b'DMAR'")
    reader = _Reader(data)
    placed = tuple(reader.structures())
    table = _header(data, placed)
    complaints = [*reader.complaints, *(one for check in CHECKS for one in check(table, placed))]
    complaints += check_scopes(table, placed)
    return DmarReport(table, placed, tuple(sorted(complaints, key=lambda one: (one.offset or 0, -one.severity))))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.complaints: list[Complaint] = []
        said, size = HEADER.parse(data).length, HEADER.sizeof()
        self._data = data[: max(said, size)]
        if said < size:
            self._tell("length", f"the table says it has {said} bytes, less than a header of {size}", 4)
            self._data = data
        elif said > len(data):
            self._tell("length", f"the table says it has {said} bytes, and {len(data)} are there", 4)
        elif said < len(data):
            self._tell("length", f"{len(data) - said} bytes follow the table", said, Severity.NOTE)
        if sum(self._data) & 0xFF:
            right = (data[9] - sum(self._data)) & 0xFF
            self._tell("checksum", f"checksum {data[9]:#04x}, expected {right:#04x}; Linux refuses the table", 9)

    def _tell(self, check: str, text: str, at: int, severity: Severity = Severity.ERROR) -> None:
        self.complaints.append(Complaint(check, severity, text, at))

    def structures(self) -> Iterator[Placed]:
        data, at = self._data, HEADER.sizeof()
        while at < len(data):
            left = len(data) - at
            length = HEAD.parse(data[at : at + HEAD.sizeof()]).length if left >= HEAD.sizeof() else left
            if length < HEAD.sizeof() or left < HEAD.sizeof():
                text = f"structure at {at:#x} has length {length}, expected 4 or more; {left} bytes are not read"
                return self._tell("length", text, at)
            if length > left:
                text = f"structure at {at:#x} has length {length}, and {left} bytes are left; Linux refuses the table"
                return self._tell("length", text, at)
            try:
                yield Placed(at, parse_structure(data[at : at + length], at))
            except InputError as error:
                self._tell("structure", str(error).removeprefix("DMAR table: "), at)
            at += length
        return None


def _header(data: bytes, placed: tuple[Placed, ...]) -> DmarTable:
    # The header alone as a table, made whole; then what was read.
    head = bytearray(data[: HEADER.sizeof()])
    head[4:8] = len(head).to_bytes(4, "little")
    head[9] = (head[9] - sum(head)) & 0xFF
    return replace(parse(bytes(head)), structures=tuple(one.structure for one in placed))
