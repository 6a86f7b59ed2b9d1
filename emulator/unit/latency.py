"""How long a unit takes, in virtual time: nothing by default, so that every command is done when the write returns.

With `descriptor` above 0 each descriptor of the invalidation queue, and each register-based invalidation, takes effect
that many nanoseconds after the unit turned to it. Until then software sees a head that has not moved, a status word
that is not written, ICC or IVT still set; and requests of devices find what the invalidation has yet to remove.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.clock import Clock, Timer

__all__ = ["Latency"]


@dataclass(slots=True)
class Latency:
    """Times in nanoseconds on `clock`.

    `device_answer` is how long a device may take to complete a device-TLB invalidation before it has timed out. With 0
    a device that did not complete it at once has timed out as soon as something has to wait for it.
    """

    clock: Clock
    descriptor: int = 0
    device_answer: int = 0

    def after(self, delay: int, action: Callable[[], None]) -> Timer | None:
        """Run `action` after `delay` nanoseconds: at once, and with no timer to show, where that is 0."""
        if delay:
            return self.clock.after(delay, action)
        action()
        return None
