"""What would have happened on another system: a trace's operations with other pages, addresses, flushes, reactions."""

from __future__ import annotations

from collections.abc import Callable

from emulator.settings import Settings
from emulator.trace.trace import Trace
from emulator.what_if.operations import Prepared
from emulator.what_if.outcome import AS_RECORDED, REALLOCATED, Outcome, metric_names
from emulator.what_if.runner import Runner
from emulator.what_if.summary import summary

__all__ = ["AS_RECORDED", "REALLOCATED", "Outcome", "Prepared", "metric_names", "run"]


def run(trace: Trace | Prepared, settings: Settings, progress: Callable[[int], None] | None = None) -> Outcome:
    """The outcome of `trace` on the machine of `settings`: the same for the same trace and settings, but for the
    seconds it took. InputError for settings that do not fit each other. It can be pickled, and sent to a process. Who
    runs a trace many times prepares it once."""
    runner = Runner(trace, settings, progress)
    return summary(runner, runner.run())
