"""Presets for people: a table of all of them, or one with its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from emulator.presets import Preset

__all__ = ["option_table", "preset_outline", "preset_table", "setting_table", "shown"]


def preset_table(presets: Iterable[Preset]) -> Table:
    """Name, sentence and seed of each."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("preset", style="bold", no_wrap=True)
    table.add_column("explained, and where it comes from")
    for preset in presets:
        table.add_row(preset.name, Text.assemble(preset.explains, "\n", (preset.seed, "dim")))
    return table


def preset_outline(preset: Preset, effective: Mapping[str, Mapping[str, int | str]]) -> Table:
    """One preset: what it chooses on each axis, every option of that (`effective`), and its other settings, as `--set`
    takes them. What it sets among those options is bold."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("preset", preset.name)
    table.add_row("explains", preset.explains)
    table.add_row("seed", preset.seed)
    for axis, choice in preset.axes.items():
        table.add_row(axis, choice)
        for name, value in effective[axis].items():
            key = f"{axis}.{name}"
            text = shown(value)
            table.add_row(f"  {key}", Text(text, "bold" if key in preset.settings else ""))
    for name, value in preset.parameters.items():
        if "." not in name:
            table.add_row(name, str(value))
    return table


def option_table(known: Mapping[str, Mapping[str, Mapping[str, int | str]]]) -> Table:
    """Every choice on every axis, with its options and their defaults."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("axis", "choice"):
        table.add_column(title, style="bold", no_wrap=True)
    table.add_column("its options (--set AXIS.OPTION=VALUE)")
    for axis, choices in known.items():
        for number, (choice, options) in enumerate(choices.items()):
            settings = "  ".join(f"{name}={shown(value)}" for name, value in options.items())
            table.add_row("" if number else axis, choice, settings or "-")
    return table


def setting_table(known: Mapping[str, str]) -> Table:
    """Settings that belong to no axis, and what each is about."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("setting", style="bold", no_wrap=True)
    table.add_column("what it is (--set SETTING=VALUE)")
    for key, about in known.items():
        table.add_row(key, about)
    return table


def shown(value: int | str) -> str:
    """A value of an option as a table shows it: an empty text is told."""
    return str(value) if value != "" else "(not set)"
