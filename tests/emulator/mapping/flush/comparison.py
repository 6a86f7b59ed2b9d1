"""The workload behind the table of docs/flush.md: two devices, four CPUs, a steady number of live one-page maps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from emulator.clock import MICROSECOND, MILLISECOND
from emulator.mapping.addresses import AddressPlan
from tests.emulator.mapping.observer import World

LIVE, APART = 512, 10 * MICROSECOND
WINDOW = (0, 4096 << 12)

# How a row is called: policy, allocator, one window for both devices.
SYSTEMS = {
    "strict": ("strict", "rbtree+rcache", False),
    "list": ("list", "rbtree+rcache", False),
    "list, per_cpu=1": ("list", "rbtree+rcache", False),
    "percpu": ("percpu", "rbtree+rcache", False),
    "single": ("single", "rbtree+rcache", False),
    "flush-every-map": ("flush-every-map", "gart", True),
    "lazy-on-wrap, gart-lazy": ("lazy-on-wrap", "gart-lazy", True),
    "lazy-on-wrap, sparc-generic-1pool": ("lazy-on-wrap", "sparc-generic-1pool", True),
    "stale-bitmap": ("stale-bitmap", "stale-bitmap", True),
    "none": ("none", "rbtree+rcache", False),
}


@dataclass
class Outcome:
    """What one run came to."""

    invalidations: float  # for each thousand unmaps
    granularity: str
    longest_ms: float
    most_stale: int
    reused: int
    failed: int  # maps that found no address
    ns: float  # of model time, for a map and its unmap

    def row(self, name: str) -> list[str]:
        """The row of the document."""
        policy, _, rest = name.partition(", ")
        what = f"`{policy}`" + (f", `{rest}`" if rest else "")
        return [
            what,
            f"{float(f'{self.invalidations:.3g}'):,g} {self.granularity}".strip(),
            f"{self.longest_ms:.3g}",
            str(self.most_stale),
            str(self.reused),
            str(self.failed),
            f"{self.ns:.0f}",
        ]


def run(name: str, maps: int = 20_000) -> Outcome:
    """Map `maps` pages, the oldest of `LIVE` unmapped before each."""
    policy, allocator, one_window = SYSTEMS[name]
    options = {"per_cpu": 1} if "per_cpu" in name else {}
    world = World(AddressPlan(allocator, window=WINDOW, one_window=one_window), policy, **options)
    enabling = world.driver.counts.global_  # what bringing the unit up took
    live: deque[int] = deque()
    most = unmaps = failed = 0
    for number in range(maps):
        cpu = number % 4
        if len(live) == LIVE:
            world.unmap(0, cpu=live.popleft())
            unmaps += 1
            most = max(most, world.policy.window.pending)
        if world.map(number % 2, 1, cpu) is None:
            failed += 1
        else:
            live.append(cpu)
        world.clock.advance(APART)
    counts = world.driver.counts
    kinds = {"global": counts.global_ - enabling, "domain": counts.domain, "page": counts.page}
    ns = world.policy.meter.take()
    world.policy.flush()  # what still waits at the end has an age, too
    return Outcome(
        1000 * sum(kinds.values()) / unmaps,
        " and ".join(kind for kind, count in kinds.items() if count),
        world.policy.window.longest_ns / MILLISECOND,
        most,
        world.spaces.reused_before_flush,
        failed,
        ns / unmaps,
    )
