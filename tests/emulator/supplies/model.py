"""Lives of a supply under pressure: random operations, and what is checked after each of them."""

from __future__ import annotations

from hypothesis import strategies as st

from emulator.clock import MICROSECOND, MILLISECOND, Clock
from emulator.mapping.pressure import Gfp, Held, Zone
from emulator.mapping.supply import make_supply

PAGE = 4096
START = 0x1_0000_0000
PAGES = 400
MIN = 80  # pages

FORMS = {
    "os": ("os", {}),
    "os-caller": ("os", {"gfp": "caller"}),
    "os+memalloc": ("os+memalloc", {}),
    "respool": ("respool", {"min": 6, "grow": 4}),
    "mempool-2.5": ("mempool-2.5", {"min_nr": 8}),
    "mempool-2.5-d2": ("mempool-2.5", {"min_nr": 8, "ladder": "d2"}),
    "mempool": ("mempool", {"min_nr": 8}),
    "mempool-preallocated": ("mempool", {"min_nr": 8, "preallocated": 1}),
    "static": ("static", {"window_mib": 32, "levels": 3}),
    "prealloc-worker": ("prealloc-worker", {"initial": 16, "low": 8, "step": 8}),
    "prealloc-doubling": ("prealloc-worker", {"initial": 16, "low": 8, "growth": "double"}),
    "reservation": ("reservation", {}),
    "dma-pool": ("dma-pool", {}),
    "dma-pool-2002": ("dma-pool", {"generation": "2002"}),
    "coherent-pool": ("coherent-pool", {"pages": 16}),
}

CLASSES = st.sampled_from([Gfp.ATOMIC, Gfp.KERNEL, Gfp.NOIO, Gfp.NOWAIT, Gfp.MEMALLOC])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 40), CLASSES),
        st.tuples(st.just("give"), st.integers(1, 60), st.integers(0, 1 << 16)),
        st.tuples(st.just("occupy"), st.integers(1, 300), st.sampled_from(list(Held)), CLASSES),
        st.tuples(st.just("vacate"), st.integers(1, 300)),
        st.tuples(st.just("time"), st.sampled_from([10 * MICROSECOND, 60 * MICROSECOND, MILLISECOND, 7 * MILLISECOND])),
    ),
    max_size=25,
)


def new_zone(pages: int = PAGES, used: int = 0, clock: Clock | None = None, reclaim_per_ms: int = 20) -> Zone:
    """A small zone whose min watermark is 80 pages, 3/8 of it 30."""
    return Zone(clock or Clock(), START, pages * PAGE, used, MIN * 4, reclaim_per_ms)


class Life:
    """One supply, the pages that its tables hold, and somebody else who takes memory."""

    def __init__(self, form: str, used: int = 0, reclaim_per_ms: int = 20) -> None:
        name, options = FORMS[form]
        self.clock = Clock()
        self.zone = new_zone(used=used, clock=self.clock, reclaim_per_ms=reclaim_per_ms)
        self.supply = make_supply(name, self.zone, self.clock, options)
        self.live: list[int] = []
        self.refused: list[Gfp] = []

    def take(self, gfp: Gfp = Gfp.ATOMIC) -> int | None:
        """One page for a table, as an operation of this class asks for it."""
        self.supply.gfp = gfp
        page = self.supply.take()
        if page is None:
            self.refused.append(gfp)
        else:
            assert page not in self.live, "a page that is live was handed out again"
            self.live.append(page)
        return page

    def give(self, count: int, seed: int = 0) -> None:
        """Up to `count` live pages, from somewhere in the middle, come back at once."""
        if self.live:
            at = seed % len(self.live)
            returned, self.live[at : at + count] = self.live[at : at + count], []
            self.supply.give_back(returned)

    def do(self, operation: tuple) -> None:
        """One of `OPERATIONS`."""
        match operation:
            case ("take", count, gfp):
                for _ in range(count):
                    self.take(gfp)
            case ("give", count, seed):
                self.give(count, seed)
            case ("occupy", pages, kind, gfp):
                self.zone.occupy("others", pages, kind, gfp)
            case ("vacate", pages):
                self.zone.vacate("others", pages)
            case ("time", delay):
                self.clock.advance(delay)

    def check(self) -> None:
        """What holds of every supply at every moment."""
        zone, statistics = self.zone, self.supply.statistics
        held_by_others = sum(sum(kinds.values()) for kinds in zone.holders().values())
        assert zone.free == zone.managed - held_by_others - zone.held >= 0
        assert zone.held == len(self.live) + statistics.idle, "pages are lost or made up"
        assert len(set(self.live)) == len(self.live)
        assert all(START <= page < START + zone.size and page % PAGE == 0 for page in self.live)
        assert statistics.hits + statistics.fallbacks == len(self.live) + statistics.given_back
        assert statistics.failures == len(self.refused) >= statistics.waits
        assert statistics.idle_lowest <= statistics.idle <= statistics.idle_highest
        assert 0 <= zone.promised <= zone.free + zone.clean

    def play(self, script: list[tuple]) -> Life:
        """All of `script`, checked after each operation."""
        for operation in script:
            self.do(operation)
            self.check()
        return self
