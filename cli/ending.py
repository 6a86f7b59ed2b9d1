"""Ctrl-C and SIGTERM as exceptions that do not get lost, and that no second one disturbs.

A KeyboardInterrupt that comes while a library looks whether an object has an attribute may count as "it has none", and
be gone: numpy looks that way. So a request is repeated until it is under way. From then on no more is raised, however
often Ctrl-C is pressed: whoever cleans up can finish.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Ended", "ending_on_request"]

AGAIN_S = 0.1
_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """Somebody asked this process to end; `code` is the exit status that says by which signal."""


@contextmanager
def ending_on_request() -> Iterator[None]:
    """While the block runs, SIGINT raises KeyboardInterrupt in it, and SIGTERM and SIGHUP raise `Ended`.

    Signals that are ignored, or that somebody handles, stay so. After a request SIGINT is ignored: the process ends.
    """
    if not _is_free(signal.SIGALRM):
        yield
        return
    requests = _Requests(sys.unraisablehook)
    before = {number: signal.signal(number, requests.come) for number in _REQUESTS if _is_free(number)}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, requests.repeat)
    sys.unraisablehook = requests.unraisable
    try:
        yield
    finally:
        sys.unraisablehook = requests.others
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if requests.made and number == signal.SIGINT else handler)


def _is_free(number: signal.Signals) -> bool:
    usual = (signal.SIG_DFL, signal.default_int_handler)
    return threading.current_thread() is threading.main_thread() and signal.getsignal(number) in usual


class _Requests:
    def __init__(self, others: Callable[[Any], object]) -> None:
        self.made = 0  # the signal that came first
        self.others = others

    def come(self, number: int, frame: FrameType | None) -> None:
        self.made = self.made or number
        self.repeat(number, frame)

    def repeat(self, number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        if not _is_under_way(sys.exception()):
            raise KeyboardInterrupt if self.made == signal.SIGINT else Ended(128 + self.made)

    def unraisable(self, unraisable: Any) -> None:
        # What was raised where nothing can be raised, as in a finalizer, comes again.
        if not _is_under_way(unraisable.exc_value):
            self.others(unraisable)


def _is_under_way(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, KeyboardInterrupt | Ended):
            return True
        error = error.__context__
    return False
