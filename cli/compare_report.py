"""A comparison for people: tables of at most 80 columns, a theme each, the best and the worst of each column marked."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cli.compare_columns import BEST, COLUMNS, THEMES, WORST, Column, brief_count, marks
from cli.render import console, count

if TYPE_CHECKING:
    from emulator.compare import Candidate, Minimum, Refused
    from emulator.trace import Trace
    from emulator.what_if import Outcome

    Runs = Sequence[tuple[Candidate, Outcome]]

__all__ = ["groups", "show", "show_minimum"]

WIDTH = 80
_LONGEST_LABEL = 32
_GAP = 1
_UNITS = {"memory": ", in pages of 4 KiB where no unit is given"}
_COLOUR = {BEST: "green", WORST: "red", "": ""}


def groups(runs: Runs) -> list[tuple[str, Runs]]:
    """Runs that may stand in one table, and what they have in common: where addresses come from, and the pressure."""
    found: dict[str, list[tuple[Candidate, Outcome]]] = {}
    for one, outcome in runs:
        found.setdefault(f"addresses {outcome.addresses}{_under(one.script)}", []).append((one, outcome))
    return list(found.items())


def show(trace: Trace, runs: Runs, left_out: Sequence[Refused] = (), page: str | None = None) -> None:
    """Print the comparison on stdout; `page` is the file that holds it, too, if one was written."""
    out = _output()
    out.print(_heading(trace, len(runs)), style="bold", soft_wrap=True)
    for title, members in groups(runs):
        _show_group(out, title, members)
    if any(mark for column in COLUMNS for _, members in groups(runs) for mark in _marks(column, members)):
        out.print()
        rule = "where most runs do not share it. A run that gives maps up is best at nothing else."
        _say(out, f"{BEST} best, {WORST} worst of a column, {rule}", "dim")
    _list(out, "deadlocks", _deadlocks(runs))
    _list(out, "left out: these do not fit each other", [f"{one.name}: {one.why}" for one in left_out])
    _list(out, "notes", list(dict.fromkeys(note for _, outcome in runs for note in outcome.notes)), "dim")
    if page is not None:
        out.print(f"page: {page}", soft_wrap=True)


def show_minimum(trace: Trace, key: str, found: Sequence[tuple[Candidate, Minimum]]) -> None:
    """Print the smallest value of the setting `key` for each system on stdout."""
    from rich.table import Table

    out = _output()
    out.print(_heading(trace, len(found)), style="bold", soft_wrap=True)
    out.print(f"the smallest {key} with no failed map")
    for script in dict.fromkeys(one.script for one, _ in found):
        if script is not None:
            out.print(f"\n{_under(script).removeprefix(', ')}", style="bold")
        table = Table(box=None, pad_edge=False)
        table.add_column("run", style="bold")
        for title in ("smallest", "failed as it is", "failed one less", "runs"):
            table.add_column(title, justify="right")
        for one, minimum in found:
            if one.script == script and minimum.is_settable:
                table.add_row(one.label, *_minimum_cells(minimum))
        out.print(table)
    _list(out, "not monotone", [_contradiction(one, minimum) for one, minimum in found if minimum.contradictions])
    if key == "pool.size":
        _list(out, "what pool.size is", _sizes([one for one, minimum in found if minimum.is_settable]), "dim")
    refused = [(one, minimum) for one, minimum in found if not minimum.is_settable]
    _list(out, f"without a setting {key}", [f"{one.name}: {minimum.why}" for one, minimum in refused], "dim")
    out.print("\nEach smallest value was found by halving, and checked against values around it.", style="dim")


def _output() -> Any:
    out = console()
    out.width = min(out.width, WIDTH)
    return out


def _say(out: Any, text: str, style: str | None = None, indent: str = "") -> None:
    # rich would leave the blank at which it breaks a line.
    out.print(textwrap.fill(text, out.width, initial_indent=indent, subsequent_indent=indent), style=style)


def _under(script: str | None) -> str:
    return "" if script is None else f", under {os.path.basename(script)}"


def _heading(trace: Trace, runs: int) -> str:
    names = ", ".join(os.path.basename(name) for name in trace.files)
    return f"{names}: {count(trace.events, 'event')}, {count(runs, 'run')}"


def _show_group(out: Any, title: str, runs: Runs) -> None:
    out.print(f"\n{title}", style="bold")
    outcomes = [outcome for _, outcome in runs]
    nowhere = []
    for theme in THEMES:
        mine = [column for column in COLUMNS if column.theme == theme]
        empty = [column for column in mine if not any(column.value(outcome) for outcome in outcomes)]
        nowhere += [column.name for column in empty if any(column.value(outcome) == 0 for outcome in outcomes)]
        for number, columns in enumerate(
            _that_fit([column for column in mine if column not in empty], runs, out.width)
        ):
            out.print(f"\n{theme}{_UNITS.get(theme, '')}{', continued' if number else ''}", style="italic")
            out.print(_table(columns, runs))
    if nowhere:
        out.print()
        _say(out, f"0 in every run: {'; '.join(nowhere)}", "dim")


def _that_fit(columns: Sequence[Column], runs: Runs, width: int) -> Iterator[list[Column]]:
    left, fitting = 0, list[Column]()
    for column in columns:
        wanted = _width(column, runs) + _GAP
        if not fitting or wanted > left:
            if fitting:
                yield fitting
            left, fitting = width - _label_width(runs), []
        fitting.append(column)
        left -= wanted
    if fitting:
        yield fitting


def _label_width(runs: Runs) -> int:
    return min(max(len(one.label) for one, _ in runs), _LONGEST_LABEL)


def _width(column: Column, runs: Runs) -> int:
    values = max(len(column.text(outcome)) for _, outcome in runs) + 1
    return max(values, *map(len, column.title.split("\n")))


def _marks(column: Column, runs: Runs) -> list[str]:
    return marks(column, [outcome for _, outcome in runs])


def _table(columns: Sequence[Column], runs: Runs) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    table.add_column("\nrun", style="bold", width=_label_width(runs), overflow="fold")
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    marked = [_marks(column, runs) for column in columns]
    for row, (one, outcome) in enumerate(runs):
        cells = zip((column.text(outcome) for column in columns), (mark[row] for mark in marked), strict=True)
        table.add_row(one.label, *(Text(f"{text}{mark or ' '}", style=_COLOUR[mark]) for text, mark in cells))
    return table


def _deadlocks(runs: Runs) -> list[str]:
    return [f"{one.name}: {text}" for one, outcome in runs for text in outcome.deadlocks]


def _minimum_cells(minimum: Minimum) -> list[str]:
    if minimum.value is None:
        return [f"none up to {max(minimum.tried):,}", _known(minimum.as_is), "", str(len(minimum.tried))]
    below = [value for value in minimum.tried if value < minimum.value]
    less = _known(minimum.tried[max(below)]) if below else ""
    return [f"{minimum.value:,}", _known(minimum.as_is), less, str(len(minimum.tried))]


def _sizes(systems: Sequence[Candidate]) -> list[str]:
    # A window in MiB stands in one column with numbers of pages: the names tell them apart.
    from emulator.mapping.supply import SIZE_OPTIONS

    pools = dict.fromkeys(one.settings().pool for one in systems)
    return [f"{pool}: pool.{SIZE_OPTIONS[pool]}" for pool in pools if pool in SIZE_OPTIONS]


def _known(failed: int | None) -> str:
    return "refused" if failed is None else f"{failed:,}"


def _contradiction(one: Candidate, minimum: Minimum) -> str:
    pairs = minimum.contradictions
    good = pairs[0][0]
    bad = ", ".join(f"{value:,} ({brief_count(minimum.tried[value] or 0)})" for _, value in pairs)
    return f"{one.name}: none fails with {good:,}, but maps fail with more: {bad}"


def _list(out: Any, title: str, lines: Sequence[str], style: str | None = None) -> None:
    if lines:
        out.print(f"\n{title}", style="bold")
        for line in lines:
            _say(out, line, style, "  ")
