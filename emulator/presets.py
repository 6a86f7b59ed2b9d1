"""Presets: the systems of the mailing-list threads and of kernels since, by name, as settings of a what-if run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from emulator.mapping.supply import SIZE_OPTIONS
from pagetables.errors import InputError, near

__all__ = ["AXES", "Preset", "find_preset", "load_presets", "with_preset"]

AXES = ("pool", "iova", "bounce", "flush", "reaction")
_FILE = Path(__file__).with_name("presets.yaml")
_DEFAULTS = {"bounce": "none"}


@dataclass(frozen=True, slots=True)
class Preset:
    """One system: a sentence, where it comes from, and the settings that make it."""

    name: str
    explains: str
    seed: str
    settings: Mapping[str, int | str]

    @property
    def axes(self) -> dict[str, str]:
        """What it chooses on each of the five axes."""
        return {axis: str(self.settings.get(axis, _DEFAULTS.get(axis))) for axis in AXES}

    @property
    def parameters(self) -> dict[str, int | str]:
        """Settings beyond the five choices: options of theirs, and how many windows there are."""
        return {key: value for key, value in self.settings.items() if key not in AXES}

    def as_dict(self) -> dict[str, Any]:
        """The preset as JSON has it."""
        return {
            "name": self.name,
            "explains": self.explains,
            "seed": self.seed,
            "axes": self.axes,
            "parameters": self.parameters,
        }


@cache
def load_presets() -> tuple[Preset, ...]:
    """Every preset, in the order of the threads."""
    entries = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return tuple(Preset(one["name"], one["explains"], one["seed"], one["settings"]) for one in entries)


def find_preset(name: str) -> Preset:
    """The preset called `name`; InputError if there is none."""
    known = {preset.name: preset for preset in load_presets()}
    if name not in known:
        raise InputError(f"no preset is called {name!r}; {near(name, known)}")
    return known[name]


def with_preset(values: Mapping[str, object]) -> dict[str, object]:
    """`values` over the settings of the preset that `values["preset"]` names, if it names one.

    Options the preset gives to an axis are dropped where `values` chooses something else for that axis; so is its size
    of the supply, under whatever name, where `values` has a `pool.size`.
    """
    if "preset" not in values:
        return dict(values)
    preset = find_preset(str(values["preset"]))
    replaced = {axis for axis in AXES if str(values.get(axis, preset.axes[axis])) != preset.axes[axis]}
    sized = f"pool.{SIZE_OPTIONS.get(preset.axes['pool'])}" if "pool.size" in values else ""
    settings = preset.settings.items()
    kept = {key: value for key, value in settings if key != sized and key.partition(".")[0] not in replaced}
    return {**kept, **values}
