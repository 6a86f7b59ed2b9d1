"""How a machine's virtual time passes while a program drives it.

With QEMU's `-accel qtest` it stands still until a command moves it. With `-accel tcg` it follows the host's clock, and
with `-icount ...,sleep=off` besides it jumps to the next timer whenever there is nothing to do.
"""

from __future__ import annotations

import time
from typing import Protocol

from emulator.clock import MILLISECOND, Clock

__all__ = ["Idle", "Pace", "RealTime", "Stepped"]

_MOST_TIMERS = 10_000  # in a row, before clients are listened to again


class Pace(Protocol):
    """What the loop asks between two requests."""

    def pass_time(self) -> None:
        """Move the clock to where it is by now."""

    def wait(self) -> int | None:
        """Milliseconds until there is something to do; None if nothing will be."""


class Stepped:
    """Time stands still."""

    def pass_time(self) -> None:
        """Nothing: commands move the clock."""

    def wait(self) -> int | None:
        """None."""
        return None


class RealTime:
    """Time is the host's, since the machine was made."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._start = time.monotonic_ns() - clock.now

    def pass_time(self) -> None:
        """Run what is due by the host's clock."""
        self.clock.advance_to(time.monotonic_ns() - self._start)

    def wait(self) -> int | None:
        """Until the next timer."""
        due = self.clock.next_due
        if due is None:
            return None
        return max(0, due - (time.monotonic_ns() - self._start)) // MILLISECOND + 1


class Idle:
    """Time jumps to the next timer at once."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def pass_time(self) -> None:
        """Run timers until none is set."""
        for _ in range(_MOST_TIMERS):
            if not self.clock.wait():
                return

    def wait(self) -> int | None:
        """No time, while a timer is set."""
        return None if self.clock.next_due is None else 0
