"""What steps cost in model time: one table, replaceable, and the meter that adds up what an operation spent.

The table (`costs.yaml`) gives each step in nanoseconds with its source. Only its shape means something: what grows with
what, and by how much more one step costs than another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pagetables.errors import InputError, VtdError, near

__all__ = ["Costs", "Meter"]

_TABLE = Path(__file__).with_name("costs.yaml")
_PICO = 1000  # the table has fractions of a nanosecond; sums are kept in whole picoseconds


class Costs:
    """Nanoseconds by the name of a step. `sources` says where each number comes from."""

    def __init__(self, ns: Mapping[str, float], sources: Mapping[str, str]) -> None:
        self.ns = dict(ns)
        self.sources = dict(sources)
        self.picoseconds = {name: round(value * _PICO) for name, value in self.ns.items()}

    @classmethod
    def load(cls, path: str | Path | None = None) -> Costs:
        """The table that comes with the emulator, with the entries of the YAML file `path` put over it.

        An entry is a number, or `{ns: NUMBER, source: TEXT}`; InputError for a name the table lacks, or no number.
        """
        standard = _standard()
        if path is None:
            return standard
        changed, said = _read(Path(path))
        for name in changed:
            if name not in standard.ns:
                raise InputError(f"{path}: no step is called {name!r}; {near(name, standard.ns)}")
        return cls({**standard.ns, **changed}, {**standard.sources, **said})


class Meter:
    """Adds up what steps cost. `counts` has how often each was done, from the beginning."""

    __slots__ = ("_picoseconds", "_spent", "costs", "counts")

    def __init__(self, costs: Costs | None = None) -> None:
        self.costs = costs or Costs.load()
        self.counts: Counter[str] = Counter()
        self._picoseconds = self.costs.picoseconds
        self._spent = 0

    def spend(self, name: str, count: int = 1) -> None:
        """The step `name` was done `count` times; VtdError for a step that the table lacks."""
        try:
            self._spent += self._picoseconds[name] * count
        except KeyError:
            raise VtdError(f"no step is called {name!r}; {near(name, self._picoseconds)}") from None
        self.counts[name] += count

    def take(self) -> int:
        """Nanoseconds spent since the last take."""
        spent, self._spent = self._spent, 0
        return spent // _PICO


@cache
def _standard() -> Costs:
    return Costs(*_read(_TABLE))


def _read(path: Path) -> tuple[dict[str, float], dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        data, tree = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{path}: not YAML") from None
    if isinstance(tree, yaml.MappingNode):
        _refuse_twice(path, tree)
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected steps and their nanoseconds, such as `map.first: 55`, one a line")
    ns = {str(name): _nanoseconds(path, name, entry) for name, entry in data.items()}
    sources = {str(name): str(path) for name in data}
    sources |= {str(name): str(entry["source"]) for name, entry in data.items() if _has_source(entry)}
    return ns, sources


def _refuse_twice(path: Path, tree: yaml.MappingNode) -> None:
    # YAML itself takes the last of two entries and says nothing.
    seen: dict[str, int] = {}
    for key, _ in tree.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            raise InputError(f"{path}, line {line}: {key.value} stands in line {seen[key.value]} already")
        seen[key.value] = line


def _has_source(entry: object) -> bool:
    return isinstance(entry, dict) and "source" in entry


def _nanoseconds(path: Path, name: Any, entry: Any) -> float:
    value = entry.get("ns") if isinstance(entry, dict) else entry
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise InputError(f"{path}: {name}: {value!r} is no number of nanoseconds")
    return float(value)
