"""What a user sets for one system of an axis: `pool.min=64`, `iova.npools=4`, `bounce.slots=1024`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pagetables.errors import InputError, near

__all__ = ["chosen_options", "defaults_of", "number_options", "takes"]

F = TypeVar("F", bound=Callable[..., Any])


def takes(defaults: Mapping[str, int | str]) -> Callable[[F], F]:
    """Marks a factory with the options it takes and their defaults, so that they can be listed."""

    def mark(factory: F) -> F:
        vars(factory)["defaults"] = defaults
        return factory

    return mark


def defaults_of(factory: object) -> dict[str, Any]:
    """The options a factory takes, with their defaults; none if it does not tell."""
    return dict(getattr(factory, "defaults", {}))


def chosen_options(
    axis: str, name: str, options: Mapping[str, int | str], defaults: Mapping[str, int | str]
) -> dict[str, Any]:
    """`defaults` of the system `name` with what the user set put over them.

    InputError for an option that is not among them, or for a text where the default is a number.
    """
    for key, value in options.items():
        if key not in defaults:
            known = near(key, defaults) if defaults else "it has none"
            raise InputError(f"{axis} {name} has no option {key!r}; {known}")
        if isinstance(defaults[key], int) and not isinstance(value, int):
            raise InputError(f"{axis}.{key}={value}: {name} wants a number")
    return {**defaults, **options}


def number_options(
    axis: str, name: str, options: Mapping[str, int | str], defaults: Mapping[str, int]
) -> dict[str, int]:
    """`chosen_options` where every option is a number."""
    return chosen_options(axis, name, options, defaults)
