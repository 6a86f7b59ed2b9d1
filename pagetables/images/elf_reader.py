"""Reading an ELF64 core. The file may lie: nothing is believed before it is compared with the file's size."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from typing import Any

from construct import StreamError

from pagetables.address import GPA_LIMIT
from pagetables.errors import ImageError
from pagetables.images.elf_format import (
    CORE,
    HEADER,
    NOT_IN_FILE,
    NOTE,
    PN_XNUM,
    PROGRAM_HEADER,
    PT_LOAD,
    PT_NOTE,
    SECTION_HEADER,
    Note,
)
from pagetables.images.flattened import Flattened
from pagetables.images.image import Segment

__all__ = ["read_elf"]

HEADER_LIMIT = 1 << 20  # program headers: a core of 4 TiB in runs of 4 MiB
NOTE_LIMIT = 64 << 20  # bytes of notes: a thousand processors' registers are a megabyte
CHUNK = 1 << 20

_TYPES = {1: "a relocatable object", 2: "a program", 3: "a shared object or program"}


def read_elf(path: str, data: mmap.mmap | bytes | Flattened) -> tuple[list[Segment], list[Note]]:
    """The segments, ascending and disjoint, and the notes of the ELF core `data`; ImageError names `path`."""
    return _Reader(path, data).read()


class _Reader:
    def __init__(self, path: str, data: mmap.mmap | bytes | Flattened) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.note_bytes = 0

    def read(self) -> tuple[list[Segment], list[Note]]:
        loads: list[Segment] = []
        notes: list[Note] = []
        for index, (kind, _, offset, _, start, held, size, _) in enumerate(self._program_headers()):
            where = f"program header {index}"
            if kind == PT_LOAD and not _left_out(start, offset, held, size):
                self._check_load(where, start, offset, held, size)
                loads.append(Segment(start, size, offset, held))
            elif kind == PT_NOTE:
                self._check_in_file(where, offset, held)
                notes.extend(self._notes(offset, held))
        if not loads:
            raise self._error("holds no memory: not one loadable segment")
        return _Overlaps(self, loads).resolved(), notes

    def _error(self, message: str) -> ImageError:
        return ImageError(f"{self.path}: {message}")

    def _program_headers(self) -> Iterator[tuple[int, ...]]:
        header = self._header()
        count, offset = self._header_count(header), header.program_headers
        end = offset + count * PROGRAM_HEADER.size
        if end > self.size:
            raise self._error(
                f"{count} program headers at {offset:#x} end at {end:#x}, but the file at {self.size:#x}: cut short?"
            )
        if count > HEADER_LIMIT:
            raise self._error(f"{count} program headers; at most {HEADER_LIMIT} are read")
        return PROGRAM_HEADER.iter_unpack(self.data[offset:end])

    def _header(self) -> Any:
        try:
            header = HEADER.parse(self.data[: HEADER.sizeof()])
        except StreamError:
            raise self._error(f"cut short: {self.size} bytes, an ELF header has {HEADER.sizeof()}") from None
        if header.file_class != 2:
            raise self._error(f"ELF class {header.file_class} at offset 4; expected 2 (64 bits)")
        if header.data != 1:
            raise self._error(f"ELF data encoding {header.data} at offset 5; expected 1 (little-endian)")
        if header.type != CORE:
            kind = _TYPES.get(header.type, "of an unknown kind")
            raise self._error(f"ELF type {header.type} at offset 16 ({kind}); expected {CORE} (a core)")
        if header.program_header_size != PROGRAM_HEADER.size:
            size = header.program_header_size
            raise self._error(f"program headers of {size} bytes at offset 54; expected {PROGRAM_HEADER.size}")
        return header

    def _header_count(self, header: Any) -> int:
        count: int = header.program_header_count
        if count != PN_XNUM:
            return count
        offset = header.section_headers
        if not offset or offset + SECTION_HEADER.sizeof() > self.size:
            raise self._error(
                f"the number of program headers is in section header 0, at {offset:#x}, which the file does not hold"
            )
        return int(SECTION_HEADER.parse(self.data[offset : offset + SECTION_HEADER.sizeof()]).info)

    def _check_in_file(self, where: str, offset: int, held: int) -> None:
        if offset + held > self.size:
            claim = f"bytes {offset:#x}-{offset + held:#x}"
            raise self._error(f"{where}: {claim} lie beyond the end of the file, {self.size:#x}: cut short?")

    def _check_load(self, where: str, start: int, offset: int, held: int, size: int) -> None:
        if held > size:
            raise self._error(f"{where}: {held:#x} bytes in the file but {size:#x} in memory")
        if start + size > GPA_LIMIT:
            raise self._error(f"{where}: memory up to {start + size:#x}; physical addresses end at {GPA_LIMIT:#x}")
        self._check_in_file(where, offset, held)

    def _notes(self, offset: int, size: int) -> Iterator[Note]:
        self.note_bytes += size
        if self.note_bytes > NOTE_LIMIT:
            raise self._error(f"notes of {self.note_bytes:#x} bytes; at most {NOTE_LIMIT:#x} are read")
        stream = io.BytesIO(self.data[offset : offset + size] + bytes(3))  # some leave the last note without padding
        while stream.tell() < size:
            where = offset + stream.tell()
            try:
                note = NOTE.parse_stream(stream)
            except StreamError:
                raise self._error(f"the note at {where:#x} does not end within its segment: cut short?") from None
            yield Note(note.name.rstrip(b"\0").decode("ascii", "replace"), note.type, note.data)


def _left_out(start: int, offset: int, held: int, size: int) -> bool:
    # QEMU gives the offset -1 to what it filtered out, /proc/kcore the address -1 to what is not RAM.
    return not size or start == NOT_IN_FILE or (offset == NOT_IN_FILE and not held)


class _Overlaps:
    # Overlaps are legal where they agree: a vmcore has the kernel's text twice, QEMU's `dump-guest-memory -p` has one
    # segment for each virtual mapping. Where they differ nobody could say which one is true.

    def __init__(self, reader: _Reader, loads: list[Segment]) -> None:
        self.reader = reader
        self.loads = sorted(loads)
        self.budget = 2 * reader.size + CHUNK  # bytes compared, so that a lying file cannot keep us for ever

    def resolved(self) -> list[Segment]:
        disjoint: list[Segment] = []
        for segment in self.loads:
            end = disjoint[-1].end if disjoint else 0
            if segment.start < end:
                self._compare(disjoint, segment, min(end, segment.end))
            if segment.end > end:
                disjoint.append(_from(segment, max(segment.start, end)))
        return disjoint

    def _compare(self, disjoint: list[Segment], segment: Segment, end: int) -> None:
        for other in reversed(disjoint):
            if other.end <= segment.start:
                return
            start, last = max(other.start, segment.start), min(other.end, end)
            if start < last and not self._equal(other, segment, start, last):
                raise self.reader._error(
                    f"two segments claim {start:#x}-{last:#x} with different contents "
                    f"(at {_from(other, start).offset:#x} and {_from(segment, start).offset:#x})"
                )

    def _equal(self, one: Segment, two: Segment, start: int, end: int) -> bool:
        self._spend(PROGRAM_HEADER.size)
        held = max(one.start + one.held, two.start + two.held, start)
        if one.offset - one.start == two.offset - two.start and one.start + one.held == two.start + two.held:
            return True
        for address in range(start, min(end, held), CHUNK):
            size = min(CHUNK, min(end, held) - address)
            self._spend(size)
            if self._bytes(one, address, size) != self._bytes(two, address, size):
                return False
        return True

    def _spend(self, size: int) -> None:
        self.budget -= size
        if self.budget < 0:
            raise self.reader._error("segments overlap more often than the file has bytes")

    def _bytes(self, segment: Segment, address: int, size: int) -> bytes:
        rest = _from(segment, address)
        held = min(size, rest.held)
        return self.reader.data[rest.offset : rest.offset + held] + bytes(size - held)


def _from(segment: Segment, start: int) -> Segment:
    cut = start - segment.start
    return Segment(start, segment.size - cut, segment.offset + cut, max(0, segment.held - cut))
