"""Holes of sparse files: what a file does not store reads as zero, and need not be read."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from errno import ENXIO
from typing import BinaryIO

__all__ = ["CHUNK", "data_runs", "runs_within", "write_zeros"]

CHUNK = 1 << 20


def data_runs(descriptor: int, offset: int, size: int) -> Iterator[tuple[int, int]]:
    """(offset, size) of each run that the file stores of the `size` bytes at `offset`, ascending.

    All of them in one run where the descriptor is -1 or the file system does not tell.
    """
    end = offset + size
    while offset < end:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA) if descriptor >= 0 else offset
            stop = os.lseek(descriptor, start, os.SEEK_HOLE) if descriptor >= 0 else end
        except OSError as error:
            if error.errno == ENXIO:  # nothing more
                return
            start, stop = offset, end
        if start < end:
            yield start, min(stop, end) - start
        offset = stop


def runs_within(runs: Sequence[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts of `runs` (start, size; ascending, disjoint) that lie in [start, end)."""
    for index in range(max(0, bisect_right(runs, (start, 0)) - 1), len(runs)):
        begin, size = runs[index]
        if begin >= end:
            return
        if start < begin + size:
            yield max(start, begin), min(end, begin + size)


def write_zeros(file: BinaryIO, size: int) -> None:
    """Write `size` zeros to `file`, as a hole where it can have one."""
    if size > CHUNK and file.seekable():
        file.seek(size - 1, os.SEEK_CUR)
        size = 1  # one byte is written, since a hole at the end would be no part of the file
    for position in range(0, size, CHUNK):
        file.write(bytes(min(CHUNK, size - position)))
