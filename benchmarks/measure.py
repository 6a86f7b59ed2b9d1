"""Two ways to do one job, timed in turns so that whatever disturbs the machine disturbs both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Job", "Timing", "Work", "interleaved"]

Work = Callable[[], object]


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Job:
    """`limit` and `ours` do the same `operations`; each is preceded by `before`, which is not timed."""

    limit: Work
    ours: Work
    operations: int
    before_limit: Work = _nothing
    before_ours: Work = _nothing


@dataclass(frozen=True, slots=True)
class Timing:
    """Median nanoseconds for one operation."""

    limit_ns: float
    ours_ns: float


def _timed(before: Work, work: Work) -> int:
    before()
    start = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - start


def interleaved(job: Job, rounds: int) -> Timing:
    """The medians of `rounds` turns, after one that is not counted."""
    limits, ours = [], []
    for turn in range(rounds + 1):
        took = _timed(job.before_limit, job.limit), _timed(job.before_ours, job.ours)
        if turn:
            limits.append(took[0] / job.operations)
            ours.append(took[1] / job.operations)
    return Timing(statistics.median(limits), statistics.median(ours))
