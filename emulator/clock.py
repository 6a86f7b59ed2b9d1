"""Virtual time: nanoseconds and what is due when. Nothing here looks at the host's clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["MICROSECOND", "MILLISECOND", "SECOND", "Clock", "Timer"]

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000


class Timer:
    """One action that is due at `when`, unless it is cancelled first."""

    __slots__ = ("action", "cancelled", "when")

    def __init__(self, when: int, action: Callable[[], None]) -> None:
        self.when = when
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """The action will not run; cancelling twice, or after it ran, does nothing."""
        self.cancelled = True


class Clock:
    """Virtual time in nanoseconds. Actions run in the order in which they are due, then in which they were set."""

    def __init__(self, now: int = 0) -> None:
        self.now = now
        self._queue: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()

    def after(self, delay: int, action: Callable[[], None]) -> Timer:
        """A timer that runs `action` once, `delay` nanoseconds from now."""
        timer = Timer(self.now + delay, action)
        heapq.heappush(self._queue, (timer.when, next(self._order), timer))
        return timer

    @property
    def next_due(self) -> int | None:
        """When the next timer is due, or None if nothing is set."""
        while self._queue and self._queue[0][2].cancelled:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def advance_to(self, when: int) -> None:
        """Move time to `when`, running what is due on the way at its own time. Time never steps back: an earlier
        `when` means now."""
        when = max(when, self.now)
        while (due := self.next_due) is not None and due <= when:
            timer = heapq.heappop(self._queue)[2]
            self.now = max(self.now, due)
            timer.action()
        self.now = max(self.now, when)  # an action that waits for something moves time too

    def wait(self) -> bool:
        """Move time to the next timer and run what is due then; False if nothing is set."""
        due = self.next_due
        if due is None:
            return False
        self.advance_to(due)
        return True

    def advance(self, delay: int) -> None:
        """Move time on by `delay` nanoseconds."""
        self.advance_to(self.now + delay)
