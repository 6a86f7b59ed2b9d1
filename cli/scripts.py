"""Commands for a monitor that nobody types: from a file, or piped in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from pagetables.errors import InputError

if TYPE_CHECKING:
    from device_models.fronts.monitor import Monitor

__all__ = ["Step", "script_lines", "steps"]

STDIN = "standard input"
_SHOWN = 160  # letters of a complaint


class Step(NamedTuple):
    """A command, its answer, and for one that failed what to say of it, with its place."""

    command: str
    output: str
    complaint: str | None


def script_lines(path: str) -> Iterator[str]:
    """The lines of a script; `-` is standard input. InputError for what is no text."""
    with click.open_file(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if "\0" in line:
                raise InputError(f"{STDIN if path == '-' else path}: this is binary; expected monitor commands")
            yield line


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
    told = first if line in first else f"{line}: {first}"
    return told if len(told) <= _SHOWN else f"{told[:_SHOWN]}..."
