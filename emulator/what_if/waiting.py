"""Maps that failed and whose driver has not given up: who waits, what wakes them, and who waits in vain.

A waiter is tried again when what it lacks came back (news: pages, addresses, bounce buffers), or when its clock says
so. A driver that asks again at intervals, asks in vain as long as there is no news of any kind: those turns are
counted, not acted out, and it is tried again at the first of its turns after the news.

A wait is a deadlock if nothing is left that could bring news: no event of the trace, no timer of anybody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from emulator.clock import SECOND, Clock, Timer
from emulator.mapping.pressure import Gfp
from emulator.mapping.reactions import Action, Attempt, Reaction

__all__ = ["HORIZON", "Refusal", "WaitList", "Waiter"]

HORIZON = 60 * SECOND  # how long after the trace waiters are watched before they count as starved


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a map failed: page, address or bounce, and for what its caller would have to wait."""

    cause: str
    waits_for: str


@dataclass(slots=True)
class Waiter:
    """One map, number `op` of the operations, that has been tried `tries` times since `since`."""

    op: int
    who: str
    gfp: Gfp
    refusal: Refusal
    since: int
    tries: int = 1
    tried_at: int = 0
    interval: int | None = None  # asks again that often, whatever happens
    timer: Timer | None = None


class WaitList:
    """Waiters in the order in which they came. `retry` tries a waiter's map once more; `give_up` hears of failures."""

    def __init__(
        self,
        clock: Clock,
        reaction: Reaction,
        retry: Callable[[Waiter], Refusal | None],
        give_up: Callable[[int, str, Action], None],
    ) -> None:
        self.waiters: dict[int, Waiter] = {}
        self.deadlocks: list[str] = []
        self._clock, self._reaction, self._statistics = clock, reaction, reaction.statistics
        self._retry, self._give_up = retry, give_up
        self._wake: Timer | None = None
        self._news: set[str] = set()

    def failed(self, op: int, who: str, gfp: Gfp, refusal: Refusal) -> None:
        """A map failed for the first time: the reaction decides what becomes of it."""
        waiter = Waiter(op, who, gfp, refusal, self._clock.now, tried_at=self._clock.now)
        if self._decide(waiter):
            self.waiters[op] = waiter
            self._statistics.waiting_highest = max(self._statistics.waiting_highest, len(self.waiters))

    def news(self, *causes: str) -> None:
        """Something came back. Who waits because of one of `causes` (of any, if none is named) will be tried as soon as
        what goes on now is over."""
        if not self.waiters:
            return
        self._news.update(causes or {waiter.refusal.cause for waiter in self.waiters.values()})
        if self._wake is None:
            self._wake = self._clock.after(0, self._tell)

    def finish(self) -> None:
        """The trace is over: watch until nobody waits, nothing more can happen, or the horizon is reached."""
        end = self._clock.now + HORIZON
        self.news()
        while self.waiters and (due := self._clock.next_due) is not None and due <= end:
            self._clock.advance_to(due)
        if self.waiters:
            self._give_up_waiting()

    def _decide(self, waiter: Waiter) -> bool:
        # True if the waiter goes on waiting.
        attempt = Attempt(waiter.refusal.cause, waiter.gfp, waiter.tries, self._clock.now - waiter.since)
        action, delay = self._reaction.failed(attempt)
        if action in (Action.FAIL, Action.DROP):
            self._statistics.dropped += action is Action.DROP
            self._give_up(waiter.op, waiter.refusal.cause, action)
            return False
        waiter.interval = delay if action is Action.AGAIN else None
        if action is Action.WAIT and delay is not None:
            waiter.timer = self._clock.after(delay, partial(self._timed_out, waiter))
        return True

    def _tell(self) -> None:
        self._wake = None
        causes, self._news = sorted(self._news), set()
        sleepers: dict[str, list[Waiter]] = {}
        for waiter in list(self.waiters.values()):
            if waiter.interval is None:
                sleepers.setdefault(waiter.refusal.cause, []).append(waiter)
            elif waiter.timer is None:
                self._set_turn(waiter, waiter.interval)
        for cause in causes:
            self._wake_some(sleepers.get(cause, []))

    def _set_turn(self, waiter: Waiter, interval: int) -> None:
        # The first turn from now on; those between the last one and it were in vain.
        turns = max(-(-(self._clock.now - waiter.tried_at) // interval), 1)
        waiter.tries += turns - 1
        self._statistics.retries += turns - 1
        due = waiter.tried_at + turns * interval
        waiter.timer = self._clock.after(due - self._clock.now, partial(self._turn, waiter))

    def _turn(self, waiter: Waiter) -> None:
        waiter.timer = None
        self._try(waiter)

    def _timed_out(self, waiter: Waiter) -> None:
        waiter.timer = None
        self._statistics.timeouts += 1
        self._try(waiter)

    def _wake_some(self, sleepers: list[Waiter]) -> None:
        # So many at a time as the reaction wakes; as long as all of them got what they wanted, so many more.
        herd = self._reaction.wakes or len(sleepers)
        while sleepers:
            woken, sleepers = sleepers[:herd], sleepers[herd:]
            in_vain = sum(not self._try(waiter) for waiter in woken)
            self._statistics.herd(len(woken), in_vain)
            if in_vain:
                return

    def _try(self, waiter: Waiter) -> bool:
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None
        self._statistics.retries += 1
        waiter.tries += 1
        waiter.tried_at = self._clock.now
        refusal = self._retry(waiter)
        if refusal is None:
            self._statistics.succeeded(waiter.tries, self._clock.now - waiter.since)
            del self.waiters[waiter.op]
            return True
        waiter.refusal = refusal
        if not self._decide(waiter):
            del self.waiters[waiter.op]
        return False

    def _give_up_waiting(self) -> None:
        for waiter in self.waiters.values():
            if waiter.timer is not None:
                waiter.timer.cancel()
        if self._clock.next_due is None:
            self._name_deadlock()
        self._statistics.starved += len(self.waiters)
        for waiter in self.waiters.values():
            self._give_up(waiter.op, waiter.refusal.cause, Action.FAIL)
        self.waiters.clear()

    def _name_deadlock(self) -> None:
        wanted = Counter((waiter.refusal.waits_for, waiter.who) for waiter in self.waiters.values())
        for thing in dict.fromkeys(thing for thing, _ in wanted):
            who = ", ".join(f"{name} ({count})" for (what, name), count in wanted.items() if what == thing)
            number = sum(count for (what, _), count in wanted.items() if what == thing)
            self.deadlocks.append(
                f"{number:,} map{'s' * (number != 1)} for ever waiting for {thing}, which nothing that is under way "
                f"gives back: {who}"
            )
