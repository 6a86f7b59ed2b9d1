"""Which unit remaps whose requests: device scopes, and how a requester-id finds its unit.

A scope names a device by the path to it, as the ACPI DMAR table does: a bus, then device and function of each hop. A
scope that is a bridge is the bridge and everything below. Explicit scopes come first; what nobody names belongs to the
unit that includes all other devices (VT-d, "DMA Remapping Hardware Unit Definition Structure"). Paths are followed with
the bus numbers that software has given the bridges, because a requester-id is all that a request tells of its sender.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from device_models.options import OptionError
from device_models.pci.bus import PciBus
from device_models.pci.function import PciFunction
from emulator.profile import Profile
from emulator.unit import RemappingUnit
from pagetables.address import Gpa

__all__ = ["EVERYTHING", "Scope", "ScopeKind", "UnitPlace", "UnitScope", "UnitScopes", "path_text", "scope_of"]


class ScopeKind(enum.IntEnum):
    """What a scope names, in the numbering of the DMAR table."""

    ENDPOINT = 1
    BRIDGE = 2
    IOAPIC = 3
    HPET = 4
    NAMESPACE_DEVICE = 5


_WORDS = {
    ScopeKind.ENDPOINT: "endpoint",
    ScopeKind.BRIDGE: "bridge",
    ScopeKind.IOAPIC: "IOAPIC",
    ScopeKind.HPET: "HPET",
    ScopeKind.NAMESPACE_DEVICE: "namespace device",
}


def path_text(start_bus: int, path: Sequence[int]) -> str:
    """`00:1c.0/00.1`: a start bus, and each hop's device and function."""
    hops = "/".join(f"{devfn >> 3:02x}.{devfn & 7:x}" for devfn in path)
    return f"{start_bus:02x}:{hops}"


@dataclass(frozen=True, slots=True)
class Scope:
    """A device: `path` has the devfn of each hop from `start_bus` on. `number` is the IOAPIC's id, the HPET's number or
    the namespace device's, whose full name is `name`."""

    kind: ScopeKind
    path: tuple[int, ...]
    start_bus: int = 0
    number: int = 0
    name: str = ""

    def __str__(self) -> str:
        """`bridge 00:1c.0`, `IOAPIC 2 at f0:1f.0`."""
        place = path_text(self.start_bus, self.path)
        word = _WORDS[self.kind]
        return f"{word} {place}" if self.kind <= ScopeKind.BRIDGE else f"{word} {self.number} at {place}"

    def has(self, start_bus: int, path: tuple[int, ...]) -> bool:
        """True if the device at that path is in the scope."""
        if self.start_bus != start_bus:
            return False
        reached = path[: len(self.path)] if self.kind is ScopeKind.BRIDGE else path
        return reached == self.path


@dataclass(frozen=True, slots=True)
class UnitScope:
    """Everything that a unit serves; `include_all` is the catch-all of its segment."""

    entries: tuple[Scope, ...] = ()
    include_all: bool = False

    def __str__(self) -> str:
        """The entries in words."""
        rest = ["all other devices"] if self.include_all else []
        return ", ".join([*map(str, self.entries), *rest]) or "no device"


EVERYTHING = UnitScope(include_all=True)


@dataclass(frozen=True, slots=True)
class UnitPlace:
    """Where a unit's registers are and what it serves; `profile` None is the machine's, `proximity` its NUMA node."""

    base: Gpa
    scope: UnitScope = EVERYTHING
    profile: Profile | None = None
    proximity: int | None = None


class UnitScopes:
    """The units below one root bus."""

    def __init__(self, root: PciBus) -> None:
        self._root = root
        self._places: dict[RemappingUnit, UnitPlace] = {}

    def attach(self, unit: RemappingUnit, place: UnitPlace) -> None:
        """From now on `unit` serves `place.scope`; OptionError if a device would have two units."""
        for known, other in self._places.items():
            if place.scope.include_all and other.scope.include_all:
                raise OptionError(
                    f"the unit at {known.base:#x} has all other devices already: one unit of a machine can"
                )
            for entry in place.scope.entries:
                _check_free(entry, known, other.scope)
        self._places[unit] = place

    def detach(self, unit: RemappingUnit) -> None:
        """`unit` serves nobody any more."""
        self._places.pop(unit, None)

    def place(self, unit: RemappingUnit) -> UnitPlace:
        """Where a unit is, and what it serves."""
        return self._places[unit]

    def unit_for(self, source_id: int) -> RemappingUnit | None:
        """The unit that remaps requests with this requester-id; None if none does."""
        if all(place.scope is EVERYTHING for place in self._places.values()):
            return next(iter(self._places), None)
        start_bus, path = self._path(source_id)
        rest = None
        for unit, place in self._places.items():
            if any(entry.has(start_bus, path) for entry in place.scope.entries):
                return unit
            rest = unit if place.scope.include_all else rest
        return rest

    def _path(self, source_id: int) -> tuple[int, tuple[int, ...]]:
        # What a requester-id means now. On a bus that nobody has, it is a device on that bus (as I/O APICs are).
        number, devfn = source_id >> 8 & 0xFF, source_id & 0xFF
        bus = self._root.find(number)
        return (number, (devfn,)) if bus is None else (self._root.number, (*_hops(bus), devfn))


def _check_free(entry: Scope, unit: RemappingUnit, scope: UnitScope) -> None:
    for known in scope.entries:
        if known.has(entry.start_bus, entry.path) or entry.has(known.start_bus, known.path):
            raise OptionError(f"{entry} is served by the unit at {unit.base:#x} already, as {known}")


def _hops(bus: PciBus) -> tuple[int, ...]:
    found: list[int] = []
    while bus.bridge is not None and bus.bridge.bus is not None:
        found.append(bus.bridge.devfn)
        bus = bus.bridge.bus
    return tuple(reversed(found))


def scope_of(function: PciFunction) -> Scope:
    """The scope that names a function: a bridge, with all that is behind it, or an endpoint.

    OptionError for a function behind conventional PCI, whose requests do not say who sent them.
    """
    bus = function.bus
    if bus is None:
        raise OptionError(f"'{function.id or function.TYPE}' is on no bus")
    above: PciBus = bus
    while above.bridge is not None and above.bridge.bus is not None:
        if not above.express:
            bridge = above.bridge
            raise OptionError(
                f"'{function.id or function.TYPE}' is behind the bridge '{bridge.id or above.name}' to conventional "
                "PCI, where requests do not say who sent them: name the bridge"
            )
        above = above.bridge.bus
    kind = ScopeKind.ENDPOINT if function.secondary is None else ScopeKind.BRIDGE
    return Scope(kind, (*_hops(bus), function.devfn), above.number)
