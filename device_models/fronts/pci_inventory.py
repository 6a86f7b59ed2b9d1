"""The PCI functions of a machine as `query-pci` and `info pci` tell of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from device_models.pci.bars import Bar
from device_models.pci.bridges import Bridge
from device_models.pci.bus import PciBus
from device_models.pci.config_space import Offset
from device_models.pci.function import PciFunction

__all__ = ["class_name", "pci_buses", "pci_lines"]

_CLASSES = {
    0x0106: "SATA controller",
    0x0108: "NVM Express controller",
    0x0200: "Ethernet controller",
    0x0300: "VGA controller",
    0x0600: "Host bridge",
    0x0601: "ISA bridge",
    0x0604: "PCI bridge",
    0x0C03: "USB controller",
    0x0C05: "SMBus",
}
_RANGES = {"io_range": "pci_bridge_io", "memory_range": "pci_bridge_mem", "prefetchable_range": "pci_bridge_pref_mem"}
_PINS = " ABCD"


def class_name(function: PciFunction) -> str | None:
    """The name of a function's class, as QEMU has it; None where it has none."""
    return _CLASSES.get(function.config.get(Offset.CLASS, 2))


_ONES = (1 << 64) - 1


def pci_buses(root: PciBus) -> list[dict[str, Any]]:
    """What `query-pci` returns: the root bus with its functions; a bridge's bus is in the bridge."""
    return [{"bus": root.number, "devices": _functions(root)}]


def _functions(bus: PciBus) -> list[dict[str, Any]]:
    return [_function(bus, function) for _, function in sorted(bus.functions.items())]


def _function(bus: PciBus, function: PciFunction) -> dict[str, Any]:
    get, pin = function.config.get, function.config.get(Offset.INTERRUPT_PIN, 1)
    identity = {"device": get(Offset.DEVICE, 2), "vendor": get(Offset.VENDOR, 2)}
    if not function.HEADER:
        identity |= {"subsystem-vendor": get(Offset.SUBSYSTEM_VENDOR, 2), "subsystem": get(Offset.SUBSYSTEM, 2)}
    name = class_name(function)
    found: dict[str, Any] = {
        "irq_pin": pin,
        "bus": bus.number,
        "qdev_id": function.id or "",
        "slot": function.devfn >> 3,
        "class_info": {"class": get(Offset.CLASS, 2)} | ({} if name is None else {"desc": name}),
        "id": identity,
        "function": function.devfn & 7,
        "regions": [_region(bar) for _, bar in sorted(function.bars.items())],
    }
    if pin:
        found["irq"] = get(Offset.INTERRUPT_LINE, 1)
    if isinstance(function, Bridge):
        found["pci_bridge"] = _bridge(function)
    return found


def _region(bar: Bar) -> dict[str, Any]:
    place = {"bar": bar.number, "size": bar.region.size, "address": -1 if bar.address is None else bar.address}
    if bar.kind.io:
        return place | {"type": "io"}
    return place | {"type": "memory", "prefetch": bar.kind.prefetchable, "mem_type_64": bar.kind.wide}


def _bridge(bridge: Bridge) -> dict[str, Any]:
    get, windows = bridge.config.get, bridge.windows()
    bus: dict[str, Any] = {
        "number": get(Offset.PRIMARY_BUS, 1),
        "secondary": get(Offset.SECONDARY_BUS, 1),
        "subordinate": get(Offset.SUBORDINATE_BUS, 1),
    }
    bus |= {name: {"base": windows[of][0], "limit": windows[of][1]} for name, of in _RANGES.items()}
    behind = bridge.secondary
    if behind is None or not behind.functions:
        return {"bus": bus}
    return {"bus": bus, "devices": _functions(behind)}


# -- in words ---------------------------------------------------------------------------------------------------------


def pci_lines(root: PciBus, older: bool = False) -> Iterator[str]:
    """What `info pci` prints; `older` is how it did so before QEMU 10."""
    for bus in pci_buses(root):
        for device in bus["devices"]:
            yield from _device_lines(device, older)


def _device_lines(device: dict[str, Any], older: bool) -> Iterator[str]:
    yield f"  Bus {device['bus']:2}, device {device['slot']:3}, function {device['function']}:"
    kind, identity = device["class_info"], device["id"]
    name = kind.get("desc") or f"Class {kind['class']:04}"
    yield f"    {name}: PCI device {identity['vendor']:04x}:{identity['device']:04x}"
    if "subsystem" in identity:
        yield f"      PCI subsystem {identity['subsystem-vendor']:04x}:{identity['subsystem']:04x}"
    if device["irq_pin"]:
        yield f"      IRQ {device['irq']}, pin {_PINS[device['irq_pin']]}"
    bridge = device.get("pci_bridge")
    if bridge:
        yield from _bridge_lines(bridge["bus"])
    for region in device["regions"]:
        yield f"      BAR{region['bar']}: {_region_text(region, older)}"
    yield f'      id "{device["qdev_id"]}"'
    for behind in (bridge or {}).get("devices", ()):
        yield from _device_lines(behind, older)


def _bridge_lines(bus: dict[str, Any]) -> Iterator[str]:
    yield f"      BUS {bus['number']}."
    yield f"      secondary bus {bus['secondary']}."
    yield f"      subordinate bus {bus['subordinate']}."
    for name, digits in (("io_range", 4), ("memory_range", 8), ("prefetchable_range", 8)):
        base, limit = bus[name]["base"], bus[name]["limit"]
        words = {"io_range": "IO range", "memory_range": "memory range"}.get(name, "prefetchable memory range")
        yield f"      {words} [0x{base:0{digits}x}, 0x{limit:0{digits}x}]"


def _region_text(region: dict[str, Any], older: bool) -> str:
    io, start = region["type"] == "io", region["address"]
    bits = 64 if region.get("mem_type_64") else 32
    kind = "I/O" if io else f"{bits} bit{' prefetchable' if region['prefetch'] else ''} memory"
    if start < 0 and not older:
        return f"{kind} (not mapped)"
    digits, last = 4 if io else 8, start + region["size"] - 1
    return f"{kind} at 0x{start & _ONES:0{digits}x} [0x{last & _ONES:0{digits}x}]{'.' if older else ''}"
