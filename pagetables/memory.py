"""Physical memory: sparse, bounds-checked, little-endian, shared by Python and C.

`Memory` is what a walker needs; images are memories too. `PhysicalMemory` is RAM: one shared file mapping that costs
what is touched, with regions (below and above 4 GiB, holes between) that decide where memory is.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from pagetables.address import PAGE_SIZE
from pagetables.errors import InputError, NoMemory

__all__ = ["HeldMemory", "Memory", "PhysicalMemory", "Stretch", "WritableMemory"]

SPAN_LIMIT = 1 << 46  # 64 TiB: half of what a process may map
_QWORD = struct.Struct("<Q")


class Memory(Protocol):
    """Bytes at physical addresses."""

    def load(self, address: int) -> int | None:
        """The little-endian qword at `address` (8-byte aligned), or None where there is no memory."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`; NoMemory if any of them is outside memory."""
        ...


class WritableMemory(Memory, Protocol):
    """Memory that a unit or a driver may change."""

    def store(self, address: int, value: int) -> bool:
        """Write the qword `value` at `address` (8-byte aligned); False where there is no memory."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write `data` at `address`; NoMemory if any of it is outside memory (then nothing is written)."""
        ...


class Stretch(NamedTuple):
    """`size` bytes of physical memory from `start` on, which stand in a buffer at `offset`."""

    start: int
    size: int
    offset: int


@runtime_checkable
class HeldMemory(Memory, Protocol):
    """Memory whose bytes, or most of them, can be had without a copy."""

    @property
    def buffer(self) -> mmap.mmap | bytes:
        """What they stand in."""
        ...

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Where in it, ascending and disjoint."""
        ...


class PhysicalMemory:
    """RAM in `regions` of (start, size), both multiples of the page size. Up to 64 TiB; untouched pages cost nothing.

    Regions that touch are one region. Host address of a byte: that of `buffer` plus its physical address; only
    addresses inside the regions may be used. Ranges of (start, size) in `fixed` refuse atomic updates of entries, as
    memory does that knows no AtomicOps: `store` fails there, plain writes do not.
    """

    def __init__(self, regions: Iterable[tuple[int, int]], fixed: Iterable[tuple[int, int]] = ()) -> None:
        self.regions = _joined(sorted(regions))
        self.fixed = tuple(fixed)
        self._ranges = tuple((start, start + size) for start, size in self.regions)
        self.span = self._ranges[-1][1]
        self._file = _sparse_file(self.span)
        self.buffer = mmap.mmap(self._file, self.span, flags=mmap.MAP_SHARED)
        with contextlib.suppress(OSError, AttributeError):  # a hint: a huge page would make one byte cost 2 MiB
            self.buffer.madvise(mmap.MADV_NOHUGEPAGE)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Where each region stands in `buffer`: at its own address."""
        return tuple(Stretch(start, size, start) for start, size in self.regions)

    def contains(self, address: int, size: int) -> bool:
        """True if all `size` bytes at `address` lie in one region."""
        return any(start <= address and address + size <= end for start, end in self._ranges)

    def load(self, address: int) -> int | None:
        """The little-endian qword at `address`, or None where there is no memory."""
        for start, end in self._ranges:  # not `contains`: every step of a walk comes through here
            if start <= address <= end - 8:
                value: int = _QWORD.unpack_from(self.buffer, address)[0]
                return value
        return None

    def store(self, address: int, value: int) -> bool:
        """Write the qword `value` at `address`; False where there is no memory, or memory that refuses updates."""
        if not self.contains(address, 8) or any(start <= address < start + size for start, size in self.fixed):
            return False
        _QWORD.pack_into(self.buffer, address, value)
        return True

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`; NoMemory outside the regions."""
        if not self.contains(address, size):
            raise NoMemory(address, size)
        return self.buffer[address : address + size]

    def write(self, address: int, data: bytes) -> None:
        """Write `data` at `address`; NoMemory outside the regions."""
        if not self.contains(address, len(data)):
            raise NoMemory(address, len(data))
        self.buffer[address : address + len(data)] = data

    def touched(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each run of pages that was ever read or written, in order; all others read as zero."""
        position = 0
        while True:
            try:
                start = os.lseek(self._file, position, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing more
                return
            position = os.lseek(self._file, start, os.SEEK_HOLE)
            yield start, position - start

    def close(self) -> None:
        """Give the memory back. Whoever still holds the buffer keeps it alive."""
        with contextlib.suppress(BufferError):  # exported to C: the mapping goes with the last reference
            self.buffer.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            os.close(self._file)  # the mapping ends by itself, and may be exported still


def _joined(regions: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for start, size in regions:
        if start % PAGE_SIZE or size % PAGE_SIZE or size <= 0 or start < 0:
            raise InputError(f"region {start:#x}+{size:#x}: start and size must be multiples of {PAGE_SIZE:#x}")
        end = sum(joined[-1]) if joined else -1
        if start < end:
            raise InputError(f"region {start:#x}+{size:#x} overlaps the one before it, which ends at {end:#x}")
        if start + size > SPAN_LIMIT:
            raise InputError(f"memory up to {start + size:#x} is more than a process can map (at most {SPAN_LIMIT:#x})")
        if start == end:
            start, size = joined[-1][0], joined.pop()[1] + size
        joined.append((start, size))
    if not joined:
        raise InputError("a memory needs at least one region")
    return tuple(joined)


def _sparse_file(size: int) -> int:
    # A shared file, not anonymous memory: SEEK_DATA then tells which pages were touched, by Python and by C alike.
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("vtd-memory", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
