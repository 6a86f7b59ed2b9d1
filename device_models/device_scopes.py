"""Device scopes as people write them: the id of a device, a place, or an I/O APIC, HPET or namespace device."""

from __future__ import annotations

import re

from device_models.machine import SystemMachine
from device_models.options import OptionError
from device_models.pci.bus import PciBus
from device_models.pci.function import PciFunction
from device_models.scopes import Scope, ScopeKind, path_text, scope_of
from device_models.yaml_section import Section
from pagetables.errors import InputError, near

__all__ = ["read_scope"]

_PLACE = re.compile(r"([0-9a-fA-F]{2}):((?:[01]?[0-9a-fA-F]\.[0-7])(?:/[01]?[0-9a-fA-F]\.[0-7])*)")
_NUMBERED = {"ioapic": ScopeKind.IOAPIC, "hpet": ScopeKind.HPET, "namespace": ScopeKind.NAMESPACE_DEVICE}
_EXPECTED = "expected a device's id, a place (00:02.0, 00:1c.0/00.0), or {ioapic: N, at: PLACE} and the like"


def read_scope(machine: SystemMachine, where: str, entry: object) -> Scope:
    """The scope that `entry`, found at `where`, names; InputError if there is no such device."""
    if isinstance(entry, str):
        place = _PLACE.fullmatch(entry)
        function = _by_id(machine, where, entry) if place is None else _at(machine, where, *_path(place))
        try:
            return scope_of(function)
        except OptionError as error:
            raise InputError(f"{where}: {error}") from None
    if isinstance(entry, dict):
        return _numbered(where, Section(entry, where, (*_NUMBERED, "at", "name")))
    raise InputError(f"{where}: {_EXPECTED}; got {entry!r}")


def _numbered(where: str, section: Section) -> Scope:
    kinds = [key for key in _NUMBERED if key in section]
    place = _PLACE.fullmatch(section.text("at") or "")
    if len(kinds) != 1 or place is None:
        raise InputError(f"{where}: {_EXPECTED}")
    name = section.text("name") or ""
    if (kinds[0] == "namespace") is not bool(name) or not name.isascii():
        raise InputError(f"{where}: a namespace device, and nothing else, has a name such as \\_SB.PCI0.I2C0")
    start_bus, path = _path(place)
    return Scope(_NUMBERED[kinds[0]], path, start_bus, section.number(kinds[0], 0, 0xFF), name)


def _path(place: re.Match[str]) -> tuple[int, tuple[int, ...]]:
    hops = (hop.split(".") for hop in place[2].split("/"))
    return int(place[1], 16), tuple(int(device, 16) << 3 | int(function) for device, function in hops)


def _by_id(machine: SystemMachine, where: str, name: str) -> PciFunction:
    known = {device.id: device for device in machine.devices if device.id and isinstance(device, PciFunction)}
    if name not in known:
        raise InputError(f"{where}: no device has the id {name!r}; {near(name, known) if known else _EXPECTED}")
    return known[name]


def _at(machine: SystemMachine, where: str, start_bus: int, path: tuple[int, ...]) -> PciFunction:
    bus: PciBus | None = machine.root_bus if start_bus == machine.root_bus.number else None
    function = None
    for number, devfn in enumerate(path):
        function = None if bus is None else bus.functions.get(devfn)
        if function is None:
            raise InputError(f"{where}: there is no device at {path_text(start_bus, path[: number + 1])}")
        bus = function.secondary
    if function is None:
        raise InputError(f"{where}: {_EXPECTED}")
    return function
