"""What every benchmark works on: a 4 GiB window of 4 KiB pages in 4-level second-stage tables, and a unit."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.limits import compile_limits
from emulator.engine import IotlbGeometry
from emulator.native import NativeEngine
from emulator.native_mapper import NativeMapper
from emulator.native_memory import bind
from emulator.profile import load_profile
from pagetables.address import DomainId, Gpa, Iova, SourceId
from pagetables.mapper import PageTable, Stage
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, Permissions, Request
from pagetables.source import Source, TranslationType

__all__ = ["Scene", "Words"]

Words = npt.NDArray[np.uint64]
PAGE = 4096
WINDOW = 1 << 20  # pages
RAM = 4 << 30  # what devices are given; tables lie above
TABLES = 64 << 20
READ_WRITE = Permissions.R | Permissions.W


class _Pages:
    def __init__(self, start: int) -> None:
        self._next = start

    def take(self) -> Gpa:
        """The next page."""
        self._next += PAGE
        return Gpa(self._next - PAGE)


class Scene:
    """The engine, the limits, and one mapped window; everything random has a seed."""

    def __init__(self) -> None:
        self.engine = NativeEngine()
        self.limit_ffi, self.limit = compile_limits()
        self.random = np.random.default_rng(1)
        self.memory = PhysicalMemory([(0, RAM + TABLES)])
        self.pages = _Pages(RAM)
        self.capabilities = load_profile("default").capabilities
        self.root = self.pages.take()
        self.table = PageTable(Stage.SECOND, self.root, 4)
        self.source = Source(TranslationType.SECOND_STAGE, DomainId(2), True, ss_table=self.root, ss_levels=4)
        self.kept: list[object] = []  # what pointers of the limits lead into
        self.base: Any = self.limit_ffi.from_buffer("uint8_t[]", self.memory.buffer)

    @cached_property
    def window(self) -> Words:
        """The IOVA of each page of the window, in order."""
        return np.arange(WINDOW, dtype=np.uint64) * np.uint64(PAGE)

    @cached_property
    def frames(self) -> Words:
        """The page each of them maps to, in no order; above 8 GiB, away from the interrupt range."""
        return self.random.permutation(self.window) + np.uint64(8 << 30)

    @cached_property
    def mapper(self) -> NativeMapper:
        """A mapper of the window, which it has mapped."""
        mapper = self.engine.mapper(self.memory, self.table, self.pages)
        mapper.map_many(self.window, self.frames, READ_WRITE)
        return mapper

    def addresses(self, count: int, pages: int = WINDOW) -> Words:
        """`count` random addresses in the first `pages` pages of the window."""
        return self.random.integers(0, pages * PAGE, count, dtype=np.uint64) & np.uint64(~7 & (1 << 64) - 1)

    def request(self) -> Any:
        """A read by one device, as a `struct core_request`."""
        return self.engine.request(Request(SourceId(0x10), Iova(0), Access.READ))

    def space(self) -> Any:
        """The window's tables, as a `struct core_space`."""
        return self.engine.space(self.source, self.capabilities)

    def core_memory(self) -> Any:
        """The memory, as a `struct core_memory`."""
        return bind(self.engine.ffi, self.memory).struct

    def iotlb(self) -> Any:
        """An empty IOTLB of 256 sets of 4 ways, as a `NativeIotlb`."""
        return self.engine.iotlb(IotlbGeometry(256, 4))

    def words(self, values: Words) -> Any:
        """An array, as the core takes it."""
        return self.engine.ffi.from_buffer("uint64_t[]", values)

    def limit_words(self, values: Words) -> Any:
        """An array, as the limits take it."""
        return self.limit_ffi.from_buffer("uint64_t[]", values)
