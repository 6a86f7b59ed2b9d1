"""Raw memory: the bytes and nothing else. Where they belong the file cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from pagetables.address import GPA_LIMIT, PAGE_SIZE
from pagetables.errors import ImageError
from pagetables.images.elf import Sparse
from pagetables.images.holes import CHUNK, runs_within, write_zeros
from pagetables.images.image import Segment

__all__ = ["read_raw", "write_raw", "write_region"]


def read_raw(path: str, head: bytes, size: int, base: int | None) -> list[Segment]:
    """The one segment of raw memory: `size` bytes from physical address `base` (0 if None) on.

    Only whole pages are believed to be memory, unless `base` says that they are.
    """
    if size % PAGE_SIZE and base is None:
        raise ImageError(
            f"{path}: no kind of image that is known (it begins with {head[:4].hex(' ')}), nor raw memory from "
            f"address 0 on ({size} bytes are no whole number of pages)"
        )
    start = base or 0
    if start + size > GPA_LIMIT:
        raise ImageError(f"{path}: raw memory {start:#x}-{start + size:#x}; physical addresses end at {GPA_LIMIT:#x}")
    return [Segment(start, size, 0, size)]


def write_raw(file: BinaryIO, memory: Sparse) -> None:
    """Write `memory` to `file`, from address 0 on. Gaps between its regions read as zero afterwards."""
    runs, position = list(memory.touched()), 0
    for start, size in memory.regions:
        write_zeros(file, start - position)
        write_region(file, memory, runs, start, size)
        position = start + size


def write_region(file: BinaryIO, memory: Sparse, runs: Sequence[tuple[int, int]], start: int, size: int) -> None:
    """Write the `size` bytes of `memory` at `start`; what lies in none of the `runs` (start, size) is zero."""
    end = start + size
    for begin, stop in runs_within(runs, start, end):
        write_zeros(file, begin - start)
        for address in range(begin, stop, CHUNK):
            file.write(memory.read(address, min(CHUNK, stop - address)))
        start = stop
    write_zeros(file, end - start)
