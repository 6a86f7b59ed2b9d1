"""Many leaf tables at once, by the C core: what `pagetables.bulk_scan` finds with numpy, in place and in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from emulator.engine import MissingCore, StaleCore
from pagetables.address import PAGE_SHIFT
from pagetables.bulk_scan import ENTRIES, TABLES, Batch, BulkReader, LeafReader, deciding_bits
from pagetables.formats import Format
from pagetables.memory import HeldMemory, Memory
from pagetables.runs import Columns

if TYPE_CHECKING:
    from emulator._core import Lib

__all__ = ["NativeLeafReader", "leaf_reader"]

ROOM = TABLES * ENTRIES  # runs of one batch
KEPT = 32 * ROOM  # runs in one allocation: so large that huge pages may hold it; what is not used costs nothing


def leaf_reader(memory: Memory, form: Format, mask: int) -> LeafReader:
    """The core's reader where the core is built and `memory` gives its bytes without a copy; else that of numpy."""
    core = _core()
    if core is None or not isinstance(memory, HeldMemory):
        return BulkReader(memory, form, mask)
    return NativeLeafReader(*core, memory, form, mask)


@cache
def _core() -> tuple[Any, Lib] | None:
    # Proved fresh once a process: the proof costs as much as a hundred tables.
    from emulator.native_memory import load_core

    try:
        return load_core()
    except (MissingCore, StaleCore):
        return None


class _Scaled:
    """The numbers `offset` + 4096 * n, for each n of an array of small ones."""

    def __init__(self, small: Any, offset: int) -> None:
        self._small = small
        self._offset = offset

    def __len__(self) -> int:
        return len(self._small)

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            return _Scaled(self._small[key], self._offset)
        return self._offset + (int(self._small[key]) << PAGE_SHIFT)

    def __add__(self, offset: int) -> _Scaled:
        return _Scaled(self._small, self._offset + offset)

    def tolist(self) -> list[int]:
        """The numbers."""
        return [self._offset + (n << PAGE_SHIFT) for n in self._small.tolist()]


class _Room:
    # Columns that the core writes to, and how far they are taken.
    def __init__(self, ffi: Any) -> None:
        import numpy

        self._ffi, self._empty = ffi, numpy.empty
        wide, short, narrow = numpy.uint64, numpy.uint16, numpy.uint8
        self._types: dict[str, tuple[Any, ...]] = {
            "uint64_t[]": (wide,),
            "uint16_t[]": (short, short),
            "uint8_t[]": (narrow,),
        }
        self._taken = KEPT

    def pointers(self) -> list[Any]:
        """Where the next batch goes."""
        if KEPT - self._taken < ROOM:
            pairs = [(name, self._empty(KEPT, kind)) for name, kinds in self._types.items() for kind in kinds]
            self._columns = [column for _, column in pairs]
            self._starts = [self._ffi.from_buffer(name, column) for name, column in pairs]
            self._taken = 0
        return [start + self._taken for start in self._starts]

    def take(self, count: int) -> list[Any]:
        """What was written there."""
        begin, self._taken = self._taken, self._taken + count
        return [column[begin : self._taken] for column in self._columns]


class NativeLeafReader:
    """Reads leaf tables of one format, where the entries above them grant `mask`."""

    def __init__(self, ffi: Any, lib: Lib, memory: HeldMemory, form: Format, mask: int) -> None:
        self._ffi, self._lib = ffi, lib
        self._memory = memory
        self._room = _Room(ffi)
        self._stretches = ffi.new("struct core_stretch[]", memory.stretches)
        self._held = ffi.new("struct core_held *")
        self._held.stretches, self._held.stretch_count = self._stretches, len(self._stretches)
        deciding, rights = deciding_bits(form, mask)
        self._rules = ffi.new(
            "struct core_leaf_rules *",
            {
                "present": form.present,
                "reserved": form.reserved_leaf[1],
                "address": form.leaf_address[1],
                "deciding": deciding,
                "keys": list(rights),
                "rights": list(rights.values()),
                "key_count": len(rights),
            },
        )
        self._runs = ffi.new("struct core_runs *", {"capacity": ROOM})

    def read(self, tables: Sequence[int], first: int, neighbours: Sequence[int]) -> Batch | None:
        """As `LeafReader` has it."""
        ffi, runs, held = self._ffi, self._runs, self._held
        runs.gpas, runs.pages, runs.lengths, runs.rights = self._room.pointers()
        numbers, places = ffi.new("uint64_t[]", tables), ffi.new("uint16_t[]", neighbours)
        with ffi.from_buffer("uint8_t[]", self._memory.buffer) as buffer:  # an image can be closed afterwards
            held.buffer, held.size = buffer, len(buffer)
            done = self._lib.core_list_leaves(held, self._rules, numbers, places, len(tables), runs)
            held.buffer = ffi.NULL
        if not done:
            return None
        gpa, page, length, rights = self._room.take(runs.count)
        columns = Columns(_Scaled(page, first), gpa, _Scaled(length, 0), rights)
        return Batch(columns, runs.leaves, runs.separate)
