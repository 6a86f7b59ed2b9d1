"""`vtd compare --html`: a page with sortable tables and plots of every run, which needs nothing but a browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.compare_columns import COLUMNS, THEMES, marks
from cli.compare_report import groups
from cli.page import write_template
from cli.render import count

if TYPE_CHECKING:
    from emulator.compare import Candidate
    from emulator.trace import Trace
    from emulator.what_if import Outcome

    Runs = Sequence[tuple[Candidate, Outcome]]

__all__ = ["write_page"]

TEMPLATE = Path(__file__).with_name("compare_page.html")
SAMPLES = 256  # of a run's series in the page: more than a plot has room for
_KINDS = ("global", "domain", "page", "pasid", "wait")


def write_page(path: str, trace: Trace, runs: Runs) -> None:
    """Write the page that compares `runs` of `trace` to `path`, whole or not at all."""
    names = ", ".join(os.path.basename(name) for name in trace.files)
    notes = dict.fromkeys(note for _, outcome in runs for note in outcome.notes)
    document = {
        "trace": names,
        "about": f"{count(trace.events, 'event')}, {count(len(runs), 'run')}, compared by vtd compare",
        "themes": THEMES,
        "columns": [
            {"name": one.name, "theme": one.theme, "unit": one.unit, "about": one.about, "more": one.more}
            for one in COLUMNS
        ],
        "groups": [{"title": title, "runs": _members(members)} for title, members in groups(runs)],
        "systems": _systems(runs),
        "notes": list(notes),
    }
    write_template(path, TEMPLATE, document)


def _members(runs: Runs) -> list[dict[str, Any]]:
    outcomes = [outcome for _, outcome in runs]
    marked = [marks(column, outcomes) for column in COLUMNS]
    return [
        {
            "name": one.label,
            "values": [column.value(outcome) for column in COLUMNS],
            "marks": [mark[row] for mark in marked],
            "maps": outcome.maps,
            "failed": dict(outcome.failed),
            "map": dict(outcome.map_ns),
            "unmap": dict(outcome.unmap_ns),
            "stale": {"max": outcome.stale_window["max_ns"], "mean": outcome.stale_window["mean_ns"]},
            "invalidations": {kind: outcome.invalidations[kind] for kind in _KINDS},
            "series": _series(outcome),
            "deadlocks": list(outcome.deadlocks),
        }
        for row, (one, outcome) in enumerate(runs)
    ]


def _series(outcome: Outcome) -> list[list[int]]:
    # Time, and pages: tables in use, empty but linked, unlinked, idle. Samples of equal ranks are kept, and the last.
    columns = [outcome.series_columns.index(name) for name in ("time_ns", "live", "empty", "waiting_for_flush", "idle")]
    samples = outcome.series
    step = -(-len(samples) // SAMPLES) or 1
    kept = [*samples[:-1:step], *samples[-1:]]
    start = samples[0][0] if samples else 0
    rows = ([sample[column] for column in columns] for sample in kept)
    return [[at - start, live - empty - unlinked, empty, unlinked, idle] for at, live, empty, unlinked, idle in rows]


def _systems(runs: Runs) -> list[dict[str, Any]]:
    from emulator.presets import find_preset

    found: dict[str, dict[str, Any]] = {}
    for one, outcome in runs:
        preset = None if outcome.preset is None else find_preset(outcome.preset)
        axes = {axis: getattr(outcome, axis) for axis in ("pool", "iova", "bounce", "flush", "reaction", "spaces")}
        found.setdefault(
            one.label,
            {
                "name": one.label,
                "explains": "" if preset is None else preset.explains,
                "seed": "" if preset is None else preset.seed,
                "axes": axes,
                "set": {key: str(value) for key, value in one.values.items() if key != "preset"},
            },
        )
    return list(found.values())
