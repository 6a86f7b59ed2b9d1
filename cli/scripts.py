"""Commands for a monitor that nobody types: from a file, or piped in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from device_models.fronts.monitor import Monitor

__all__ = ["Step", "script_lines", "steps"]

STDIN = "standard input"


class Step(NamedTuple):
    """A command, its answer, and for one that failed what to say of it, with its place."""

    command: str
    output: str
    complaint: str | None


def script_lines(path: str) -> Iterator[str]:
    """The lines of a script; `-` is standard input."""
    with click.open_file(path, encoding="utf-8", errors="replace") as file:
        yield from file


def steps(monitor: Monitor, lines: Iterable[str], name: str) -> Iterator[Step]:
    """What each line of the script `name` comes to, until one ends the machine. Empty lines and those that begin with
    # are left out."""
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            output = monitor.execute(line)
            place = f"{STDIN if name == '-' else name}, line {number}"
            yield Step(line, output, f"{place}: {_told(line, output)}" if monitor.failed else None)
        if monitor.host.leaving:
            return


def _told(line: str, output: str) -> str:
    first = output.split("\n", 1)[0].removeprefix("Error: ")
    return first if line in first else f"{line}: {first}"
