"""Presets for people: a table of all of them, or one with its settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from emulator.presets import Preset

__all__ = ["preset_outline", "preset_table"]

WIDTH = 80


def preset_table(presets: Iterable[Preset]) -> Table:
    """Name, sentence and seed of each, at most 80 columns wide."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, width=WIDTH)
    table.add_column("preset", style="bold", no_wrap=True)
    table.add_column("explained, and where it comes from")
    for preset in presets:
        table.add_row(preset.name, Text.assemble(preset.explains, "\n", (preset.seed, "dim")))
    return table


def preset_outline(preset: Preset) -> Table:
    """One preset: what it chooses on each axis, and its other settings, as `--set` takes them."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, width=WIDTH)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("preset", preset.name)
    table.add_row("explains", preset.explains)
    table.add_row("seed", preset.seed)
    for name, value in {**preset.axes, **preset.parameters}.items():
        table.add_row(name, str(value))
    return table
