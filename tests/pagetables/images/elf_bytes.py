"""ELF cores written by hand, field by field, so that a test can lie in any of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PAGE = 4096
LOAD, NOTE = 1, 4


@dataclass
class Load:
    """A program header as it is written: every field may be wrong."""

    address: int
    data: bytes = b""
    size: int | None = None  # in memory
    kind: int = LOAD
    offset: int | None = None
    held: int | None = None
    virtual: int | None = None


def note(owner: bytes, kind: int, data: bytes) -> bytes:
    """One note, padded as the ABI says."""
    name = owner + b"\0"
    pad = lambda text: text + b"\0" * (-len(text) % 4)  # noqa: E731
    return struct.pack("<III", len(name), len(data), kind) + pad(name) + pad(data)


@dataclass
class Core:
    """An ELF64 core; `bytes(core)` is the file."""

    loads: list[Load] = field(default_factory=list)
    notes: bytes = b""
    file_class: int = 2
    encoding: int = 1
    kind: int = 4
    machine: int = 62
    entry_size: int = 56
    count: int | None = None
    table: int = 64
    sections: int = 0
    section_info: int | None = None  # writes section header 0, as PN_XNUM wants it

    def __bytes__(self) -> bytes:
        headers = [Load(0, self.notes, kind=NOTE), *self.loads] if self.notes else list(self.loads)
        extra = b"" if self.section_info is None else struct.pack("<40xII16x", 0, self.section_info)
        sections = self.sections or (64 if extra else 0)
        table = self.table + len(extra)
        position = 64 + len(extra) + 56 * len(headers)
        rows, body = [], []
        for one in headers:
            size = len(one.data) if one.size is None else one.size
            held = len(one.data) if one.held is None else one.held
            offset = position if one.offset is None else one.offset
            virtual = one.address if one.virtual is None else one.virtual
            rows.append(struct.pack("<IIQQQQQQ", one.kind, 6, offset, virtual, one.address, held, size, 0))
            body.append(one.data)
            position += len(one.data)
        count = len(headers) if self.count is None else self.count
        head = b"\x7fELF" + bytes([self.file_class, self.encoding, 1]) + bytes(9)
        head += struct.pack("<HHIQQQI", self.kind, self.machine, 1, 0, table, sections, 0)
        head += struct.pack("<6H", 64, self.entry_size, count, 64 if sections else 0, 1 if sections else 0, 0)
        return head + extra + b"".join(rows + body)
