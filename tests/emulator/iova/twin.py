"""The obvious twin of an allocator: sets of pages, and a script that is played on both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.iova.allocator import LIMIT_32BIT, Window, make_allocator

WINDOW = Window(5, 201)
ACROSS = Window(LIMIT_32BIT - 90, LIMIT_32BIT + 90)

# Every allocator in forms small enough to fill, wrap and run out.
FORMS: dict[str, tuple[str, dict[str, int]]] = {
    "static": ("static-aperture", {"slot": 4}),
    "gart": ("gart", {"emergency": 3, "boundary": 64}),
    "gart-lazy": ("gart-lazy", {"emergency": 3, "boundary": 64}),
    "pools": ("sparc-generic", {"pools": 4, "boundary": 64}),
    "pools-without-large": ("sparc-generic", {"pools": 2, "large_pool": 0, "boundary": 0}),
    "one-pool": ("sparc-generic-1pool", {}),
    "powerpc": ("powerpc", {"pools": 4, "block": 4, "boundary": 64}),
    "powerpc-unsplit": ("powerpc", {"boundary": 0}),
    "stale": ("stale-bitmap", {"boundary": 64}),
    "stale-pools": ("stale-bitmap", {"pools": 4}),
    "stale-local": ("stale-bitmap", {"pools": 4, "local": 1}),
    "tree": ("rbtree", {}),
    "tree-unaligned": ("rbtree", {"size_aligned": 0}),
    "magazines": ("rbtree+rcache", {"magazine": 3, "trim_ms": 1, "cpus": 1}),
    "magazines-of-old": ("rbtree+rcache", {"magazine": 2, "depot": 1, "trim_ms": 0, "orders": 3}),
    "gen-pool": ("gen-pool", {}),
    "gen-pool-unaligned": ("gen-pool", {"order_aligned": 0}),
}
NATURAL = ("tree", "magazines", "magazines-of-old", "gen-pool")  # runs start at a multiple of their size
SAFE = ("gart", "gart-lazy", "stale", "stale-pools", "stale-local")  # nothing stale is ever handed out
CROSSES_NOTHING = ("gart", "gart-lazy", "pools", "powerpc", "stale")  # forms with a boundary of 64 pages


def power_of_two(pages: int) -> int:
    """The least power of two that is not below `pages`."""
    power = 1
    while power < pages:
        power *= 2
    return power


@dataclass
class Twin:
    """What is out, what is stale, page by page."""

    window: Window
    live: dict[int, int] = field(default_factory=dict)
    pages: set[int] = field(default_factory=set)
    stale: set[int] = field(default_factory=set)
    reused: int = 0

    def handed_out(self, first: int, pages: int) -> None:
        """A run went out: all of it inside the window, none of it out already."""
        run = set(range(first, first + pages))
        assert not run & self.pages, f"{first}+{pages} overlaps what is live"
        assert self.window.first <= first
        assert first + pages <= self.window.end
        self.reused += bool(run & self.stale)
        self.pages |= run
        self.live[first] = pages

    def freed(self, first: int) -> int:
        """A run came back; how long it was."""
        pages = self.live.pop(first)
        run = set(range(first, first + pages))
        self.pages -= run
        self.stale |= run
        return pages

    def fits(self, pages: int, low: int, high: int, align: int, used: set[int]) -> list[int]:
        """Every aligned place in [low, high) whose pages are not among `used`."""
        places = range(-(-low // align) * align, high - pages + 1, align)
        return [place for place in places if used.isdisjoint(range(place, place + pages))]


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("map"),
            st.one_of(st.integers(1, 4), st.integers(1, 40)),  # pages
            st.integers(0, 5),  # CPU
            st.sampled_from((1, 1, 1, 2, 8, 16)),  # alignment
            st.one_of(st.none(), st.integers(0, 250)),  # limit, from the start of the window
        ),
        st.tuples(st.just("unmap"), st.integers(0, 1000), st.integers(0, 5)),
        st.tuples(st.just("flush")),
        st.tuples(st.just("wait"), st.integers(1, 3)),
    ),
    max_size=120,
)


def play(form: str, script: list[tuple[Any, ...]], window: Window = WINDOW) -> tuple[Any, Twin]:
    """Play a script on an allocator and its twin, holding one against the other at each step."""
    clock = Clock()
    name, options = FORMS[form]
    allocator, twin = make_allocator(name, window, clock, options), Twin(window)
    allocator.flush = twin.stale.clear
    for step in script:
        match step:
            case ("map", pages, cpu, align, limit):
                top = None if limit is None else window.first + limit
                after = max(twin.live, default=None)
                first = allocator.allocate(pages, top, cpu, align, None if after is None else after + twin.live[after])
                if first is not None:
                    twin.handed_out(first, pages)
                    assert first % align == 0
                    assert top is None or first + pages <= top
            case ("unmap", which, cpu) if twin.live:
                first = list(twin.live)[which % len(twin.live)]
                allocator.free(first, twin.freed(first), cpu, stale=True)
            case ("flush",):
                twin.stale.clear()
                allocator.flushed()
            case ("wait", milliseconds):
                clock.advance(milliseconds * MILLISECOND)
        statistics = allocator.statistics
        assert statistics.live == len(twin.pages)
        assert statistics.occupied >= len(twin.pages)
        assert statistics.reused_before_flush == twin.reused
    return allocator, twin
