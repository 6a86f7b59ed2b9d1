"""Many leaf tables at once, with numpy: the same runs as one entry at a time, at the speed of memory.

Only clean tables are read here: one with a reserved bit, or outside memory, is refused, and read entry by entry by
whoever asked. Without numpy everything is.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

from pagetables.address import PAGE_SHIFT, PAGE_SIZE, level_size
from pagetables.errors import NoMemory
from pagetables.formats import Format
from pagetables.memory import Memory
from pagetables.runs import Columns

__all__ = ["Batch", "BulkReader", "is_possible"]

TABLES = 64  # read at a time: 256 KiB, which stay in a processor's cache
ENTRIES = 512
LEAF_TABLE = level_size(2)


class Batch(NamedTuple):
    """The runs of neighbouring leaf tables, the leaves they are made of, and how many runs they are table by table."""

    columns: Columns
    leaves: int
    separate: int


def is_possible() -> bool:
    """True if numpy is there; it is imported when the first batch is read."""
    return importlib.util.find_spec("numpy") is not None


class BulkReader:
    """Reads leaf tables of one format, where the entries above them grant `mask`."""

    def __init__(self, memory: Memory, form: Format, mask: int) -> None:
        import numpy

        self._np = numpy
        self._memory = memory
        self._address = form.leaf_address[1]
        self._present = form.present
        self._reserved = form.reserved_leaf[1]
        self._deciding, self._rights = _deciding_bits(form, mask)

    def read(self, tables: Sequence[int], first: int, neighbours: Sequence[int]) -> Batch | None:
        """What `tables` map, the n-th from first + neighbours[n] * 2 MiB on; None if one of them is not clean."""
        try:
            data = b"".join([self._memory.read(table, PAGE_SIZE) for table in tables])
        except NoMemory:
            return None
        np = self._np
        entries = np.frombuffer(data, dtype="<u8")
        present = entries & np.uint64(self._present) != 0
        if (
            int(np.bitwise_or.reduce(entries)) & self._reserved
            and ((entries & np.uint64(self._reserved) != 0) & present).any()
        ):
            return None
        return self._merged(entries, present, first, np.asarray(neighbours, dtype=np.uint64))

    def _merged(self, entries: Any, present: Any, first: int, neighbours: Any) -> Batch:
        np = self._np
        leaves = int(np.count_nonzero(present))
        words = entries & np.uint64(self._address | self._deciding)
        # A page continues the one before it where the words differ by one page and by nothing else.
        continues = words[1:] - words[:-1] == PAGE_SIZE
        if leaves != len(entries):
            continues &= present[1:]
            continues &= present[:-1]
        seams = continues[ENTRIES - 1 :: ENTRIES]
        seams &= np.diff(neighbours) == 1
        joined = int(np.count_nonzero(seams))
        if leaves == len(entries) and not continues.any():
            return Batch(self._each(words, first, neighbours), leaves, leaves)
        begins, ends = present.copy(), present.copy()
        begins[1:] &= ~continues
        ends[:-1] &= ~continues
        start = np.flatnonzero(begins)
        size = np.flatnonzero(ends)
        size -= start
        size += 1
        size <<= PAGE_SHIFT
        chosen = words[start]
        index = start.view(np.uint64)
        iova = (index & np.uint64(ENTRIES - 1)) << np.uint64(PAGE_SHIFT)
        iova += (neighbours << np.uint64(PAGE_SHIFT + 9))[start >> 9]
        iova += np.uint64(first)
        columns = Columns(iova, chosen & np.uint64(self._address), size.view(np.uint64), self._granted(chosen))
        return Batch(columns, leaves, len(start) + joined)

    def _each(self, words: Any, first: int, neighbours: Any) -> Columns:
        # Every entry is a run of its own.
        np = self._np
        within = np.arange(0, LEAF_TABLE, PAGE_SIZE, dtype=np.uint64)
        starts = (neighbours << np.uint64(PAGE_SHIFT + 9)) + np.uint64(first)
        iova = (starts[:, None] + within).ravel()
        size = np.full(len(words), PAGE_SIZE, dtype=np.uint64)
        return Columns(iova, words & np.uint64(self._address), size, self._granted(words))

    def _granted(self, words: Any) -> Any:
        np = self._np
        keys = words & np.uint64(self._deciding)
        if (keys == keys[:1]).all():  # which is the rule
            return np.full(len(words), self._rights[int(keys[0])] if len(keys) else 0, dtype=np.uint8)
        granted = np.zeros(len(words), dtype=np.uint8)
        for key, rights in self._rights.items():
            granted[keys == np.uint64(key)] = rights
        return granted


def _deciding_bits(form: Format, mask: int) -> tuple[int, dict[int, int]]:
    # The bits that change what an entry grants under `mask`, and what each combination of them grants.
    bits = [1 << at for at in range(64) if form.permission_bits >> at & 1]
    every = [sum(bit for n, bit in enumerate(bits) if chosen >> n & 1) for chosen in range(1 << len(bits))]
    grants = {key: int(form.permissions(key)) & mask for key in every if key & form.present}
    deciding = sum(bit for bit in bits if any(grants.get(key ^ bit, right) != right for key, right in grants.items()))
    return deciding, {key & deciding: right for key, right in grants.items()}
