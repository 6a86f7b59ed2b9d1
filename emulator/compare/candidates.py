"""Which systems are compared: presets, points of a grid, each under each pressure script."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from emulator.mapping.bounce.bouncer import bouncer_names
from emulator.mapping.flush.policy import policy_names
from emulator.mapping.iova.allocator import allocator_names
from emulator.mapping.reactions import reaction_names
from emulator.mapping.supply import supply_names
from emulator.presets import find_preset, load_presets
from emulator.settings import Settings
from pagetables.errors import InputError

__all__ = ["Candidate", "candidates", "grid_points"]

EVERY = "all"
_NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "pool": supply_names,
    "iova": lambda: ["recorded", *allocator_names()],
    "bounce": bouncer_names,
    "flush": policy_names,
    "reaction": reaction_names,
    "preset": lambda: [preset.name for preset in load_presets()],
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One system: what a table calls it, and the values it is made of. `script` is the pressure it runs under."""

    label: str
    values: Mapping[str, object]
    script: str | None = None

    @property
    def name(self) -> str:
        """The label, and the pressure script if there is one: how a message names the run."""
        return self.label if self.script is None else f"{self.label} under {PurePath(self.script).name}"

    def settings(self, **more: object) -> Settings:
        """The machine, with values of `more` over those of the candidate; InputError if they do not fit."""
        pressure = {} if self.script is None else {"pressure": self.script}
        return Settings.of({**self.values, **pressure, **more})

    def as_dict(self) -> dict[str, Any]:
        """How JSON names the run: its label, and the file of its pressure script or None."""
        return {"run": self.label, "pressure_script": self.script}


def candidates(
    presets: Sequence[str] = (),
    points: Sequence[Mapping[str, str]] = (),
    values: Mapping[str, object] | None = None,
    scripts: Sequence[str] = (),
) -> list[Candidate]:
    """Each preset at each point of a grid, under each script; every preset if there is neither a preset nor a grid.

    `values` are settings of all of them. They go over those of a preset, and a grid goes over both. InputError for a
    preset that does not exist, or one that is named twice.
    """
    names = list(presets) or ([] if points else [preset.name for preset in load_presets()])
    for number, name in enumerate(names):
        find_preset(name)
        if name in names[:number]:
            raise InputError(f"preset {name!r} is named twice")
    found = []
    under: Sequence[str | None] = scripts or [None]
    systems: Sequence[str | None] = names or [None]
    for script, preset, point in itertools.product(under, systems, points or ({},)):
        chosen = {**({} if preset is None else {"preset": preset}), **(values or {}), **point}
        found.append(Candidate(_label(preset, point, points), chosen, script))
    return found


def grid_points(texts: Iterable[str]) -> list[dict[str, str]]:
    """Every combination of the values in texts such as `pool=os,mempool,iova=rbtree,gart`.

    What has no `=` is one more value of the key before it; `all` is every name that an axis knows.
    InputError for a value without a key, a key without values, or one that comes twice.
    """
    axes: dict[str, list[str]] = {}
    for text in texts:
        _read_axes(text, axes)
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


def _read_axes(text: str, axes: dict[str, list[str]]) -> None:
    key = ""
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals:
            key = name.strip()
            if key in axes:
                raise InputError(f"--grid names {key!r} twice")
            axes[key] = []
        else:
            value = part
        if not key or not value.strip():
            raise InputError(f"--grid {text!r}: expected KEY=VALUE,VALUE,..., such as pool=os,mempool,flush=strict")
        axes[key] += _NAMES[key]() if value.strip() == EVERY and key in _NAMES else [value.strip()]


def _label(preset: str | None, point: Mapping[str, str], points: Sequence[Mapping[str, str]]) -> str:
    # What makes a point of the grid this one: keys that have the same value everywhere say nothing.
    varies = [key for key in point if len({other[key] for other in points}) > 1] or list(point)
    spelt = [point[key] if key in _NAMES else f"{key}={point[key]}" for key in varies]
    return " ".join([*([] if preset is None else [preset]), *([] if preset and len(points) == 1 else spelt)])
