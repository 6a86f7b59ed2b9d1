"""The memory of the machine we run on, through /proc/kcore: an ELF core that can be neither mapped nor believed twice.

Root only. The tables change while they are read: what is found missing may have been there a moment before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from construct import StreamError

from pagetables.address import GPA_LIMIT
from pagetables.errors import ImageError, NoMemory
from pagetables.images.elf_format import HEADER, MAGIC, NOT_IN_FILE, PROGRAM_HEADER, PT_LOAD
from pagetables.images.image import Image, Segment

__all__ = ["PATH", "KcoreImage"]

PATH = "/proc/kcore"
OFFSET_LIMIT = (1 << 63) - PROGRAM_HEADER.size * 0x10000  # what a file offset can be, and a read behind it


class KcoreImage(Image):
    """The RAM of a running kernel, as the file at `path` shows it: each read is a read of the file."""

    def __init__(self, path: str = PATH) -> None:
        super().__init__(path, "live memory", b"", ())
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.segments = tuple(_disjoint(self._loads()))
        self._starts = [segment.start for segment in self.segments]
        if not self.segments:
            raise ImageError(f"{path}: this kernel does not say where in physical memory anything is")

    def load(self, address: int) -> int | None:
        """The little-endian qword at `address`, or None where there is no RAM."""
        try:
            return int.from_bytes(self.read(address, 8), "little")
        except NoMemory:
            return None

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address` as they are now; NoMemory where there is no RAM."""
        return b"".join(self._pieces(address, size))

    def touched(self) -> Iterator[tuple[int, int]]:
        """(start, size) of all RAM: nobody knows which of it is zero."""
        return iter(self.regions)

    def _loads(self) -> Iterator[Segment]:
        for kind, _, offset, _, start, held, _, _ in PROGRAM_HEADER.iter_unpack(self._program_headers()):
            # vmalloc, modules and the like have no physical address of their own
            inside = start + held <= GPA_LIMIT and offset + held <= OFFSET_LIMIT
            if kind == PT_LOAD and start != NOT_IN_FILE and held and inside:
                yield Segment(start, held, offset, held)

    def _program_headers(self) -> bytes:
        head = os.pread(self._descriptor, HEADER.sizeof(), 0)
        if not head.startswith(MAGIC):
            raise ImageError(f"{self.path}: no ELF header (it begins with {head[:4].hex(' ')})")
        try:
            header = HEADER.parse(head)
        except StreamError:
            raise ImageError(f"{self.path}: {len(head)} bytes, an ELF header has {HEADER.sizeof()}") from None
        size = header.program_header_count * PROGRAM_HEADER.size
        table = os.pread(self._descriptor, size, min(header.program_headers, OFFSET_LIMIT))
        if len(table) < size or header.program_header_size != PROGRAM_HEADER.size:
            raise ImageError(f"{self.path}: {header.program_header_count} program headers are not there")
        return table

    def _pieces(self, address: int, size: int) -> Iterator[bytes]:
        if not self.contains(address, size):
            raise NoMemory(address, size)
        end = address + size
        while address < end:
            segment = self._segment(address)
            length = 0 if segment is None else min(end, segment.end) - address
            data = (
                b"" if segment is None else os.pread(self._descriptor, length, segment.offset + address - segment.start)
            )
            if not data:  # RAM that was taken away, or that the kernel does not show
                raise NoMemory(address, end - address)
            yield data
            address += len(data)


def _disjoint(segments: Iterator[Segment]) -> Iterator[Segment]:
    # The kernel's text is there twice. Both show the same RAM.
    end = 0
    for segment in sorted(segments):
        cut = max(0, end - segment.start)
        if cut < segment.size:
            yield Segment(segment.start + cut, segment.size - cut, segment.offset + cut, segment.size - cut)
            end = segment.end
