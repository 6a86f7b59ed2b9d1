"""One trace on many systems, on as many processes or machines as there are: the same answers whoever computes them."""

from __future__ import annotations

from emulator.compare.candidates import Candidate, candidates, grid_points
from emulator.compare.cluster import run_on_cluster
from emulator.compare.minimum import Minimum, MinimumTask, numeric_key
from emulator.compare.processes import processors, run_on_processes
from emulator.compare.tasks import Refused, RunTask, settled

__all__ = [
    "Candidate",
    "Minimum",
    "MinimumTask",
    "Refused",
    "RunTask",
    "candidates",
    "grid_points",
    "numeric_key",
    "processors",
    "run_on_cluster",
    "run_on_processes",
    "settled",
]
