"""Systems by name, on one axis: those that are built in, and those of other distributions, found by entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from emulator.mapping.options import defaults_of
from pagetables.errors import InputError, near

__all__ = ["Registry"]

F = TypeVar("F")


class Registry(Generic[F]):
    """Factories `F` of the entry point `group`. `what` is one of them in messages; `built_in` names where ours are
    (`module:factory`)."""

    def __init__(self, group: str, what: str, built_in: Mapping[str, str]) -> None:
        self.group, self.what = group, what
        self._built_in = [EntryPoint(name, where, group) for name, where in built_in.items()]

    def names(self) -> list[str]:
        """Every name, those of plug-ins included, sorted."""
        return sorted(self._entries())

    def find(self, name: str) -> F:
        """The factory called `name`; InputError for a name nobody has."""
        entries = self._entries()
        if name not in entries:
            raise InputError(f"no {self.what} is called {name!r}; {near(name, entries)}")
        factory: F = entries[name].load()
        return factory

    def options(self, name: str) -> dict[str, Any]:
        """The options of the system called `name` with their defaults; of a plug-in, those it tells
        (`emulator.mapping.options.takes`)."""
        return defaults_of(self.find(name))

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in (*self._built_in, *entry_points(group=self.group))}
