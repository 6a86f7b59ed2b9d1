"""The topics of the monitor's `info`: what QEMU's says of buses, memory, PCI and local APICs, and of our units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from device_models.device import Device
from device_models.fronts.expressions import evaluate
from device_models.fronts.host import Host
from device_models.fronts.pci_inventory import class_name, pci_lines
from device_models.fronts.unit_lines import unit_lines
from device_models.fronts.version import package_version
from device_models.memory_tree import flat_view_lines, memory_tree_lines
from device_models.objects import IO_APIC
from device_models.pci.bars import Bar
from device_models.pci.bus import PciBus
from device_models.pci.config_space import Offset
from device_models.pci.function import PciFunction

__all__ = ["INFO", "Topic"]

_TABLES = ("LVT0", "LVT1", "LVTPC", "LVTERR", "LVTTHMR", "LVTT")


@dataclass(frozen=True, slots=True)
class Topic:
    """One `info NAME`: how it is called, what it is, and the lines it prints given the host and its arguments."""

    name: str
    usage: str
    explains: str
    lines: Callable[[Host, Sequence[str]], Iterable[str]]


def _version(host: Host, words: Sequence[str]) -> Iterator[str]:
    yield f"{host.version.text} ({package_version()})"


def _status(host: Host, words: Sequence[str]) -> Iterator[str]:
    yield f"VM status: {'running' if host.running else 'paused'}"


def _profile(host: Host, words: Sequence[str]) -> Iterator[str]:
    yield f"{host.machine.profile.name}: {host.machine.profile.explains}"


def _registers(host: Host, words: Sequence[str]) -> Iterator[str]:
    yield "this machine has no processor; 'info iommu' has the registers of its units"


def _pci(host: Host, words: Sequence[str]) -> Iterator[str]:
    yield from pci_lines(host.machine.root_bus, host.version.major < 10)


def _memory_tree(host: Host, words: Sequence[str]) -> Iterator[str]:
    flat = "-f" in words
    for space in (host.machine.space, host.machine.ports):
        yield from flat_view_lines(space) if flat else memory_tree_lines(space)
        yield ""


def _iommu(host: Host, words: Sequence[str]) -> Iterator[str]:
    yield from unit_lines(host.machine)


# -- info qtree -------------------------------------------------------------------------------------------------------


def _device_tree(host: Host, words: Sequence[str]) -> Iterator[str]:
    machine = host.machine
    yield "bus: main-system-bus"
    yield "  type System"
    for device in machine.devices:
        if not isinstance(device, PciFunction):
            yield from _device_lines(device, "  ")
    yield '  dev: ioapic, id ""'
    yield f'    gpio-in "" {machine.inputs.count}'
    yield '  dev: q35-pcihost, id ""'
    yield from _bus_lines(machine.root_bus, "    ")


def _bus_lines(bus: PciBus, indent: str) -> Iterator[str]:
    yield f"{indent}bus: {bus.name}"
    yield f"{indent}  type {bus.type_name}"
    for _, function in sorted(bus.functions.items()):
        yield from _device_lines(function, indent + "  ")


def _device_lines(device: Device, indent: str) -> Iterator[str]:
    yield f'{indent}dev: {device.TYPE}, id "{device.id or ""}"'
    inner = indent + "  "
    for name, known in device.properties.items():
        value: Any = device.values.get(name, known.default)
        yield f"{inner}{name} = {known.format(value)}"
    if isinstance(device, PciFunction):
        yield f"{inner}class {_class(device)}, addr {_place(device)}, pci id {_identity(device)}"
        for _, bar in sorted(device.bars.items()):
            yield f"{inner}{_bar_text(bar)}"
        if device.secondary is not None:
            yield from _bus_lines(device.secondary, inner)


def _class(function: PciFunction) -> str:
    return class_name(function) or f"Class {function.config.get(Offset.CLASS, 2):04x}"


def _place(function: PciFunction) -> str:
    bus = 0 if function.bus is None else function.bus.number
    return f"{bus:02x}:{function.devfn >> 3:02x}.{function.devfn & 7}"


def _identity(function: PciFunction) -> str:
    get = function.config.get
    subsystem = (0, 0) if function.HEADER else (get(Offset.SUBSYSTEM_VENDOR, 2), get(Offset.SUBSYSTEM, 2))
    return f"{get(Offset.VENDOR, 2):04x}:{get(Offset.DEVICE, 2):04x} (sub {subsystem[0]:04x}:{subsystem[1]:04x})"


def _bar_text(bar: Bar) -> str:
    start = -1 if bar.address is None else bar.address
    kind = "i/o" if bar.kind.io else "mem"
    ones = (1 << 64) - 1
    return f"bar {bar.number}: {kind} at {start & ones:#x} [{start + bar.region.size - 1 & ones:#x}]"


# -- interrupts -------------------------------------------------------------------------------------------------------


def _local_apic(host: Host, words: Sequence[str]) -> Iterator[str]:
    """One processor's, laid out as QEMU has it; what no software ever set shows its reset value."""
    apics = host.machine.apics.apics
    number = evaluate(" ".join(words)) if words else 0
    if number >= len(apics):
        yield "No CPU available"
        return
    apic = apics[number]
    yield f"dumping local APIC state for CPU {number} "
    yield ""
    for name in _TABLES:
        timer = "one-shot" if name == "LVTT" else ""
        yield f"{name}\t 0x00010000 active-hi edge  masked         {timer:<12} Fixed  (vec 0)"
    yield "Timer\t DCR=0x0 (divide by 2) initial_count = 0 current_count = 0"
    yield "SPIV\t 0x000000ff APIC disabled, focus=off, spurious vec 255"
    yield "ICR\t 0x00000000 physical edge de-assert no-shorthand"
    yield f"ICR2\t 0x00000000 cpu {number} (APIC ID)"
    yield "ESR\t 0x00000000"
    yield "ISR\t (none)"
    marked = (f"{vector}{'(level)' if vector in apic.tmr else ''}" for vector in sorted(apic.irr))
    yield f"IRR\t {' '.join(marked) or '(none)'}"
    yield ""
    yield f"APR 0x00 TPR 0x00 DFR 0x0f LDR 0x{apic.logical_id & 0xFF:02x} PPR 0x00"


def _interrupt_lines(host: Host, words: Sequence[str]) -> Iterator[str]:
    lines = host.machine.inputs
    raised = [str(number) for number, level in enumerate(lines.levels) if level]
    yield f"{IO_APIC}: {lines.count} inputs, raised: {' '.join(raised) or '(none)'}"


def _interrupts(host: Host, words: Sequence[str]) -> Iterator[str]:
    events = host.machine.apics.events
    yield f"{len(events)} interrupt messages arrived"
    for event in events[-20:]:
        one = event.interrupt
        origin = f"{one.source_id >> 8:02x}:{one.source_id >> 3 & 31:02x}.{one.source_id & 7}"
        targets = ", ".join(map(str, event.apics)) or "nobody"
        how = "remapped" if one.remapped else "as it was"
        sender = origin if event.from_device else "a unit or processor"
        yield f"  {event.time:>15} ns  vector {one.vector:#04x} from {sender}, {how}, to APIC {targets}"


INFO = {
    topic.name: topic
    for topic in (
        Topic("iommu", "iommu", "show the remapping units: registers, caches, devices behind each", _iommu),
        Topic("irq", "irq", "show the input lines of the I/O APIC", _interrupt_lines),
        Topic("interrupts", "interrupts", "show the last interrupt messages that arrived", _interrupts),
        Topic("lapic", "lapic [apic-id]", "show local apic state", _local_apic),
        Topic("mtree", "mtree [-f]", "show memory tree (-f: dump flat view for address spaces)", _memory_tree),
        Topic("pci", "pci", "show PCI info", _pci),
        Topic("profile", "profile", "show which unit is emulated", _profile),
        Topic("qtree", "qtree", "show device tree", _device_tree),
        Topic("registers", "registers", "show the cpu registers (there are none)", _registers),
        Topic("status", "status", "show the current VM status (running|paused)", _status),
        Topic("version", "version", "show the version of QEMU", _version),
    )
}
