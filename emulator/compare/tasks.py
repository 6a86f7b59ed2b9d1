"""Work that can be sent to another process: a task is asked with the trace, and answers, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from emulator.compare.candidates import Candidate
from emulator.trace.descriptors import Descriptors
from emulator.trace.skipped import SkippedLines
from emulator.trace.trace import Trace
from emulator.what_if import Outcome, Prepared, run
from pagetables.errors import InputError, VtdError

__all__ = ["Progress", "Refused", "RunTask", "Task", "attempt", "only_rows", "settled"]

Progress = Callable[[int], None]
T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Task(Protocol[T_co]):
    """What is done with a trace, wherever that is. It can be pickled."""

    @property
    def name(self) -> str:
        """How messages call it."""

    def __call__(self, trace: Prepared, progress: Progress) -> T_co:
        """The answer; `progress` hears of rows done. A VtdError if it cannot be given."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A task that has no answer, and why."""

    name: str
    why: str

    def error(self) -> InputError:
        """The refusal as the error to raise, which names the run."""
        return InputError(f"{self.name}: {self.why}")


@dataclass(frozen=True, slots=True)
class RunTask:
    """One what-if run."""

    candidate: Candidate

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name

    def __call__(self, trace: Prepared, progress: Progress) -> Outcome:
        """The outcome of the run; every row of the trace is told to `progress`, also those that are left out."""
        told = 0

        def tell(rows: int) -> None:
            nonlocal told
            told += rows
            progress(rows)

        outcome = run(trace, self.candidate.settings(), tell)
        progress(len(trace.trace.columns) - told)
        return outcome


def attempt(task: Task[T], trace: Prepared, progress: Progress) -> T | Refused:
    """The answer of `task`, or why there is none; other errors are bugs, and pass."""
    try:
        return task(trace, progress)
    except VtdError as error:
        return Refused(task.name, str(error))
    except OSError as error:  # a file that the settings name
        return Refused(task.name, f"{error.filename}: {error.strerror}" if error.filename else str(error))


def settled(answers: list[T | Refused]) -> list[T]:
    """The answers, if there is no refusal among them; otherwise the first refusal is raised."""
    good: list[T] = []
    for answer in answers:
        if isinstance(answer, Refused):
            raise answer.error()
        good.append(answer)
    return good


def only_rows(trace: Trace) -> Trace:
    """The trace without what no run looks at (skipped lines, recorded descriptors), to be sent away."""
    return replace(trace, skipped=SkippedLines(), descriptors=Descriptors())
