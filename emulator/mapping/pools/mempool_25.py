"""The mempool of Linux 2.5 (December 2001): the system first, a reserve for emergencies, sleeping callers wait.

Two ladders of it are named. `merged` is what went into 2.5: the reserve is touched only when the system has refused,
and a caller that may wait first asks with all its means once half of the reserve is gone. `d2` is the one discussed on
the list as mempool-2.5.1-D2: the reserve is used up to its half before anybody waits for the system.

    merged   os_nowait, os_full_if_half, bdflush, pool, sleep
    d2       os_nowait, pool_if_half, os_full, pool, sleep

2.5 had other watermarks; here the classes of today's model stand for its flags. Invariants: those of
`emulator.mapping.pools.ladder`. The number of elements is the caller's choice in the kernel: no default is known.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.options import chosen_options, takes
from emulator.mapping.pools.ladder import LadderPool, read_ladder
from emulator.mapping.pressure import Zone
from emulator.mapping.supply import PageSupply

__all__ = ["DEFAULTS", "LADDERS", "MempoolOf25", "make"]

DEFAULTS: dict[str, int | str] = {"min_nr": 64, "ladder": "merged"}

LADDERS = {
    "merged": ("os_nowait", "os_full_if_half", "bdflush", "pool", "sleep"),
    "d2": ("os_nowait", "pool_if_half", "os_full", "pool", "sleep"),
}


class MempoolOf25(LadderPool):
    """A reserve of `minimum` pages behind the system allocator."""

    name = "mempool-2.5"


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """A `mempool-2.5` supply; options `min_nr` and `ladder` (merged, d2, or steps separated by commas)."""
    chosen = chosen_options("pool", MempoolOf25.name, options, DEFAULTS)
    return MempoolOf25(zone, chosen["min_nr"], read_ladder(str(chosen["ladder"]), LADDERS))
