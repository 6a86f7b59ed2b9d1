"""Many leaf tables at once, with numpy: the same runs as one entry at a time, at the speed of memory.

Only clean tables are read here: one with a reserved bit, or outside memory, is refused, and read entry by entry by
whoever asked. Without numpy everything is.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from pagetables.address import PAGE_SHIFT, PAGE_SIZE, level_size
from pagetables.errors import NoMemory
from pagetables.formats import Format
from pagetables.memory import Memory
from pagetables.runs import Columns

__all__ = ["Batch", "BulkReader", "LeafReader", "MakeReader", "deciding_bits", "is_possible"]

TABLES = 64  # read at a time: 256 KiB, which stay in a processor's cache
ENTRIES = 512
LEAF_TABLE = level_size(2)


class Batch(NamedTuple):
    """The runs of neighbouring leaf tables, the leaves they are made of, and how many runs they are table by table."""

    columns: Columns
    leaves: int
    separate: int


class LeafReader(Protocol):
    """Reads many leaf tables at once. Another than `BulkReader` finds the same, faster."""

    def read(self, tables: Sequence[int], first: int, neighbours: Sequence[int]) -> Batch | None:
        """What up to 64 `tables` map, the n-th from first + neighbours[n] * 2 MiB on, `neighbours` ascending and below
        64; None if one of them is not clean."""
        ...


MakeReader = Callable[[Memory, Format, int], LeafReader]


def is_possible() -> bool:
    """True if numpy is there; it is imported when the first batch is read."""
    return importlib.util.find_spec("numpy") is not None


class _Pages:
    """The addresses of all pages from `begin` to `end` of tables that start at `starts`, made when they are looked at.

    As much of an array as `Columns` needs: a million addresses that count upwards need not be in memory.
    """

    def __init__(self, starts: Any, begin: int, end: int) -> None:
        self._starts = starts
        self._begin = begin
        self._end = end

    def __len__(self) -> int:
        return self._end - self._begin

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            begin, end, _ = key.indices(len(self))
            return _Pages(self._starts, self._begin + begin, self._begin + max(begin, end))
        table, page = divmod(range(self._begin, self._end)[key], ENTRIES)
        return int(self._starts[table]) + page * PAGE_SIZE

    def __add__(self, offset: int) -> _Pages:
        return _Pages(self._starts + offset, self._begin, self._end)

    def tolist(self) -> list[int]:
        """The addresses."""
        first, last = self._begin // ENTRIES, -(-self._end // ENTRIES)
        pages = range(0, LEAF_TABLE, PAGE_SIZE)
        every = [start + page for start in self._starts[first:last].tolist() for page in pages]
        return every[self._begin - first * ENTRIES : self._end - first * ENTRIES]


class BulkReader:
    """Reads leaf tables of one format, where the entries above them grant `mask`."""

    def __init__(self, memory: Memory, form: Format, mask: int) -> None:
        import numpy

        self._np = numpy
        self._memory = memory
        self._address = form.leaf_address[1]
        self._present = form.present
        self._reserved = form.reserved_leaf[1]
        self._pages = bytearray(TABLES * PAGE_SIZE)
        self._scratch = numpy.empty(TABLES * ENTRIES, dtype=numpy.uint64)  # new memory costs more than the subtraction
        self._deciding, self._rights = deciding_bits(form, mask)

    def read(self, tables: Sequence[int], first: int, neighbours: Sequence[int]) -> Batch | None:
        """What `tables` map, the n-th from first + neighbours[n] * 2 MiB on; None if one of them is not clean."""
        try:
            for at, table in enumerate(tables):
                self._pages[at * PAGE_SIZE : (at + 1) * PAGE_SIZE] = self._memory.read(table, PAGE_SIZE)
        except NoMemory:
            return None
        np = self._np
        entries = np.frombuffer(self._pages, dtype="<u8", count=len(tables) * ENTRIES)
        used = int(np.bitwise_or.reduce(entries))
        if used & self._reserved and self._is_bad(entries):
            return None
        alike = int(np.bitwise_and.reduce(entries))
        starts = np.asarray(neighbours, dtype=np.uint64) * np.uint64(LEAF_TABLE) + np.uint64(first)
        if alike & self._present:  # every entry is
            return self._batch(entries, starts, None, used ^ alike)
        index = np.flatnonzero(entries & np.uint64(self._present))
        return self._batch(entries[index], starts, index, used)

    def _is_bad(self, entries: Any) -> bool:
        np = self._np
        marked = entries[entries & np.uint64(self._reserved) != 0]
        return bool((marked & np.uint64(self._present)).any())

    def _batch(self, entries: Any, starts: Any, index: Any, varying: int) -> Batch:
        # The runs of entries that are all present, at `index`, or all there are. `varying`: bits that may differ.
        np = self._np
        count = len(entries)
        gpa = entries & np.uint64(self._address)
        bits = self._granted(entries, varying)
        continues = np.subtract(gpa[1:], gpa[:-1], out=self._scratch[: max(count - 1, 0)]) == PAGE_SIZE
        if index is None and not continues.any():
            size = np.broadcast_to(np.uint64(PAGE_SIZE), count)
            return Batch(Columns(_Pages(starts, 0, count), gpa, size, bits), count, count)
        iova = (starts[:, None] + np.arange(0, LEAF_TABLE, PAGE_SIZE, dtype=np.uint64)).ravel()
        iova = iova if index is None else iova[index]
        continues &= iova[1:] - iova[:-1] == PAGE_SIZE
        if varying & self._deciding:
            continues &= bits[1:] == bits[:-1]
        joined = int(np.count_nonzero(iova[1:][continues] & np.uint64(LEAF_TABLE - 1) == 0))
        start = np.concatenate((np.zeros(min(count, 1), dtype=np.int64), np.flatnonzero(~continues) + 1))
        size = np.diff(start, append=count).astype(np.uint64) << np.uint64(PAGE_SHIFT)
        return Batch(Columns(iova[start], gpa[start], size, bits[start]), count, len(start) + joined)

    def _granted(self, entries: Any, varying: int) -> Any:
        np = self._np
        if not varying & self._deciding and len(entries):
            return np.broadcast_to(np.uint8(self._rights[int(entries[0]) & self._deciding]), len(entries))
        keys = entries & np.uint64(self._deciding)
        granted = np.zeros(len(entries), dtype=np.uint8)
        for key, rights in self._rights.items():
            granted[keys == np.uint64(key)] = rights
        return granted


def deciding_bits(form: Format, mask: int) -> tuple[int, dict[int, int]]:
    """The bits that change what an entry grants under `mask`, and what each combination of them grants."""
    bits = [1 << at for at in range(64) if form.permission_bits >> at & 1]
    every = [sum(bit for n, bit in enumerate(bits) if chosen >> n & 1) for chosen in range(1 << len(bits))]
    grants = {key: int(form.permissions(key)) & mask for key in every if key & form.present}
    deciding = sum(bit for bit in bits if any(grants.get(key ^ bit, right) != right for key, right in grants.items()))
    return deciding, {key & deciding: right for key, right in grants.items()}
