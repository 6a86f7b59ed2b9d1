"""The mempool of today (mm/mempool.c): the system, the reserve, the system with all means, the reserve, sleep.

Every request to the system goes out with NOMEMALLOC, NORETRY and NOWARN: an atomic caller keeps half of the min
watermark instead of 3/8 of it, and no caller gets what PF_MEMALLOC would give. A caller that cannot reclaim gets None
when system and reserve are empty; any other sleeps, up to 5 s at a time (the pressure may ease without an element being
freed), until it has one. `min_nr=0` still keeps one element, so that somebody is woken. Whoever runs the operation does
the sleeping and the 5 s.

`preallocated=1` is mempool_alloc_preallocated: the reserve only, and never the system.
Invariants: those of `emulator.mapping.pools.ladder`; a bulk request of at most `minimum` elements takes all of them or
none from the reserve. The number of elements is the caller's choice in the kernel: no default is known.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.options import chosen_options, takes
from emulator.mapping.pools.ladder import LadderPool
from emulator.mapping.pressure import Zone
from emulator.mapping.supply import PageSupply
from emulator.mapping.watermarks import Gfp
from pagetables.address import Gpa
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "LADDER", "PREALLOCATED", "Mempool", "make"]

DEFAULTS: dict[str, int | str] = {"min_nr": 64, "preallocated": 0}

LADDER = ("os_nowait", "pool", "os_full", "pool", "sleep")
PREALLOCATED = ("pool", "sleep")
_WITHOUT_RESERVES = {Gfp.ATOMIC: Gfp.HIGH, Gfp.MEMALLOC: Gfp.NOWAIT}  # what __GFP_NOMEMALLOC leaves of a class


class Mempool(LadderPool):
    """A reserve of `minimum` pages, one at least, behind the system allocator."""

    name = "mempool"

    def __init__(self, zone: Zone, minimum: int, preallocated: bool = False) -> None:
        ladder = PREALLOCATED if preallocated else LADDER
        keeps = minimum if minimum < 0 else max(minimum, 1)
        super().__init__(zone, keeps, ladder, lambda gfp: _WITHOUT_RESERVES.get(gfp, gfp))

    def take_many(self, count: int) -> list[Gpa] | None:
        """`count` elements, what the system does not give taken from the reserve; None if that has too few for all.

        InputError for more than the reserve can ever hold: that could not be promised.
        """
        if count > self.minimum:
            raise InputError(f"{count} elements at once from a memory pool that reserves {self.minimum}")
        got = self._ask_for(count)
        missing = count - len(got)
        if missing > len(self._pool):
            self.statistics.failures += 1
            self.statistics.waits += self.gfp.may_sleep
            self.give_back(got)
            return None
        return got + [page for _ in range(missing) if (page := self._pop_reserved()) is not None]

    def _ask_for(self, count: int) -> list[Gpa]:
        got: list[Gpa] = []
        while len(got) < count and (page := self._try("os_nowait")) is not None:
            got.append(page)
        return got


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """A `mempool` supply; options `min_nr` and `preallocated` (1: never ask the system)."""
    chosen = chosen_options("pool", Mempool.name, options, DEFAULTS)
    return Mempool(zone, chosen["min_nr"], bool(chosen["preallocated"]))
