"""The ACPI DMAR table of a machine: what firmware tells software about its remapping units.

Units come first, the catch-all of all other devices last; then reserved memory, root ports with ATS, proximity,
namespace devices, and integrated devices with address translation caches and properties, in ascending order of types
(VT-d, chapter on BIOS considerations).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from device_models.machine import SystemMachine
from device_models.pci.extended import ATS
from device_models.pci.function import PciFunction
from device_models.platform import Platform
from device_models.scopes import Scope, ScopeKind, scope_of
from pagetables.errors import InputError
from pagetables.layouts.dmar import (
    Andd,
    Atsr,
    DeviceScope,
    DmarTable,
    Drhd,
    Rhsa,
    Rmrr,
    Satc,
    Sidp,
    Structure,
    build,
)

__all__ = ["build_dmar", "dmar_table"]

INTR_REMAP, X2APIC_OPT_OUT, DMA_OPT_IN = 1, 2, 4
INCLUDE_PCI_ALL, ATC_REQUIRED = 1, 1
_USUAL_IOAPIC = Scope(ScopeKind.IOAPIC, (0,), 0xFF)  # as QEMU names its only one


def build_dmar(machine: SystemMachine) -> bytes:
    """The table's bytes, with lengths and checksum; InputError for a machine without a unit."""
    return build(dmar_table(machine))


def dmar_table(machine: SystemMachine) -> DmarTable:
    """The table; InputError for a machine without a unit."""
    if not machine.units:
        raise InputError("no remapping unit: there is nothing that a DMAR table could tell of this machine")
    platform = machine.platform
    flags = INTR_REMAP if all(unit.ecap.ir for unit in machine.units) else 0
    flags |= X2APIC_OPT_OUT if platform.x2apic_opt_out else 0
    flags |= DMA_OPT_IN if platform.dma_opt_in else 0
    haw = max(unit.capabilities.haw for unit in machine.units)
    return DmarTable(haw, tuple(_structures(machine, platform)), flags)


def _structures(machine: SystemMachine, platform: Platform) -> Iterator[Structure]:
    yield from _units(machine)
    for memory in platform.reserved:
        yield Rmrr(memory.base, memory.limit, scopes=_scopes(memory.devices))
    ports = _ats_ports(machine) if platform.ats_ports is None else platform.ats_ports
    if ports:
        yield Atsr(scopes=_scopes(ports))
    for unit in machine.units:
        proximity = machine.scopes.place(unit).proximity
        if proximity is not None:
            yield Rhsa(unit.base, proximity)
    yield from _namespace_devices(machine)
    yield from _integrated_caches(machine, platform)
    if platform.properties:
        yield Sidp(scopes=tuple(_scope(scope, flags) for scope, flags in platform.properties))


def _units(machine: SystemMachine) -> Iterator[Drhd]:
    places = sorted((machine.scopes.place(unit) for unit in machine.units), key=lambda place: place.scope.include_all)
    # Linux leaves interrupt remapping off where no unit names an I/O APIC: the last one gets it then.
    named = any(entry.kind is ScopeKind.IOAPIC for place in places for entry in place.scope.entries)
    missing = not named and all(unit.ecap.ir for unit in machine.units)
    for place in places:
        entries = [_USUAL_IOAPIC] if missing and place is places[-1] else []
        flags = INCLUDE_PCI_ALL if place.scope.include_all else 0
        yield Drhd(place.base, flags=flags, scopes=_scopes([*entries, *place.scope.entries]))


def _ats_ports(machine: SystemMachine) -> list[Scope]:
    if not any(unit.ecap.dt for unit in machine.units):
        return []
    ports = [function for function in machine.root_bus.functions.values() if function.secondary is not None]
    return [scope_of(port) for port in sorted(ports, key=lambda port: port.devfn) if _has_ats_below(port)]


def _has_ats_below(bridge: PciFunction) -> bool:
    behind = [] if bridge.secondary is None else list(bridge.secondary.functions.values())
    return any(_has_ats(function) or _has_ats_below(function) for function in behind)


def _has_ats(function: PciFunction) -> bool:
    return bool(function.config.find_extended_capability(ATS))


def _namespace_devices(machine: SystemMachine) -> Iterator[Andd]:
    for unit in machine.units:
        for entry in machine.scopes.place(unit).scope.entries:
            if entry.kind is ScopeKind.NAMESPACE_DEVICE:
                yield Andd(entry.number, entry.name.encode("ascii"))


def _integrated_caches(machine: SystemMachine, platform: Platform) -> Iterator[Satc]:
    if platform.atc_required:
        yield Satc(flags=ATC_REQUIRED, scopes=_scopes(platform.atc_required))
    functions = sorted(machine.root_bus.functions.values(), key=lambda function: function.devfn)
    having = [scope_of(function) for function in functions if function.secondary is None and _has_ats(function)]
    others = [scope for scope in having if scope not in platform.atc_required]
    if others and any(unit.ecap.dt for unit in machine.units):
        yield Satc(scopes=_scopes(others))


def _scopes(entries: Sequence[Scope]) -> tuple[DeviceScope, ...]:
    return tuple(_scope(entry) for entry in entries)


def _scope(entry: Scope, flags: int = 0) -> DeviceScope:
    path = tuple((devfn >> 3, devfn & 7) for devfn in entry.path)
    return DeviceScope(entry.kind, entry.start_bus, path, entry.number, flags)
