"""What each page supply holds idle, and which burst it survives: found by asking it, on a zone of its own.

A burst is tables taken at once by callers that may not sleep, while no background worker gets to run. Two bursts are
told: with memory free, and with none that such a caller could get.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.clock import Clock
from emulator.mapping.pressure import Gfp, Held, Zone
from emulator.mapping.supply import PageSupply, make_supply, supply_names
from pagetables.address import PAGE_SIZE
from pagetables.errors import InputError

__all__ = ["Holding", "holding", "holdings"]

START = 4 << 30  # where the zone lies: nothing depends on it
STATIC = "static"
ROOM = 64  # pages left above min, so that the floor of a supply is found in a few steps


@dataclass(frozen=True, slots=True)
class Holding:
    """One supply at its defaults, in table pages. `idle` is held from the start on; `burst` are taken at once before
    the first refusal while memory is free, `burst_without_memory` while none is."""

    name: str
    idle: int
    burst: int
    burst_without_memory: int


def holdings(memory: int) -> list[Holding]:
    """Every supply over `memory` bytes, but for `static`, which a formula sizes (`emulator.sizing`). InputError if
    memory does not hold one."""
    return [holding(name, memory) for name in supply_names() if name != STATIC]


def holding(name: str, memory: int, options: Mapping[str, int | str] | None = None) -> Holding:
    """The supply called `name` over `memory` bytes."""
    if memory < PAGE_SIZE or memory % PAGE_SIZE:
        raise InputError(f"{memory} bytes of memory are not whole pages")
    zone = Zone(Clock(), START, memory, reclaim_per_ms=0)
    supply = make_supply(name, zone, Clock(), options or {})
    idle = supply.statistics.idle
    free = zone.free
    zone.occupy("others", free, Held.PINNED, Gfp.MEMALLOC)
    without = _burst(supply)
    zone.vacate("others", min(free, zone.marks.min + ROOM))
    _burst(supply)
    # What the last burst left is the floor of this supply: it would have left it of all the memory, too.
    left = min(zone.free, free) if zone.free < min(free, zone.marks.min + ROOM) else free
    return Holding(name, idle, without + free - left, without)


def _burst(supply: PageSupply) -> int:
    supply.gfp = Gfp.ATOMIC
    count = 0
    while supply.take() is not None:
        count += 1
    return count
