"""kdump-compressed dumps (makedumpfile -c, -l, -p, -z; QEMU's dump-guest-memory -z): each page packed by itself.

A header, a bitmap of the pages that are RAM, one of those that are in the file, a descriptor for each of these, and
their data.
"""

from __future__ import annotations

import mmap
import struct
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from construct import Bytes, Int32sl, Int32ul, Int64ul, Padding, Struct

from pagetables.address import GPA_LIMIT, PAGE_SHIFT, PAGE_SIZE
from pagetables.errors import ImageError, NoMemory
from pagetables.images.flattened import Flattened
from pagetables.images.image import Image
from pagetables.images.unpacking import Damaged, unlzo, unsnappy, unzlib, unzstd

__all__ = ["MAGIC", "KdumpImage"]

MAGIC = b"KDUMP   "
KEPT_PAGES = 512  # unpacked pages kept: tables are read entry by entry
LONGEST_PAGE = 2 * PAGE_SIZE  # bytes a packed page may have
ZEROS_ONLY = 1  # dump level: nothing but pages of zeros was left out
WITH_64_BIT_COUNT = 6  # header version

_ONES = np.array([byte.bit_count() for byte in range(256)], np.uint8)
_UNPACKERS = {1: unzlib, 2: unlzo, 4: unsnappy, 0x20: unzstd}  # by the flag of a page

HEADER = Struct(
    Padding(len(MAGIC)),  # whoever opened the file looked at it
    "version" / Int32sl,
    "machine" / Bytes(6 * 65),  # struct utsname
    Padding(22),
    "status" / Int32ul,
    "block_size" / Int32sl,
    "sub_header_blocks" / Int32sl,
    "bitmap_blocks" / Int32ul,
    "pages" / Int32ul,
)
SUB_HEADER = Struct(
    "phys_base" / Int64ul,
    "dump_level" / Int32sl,
    "split" / Int32sl,
    Padding(80),
    "pages" / Int64ul,  # since version 6
)
_DESCRIPTOR = struct.Struct("<QIIQ")  # offset, size, flags, page flags
_QWORD = struct.Struct("<Q")


class KdumpImage(Image):
    """A kdump-compressed dump: a page is unpacked when it is read. Pages that were left out are not there."""

    def __init__(
        self, path: str, data: mmap.mmap | bytes, dump: mmap.mmap | bytes | Flattened, descriptor: int
    ) -> None:
        # `dump` is `data` put together again, where that was flattened.
        super().__init__(path, "kdump-compressed dump", data, ())
        self._dump = dump
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._read_headers()
        self._descriptor = descriptor  # last: what fails leaves it to the caller

    def load(self, address: int) -> int | None:
        """The little-endian qword at `address`, or None where the dump has no memory."""
        try:
            value: int = _QWORD.unpack(self.read(address, 8))[0]
        except NoMemory:
            return None
        return value

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`; NoMemory where a page was left out."""
        if not self.contains(address, size):
            raise NoMemory(address, size)
        first, last = address >> PAGE_SHIFT, address + size - 1 >> PAGE_SHIFT
        data = b"".join(self._page(frame) for frame in range(first, last + 1))
        start = address - (first << PAGE_SHIFT)
        return data[start : start + size]

    def contains(self, address: int, size: int) -> bool:
        """True if the dump has all `size` bytes at `address`."""
        frames = range(address >> PAGE_SHIFT, (address + size - 1 >> PAGE_SHIFT) + 1)
        bitmap = self._ram if self._zeros_left_out else self._held
        return frames.stop <= self._frames and all(_bit(bitmap, frame) for frame in frames)

    @property
    def regions(self) -> tuple[tuple[int, int], ...]:
        """(start, size) of what the dump has, ascending."""
        return tuple(self._runs(self._ram if self._zeros_left_out else self._held))

    def touched(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each run of pages that the file holds, ascending."""
        return self._runs(self._held)

    def _error(self, message: str) -> ImageError:
        return ImageError(f"{self.path}: {message}")

    def _read_headers(self) -> None:
        header, sub = self._parse(HEADER, 0), self._parse(SUB_HEADER, PAGE_SIZE)
        if header.block_size != PAGE_SIZE:
            raise self._error(f"blocks of {header.block_size} bytes; expected {PAGE_SIZE}, as on x86")
        if sub.split:
            raise self._error("one part of a split dump: put it together with `makedumpfile --reassemble`")
        wide = header.version >= WITH_64_BIT_COUNT and sub.pages
        self._frames = int(sub.pages if wide else header.pages)
        if self._frames << PAGE_SHIFT > GPA_LIMIT:
            raise self._error(f"{self._frames:#x} pages; physical addresses end at {GPA_LIMIT:#x}")
        start = (1 + max(header.sub_header_blocks, 0)) * PAGE_SIZE
        size = header.bitmap_blocks * PAGE_SIZE
        self._descriptors = start + size
        if self._descriptors > len(self._dump):
            raise self._error(
                f"bitmaps up to {self._descriptors:#x}, the dump ends at {len(self._dump):#x}: cut short?"
            )
        needed = -(-self._frames // 8)
        two = size >= 2 * -(-needed // PAGE_SIZE) * PAGE_SIZE
        if size < needed:
            raise self._error(f"bitmaps of {size:#x} bytes, too few for {self._frames:#x} pages")
        bits = np.frombuffer(self._dump[start : start + size], np.uint8)
        self._ram = bits[:needed]
        self._held = bits[size // 2 :][:needed] if two else self._ram
        self._zeros_left_out = two and sub.dump_level == ZEROS_ONLY

    def _parse(self, layout: Any, offset: int) -> Any:
        data = self._dump[offset : offset + layout.sizeof()]
        if len(data) < layout.sizeof():
            raise self._error(f"cut short: {len(self._dump)} bytes, its headers alone have {2 * PAGE_SIZE}")
        return layout.parse(data)

    @cached_property
    def _before(self) -> npt.NDArray[np.uint64]:
        # How many pages the file holds before each byte of the bitmap.
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(_ONES[self._held], dtype=np.uint64)])

    def _runs(self, bitmap: npt.NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
        begin = -1  # of a run that goes on, as the byte where the last part ended
        for at in range(0, len(bitmap), PAGE_SIZE):
            bits = np.unpackbits(bitmap[at : at + PAGE_SIZE], bitorder="little")
            bits = bits[: self._frames - at * 8]
            edges = np.flatnonzero(np.diff(bits, prepend=int(begin >= 0)))
            for edge in edges.tolist():
                frame = at * 8 + edge
                if begin < 0:
                    begin = frame
                else:
                    yield begin << PAGE_SHIFT, frame - begin << PAGE_SHIFT
                    begin = -1
        if begin >= 0:
            yield begin << PAGE_SHIFT, self._frames - begin << PAGE_SHIFT

    def _page(self, frame: int) -> bytes:
        if frame in self._pages:
            self._pages.move_to_end(frame)
            return self._pages[frame]
        page = self._unpacked(frame) if _bit(self._held, frame) else bytes(PAGE_SIZE)
        self._pages[frame] = page
        if len(self._pages) > KEPT_PAGES:
            self._pages.popitem(last=False)
        return page

    def _unpacked(self, frame: int) -> bytes:
        where = f"page {frame << PAGE_SHIFT:#x}"
        low = int(self._held[frame >> 3]) & (1 << (frame & 7)) - 1
        at = self._descriptors + (int(self._before[frame >> 3]) + low.bit_count()) * _DESCRIPTOR.size
        descriptor = self._dump[at : at + _DESCRIPTOR.size]
        if len(descriptor) < _DESCRIPTOR.size:
            raise self._error(f"{where}: its descriptor at {at:#x} lies beyond the end: cut short?")
        offset, size, flags, _ = _DESCRIPTOR.unpack(descriptor)
        data = self._dump[offset : offset + size] if size <= LONGEST_PAGE else b""
        if len(data) < size or not size:
            raise self._error(
                f"{where}: {size:#x} bytes at {offset:#x}; the dump ends at {len(self._dump):#x}: cut short?"
            )
        try:
            page = _unpack(data, flags)
        except Damaged as error:
            raise self._error(f"{where}: damaged data at {offset:#x}: {error}") from None
        if len(page) != PAGE_SIZE:
            raise self._error(f"{where}: {len(page)} bytes at {offset:#x}, once unpacked; expected {PAGE_SIZE}")
        return page


def _bit(bitmap: npt.NDArray[np.uint8], frame: int) -> int:
    return int(bitmap[frame >> 3]) >> (frame & 7) & 1


def _unpack(data: bytes, flags: int) -> bytes:
    for flag, unpack in _UNPACKERS.items():
        if flags & flag:
            return unpack(data, PAGE_SIZE)
    return data
