"""The load of the table in docs/supplies.md: table pages taken and given back while a pressure script runs."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import NamedTuple

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.pressure_run import PressureRun
from emulator.mapping.pressure_script import load_script
from emulator.mapping.supply import make_supply

SIZE = 64 << 20
STEP = MILLISECOND // 5
STEPS, LIFETIME = 3000, 25  # 600 ms in steps; taken pages come back 5 ms later
STEADY, BURST, EVERY = 4, 150, 100  # pages in each step, and in every hundredth (20 ms) so many more
OPTIONS = {"static": {"window_mib": 512, "levels": 3}}  # 258 pages; 26 * 4 + 150 = 254 are out at a time


SYSTEM = {f"page.{gfp.value}" for gfp in Gfp} | {"page.refused"}


class Line(NamedTuple):
    """One supply under one script: pages refused, calls to the system that a caller waited for, pages idle at most,
    and whether swapping came to a standstill."""

    refused: int
    calls: int
    idle: int
    deadlock: bool


def play(name: str, script: Path, gfp: Gfp = Gfp.ATOMIC) -> Line:
    """The load on the supply `name`, all of it in this class, while `script` runs on 64 MiB."""
    clock = Clock()
    zone = Zone(clock, 4 << 30, SIZE, reclaim_per_ms=32)
    supply = make_supply(name, zone, clock, OPTIONS.get(name, {}))
    run = PressureRun(load_script(script), zone, clock)
    run.start()
    supply.gfp = gfp
    out: deque[list[int]] = deque()
    refused = 0
    for step in range(STEPS):
        clock.advance(STEP)
        wanted = STEADY + (BURST if step % EVERY == 0 else 0)
        admitted = supply.admit(wanted)
        taken = [supply.take() if admitted else None for _ in range(wanted)]
        supply.settle()
        refused += taken.count(None)
        out.append([page for page in taken if page is not None])
        if len(out) > LIFETIME:
            supply.give_back(out.popleft())
    calls = sum(count for step, count in supply.meter.counts.items() if step in SYSTEM)
    return Line(refused, calls, supply.statistics.idle_highest, run.circle() is not None)
