"""Memory pressure: one zone of pages with watermarks, after Linux mm/page_alloc.c and mm/vmscan.c.

A request may sink the number of free pages only to the floor of its class (`emulator.mapping.watermarks`). Below `low`
a background reclaimer (kswapd) is woken and frees, at a rate, pages that others hold, until `high` is reached. What
others hold is clean (dropped at once), dirty or anonymous (written first) or pinned (never freed). Pages may also be
promised: then the others may neither dirty nor pin so much that the promise could not be kept.

    invariants   free = managed - held by others - handed out, and never below 0
                 promised <= free + clean
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from emulator.clock import MILLISECOND, Clock, Timer
from emulator.mapping.watermarks import Gfp, Watermarks
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa
from pagetables.errors import InputError, VtdError

__all__ = ["DoubleFree", "Gfp", "Held", "PressureStatistics", "Watermarks", "Zone"]

RECLAIM_BATCH = 32  # pages that one direct reclaim tries to free (SWAP_CLUSTER_MAX)
HOPELESS = 16  # runs of the reclaimer without a page after which it is left alone until one is freed
OTHERS = "others"


class DoubleFree(VtdError):
    """A page was given back that was not out, or that never belonged to the zone."""


class Held(enum.Enum):
    """What it takes to free a page that somebody else holds."""

    CLEAN = "clean"  # nothing: cache that is on disk already
    DIRTY = "dirty"  # a write to a file
    ANONYMOUS = "anonymous"  # a write to swap
    PINNED = "pinned"  # its owner


@dataclass(slots=True)
class PressureStatistics:
    """What the zone did: calls and refusals by class, reclaim, how deep it sank and for how long."""

    calls: dict[str, int] = field(default_factory=lambda: {gfp.value: 0 for gfp in Gfp})
    refused: dict[str, int] = field(default_factory=lambda: {gfp.value: 0 for gfp in Gfp})
    direct_reclaims: int = 0
    reclaimer_wakeups: int = 0
    reclaimed: int = 0
    lowest_free: int = 0
    below_ns: dict[str, int] = field(default_factory=lambda: {"min": 0, "low": 0, "high": 0})


class Zone:
    """The pages of [start, start + size): which are handed out, how many are free, who may have one.

    `used` pages are clean pages of others. What others hold has no address here, only weight. A freed page is handed
    out again first (last in, first out), then the lowest that was never used. `on_available` is called when pages
    became free that nobody asked for on the spot. `write_out(pages)`, if set, is asked to write anonymous and dirty
    pages and answers how many are on their way; it calls `written` when they are. Without it writing takes no time and
    never fails.
    """

    def __init__(
        self,
        clock: Clock,
        start: int,
        size: int,
        used: int = 0,
        min_free_kib: int | None = None,
        reclaim_per_ms: int = 256,
    ) -> None:
        if size < PAGE_SIZE or start % PAGE_SIZE or size % PAGE_SIZE:
            raise InputError(f"a zone at {start:#x}+{size:#x} is not made of whole pages")
        self.start, self.size = start, size
        self.managed = size >> PAGE_SHIFT
        if not 0 <= used <= self.managed:
            raise InputError(f"{used} pages cannot be in use in a zone of {self.managed}")
        self.marks = Watermarks.of(self.managed, min_free_kib)
        self.reclaim_per_ms = reclaim_per_ms
        self.on_available: list[Callable[[], None]] = []
        self.write_out: Callable[[int], int] | None = None
        self.promised = 0
        self._clock, self._since = clock, clock.now
        self._statistics = PressureStatistics(lowest_free=self.managed - used)
        self._holders: dict[tuple[str, Held], int] = {(OTHERS, Held.CLEAN): used}
        self._by_kind = {kind: used if kind is Held.CLEAN else 0 for kind in Held}
        self._returned: list[Gpa] = []
        self._out: set[Gpa] = set()
        self._next = start
        self._reclaimer: Timer | None = None
        self._in_vain = 0
        self._promise_refused = False
        self.free = self.managed - used  # pages that nobody holds

    @property
    def statistics(self) -> PressureStatistics:
        """What happened so far, the time below each mark included."""
        self._account()
        return self._statistics

    @property
    def held(self) -> int:
        """Pages handed out and not given back."""
        return len(self._out)

    @property
    def clean(self) -> int:
        """Pages of others that can be dropped at once."""
        return self._by_kind[Held.CLEAN]

    @property
    def writable(self) -> int:
        """Pages of others that can be freed after they were written."""
        return self._by_kind[Held.DIRTY] + self._by_kind[Held.ANONYMOUS]

    def holding(self, name: str) -> int:
        """Pages that `name` holds, of whatever kind."""
        return sum(pages for (holder, _), pages in self._holders.items() if holder == name)

    def holders(self) -> dict[str, dict[str, int]]:
        """Who holds how many pages of which kind, those with none left out."""
        found: dict[str, dict[str, int]] = {}
        for (name, kind), pages in self._holders.items():
            if pages:
                found.setdefault(name, {})[kind.value] = pages
        return found

    def squeeze(self, used: int) -> None:
        """From now on the others hold `used` clean pages: pressure put on, or taken off, from outside."""
        before = self._holders[OTHERS, Held.CLEAN]
        if not 0 <= used <= self.free + before:
            raise InputError(f"{used} pages cannot be in use: {self.managed} in the zone, {self.held} handed out")
        self._hold(OTHERS, Held.CLEAN, used - before)
        self._wake_if_low()
        if used < before:
            self._announce()

    def occupy(self, name: str, pages: int, kind: Held = Held.CLEAN, gfp: Gfp = Gfp.KERNEL) -> int:
        """`name` asks for `pages` pages in this class and keeps them; how many it got."""
        floor = self.marks.floor(gfp)
        if gfp.may_sleep and self.free - pages < floor:
            self._reclaim_directly(pages + floor - self.free, gfp)
        room = self.free - floor
        if kind is not Held.CLEAN:
            room = min(room, self.free + self.clean - self.promised)
        got = max(min(pages, room), 0)
        self._hold(name, kind, got)
        self._wake_if_low()
        return got

    def vacate(self, name: str, pages: int | None = None) -> int:
        """`name` gives back `pages` pages, all of them if None; how many it had to give."""
        left = self.holding(name) if pages is None else pages
        wanted = left
        for holder, kind in list(self._holders):
            if holder == name and left:
                left -= self._drop(holder, kind, left)
        if wanted != left:
            self._announce()
        return wanted - left

    def written(self, pages: int) -> int:
        """So many dirty or anonymous pages have been written, and are free; how many there were."""
        left = pages
        for name, kind in list(self._holders):
            if kind in (Held.DIRTY, Held.ANONYMOUS) and left:
                left -= self._drop(name, kind, left)
        self._statistics.reclaimed += pages - left
        if left < pages:
            self._announce()
            self.wake_reclaimer()
        return pages - left

    def take(self, gfp: Gfp) -> Gpa | None:
        """A page, or None if the class of the request may not sink as deep as free memory is."""
        return self.take_run(gfp, 1)

    def take_run(self, gfp: Gfp, pages: int) -> Gpa | None:
        """The first of `pages` pages in a row, or None: too few may be taken, or no such run is free."""
        statistics, floor = self._statistics, self.marks.floor(gfp)
        statistics.calls[gfp.value] += 1
        if gfp.may_sleep and self.free - pages < floor:
            self._reclaim_directly(floor + pages - self.free, gfp)
        first = None
        if self.free - pages >= max(floor, 0) and self.free + self.clean - pages >= self.promised:
            first = self._pop(pages)
        if first is None:
            statistics.refused[gfp.value] += 1
        else:
            self._hand_out(first, pages)
        self._wake_if_low()
        return first

    def give_back(self, pages: Iterable[Gpa]) -> None:
        """These pages are free again; DoubleFree if one was not out."""
        returned = 0
        self._account()
        for page in pages:
            if page not in self._out:
                raise DoubleFree(f"page {page:#x} is given back, but it is not out")
            self._out.remove(page)
            self._returned.append(page)
            self.free += 1
            returned += 1
        if returned:
            self._announce()

    def promise(self, pages: int) -> bool:
        """Promise `pages` pages to somebody, if free and clean ones that are not promised yet suffice."""
        if self.free + self.clean - self.promised < pages:
            self._promise_refused = True
            return False
        self.promised += pages
        return True

    def release_promise(self, pages: int) -> None:
        """So many promised pages will not be asked for; VtdError if fewer were promised."""
        if not 0 <= pages <= self.promised:
            raise VtdError(f"{pages} promised pages cannot be released: {self.promised} are promised")
        self.promised -= pages
        if pages and self._promise_refused:  # news for those alone who want a promise: no page became free
            self._announce()

    def take_promised(self) -> Gpa:
        """A page against a promise: a free one, else the place of a clean one. VtdError without a promise."""
        if not self.promised:
            raise VtdError("no page is promised to anybody")
        if not self.free:
            self._reclaim(1, Gfp.NOIO)
        self.promised -= 1
        page = self._pop(1)
        if page is None:
            raise VtdError(f"a promised page is not there: {self.free} pages free, {self.clean} clean")
        self._hand_out(page, 1)
        self._wake_if_low()
        return page

    def wake_reclaimer(self) -> None:
        """Start the background reclaimer unless it runs, or nothing could be freed, or nothing has to be."""
        reclaimable = len(self._out) + self.free + self._by_kind[Held.PINNED] < self.managed
        hopeful = reclaimable and self.reclaim_per_ms and self._in_vain < HOPELESS
        if self._reclaimer is None and self.free < self.marks.high and hopeful:
            self._statistics.reclaimer_wakeups += 1
            self._reclaimer = self._clock.after(MILLISECOND, self._run_reclaimer)

    def _account(self) -> None:
        elapsed = self._clock.now - self._since
        if elapsed:
            self._since += elapsed
            for name in ("min", "low", "high"):
                if self.free < getattr(self.marks, name):
                    self._statistics.below_ns[name] += elapsed

    def _hold(self, name: str, kind: Held, pages: int) -> None:
        self._account()
        self._holders[name, kind] = self._holders.get((name, kind), 0) + pages
        self._by_kind[kind] += pages
        self.free -= pages
        self._statistics.lowest_free = min(self._statistics.lowest_free, self.free)

    def _drop(self, name: str, kind: Held, pages: int) -> int:
        dropped = min(pages, self._holders[name, kind])
        self._hold(name, kind, -dropped)
        return dropped

    def _hand_out(self, first: Gpa, pages: int) -> None:
        self._account()
        self._out.update(Gpa(first + (index << PAGE_SHIFT)) for index in range(pages))
        self.free -= pages
        self._statistics.lowest_free = min(self._statistics.lowest_free, self.free)

    def _pop(self, pages: int) -> Gpa | None:
        if pages == 1 and self._returned:
            return self._returned.pop()
        size = pages << PAGE_SHIFT
        if self._next + size <= self.start + self.size:
            self._next += size
            return Gpa(self._next - size)
        return self._pop_returned_run(pages)

    def _pop_returned_run(self, pages: int) -> Gpa | None:
        run: list[Gpa] = []
        for page in sorted(self._returned):
            run = [*run, page] if run and page == run[-1] + PAGE_SIZE else [page]
            if len(run) == pages:
                taken = set(run)
                self._returned = [page for page in self._returned if page not in taken]
                return run[0]
        return None

    def _reclaim_directly(self, wanted: int, gfp: Gfp) -> None:
        self._statistics.direct_reclaims += 1
        wanted = max(RECLAIM_BATCH, wanted)
        freed = self._reclaim(wanted, gfp)
        if freed < wanted and self.write_out is not None and gfp.may_write:
            self.write_out(wanted - freed)

    def _reclaim(self, wanted: int, gfp: Gfp) -> int:
        left = wanted
        for kind in self._freeable(gfp):
            for name, held in list(self._holders):
                if held is kind and left:
                    left -= self._drop(name, held, left)
        self._statistics.reclaimed += wanted - left
        return wanted - left

    def _freeable(self, gfp: Gfp) -> list[Held]:
        # What this class of request may free on the spot: with a writer, only what need not be written.
        writes_at_once = self.write_out is None
        allowed = {Held.DIRTY: gfp.may_write_files, Held.ANONYMOUS: gfp.may_write}
        return [Held.CLEAN, *(kind for kind, may in allowed.items() if may and writes_at_once)]

    def _announce(self) -> None:
        self._in_vain = 0
        self._promise_refused = False
        for action in list(self.on_available):
            action()

    def _wake_if_low(self) -> None:
        if self.free < self.marks.low:
            self.wake_reclaimer()

    def _run_reclaimer(self) -> None:
        self._reclaimer = None
        wanted = min(self.reclaim_per_ms, max(self.marks.high - self.free, 0))
        freed = self._reclaim(wanted, Gfp.KERNEL)
        under_way = self.write_out(wanted - freed) if self.write_out is not None and freed < wanted else 0
        self._in_vain += not (freed or under_way)
        if (freed or under_way) and self.free < self.marks.high:
            self._reclaimer = self._clock.after(MILLISECOND, self._run_reclaimer)
        if freed:
            self._announce()
