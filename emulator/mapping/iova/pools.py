"""Pools: one bitmap cut into ranges, each CPU with a range of its own (powerpc, then lib/iommu-common.c, then sparc).

In the generic allocator a small pool's `end` is the last entry of its range and is used as an exclusive limit: the pool
gives that entry away. The search gives away one more (`Bitmap.find_area`), so that two entries of each small pool are
never handed out there, and one on powerpc.
"""

from __future__ import annotations

from dataclasses import dataclass

from emulator.mapping.iova.accounting import BitmapAllocator, Wanted
from pagetables.errors import InputError

__all__ = ["HintedPools", "Pool", "cut", "pool_number"]

_GOLDEN_RATIO = 0x61C88647


@dataclass(slots=True)
class Pool:
    """Entries [start, end), searched from `hint` on."""

    start: int
    end: int
    hint: int


class HintedPools(BitmapAllocator):
    """Searches a pool from its hint on, as both allocators of Linux do; in which order they are searched is theirs."""

    _pools: list[Pool]

    def _find(self, pool: Pool, wanted: Wanted, attempt: int, reach: int) -> tuple[Pool, int | None]:
        # A run of `pool`; of the first pool where the device does not reach the end of this one.
        self.statistics.lock("pool")
        start, limit = self._start(pool, wanted, attempt), pool.end
        if limit > reach:
            limit = reach
            if attempt > 0 or start % wanted.limit >= limit:
                pool = self._pools[0]
                start = pool.start
            else:
                start %= wanted.limit
        return pool, self._find_area(start, limit, wanted)

    def _start(self, pool: Pool, wanted: Wanted, attempt: int) -> int:
        start = pool.hint
        if attempt == 0 and wanted.after is not None:
            after = wanted.after - self.window.first
            start = after if pool.start <= after < pool.end else start
        return pool.start if start >= pool.end else start

    def _release(self, first: int, pages: int, cpu: int) -> None:
        self.statistics.lock("pool")
        self._give_back(first - self.window.first, pages)


def cut(entries: int, count: int, large: bool, keep_last: bool = False) -> tuple[list[Pool], Pool | None, int]:
    """`count` small pools over the entries, or over three quarters of them with a large pool on top; and the size of a
    small one. What does not divide belongs to nobody, nor does the last entry of a small pool without `keep_last`."""
    if count < 1 or count & (count - 1):
        raise InputError(f"the number of pools must be a power of two, not {count}")
    size = (entries * 3 // 4 if large else entries) // count
    if size < 3:
        raise InputError(f"{entries} entries are too few for {count} pools: each would have {size}")
    small = [Pool(at, at + size - (not keep_last), at) for at in range(0, count * size, size)]
    top = count * size
    return small, Pool(top, entries, top) if large else None, size


def pool_number(cpu: int, count: int, bits: int = 4) -> int:
    """The pool of a CPU: a multiplicative hash to `bits` bits, of which the low ones count (Linux: hash_32)."""
    return (cpu * _GOLDEN_RATIO & 0xFFFF_FFFF) >> 32 - bits & count - 1
