"""A trace that has been read: columns to replay, spaces, and everything worth saying about how it was read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from emulator.trace.columns import Columns
from emulator.trace.descriptors import Descriptors
from emulator.trace.event import REPLAYED, Kind
from emulator.trace.skipped import SkippedLines
from emulator.trace.spaces import Space
from pagetables.errors import InputError

__all__ = ["KernelRule", "Trace"]

KernelRule = Literal["6.x", "7.x"]

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "": 1_000_000_000}
_TIME = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?(ns|us|ms|s|)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trace:
    """What one or several trace files say, merged by time.

    `events` counts all event lines, used or not; they are numbered from 1 in merged order (the column `event`).
    `kernel_rule` says how the recording kernel writes leaves: before 7 each leaf gets R, from 7 on it gets what the
    mapping asked for. `kinds` counts the event lines by kind. `descriptors` are those of qi_submit events.
    `last_event` is where the trace was cut off, if it was. `caching_mode`: its unit was told of maps too (CAP.CM=1).
    """

    files: tuple[str, ...]
    columns: Columns
    spaces: tuple[Space, ...]
    skipped: SkippedLines
    notes: tuple[str, ...]
    events: int
    kernel_rule: KernelRule
    kinds: Mapping[Kind, int]
    descriptors: Descriptors = field(default_factory=Descriptors)
    last_event: int | None = None
    caching_mode: bool = False

    @property
    def applied_counts(self) -> dict[str, int]:
        """Number of rows of each replayable kind, by its name in lower case."""
        counts = np.bincount(self.columns.kind, minlength=max(REPLAYED) + 1)
        return {kind.name.lower(): int(counts[kind]) for kind in REPLAYED}

    def until(self, end: str) -> Trace:
        """The trace up to and including event `#N` (events are numbered from 1) or the time `12.5s` (also ms, us)."""
        columns = self.columns
        if end.startswith("#"):
            if not re.fullmatch(r"#[0-9]{1,18}", end):
                raise InputError(f"{end!r} is not an event: expected # and its number, such as #1200")
            return self._cut(columns.take(columns.event <= int(end[1:])))
        time = _TIME.fullmatch(end.strip())
        if time is None:
            raise InputError(f"{end!r} is no time and no event: expected such as 12.5s, 300ms or #1200")
        scale = _UNITS[time[3]]
        fraction = time[2] or ""
        ns = int(time[1]) * scale + int(fraction or "0") * scale // 10 ** len(fraction)
        return self._cut(columns.take(columns.time_ns <= min(ns, (1 << 64) - 1)))

    def _cut(self, columns: Columns) -> Trace:
        return replace(self, columns=columns, last_event=int(columns.event.max(initial=0)))
