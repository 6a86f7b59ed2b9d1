"""The five axes of a system: where pages and addresses come from, bouncing, invalidation, and what drivers do.

Each axis is a protocol, a registry of choices by name, and an entry-point group for the choices of other distributions:

    pool      PageSupply            vtd.pools
    iova      AddressAllocator      vtd.iova        and `recorded`: the addresses of the trace
    bounce    Bouncer               vtd.bounce      and `none`
    flush     InvalidationPolicy    vtd.flush
    reaction  Reaction              vtd.reactions
"""

from __future__ import annotations

from typing import Any, Final

from emulator.mapping.bounce.bouncer import BOUNCERS
from emulator.mapping.flush.policy import POLICIES
from emulator.mapping.iova.allocator import ALLOCATORS
from emulator.mapping.reactions import REACTIONS
from emulator.mapping.registry import Registry
from emulator.mapping.supply import SUPPLIES
from emulator.presets import AXES, Preset
from pagetables.errors import InputError, near

__all__ = ["RECORDED", "choices", "choose", "effective", "group", "options"]

RECORDED = "recorded"
_REGISTRIES: Final[dict[str, Registry[Any]]] = {
    "pool": SUPPLIES,
    "iova": ALLOCATORS,
    "bounce": BOUNCERS,
    "flush": POLICIES,
    "reaction": REACTIONS,
}
_WITHOUT = {"iova": RECORDED, "bounce": "none"}  # the choice of having none, which no registry has


def choices(axis: str) -> list[str]:
    """What can be chosen on an axis of `AXES`, plug-ins included, sorted; first the choice of having none."""
    none = [_WITHOUT[axis]] if axis in _WITHOUT else []
    return [*none, *_registry(axis).names()]


def choose(axis: str, name: str) -> str:
    """`name`, if it is a choice on the axis; InputError otherwise."""
    known = choices(axis)
    if name not in known:
        raise InputError(f"no {_registry(axis).what} is called {name!r}; {near(name, known)}")
    return name


def options(axis: str, name: str) -> dict[str, int | str]:
    """The options of a choice, set as `AXIS.OPTION`, with their defaults; InputError for a name nobody has."""
    return {} if name == _WITHOUT.get(axis) else _registry(axis).options(name)


def effective(preset: Preset) -> dict[str, dict[str, int | str]]:
    """For each axis, every option of what the preset chooses there: what it sets, else the default."""
    return {
        axis: {name: preset.settings.get(f"{axis}.{name}", value) for name, value in options(axis, choice).items()}
        for axis, choice in preset.axes.items()
    }


def group(axis: str) -> str:
    """The entry-point group through which other distributions add to the axis."""
    return _registry(axis).group


def _registry(axis: str) -> Registry[Any]:
    if axis not in _REGISTRIES:
        raise InputError(f"no axis is called {axis!r}; {near(axis, AXES)}")
    return _REGISTRIES[axis]
