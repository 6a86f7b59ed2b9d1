"""dma_pool: small blocks of coherent memory, such as transfer descriptors, carved out of pages that never go back.

Source: mm/dmapool.c. Blocks are at least 16 bytes, a multiple of their alignment, and never cross `boundary`; a chunk
is one page, or the block if that is larger. One list of free blocks, last in, first out, runs through all chunks; it
is a list here, where the kernel links the blocks through their own bytes. A chunk is asked for in the caller's class,
or in one that the platform forces: before 2.5 grew a gfp argument, coherent allocation was always GFP_ATOMIC.

    allocate    a free block; none: a chunk, carved up; no chunk: None
    free        the block is free; memory returns to the system only when the pool is destroyed
    destroy     chunks with live blocks are lost, and reported

Invariants: live + free blocks = all blocks; the number of chunks never falls; blocks never overlap. With `memory`,
freed blocks are poisoned with 0xa7 and looked at before they are handed out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from emulator.mapping.costs import Meter
from emulator.mapping.pressure import Zone
from emulator.mapping.watermarks import Gfp
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa
from pagetables.errors import InputError

__all__ = ["BlockMemory", "DmaPool", "PoolReport", "PoolStatistics"]

POISON = b"\xa7"
LINKS = 16  # bytes of a free block that the kernel's list lives in: not looked at
SMALLEST = 16


class BlockMemory(Protocol):
    """Memory in which blocks are poisoned."""

    def read(self, address: Gpa, size: int) -> bytes:
        """`size` bytes at `address`."""
        ...

    def write(self, address: Gpa, data: bytes) -> None:
        """Put `data` at `address`."""
        ...


class PoolReport(NamedTuple):
    """A misuse that the pool noticed: `kind` is `bad dma`, `already free`, `corrupted` or `busy`."""

    kind: str
    block: Gpa
    message: str


@dataclass(slots=True)
class PoolStatistics:
    """What a pool did."""

    allocated: int = 0
    freed: int = 0
    failed: int = 0
    chunks: int = 0  # asked for and got
    active_highest: int = 0


class DmaPool:
    """Blocks of `size` bytes at multiples of `align`. `coherent_gfp` is the class in which chunks are asked for, None:
    the caller's."""

    def __init__(
        self,
        name: str,
        zone: Zone,
        size: int,
        align: int = 1,
        boundary: int = 0,
        coherent_gfp: Gfp | None = None,
        memory: BlockMemory | None = None,
    ) -> None:
        if size < 1 or align < 1 or align & align - 1:
            raise InputError(f"pool {name}: blocks of {size} bytes aligned to {align}: expected a power of two")
        self.name, self.align = name, align
        self.size = -(-max(size, SMALLEST) // align) * align
        self.chunk = -(-max(self.size, PAGE_SIZE) // PAGE_SIZE) * PAGE_SIZE
        self.boundary = boundary or self.chunk
        if (self.boundary & self.boundary - 1 and boundary) or self.boundary < self.size:
            raise InputError(f"pool {name}: a boundary of {boundary:#x} for blocks of {self.size} bytes")
        self.statistics = PoolStatistics()
        self.reports: list[PoolReport] = []
        self.meter = Meter()
        self._zone, self._coherent_gfp, self._memory = zone, coherent_gfp, memory
        self._free: list[Gpa] = []
        self._live: set[Gpa] = set()
        self._known: set[Gpa] = set()
        self._chunks: list[Gpa] = []

    @property
    def active(self) -> int:
        """Blocks handed out and not freed."""
        return len(self._live)

    @property
    def blocks(self) -> int:
        """Blocks there are, free and live."""
        return len(self._known)

    @property
    def pages(self) -> int:
        """Pages that the pool holds."""
        return len(self._chunks) * (self.chunk >> PAGE_SHIFT)

    @property
    def per_chunk(self) -> int:
        """Blocks that one chunk is carved into."""
        return len(self._offsets())

    def preallocate(self, blocks: int, gfp: Gfp = Gfp.KERNEL) -> bool:
        """Have at least `blocks` free blocks; False if the system does not give the chunks."""
        while len(self._free) < blocks:
            if not self._add_chunk(gfp):
                return False
        return True

    def allocate(self, gfp: Gfp) -> Gpa | None:
        """A block, or None if there is no free one and no chunk to be had in this class."""
        self.meter.spend("lock.pool")
        if not self._free and not self._add_chunk(gfp):
            self.statistics.failed += 1
            return None
        block = self._free.pop()
        self.meter.spend("page.pool")
        self._check_poison(block)
        self._live.add(block)
        self.statistics.allocated += 1
        self.statistics.active_highest = max(self.statistics.active_highest, self.active)
        return block

    def free(self, block: Gpa) -> bool:
        """Take a block back; False, with a report, if it is none of this pool or free already."""
        if block not in self._live:
            kind = "already free" if block in self._known else "bad dma"
            self.reports.append(PoolReport(kind, block, f"dma_pool_free {self.name}, {block:#x} ({kind})"))
            return False
        self.meter.spend("lock.pool")
        self.meter.spend("page.pool")
        if self._memory is not None:
            self._memory.write(block, POISON * self.size)
        self._live.remove(block)
        self._free.append(block)
        self.statistics.freed += 1
        return True

    def destroy(self) -> int:
        """Give back every chunk without live blocks; how many were lost with live ones, each of them reported."""
        lost = 0
        for chunk in self._chunks:
            if any(chunk + offset in self._live for offset in self._offsets()):
                lost += 1
                self.reports.append(PoolReport("busy", chunk, f"dma_pool_destroy {self.name}, {chunk:#x} busy"))
            else:
                self._zone.give_back(Gpa(at) for at in range(chunk, chunk + self.chunk, PAGE_SIZE))
        self._chunks.clear()
        self._free.clear()
        self._known.clear()
        return lost

    def pools_line(self) -> str:
        """The pool's line of the sysfs file `pools`: name, active blocks, all blocks, block size, pages."""
        return f"{self.name:<16} {self.active:4} {self.blocks:4} {self.size:4} {self.pages:2}"

    def _offsets(self) -> list[int]:
        # Where blocks begin in a chunk: one that would cross a boundary moves behind it.
        offsets, at, end = [], 0, self.boundary
        while at + self.size <= self.chunk:
            if at + self.size > end:
                at, end = end, end + self.boundary
                continue
            offsets.append(at)
            at += self.size
        return offsets

    def _add_chunk(self, gfp: Gfp) -> bool:
        asked = self._coherent_gfp or gfp
        chunk = self._zone.take_run(asked, self.chunk >> PAGE_SHIFT)
        if chunk is None:
            self.meter.spend("page.refused")
            return False
        self.meter.spend(f"page.{asked.value}", self.chunk >> PAGE_SHIFT)
        self._chunks.append(chunk)
        self.statistics.chunks += 1
        for offset in reversed(self._offsets()):
            block = Gpa(chunk + offset)
            self._known.add(block)
            self._free.append(block)
            if self._memory is not None:
                self._memory.write(block, POISON * self.size)
        return True

    def _check_poison(self, block: Gpa) -> None:
        if self._memory is None:
            return
        if self._memory.read(Gpa(block + LINKS), self.size - LINKS).strip(POISON):
            message = f"dma_pool_alloc {self.name}, {block:#x} (corrupted)"
            self.reports.append(PoolReport("corrupted", block, message))
