"""What commands print: JSON for programs, text for people, progress on stderr.

Everything is imported where it is used: `--help` needs none of it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pagetables.wording import count, human_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["address", "console", "count", "emit_json", "human_size", "progress"]

PIPE_WIDTH = 160  # columns where stdout is no terminal and COLUMNS does not say
_WIDEST = 10_000
_FEW_WORDS = 20
_BLANKS = re.compile(r" +$", re.MULTILINE)


def emit_json(document: Any) -> None:
    """Print one JSON document on stdout: indented on a terminal, on one line otherwise (`jq` or `json.tool` indent)."""
    import json

    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(document, indent=indent, allow_nan=False) + "\n")


def console() -> Console:
    """A rich console on stdout. Text is printed as it stands: no markup, no emoji, no guessed colours.

    Nothing in a table is ever cut: one that has no room is wider than a narrow terminal. Lines have no blanks at their
    ends where stdout is no terminal.
    """
    from rich.console import Console
    from rich.table import Table

    class _Output(Console):
        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError being handled: its exit status is decided in one place

        def print(self, *objects: Any, **options: Any) -> None:
            for table in objects:
                if isinstance(table, Table):
                    _need_room(table, self)
            options = {"crop": False} | options
            if self.is_terminal:
                return super().print(*objects, **options)
            with self.capture() as captured:
                super().print(*objects, **options)
            self.file.write(_BLANKS.sub("", captured.get()))
            return None

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return _Output(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _need_room(table: Table, out: Console) -> None:
    # What may not be broken keeps its width; what may be keeps enough for a few words.
    from rich.measure import Measurement

    wide = out.options.update(width=_WIDEST)
    for column in table.columns:
        cells = [Measurement.get(out, wide, cell).maximum for cell in (column.header, *column.cells)]
        column.overflow = "fold"
        column.min_width = max(cells) if column.no_wrap else min(max(cells), _FEW_WORDS)


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block runs, if that is a terminal; yields what to call with the work just done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=total)
        yield lambda done: bars.update(task, advance=done)


def address(value: int) -> str:
    """An address as JSON and people get it: `0x1f000`."""
    return f"{value:#x}"
