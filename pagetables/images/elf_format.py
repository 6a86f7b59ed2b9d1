"""The parts of an ELF64 core that reader and writer share (System V ABI, chapters 4 and 5; core(5))."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from construct import Aligned, Bytes, Const, Int8ul, Int16ul, Int32ul, Int64ul, Padding, Struct

__all__ = [
    "CORE",
    "HEADER",
    "MAGIC",
    "NOTE",
    "NOT_IN_FILE",
    "PN_XNUM",
    "PROGRAM_HEADER",
    "PT_LOAD",
    "PT_NOTE",
    "SECTION_HEADER",
    "X86_64",
    "Note",
]

MAGIC = b"\x7fELF"
CORE = 4
X86_64 = 62
PT_LOAD = 1
PT_NOTE = 4
PN_XNUM = 0xFFFF  # the number of program headers does not fit 16 bits: section header 0 holds it in sh_info
NOT_IN_FILE = (1 << 64) - 1  # as p_offset: QEMU's mark for a mapping that it did not dump; as p_paddr: /proc/kcore's

HEADER = Struct(
    "magic" / Const(MAGIC),
    "file_class" / Int8ul,  # 2: 64 bits
    "data" / Int8ul,  # 1: little-endian
    "ident_version" / Int8ul,
    "os_abi" / Int8ul,
    Padding(8),
    "type" / Int16ul,
    "machine" / Int16ul,
    "version" / Int32ul,
    "entry" / Int64ul,
    "program_headers" / Int64ul,
    "section_headers" / Int64ul,
    "flags" / Int32ul,
    "header_size" / Int16ul,
    "program_header_size" / Int16ul,
    "program_header_count" / Int16ul,
    "section_header_size" / Int16ul,
    "section_header_count" / Int16ul,
    "section_names" / Int16ul,
)

SECTION_HEADER = Struct(
    Padding(40),
    "link" / Int32ul,
    "info" / Int32ul,
    Padding(16),
)

NOTE = Struct(
    "name_size" / Int32ul,
    "data_size" / Int32ul,
    "type" / Int32ul,
    "name" / Aligned(4, Bytes(lambda this: this.name_size)),
    "data" / Aligned(4, Bytes(lambda this: this.data_size)),
)

# type, flags, offset, vaddr, paddr, filesz, memsz, align. A plain struct: a core may have a million of them.
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True, slots=True)
class Note:
    """A note of an ELF core: who wrote it, its type in the owner's own numbering, and its bytes."""

    owner: str
    type: int
    data: bytes
