"""A preallocated set, GFP_ATOMIC as an unreliable fallback, and a thread that enlarges the set in the background.

Source: Kleen, June 2007 ("try GFP_ATOMIC ... some kernel thread that tries to enlarge it in the background"). How the
set grows is taken from its best living example, kernel/dma/pool.c: when an allocation leaves less than was there at
the start, a worker runs that doubles the set; nothing ever shrinks it. That pool has no fallback; the order here (set,
system, failure) is the seed's, and `low`, `step` and the delay are knobs.

    take        from the set; else GFP_ATOMIC; when fewer than `low` are idle, wake the thread
    worker      with GFP_KERNEL: `step` pages more, or as many as the set has (growth=double); stops at a refusal
    give back   a page of the set returns to it, a page of the fallback to the system

Invariants: the set is what is idle of it plus what is live of it, and its size never falls. Keeps up with a load that
grows slower than the thread; a faster burst lives on the fallback, and fails with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import MICROSECOND, Clock, Timer
from emulator.mapping.options import chosen_options, takes
from emulator.mapping.pools.accounting import CountingSupply
from emulator.mapping.pressure import Gfp, Zone
from emulator.mapping.supply import PageSupply
from pagetables.address import Gpa
from pagetables.errors import InputError, near

__all__ = ["DEFAULTS", "EnlargedSet", "make"]

DEFAULTS: dict[str, int | str] = {
    "initial": 128,
    "low": 64,
    "step": 64,
    "growth": "step",
    "delay_us": 50,
    "fallback": 1,
}
GROWTHS = ("step", "double")


class EnlargedSet(CountingSupply):
    """`initial` pages at the start; `step` 0 doubles the set. `fallback` False never asks the system for a caller."""

    name = "prealloc-worker"

    def __init__(
        self, zone: Zone, clock: Clock, initial: int, low: int, step: int, delay: int, fallback: bool = True
    ) -> None:
        if initial < 1 or not 0 <= low <= initial or step < 0 or delay < 0:
            raise InputError(f"an enlarged set needs 0 <= low <= initial, and initial >= 1, not {low} and {initial}")
        super().__init__(zone)
        self._clock, self._low, self._step, self._delay, self._fallback = clock, low, step, delay, fallback
        self._worker: Timer | None = None
        self._woken_at: int | None = None
        self._own: set[Gpa] = set()
        self.size = 0  # pages of the set, idle and live
        self._details = self.statistics.details
        self._details |= dict.fromkeys(
            ("size", "enlargements", "exhausted", "exhausted_before_first_enlarge", "peak_live", "longest_enlarge_ns"),
            0,
        )
        self._enlarge(initial)
        if self.size < initial:
            raise InputError(f"a set of {initial} pages cannot be filled: the zone has {zone.managed} pages")
        self._started()

    @property
    def overshoot(self) -> int:
        """Pages of the set that were never live at the same time as the others: what enlarging took too much."""
        return self.size - self._details["peak_live"]

    def _supply(self) -> Gpa | None:
        self.meter.spend("lock.global")
        page = self._pop()
        self._note_size()
        if page is None:
            self._exhausted()
        if len(self._pool) < self._low:
            self._wake_worker()
        return self._ask(Gfp.ATOMIC) if page is None and self._fallback else page

    def _exhausted(self) -> None:
        self._details["exhausted"] += 1
        if not self._details["enlargements"]:
            self._details["exhausted_before_first_enlarge"] += 1

    def _return(self, page: Gpa) -> None:
        if page in self._own:
            self.meter.spend("lock.global")
            self._push(page)
        else:
            self._give(page)

    def close(self) -> None:
        """Stop the thread and return what is idle; what is live is given back when it comes."""
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        self._own.clear()
        super().close()

    def _wake_worker(self) -> None:
        if self._woken_at is None:
            self._woken_at = self._clock.now
        if self._worker is None:
            self.meter.spend("worker.wakeup")
            self._worker = self._clock.after(self._delay, self._work)

    def _work(self) -> None:
        self._worker = None
        self.statistics.wakeups += 1
        if self._enlarge(self._step or self.size):
            self._details["enlargements"] += 1
            waited = self._clock.now - (self._clock.now if self._woken_at is None else self._woken_at)
            self._details["longest_enlarge_ns"] = max(self._details["longest_enlarge_ns"], waited)
            self._woken_at = None
            self._announce()

    def _enlarge(self, pages: int) -> int:
        before = len(self._pool)
        self._grow_to(before + pages)
        added = self._pool[before:]
        self._own.update(added)
        self.size += len(added)
        self._note_size()
        return len(added)

    def _note_size(self) -> None:
        details = self._details
        details["peak_live"] = max(details["peak_live"], self.size - len(self._pool))
        details["size"] = self.size
        details["overshoot"] = self.overshoot


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> PageSupply:
    """A `prealloc-worker` supply; options `initial`, `low`, `step` (pages), `growth` (step or double), `delay_us`,
    `fallback` (0: a caller never gets a page of the system)."""
    chosen = chosen_options("pool", EnlargedSet.name, options, DEFAULTS)
    growth = chosen["growth"]
    if growth not in GROWTHS:
        raise InputError(f"pool.growth={growth}: the set grows by step or double; {near(str(growth), GROWTHS)}")
    step = chosen["step"] if growth == "step" else 0
    if growth == "step" and step < 1:
        raise InputError(f"pool.step={step}: the set grows by one page or more")
    delay = chosen["delay_us"] * MICROSECOND
    low = chosen["low"] if "low" in options else min(chosen["low"], chosen["initial"])
    return EnlargedSet(zone, clock, chosen["initial"], low, step, delay, bool(chosen["fallback"]))
