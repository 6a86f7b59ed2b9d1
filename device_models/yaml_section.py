"""Reading a YAML mapping key by key, with errors that say where: `two-units.yaml: units[1].base: expected ...`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from pagetables.address import parse_number
from pagetables.errors import InputError, near

__all__ = ["Section", "read_yaml"]


class _Plain(yaml.SafeLoader):
    """YAML without numbers in base 60, which `00:02.0` would be, and without other fractions."""


_Plain.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Plain.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"(?:0x[0-9a-fA-F][0-9a-fA-F_]*|0|[1-9][0-9_]*)$"), list("0123456789")
)


def read_yaml(text: str, where: str) -> Any:
    """What a YAML text holds; InputError where it is none. `00:02.0` is text."""
    try:
        return yaml.load(text, _Plain)  # a SafeLoader
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


class Section:
    """A mapping at `where`, which takes the keys `known` and no other."""

    def __init__(self, data: object, where: str, known: Sequence[str]) -> None:
        if not isinstance(data, Mapping):
            raise InputError(f"{where}: expected a mapping with keys out of {', '.join(known)}; got {data!r}")
        for key in data:
            if key not in known:
                raise InputError(f"{where}: no key is called {key!r}; {near(str(key), known)}")
        self._data: Mapping[Any, Any] = data
        self._where = where

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    def where(self, key: str) -> str:
        """File and key, as complaints begin."""
        return f"{self._where}{'.' if self._where[-1] == ']' else ': '}{key}"

    def value(self, key: str) -> Any:
        """What is there as it is, None if nothing is."""
        return self._data.get(key)

    def text(self, key: str, default: str | None = None) -> str | None:
        """Words; `default` if the key is not there."""
        value = self._data.get(key, default)
        if value is not None and not isinstance(value, str):
            raise InputError(f"{self.where(key)}: expected words, got {value!r}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """Yes or no."""
        value = self._data.get(key, default)
        if not isinstance(value, bool):
            raise InputError(f"{self.where(key)}: expected yes or no, got {value!r}")
        return value

    def number(self, key: str, low: int = 0, high: int = (1 << 64) - 1) -> int:
        """A number from `low` to `high`, which must be there."""
        value = self._data.get(key)
        if isinstance(value, str):
            value = parse_number(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{self.where(key)}: expected a number from {low:#x} to {high:#x}, got {value!r}")
        return value

    def items(self, key: str) -> Iterator[tuple[str, Any]]:
        """Each entry of a list, with where it is; none if the key is not there."""
        value = self._data.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            raise InputError(f"{self.where(key)}: expected a list, got {value!r}")
        for number, entry in enumerate(value):
            yield f"{self.where(key)}[{number}]", entry
