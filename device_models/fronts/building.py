"""The machine that a command line of QEMU asks for."""

from __future__ import annotations

import re

from device_models.fronts.bare_machine import BareMachine
from device_models.fronts.invocation import CommandLineError, Invocation
from device_models.fronts.version import QemuVersion
from device_models.machine import SystemMachine
from device_models.options import parse_options
from device_models.properties import Size
from emulator.profile import Profile
from pagetables.errors import VtdError

__all__ = ["build_machine", "machine_lines"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DEFAULT_MEMORY = "128M"
_MEMORY_LIMIT = 1 << 44  # beyond that no host maps it
_PROCESSOR_LIMIT = 288
_MACHINE_OPTIONS = _words(
    """accel acpi default-bus-bypass-iommu dump-guest-core fd-bootchk graphics hmat hpet i8042 kernel-irqchip
    kernel_irqchip max-ram-below-4g mem-merge memory-backend nvdimm pic pit sata smbus smm suppress-vmdesc type usb
    vmport"""
)
_REMOVABLE = {"sata": 0xFA, "smbus": 0xFB}
_NO_VGA = ("none",)


def machine_lines(version: QemuVersion) -> list[str]:
    """What `-machine help` prints."""
    return [
        "Supported machines are:",
        "none                 empty machine",
        f"q35                  Standard PC (Q35 + ICH9, 2009) (alias of {version.machine_type}) (default)",
        f"{version.machine_type:<20} Standard PC (Q35 + ICH9, 2009)",
    ]


def build_machine(invocation: Invocation, profile: Profile) -> SystemMachine:
    """The machine with its devices; CommandLineError, in QEMU's words, for what it cannot have."""
    kind, options = _machine_options(invocation, QemuVersion.of(profile))
    memory, processors = _memory(invocation), _processors(invocation)
    if kind == "none":
        machine: SystemMachine = BareMachine(profile)
    else:
        machine = _q35(profile, memory, processors, _wants_vga(invocation))
    for name, devfn in _REMOVABLE.items():
        if options.get(name) == "off" and devfn in machine.root_bus.functions:
            machine.remove_device(machine.root_bus.functions[devfn])
    defaults = _globals(invocation)
    for text in invocation.all("device"):
        _add(machine, text, defaults)
    return machine


def _q35(profile: Profile, memory: int, processors: int, vga: bool) -> SystemMachine:
    try:
        return SystemMachine(profile, memory, processors, vga=vga)
    except (OSError, MemoryError, OverflowError) as error:
        raise CommandLineError(f"cannot set up guest memory 'pc.ram': {error}") from None


def _add(machine: SystemMachine, text: str, defaults: dict[str, dict[str, str]]) -> None:
    try:
        options = parse_options(text)
        for name, value in defaults.get(options.get("driver", ""), {}).items():
            if name not in options and not text.lstrip().startswith("{"):
                text += f",{name}={value.replace(',', ',,')}"
        machine.add_device(text)
    except VtdError as error:
        raise CommandLineError(f"-device {text}: {error}") from None


def _globals(invocation: Invocation) -> dict[str, dict[str, str]]:
    # `driver.property=value`, or driver=, property= and value=.
    found: dict[str, dict[str, str]] = {}
    for text in invocation.all("global"):
        short = re.fullmatch(r"([\w-]+)\.([\w.-]+)=(.*)", text, re.DOTALL)
        if short is not None:
            driver, name, value = short.groups()
        else:
            options = parse_options(text, implied="")
            driver, name, value = (options.get(key, "") for key in ("driver", "property", "value"))
        found.setdefault(driver, {})[name] = value
    return found


def _machine_options(invocation: Invocation, version: QemuVersion) -> tuple[str, dict[str, str]]:
    options: dict[str, str] = {}
    for text in invocation.all("machine", "M"):
        options |= parse_options(text, implied="type")
    kind = options.get("type", "q35")
    if kind not in ("q35", "pc-q35", "none") and not re.fullmatch(r"pc-q35-\d+\.\d+", kind):
        raise CommandLineError(f'unsupported machine type: "{kind}"\nUse -machine help to list supported machines')
    for name in options:
        if name not in _MACHINE_OPTIONS:
            raise CommandLineError(f"Property '{version.machine_type}-machine.{name}' not found")
    return "none" if kind == "none" else "q35", options


def _memory(invocation: Invocation) -> int:
    text = parse_options(invocation.last("m") or _DEFAULT_MEMORY, implied="size").get("size", _DEFAULT_MEMORY)
    try:
        size = Size(name="size").parse(f"{text}M" if text.isdigit() else text, "memory")
    except VtdError:
        raise CommandLineError(
            f"-m {text}: Parameter 'size' expects a non-negative number below 2^64\n"
            "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
        ) from None
    if size > _MEMORY_LIMIT:
        raise CommandLineError(f"-m {text}: at most {_MEMORY_LIMIT >> 40} TiB")
    return -(-size // 8192) * 8192 or Size(name="size").parse(_DEFAULT_MEMORY, "memory")


def _processors(invocation: Invocation) -> int:
    options = parse_options(invocation.last("smp") or "1", implied="cpus")
    counts = {}
    for name in ("cpus", "sockets", "dies", "cores", "threads"):
        text = options.get(name, "1")
        if not text.isascii() or not text.isdigit():
            raise CommandLineError(f"Parameter 'smp.{name}' expects integer")
        counts[name] = int(text)
    if not all(counts.values()):
        raise CommandLineError("Invalid CPU topology: CPU topology parameters must be greater than zero")
    if "cpus" in options or not options:
        count = counts["cpus"]
    else:
        count = counts["sockets"] * counts["dies"] * counts["cores"] * counts["threads"]
    if count > _PROCESSOR_LIMIT:
        raise CommandLineError(
            f"Invalid SMP CPUs {count}. The max CPUs supported by machine 'q35' is {_PROCESSOR_LIMIT}"
        )
    return count


def _wants_vga(invocation: Invocation) -> bool:
    if "nodefaults" in invocation.flags:
        return invocation.last("vga") not in (None, *_NO_VGA)
    return invocation.last("vga") not in _NO_VGA
