"""Work of a device that takes time: a generator that yields what it waits for, and goes on when that has happened.

def _serve(self) -> Work[None]:
    yield pause(self.machine.clock, 500)            # half a microsecond later
    code = yield self.port.ask_for(pages)           # when software has answered
    ...

self.process.start(self._serve())
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from emulator.clock import Clock

__all__ = ["Process", "Wait", "Work", "pause"]

T = TypeVar("T")

Wait = Callable[[Callable[[Any], None]], None]
"""What is yielded: given a function, it arranges that this is called with what the yield is to return, at once or
later."""

Work = Generator[Wait, Any, T]


def pause(clock: Clock, nanoseconds: int) -> Wait:
    """Wait for time to pass; 0 ns do not wait at all."""

    def arrange(resume: Callable[[Any], None]) -> None:
        if nanoseconds:
            clock.after(nanoseconds, lambda: resume(None))
        else:
            resume(None)

    return arrange


class Process:
    """One piece of work at a time. What resumes work that was abandoned does nothing."""

    def __init__(self) -> None:
        self._work: Work[None] | None = None
        self._driving = False
        self._answers: list[Any] = []

    @property
    def running(self) -> bool:
        """True while work is under way, be it waiting."""
        return self._work is not None

    def start(self, work: Work[None]) -> None:
        """Begin `work`, unless other work is under way, which goes on instead."""
        if self._work is None:
            self._work = work
            self._resume(work, None)

    def abandon(self) -> None:
        """Whatever is under way ends at what it waits for."""
        self._work = None
        self._answers.clear()

    def _resume(self, work: Work[None], answer: Any) -> None:
        # What is answered while the work is being driven waits in line: no answer nests in another.
        if self._work is not work:
            return
        self._answers.append(answer)
        if self._driving:
            return
        self._driving = True
        try:
            self._drive()
        finally:
            self._driving = False

    def _drive(self) -> None:
        # What was begun anew meanwhile has its first answer in line already.
        while self._answers and (work := self._work) is not None:
            try:
                wait = work.send(self._answers.pop())
            except StopIteration:
                if self._work is work:
                    self._work = None
                continue
            if self._work is work:
                wait(lambda answer, work=work: self._resume(work, answer))  # type: ignore[misc]
