"""LiME dumps: ranges of physical memory, each behind a header of 32 bytes."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from construct import Const, Int32ul, Int64ul, Padding, Struct

from pagetables.address import GPA_LIMIT
from pagetables.errors import ImageError
from pagetables.images.elf import Sparse
from pagetables.images.image import Segment
from pagetables.images.raw import write_region

__all__ = ["MAGIC", "RANGE", "read_lime", "write_lime"]

MAGIC = b"EMiL"  # 0x4C694D45, little-endian
RANGE_LIMIT = 1 << 20  # ranges: iomem of a large machine has some hundred

RANGE = Struct(
    "magic" / Const(MAGIC),
    "version" / Int32ul,
    "first" / Int64ul,
    "last" / Int64ul,  # inclusive
    Padding(8),
)
_HEADER_SIZE = RANGE.sizeof()


def read_lime(path: str, data: mmap.mmap | bytes) -> list[Segment]:
    """The ranges of the LiME dump `data`, ascending and disjoint; ImageError names `path`."""
    segments = sorted(_ranges(path, data))
    for before, after in pairwise(segments):
        if after.start < before.end:
            raise ImageError(
                f"{path}: two ranges claim {after.start:#x} (their data is at {before.offset:#x} and {after.offset:#x})"
            )
    return segments


def _ranges(path: str, data: mmap.mmap | bytes) -> Iterator[Segment]:
    offset, count = 0, 0
    while offset < len(data):
        segment = _range(path, data, offset)
        offset, count = segment.offset + segment.size, count + 1
        if count > RANGE_LIMIT:
            raise ImageError(f"{path}: more than {RANGE_LIMIT} ranges")
        yield segment


def _range(path: str, data: mmap.mmap | bytes, offset: int) -> Segment:
    where, head = f"{path}: range header at {offset:#x}", data[offset : offset + _HEADER_SIZE]
    if len(head) < _HEADER_SIZE:
        raise ImageError(f"{where}: {len(head)} bytes, expected {_HEADER_SIZE}: cut short?")
    if not head.startswith(MAGIC):
        raise ImageError(f"{where}: begins with {head[:4].hex(' ')}, expected {MAGIC.hex(' ')}")
    header = RANGE.parse(head)
    if header.version != 1:
        known = " (AVML's, compressed with Snappy: `avml-convert` unpacks it)" if header.version == 2 else ""
        raise ImageError(f"{where}: version {header.version}{known}; expected 1")
    size = header.last - header.first + 1
    if size <= 0 or header.last >= GPA_LIMIT:
        raise ImageError(f"{where}: memory {header.first:#x}-{header.last:#x}; expected first <= last < 2^52")
    if offset + _HEADER_SIZE + size > len(data):
        raise ImageError(f"{where}: {size:#x} bytes follow, but the file ends at {len(data):#x}: cut short?")
    return Segment(header.first, size, offset + _HEADER_SIZE, size)


def write_lime(file: BinaryIO, memory: Sparse) -> None:
    """Write `memory` to `file`: one range for each region. What was not touched stays a hole of the file."""
    runs = list(memory.touched())
    for start, size in memory.regions:
        file.write(RANGE.build({"version": 1, "first": start, "last": start + size - 1}))
        write_region(file, memory, runs, start, size)
