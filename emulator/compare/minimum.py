"""The smallest value of a setting with which no map fails: doubled until none does, then halved in between.

That finds the minimum only if more never fails where less did not. Nothing promises it: a larger pool may refill later.
So neighbours of what was found, and values far from it, are tried as well; a trial that contradicts is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emulator.compare.candidates import Candidate
from emulator.compare.tasks import Progress
from emulator.settings import Settings
from emulator.what_if import Prepared, run
from pagetables.errors import InputError, VtdError

__all__ = ["LARGEST", "Minimum", "MinimumTask", "find_minimum", "numeric_key"]

LARGEST = 1 << 20
_STEPS = {"kernel.size": 4096, "kernel.used": 256}  # what the values of a setting are multiples of


@dataclass(frozen=True, slots=True)
class Minimum:
    """What a search found. `tried` has how many maps failed with each value; None where the value was refused, last for
    the reason `why`. `value` is the smallest without failures, or None if every value failed or was refused. `as_is`
    are the failures of the run with the setting untouched."""

    value: int | None
    tried: Mapping[int, int | None]
    as_is: int | None = None
    why: str = ""

    @property
    def contradictions(self) -> list[tuple[int, int]]:
        """Pairs of a value without failures, and a larger one with some: the setting is not monotone where they are."""
        good = [value for value, failed in self.tried.items() if failed == 0]
        bad = [value for value, failed in self.tried.items() if failed]
        return [(min(good), value) for value in sorted(bad) if good and min(good) < value]

    @property
    def is_settable(self) -> bool:
        """Whether the system takes any value at all."""
        return any(failed is not None for failed in self.tried.values())

    def as_dict(self) -> dict[str, Any]:
        """The search as JSON has it; `tried` in order of values."""
        tried = [{"value": value, "failed": self.tried[value]} for value in sorted(self.tried)]
        pairs = [{"value": value, "failed": self.tried[value]} for _, value in self.contradictions]
        why = {"why": self.why} if self.why else {}
        return {"minimum": self.value, "as_is": self.as_is, "contradicted_by": pairs, "tried": tried, **why}


@dataclass(frozen=True, slots=True)
class MinimumTask:
    """The smallest value of the setting `key` with which no map of the trace fails on a candidate."""

    candidate: Candidate
    key: str

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name

    def __call__(self, trace: Prepared, progress: Progress) -> Minimum:
        """What was found; InputError if the candidate cannot run even with the setting untouched."""
        as_is = run(trace, self.candidate.settings(), progress).failures
        reasons: list[str] = []

        def fails(value: int) -> int | None:
            try:
                settings = self._settings(value)
                return run(trace, settings, progress).failures
            except VtdError as error:
                reasons.append(str(error))
                return None

        found = find_minimum(fails, _STEPS.get(self.key, 1))
        return Minimum(found.value, found.tried, as_is, reasons[-1] if reasons else "")

    def _settings(self, value: int) -> Settings:
        return self.candidate.settings(**{self.key: value})


def find_minimum(fails: Callable[[int], int | None], step: int = 1) -> Minimum:
    """The smallest multiple of `step` for which `fails` is 0. `fails` of None means that the value cannot be."""
    tried: dict[int, int | None] = {}

    def good(number: int) -> bool:
        value = number * step
        if value not in tried:
            tried[value] = fails(value)
        return tried[value] == 0

    high = _first_good(good)
    if high is None:
        return Minimum(None, tried)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    if high == 1 and good(0):
        high = 0
    for number in _around(high):
        good(number)
    return Minimum(min(value for value, failed in tried.items() if failed == 0), tried)


def _first_good(good: Callable[[int], bool]) -> int | None:
    number = 1
    while not good(number):
        number *= 2
        if number > LARGEST:
            return None
    return number


def _around(found: int) -> list[int]:
    below = [found - 2, found - 3, found * 3 // 4]
    return [
        number for number in (*below, found + 1, found + 2, found * 5 // 4, found * 3 // 2, found * 2) if number > 0
    ]


def numeric_key(text: str) -> str:
    """`text`, the name of a setting; InputError if it is the name of an axis, which has no numbers."""
    if text in ("pool", "iova", "bounce", "flush", "reaction", "preset"):
        raise InputError(f"{text} is no number: --find-minimum takes such as pool.size")
    return text
