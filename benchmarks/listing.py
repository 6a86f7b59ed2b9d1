"""A sparse image of 256 GiB with a million 4 KiB mappings, listed; against a loop in C over the same tables."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Job
from benchmarks.scene import PAGE, Scene, Words
from emulator.leaf_reader import leaf_reader
from pagetables.errors import VtdError
from pagetables.images.elf import write_elf
from pagetables.images.image import Image
from pagetables.images.opening import open_image
from pagetables.images.registers import RegisterPage
from pagetables.memory import PhysicalMemory
from pagetables.runs import rows
from pagetables.scan import Scan, scan

__all__ = ["GIB", "MAPPINGS", "list_pages", "list_runs", "write_image"]

GIB = 256  # of memory
MAPPINGS = 1_000_000
DEVICES = 8
LONGEST = 16  # pages of a run, where pages continue each other
ENTRIES = 512
COLUMNS = 4


class _Tables:
    # Page tables in the last 64 MiB of the memory, as legacy mode has them.
    def __init__(self, memory: PhysicalMemory) -> None:
        self.memory = memory
        self._next = memory.span - (64 << 20)
        self.root, self.context = self.page(), self.page()
        memory.store(self.root, self.context | 1)

    def page(self) -> int:
        self._next += PAGE
        return self._next - PAGE

    def device(self, number: int, frames: Words) -> int:
        top, upper = self.page(), self.page()
        entry = self.context + 16 * (number << 3)
        self.memory.store(entry, top | 1)
        self.memory.store(entry + 8, number << 8 | 2)
        self.memory.store(top, upper | 3)
        middle = 0
        for index, start in enumerate(range(0, len(frames), ENTRIES)):
            if not index % ENTRIES:
                middle = self.page()
                self.memory.store(upper + 8 * (index // ENTRIES), middle | 3)
            leaf = self.page()
            self.memory.store(middle + 8 * (index % ENTRIES), leaf | 3)
            self.memory.write(leaf, (frames[start : start + ENTRIES] * np.uint64(PAGE) | np.uint64(3)).tobytes())
        return top


def write_image(path: Path, runs: bool = False) -> list[int]:
    """Write the image to `path`; the top table of each device. `runs`: pages continue each other, a few at a time."""
    memory = PhysicalMemory([(0, GIB << 30)])
    tables, random = _Tables(memory), np.random.default_rng(1)
    tops = []
    for number in range(1, DEVICES + 1):
        count = MAPPINGS // DEVICES
        if runs:
            lengths = random.integers(1, LONGEST, count)
            starts = random.permutation(count).astype(np.uint64) * np.uint64(2 * LONGEST)
            within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            frames = (np.repeat(starts, lengths) + within.astype(np.uint64))[:count]
        else:
            frames = random.permutation(count).astype(np.uint64) * np.uint64(2)
        tops.append(tables.device(number, frames))
    write_elf(path, memory, [RegisterPage.of_root_table(tables.root).note()])
    return tops


def list_pages(scene: Scene) -> Job:
    """No two pages continue each other: a million mappings are listed."""
    return _listing(scene, runs=False)


def list_runs(scene: Scene) -> Job:
    """Runs of up to 15 pages."""
    return _listing(scene, runs=True)


def _listing(scene: Scene, runs: bool) -> Job:
    with tempfile.TemporaryDirectory() as folder:  # what is mapped stays until nobody uses it
        path = Path(folder) / "image.elf"
        tops = write_image(path, runs)
        image = open_image(path)
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    registers = RegisterPage.from_notes(image.notes)[0]
    found = np.zeros((MAPPINGS, COLUMNS), dtype=np.uint64)
    base, out = _base(scene, image, data), scene.limit_words(found)
    counts = np.zeros(len(tops), dtype=np.int64)

    def limit() -> None:
        done = 0
        for number, top in enumerate(tops):
            counts[number] = scene.limit.limit_list(base, top, out + COLUMNS * done)
            done += int(counts[number])

    def ours() -> Scan:
        return scan(image, int(registers.root_table), registers.capabilities(), bulk=leaf_reader)

    limit()
    _check(ours(), found, counts.tolist())
    return Job(limit, ours, MAPPINGS)


def _base(scene: Scene, image: Image, data: mmap.mmap) -> Any:
    (tables,) = (segment for segment in image.segments if segment.held)
    ffi = scene.limit_ffi
    start = int(ffi.cast("uintptr_t", ffi.from_buffer(data))) + tables.offset - tables.start
    scene.kept.append(data)
    return ffi.cast("uint8_t *", start % (1 << 64))


def _check(result: Scan, found: Words, counts: list[int]) -> None:
    done = 0
    for space, count in zip(result.spaces, counts, strict=True):
        mine = np.array(list(rows(space.mappings)), dtype=np.uint64)
        if result.findings or not np.array_equal(mine, found[done : done + count]):
            raise VtdError("benchmark list: the limit and the scan do not give the same result")
        done += count
