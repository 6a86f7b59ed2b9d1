"""Writing an ELF64 core: RAM as it stands, with notes; sparse, and whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, Protocol

from pagetables.images.elf_format import (
    CORE,
    HEADER,
    NOTE,
    PN_XNUM,
    PROGRAM_HEADER,
    PT_LOAD,
    PT_NOTE,
    SECTION_HEADER,
    X86_64,
    Note,
)
from pagetables.images.holes import runs_within
from pagetables.images.saving import replacing

__all__ = ["Sparse", "write_elf", "write_elf_file"]

READ_AND_WRITE = 6
CHUNK = 1 << 20


class Sparse(Protocol):
    """Memory that knows where it is and which of its pages hold anything; `PhysicalMemory` is one."""

    @property
    def regions(self) -> Sequence[tuple[int, int]]:
        """(start, size) of each region, ascending."""
        ...

    def touched(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each run of pages that may be other than zero, ascending."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        ...


class _Segment(NamedTuple):
    start: int
    held: int  # bytes in the file
    size: int  # bytes in memory: those that the file does not hold are zero


def write_elf(
    path: str | os.PathLike[str], memory: Sparse, notes: Iterable[Note | tuple[str, int, bytes]] = ()
) -> None:
    """Write `memory` and `notes` (owner, type, data) as an ELF core at `path`, which appears only when it is whole.

    The file holds the touched pages; a segment's memory size covers the untouched ones that follow, so that whoever
    reads it back finds zeros there, and nothing outside the regions.
    """
    with replacing(path) as file:
        write_elf_file(file, memory, notes)


def write_elf_file(file: BinaryIO, memory: Sparse, notes: Iterable[Note | tuple[str, int, bytes]] = ()) -> None:
    """The same into a file that is open already, which may be compressing."""
    segments = _segments(memory)
    note_bytes = b"".join(_note(Note(*note) if isinstance(note, tuple) else note) for note in notes)
    _write_headers(file, segments, note_bytes)
    for segment in segments:
        for start in range(segment.start, segment.start + segment.held, CHUNK):
            file.write(memory.read(start, min(CHUNK, segment.start + segment.held - start)))


def _segments(memory: Sparse) -> list[_Segment]:
    runs = list(memory.touched())
    segments = []
    for start, size in memory.regions:
        end = start + size
        inside = list(runs_within(runs, start, end))
        edges = [begin for begin, _ in inside[1:]] + [end]
        if not inside or inside[0][0] > start:
            segments.append(_Segment(start, 0, (inside[0][0] if inside else end) - start))
        for (begin, last), following in zip(inside, edges, strict=bool(inside)):
            segments.append(_Segment(begin, last - begin, following - begin))
    return segments


def _note(note: Note) -> bytes:
    name = note.owner.encode("ascii") + b"\0"
    built: bytes = NOTE.build(
        {"name_size": len(name), "data_size": len(note.data), "type": note.type, "name": name, "data": note.data}
    )
    return built


def _write_headers(file: BinaryIO, segments: list[_Segment], notes: bytes) -> None:
    count = len(segments) + 1
    many = count >= PN_XNUM
    headers = HEADER.sizeof() + (SECTION_HEADER.sizeof() if many else 0)
    offset = headers + count * PROGRAM_HEADER.size
    file.write(_file_header(count, many))
    if many:
        file.write(SECTION_HEADER.build({"link": 0, "info": count}))
    file.write(PROGRAM_HEADER.pack(PT_NOTE, 0, offset, 0, 0, len(notes), len(notes), 4))
    offset += len(notes)
    for start, held, size in segments:
        file.write(PROGRAM_HEADER.pack(PT_LOAD, READ_AND_WRITE, offset, start, start, held, size, 1))
        offset += held
    file.write(notes)


def _file_header(count: int, many: bool) -> bytes:
    built: bytes = HEADER.build(
        {
            "file_class": 2,
            "data": 1,
            "ident_version": 1,
            "os_abi": 0,
            "type": CORE,
            "machine": X86_64,
            "version": 1,
            "entry": 0,
            "program_headers": HEADER.sizeof() + (SECTION_HEADER.sizeof() if many else 0),
            "section_headers": HEADER.sizeof() if many else 0,
            "flags": 0,
            "header_size": HEADER.sizeof(),
            "program_header_size": PROGRAM_HEADER.size,
            "program_header_count": PN_XNUM if many else count,
            "section_header_size": SECTION_HEADER.sizeof() if many else 0,
            "section_header_count": 1 if many else 0,
            "section_names": 0,
        }
    )
    return built
