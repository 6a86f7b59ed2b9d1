"""The C core as Python sees it: imported, proved fresh, and given physical memory to work on."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from emulator.core.generate import layout_digest
from emulator.engine import MissingCore, StaleCore
from pagetables.memory import PhysicalMemory

if TYPE_CHECKING:
    from emulator._core import Lib

__all__ = ["NativeMemory", "bind", "load_core"]

CData = Any  # what cffi hands out has no type of its own


def load_core() -> tuple[Any, Lib]:
    """cffi's (ffi, lib) of the core; MissingCore where it is not built, StaleCore where it is of other layouts."""
    try:
        from emulator._core import ffi, lib
    except ImportError as error:
        raise MissingCore(
            f"the C core is not built ({error}); run `pip install -e .` where a C compiler is, or use --engine python"
        ) from None
    if ffi.string(lib.core_layout_digest()).decode() != layout_digest():
        raise StaleCore("the layouts have changed since the C core was built; run `pip install -e .`")
    return ffi, lib


class NativeMemory:
    """A `struct core_memory` over the bytes of a PhysicalMemory, which it keeps mapped as long as it lives."""

    def __init__(self, ffi: Any, memory: PhysicalMemory) -> None:
        self._bytes = ffi.from_buffer("uint8_t[]", memory.buffer, require_writable=True)
        regions = sorted(memory.regions, reverse=True)  # tables and queues lie high: they are found first
        self._regions = ffi.new("struct core_region[]", regions)
        self._fixed = ffi.new("struct core_region[]", list(memory.fixed))
        fields = (self._bytes, self._regions, len(self._regions), len(self._fixed), self._fixed)
        self.struct: CData = ffi.new("struct core_memory *", fields)


_bound: weakref.WeakKeyDictionary[PhysicalMemory, NativeMemory] = weakref.WeakKeyDictionary()


def bind(ffi: Any, memory: PhysicalMemory) -> NativeMemory:
    """The core's view of `memory`, the same each time."""
    bound = _bound.get(memory)
    if bound is None:
        bound = _bound[memory] = NativeMemory(ffi, memory)
    return bound
