"""Tasks for workers of other processes, which import them by name: they end, or are refused."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from pagetables.errors import InputError


@dataclass(frozen=True)
class Answers:
    """Answers with its number and the rows of the trace, after it told of them one by one."""

    number: int

    @property
    def name(self) -> str:
        return f"number {self.number}"

    def __call__(self, trace, progress):
        for _ in range(len(trace.trace.columns)):
            progress(1)
        return self.number, len(trace.trace.columns), os.getpid()


@dataclass(frozen=True)
class Refuses:
    """Is refused, as input that cannot be used is."""

    name: str = "the odd one"

    def __call__(self, trace, progress):
        raise InputError("no room for it")


@dataclass(frozen=True)
class NamesAFile:
    """Meets a file that is not there."""

    name: str = "the reader"

    def __call__(self, trace, progress):
        with open("no/such/costs.yaml", encoding="utf-8"):
            return


@dataclass(frozen=True)
class Dies:
    """Ends its process: killed, as when memory runs out, or by itself."""

    by: int = signal.SIGKILL
    name: str = "the doomed one"

    def __call__(self, trace, progress):
        if self.by:
            os.kill(os.getpid(), self.by)
        os._exit(3)
