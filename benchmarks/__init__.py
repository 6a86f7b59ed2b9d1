"""Ratios of the native engine to the least work that could do the job, both measured in one run.

`run` takes names of `BENCHMARKS`; `vtd bench` prints what it returns. limit.c holds the limits and is compiled at run
time, so a C compiler is needed.
"""

from __future__ import annotations

from benchmarks.suite import BENCHMARKS, Outcome, run

__all__ = ["BENCHMARKS", "Outcome", "run"]
