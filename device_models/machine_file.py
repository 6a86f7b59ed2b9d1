"""Machines in YAML: memory, remapping units with what they serve, devices, and what firmware says of them.

    explains: what the machine is for
    profile: spec            # of units that name none; also says whose options -device takes
    engine: native           # or python
    ram: 256M
    processors: 1
    vga: no
    bridges: ["pcie-root-port,id=rp0,addr=1c.0"]
    devices: ["edu,id=gpu,addr=02.0", "edu,id=e0,bus=rp0"]
    units:
      - {id: gfx, base: 0xfed90000, profile: alder-lake-graphics, scope: [gpu]}
      - {id: rest, base: 0xfed91000, options: "intremap=on", scope: all, proximity: 0}
    rmrr: [{base: 0x4000000, size: 1M, devices: [gpu]}]
    firmware: yes            # numbers buses, places BARs, leaves ACPI tables

A device of a scope is the id of one in the machine, or its place (`00:02.0`, `00:1c.0/00.0` behind a bridge), or one of
`{ioapic: 2, at: "f0:1f.0"}`, `{hpet: 0, at: "00:1f.0"}` and `{namespace: 1, name: '\\_SB.PCI0.I2C0', at: "00:15.0"}`;
`all` is what nobody names. Besides `rmrr` firmware may say `atsr: all | [port]`, `satc: [device that needs ATS]`,
`sidp: [{device: gpu, flags: 1}]`, `x2apic_opt_out` and `dma_opt_in`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from device_models.device_scopes import read_scope
from device_models.firmware import boot
from device_models.machine import DEFAULT_MEMORY, SystemMachine
from device_models.pci.function import PciFunction
from device_models.platform import ReservedMemory
from device_models.scopes import EVERYTHING, Scope, ScopeKind, UnitPlace, UnitScope, scope_of
from device_models.yaml_section import Section, read_yaml
from emulator.engine import ENGINES
from emulator.profile import Profile, load_profile, profile_names
from emulator.trace.opening import open_trace
from pagetables.address import PAGE_SIZE, Gpa, parse_size
from pagetables.errors import InputError, VtdError, near

__all__ = ["load_machine", "parse_machine"]

T = TypeVar("T")
_KEYS = (
    *("explains", "profile", "engine", "ram", "processors", "vga", "bridges", "devices", "units", "firmware"),
    *("rmrr", "atsr", "satc", "sidp", "x2apic_opt_out", "dma_opt_in"),
)
_UNIT_KEYS = ("id", "base", "profile", "options", "scope", "proximity")
_MOST_PROCESSORS = 255
_SIDP_FLAGS = 0b11111
_INTERRUPT_RANGE = (0xFEE0_0000, 1 << 20)


class _Claim(NamedTuple):
    base: int
    where: str


def load_machine(path: str | Path) -> SystemMachine:
    """The machine in the YAML file at `path`, which may be compressed, or `-`; InputError naming file and key."""
    try:
        with open_trace(path) as stream:
            text = stream.read().decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not YAML: not text") from None
    return parse_machine(text, str(path))


def parse_machine(text: str, where: str = "machine") -> SystemMachine:
    """The machine that a YAML text describes; `where` begins every complaint."""
    top = Section(read_yaml(text, where), where, _KEYS)
    machine = _board(top)
    for key in ("bridges", "devices"):
        for at, entry in top.items(key):
            _add_device(machine, at, entry)
    _add_units(machine, top)
    _platform(machine, top)
    if top.flag("firmware", True):
        _blaming(where, boot, machine)
    return machine


def _board(top: Section) -> SystemMachine:
    profile = _profile(top, "spec")
    engine = top.text("engine", "native")
    if engine not in ENGINES:
        raise InputError(f"{top.where('engine')}: expected {' or '.join(ENGINES)}, got {engine!r}")
    ram = _blaming(top.where("ram"), parse_size, str(top.value("ram"))) if "ram" in top else DEFAULT_MEMORY
    processors = top.number("processors", 1, _MOST_PROCESSORS) if "processors" in top else 1
    vga = top.flag("vga")
    return _blaming(top.where("ram"), SystemMachine, profile or "spec", ram, processors, engine, vga)


def _profile(section: Section, default: str | None = None) -> Profile | None:
    name = section.text("profile", default)
    if name is None:
        return None
    if name not in profile_names():
        raise InputError(f"{section.where('profile')}: no profile is called {name!r}; {near(name, profile_names())}")
    return load_profile(name)


def _add_device(machine: SystemMachine, where: str, entry: object) -> None:
    if not isinstance(entry, str):
        raise InputError(f"{where}: expected what -device takes, such as 'edu,addr=02.0'; got {entry!r}")
    _blaming(where, machine.add_device, entry)


def _blaming(where: str, act: Callable[..., T], *arguments: Any) -> T:
    try:
        return act(*arguments)
    except VtdError as error:
        raise InputError(f"{where}: {error}") from None


# -- units ------------------------------------------------------------------------------------------------------------


def _add_units(machine: SystemMachine, top: Section) -> None:
    taken: list[_Claim] = []
    for where, entry in top.items("units"):
        section = Section(entry, where, _UNIT_KEYS)
        base = section.number("base", PAGE_SIZE)
        _check_base(machine, section.where("base"), base, taken)
        proximity = section.number("proximity", 0, 0xFFFF_FFFF) if "proximity" in section else None
        place = UnitPlace(Gpa(base), _unit_scope(machine, section), _profile(section), proximity)
        _blaming(where, machine.add_unit, place, section.text("options") or "", section.text("id"))


def _check_base(machine: SystemMachine, where: str, base: int, taken: list[_Claim]) -> None:
    if base % PAGE_SIZE:
        raise InputError(f"{where}: {base:#x} is not the start of a page")
    taken_already = [("RAM", *region) for region in machine.memory.regions]
    for what, start, size in [*taken_already, ("the interrupt range", *_INTERRUPT_RANGE)]:
        if start <= base < start + size:
            raise InputError(f"{where}: there is {what} at {base:#x}: registers need a page of their own")
    for other in taken:
        if other.base == base:
            raise InputError(f"{where}: {base:#x} is the base of {other.where} already")
    taken.append(_Claim(base, where.rpartition(".")[0]))


def _unit_scope(machine: SystemMachine, section: Section) -> UnitScope:
    scope = section.value("scope")
    if scope in (None, "all"):
        return EVERYTHING
    if scope == []:
        raise InputError(f"{section.where('scope')}: expected all, or a list of devices; got none")
    entries = list(_scopes(machine, section, "scope"))
    include_all = "all" in (entry for _, entry in section.items("scope"))
    if include_all and any(entry.kind <= ScopeKind.BRIDGE for entry in entries):
        raise InputError(
            f"{section.where('scope')}: all PCI devices, and some of them by name: name none, or leave out all"
        )
    return UnitScope(tuple(entries), include_all)


def _scopes(machine: SystemMachine, section: Section, key: str) -> list[Scope]:
    return [read_scope(machine, where, entry) for where, entry in section.items(key) if entry != "all"]


# -- what firmware says -----------------------------------------------------------------------------------------------


def _platform(machine: SystemMachine, top: Section) -> None:
    platform = machine.platform
    platform.x2apic_opt_out = top.flag("x2apic_opt_out")
    platform.dma_opt_in = top.flag("dma_opt_in")
    for where, entry in top.items("rmrr"):
        section = Section(entry, where, ("base", "size", "devices"))
        base = section.number("base")
        size = _blaming(section.where("size"), parse_size, str(section.value("size")))
        if base % PAGE_SIZE or size % PAGE_SIZE or not size:
            raise InputError(f"{where}: expected whole pages, got {size:#x} bytes at {base:#x}")
        devices = tuple(_scopes(machine, section, "devices"))
        if not devices:
            raise InputError(f"{section.where('devices')}: expected the devices that the memory is reserved for")
        platform.reserved.append(ReservedMemory(base, base + size - 1, devices))
    if top.value("atsr") == "all":
        ports = machine.root_bus.functions.values()
        platform.ats_ports = [scope_of(port) for port in ports if _is_port(port)]
    elif "atsr" in top:
        platform.ats_ports = _scopes(machine, top, "atsr")
    platform.atc_required = _scopes(machine, top, "satc")
    for where, entry in top.items("sidp"):
        section = Section(entry, where, ("device", "flags"))
        scope = read_scope(machine, section.where("device"), section.value("device"))
        platform.properties.append((scope, section.number("flags", 0, _SIDP_FLAGS)))


def _is_port(function: PciFunction) -> bool:
    return function.secondary is not None and function.EXPRESS
