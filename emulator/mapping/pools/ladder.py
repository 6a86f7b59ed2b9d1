"""Reserved elements and an ordered ladder of attempts: what the mempools of all times have in common.

A ladder is data: names of `STEPS`, tried in order until one yields a page.

    os_nowait        ask the system in the caller's class without waiting and I/O
    os_full          ask in the caller's full class; only for one that may wait
    os_full_if_half  the same, but only while at most half of the reserve is left: the caller feels the pressure
    bdflush          wake the background reclaimer, and go on
    pool_if_half     take a reserved element while at least half of them are there
    pool             take a reserved element if there is one
    sleep            a caller that may wait sleeps until an element is freed; one that may not gets nothing

Invariants: at most `minimum` elements are reserved; a page given back while fewer are refills the reserve; a caller
sleeps only when the reserve is empty. Progress is certain only if elements of this pool are freed by work that does
not need the same pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from emulator.mapping.pools.accounting import CountingSupply
from emulator.mapping.pressure import Zone
from emulator.mapping.watermarks import Gfp
from pagetables.address import Gpa
from pagetables.errors import InputError, near

__all__ = ["STEPS", "LadderPool", "read_ladder"]

STEPS = ("os_nowait", "os_full", "os_full_if_half", "bdflush", "pool_if_half", "pool", "sleep")


def read_ladder(text: str, named: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The steps that `text` names: one of `named`, or steps separated by commas; InputError for an unknown one."""
    if text in named:
        return tuple(named[text])
    steps = tuple(step.strip() for step in text.split(","))
    for step in steps:
        if step not in STEPS:
            raise InputError(f"pool.ladder: no step is called {step!r}; {near(step, [*STEPS, *named])}")
    if "sleep" in steps[:-1]:
        raise InputError(f"pool.ladder={text}: nothing comes after sleep, which starts again from the top")
    return steps


class LadderPool(CountingSupply):
    """`minimum` reserved elements, taken at the start, and a ladder. `asks_as` turns the class of the operation into
    the one that the system is asked in."""

    hears_zone = False  # whoever sleeps here is woken by an element, not by a free page elsewhere

    def __init__(
        self,
        zone: Zone,
        minimum: int,
        ladder: Sequence[str],
        asks_as: Callable[[Gfp], Gfp] = lambda gfp: gfp,
    ) -> None:
        if minimum < 0:
            raise InputError(f"a memory pool cannot reserve {minimum} elements")
        super().__init__(zone)
        self.minimum, self.ladder = minimum, tuple(ladder)
        self.waits_for = f"an element of {self.name}" if "sleep" in ladder else ""
        self._asks_as = asks_as
        self._grow_to(minimum)
        if len(self._pool) < minimum:
            raise InputError(f"a memory pool of {minimum} pages cannot be filled: the zone has {zone.managed} pages")
        self._started()

    def resize(self, minimum: int, gfp: Gfp = Gfp.KERNEL) -> bool:
        """Reserve `minimum` elements from now on. What is too much goes back at once; False if what is missing could
        not all be had: the pool works on with what it has."""
        if minimum < 0:
            raise InputError(f"a memory pool cannot reserve {minimum} elements")
        self.minimum = minimum
        self._shrink_to(minimum)
        self._grow_to(minimum, gfp)
        return len(self._pool) == minimum

    def _supply(self) -> Gpa | None:
        for step in self.ladder:
            page = self._try(step)
            if page is not None:
                return page
        return None

    def _try(self, step: str) -> Gpa | None:
        gfp = self._asks_as(self.gfp)
        match step:
            case "os_nowait":
                return self._ask(gfp.without_waiting)
            case "os_full" if gfp.may_sleep:
                return self._ask(gfp)
            case "os_full_if_half" if gfp.may_sleep and 2 * len(self._pool) <= self.minimum:
                return self._ask(gfp)
            case "bdflush":
                self._zone.wake_reclaimer()
            case "pool_if_half" if 2 * len(self._pool) >= self.minimum:
                return self._pop_reserved()
            case "pool":
                return self._pop_reserved()
        return None

    def _pop_reserved(self) -> Gpa | None:
        self.meter.spend("lock.pool")
        return self._pop()

    def _return(self, page: Gpa) -> None:
        if len(self._pool) < self.minimum:
            self.meter.spend("lock.pool")
            self._push(page)
        else:
            self._give(page)
