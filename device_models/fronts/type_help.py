"""What `-device help` and `-device TYPE,help` print."""

from __future__ import annotations

import re

from device_models.fronts.invocation import CommandLineError
from device_models.intel_iommu_options import Dialect, dialect_of
from device_models.options import OptionError
from device_models.pci.bridges import Bridge
from device_models.pci.function import PciFunction
from device_models.properties import help_lines
from device_models.registry import device_types, find_device_type

__all__ = ["device_help", "device_list"]


def device_list(profile: str) -> str:
    """Every device type by what it is, one a line."""
    groups: dict[str, list[str]] = {"Controller/Bridge/Hub devices": [], "Misc devices": []}
    for name in device_types():
        kind = find_device_type(name, profile)
        bus = "PCI" if issubclass(kind, PciFunction) else "System"
        group = "Controller/Bridge/Hub devices" if issubclass(kind, Bridge) else "Misc devices"
        groups[group].append(f'name "{name}", bus {bus}, desc "{kind.EXPLAINS}"')
    return "\n".join(f"{title}:\n" + "".join(f"{line}\n" for line in lines) for title, lines in groups.items())


def device_help(name: str, profile: str, text: str) -> str:
    """The properties of one type; CommandLineError if there is none of that name."""
    try:
        kind = find_device_type(name, profile)
    except OptionError as error:
        raise CommandLineError(f"-device {text}: {error}") from None
    lines = help_lines(name, kind.properties)
    if dialect_of(profile) is not Dialect.QEMU_7_2:
        lines = [_newer(line) for line in lines]
    return "\n".join(lines) + "\n"


def _newer(line: str) -> str:
    # Later versions explain switches, call their states on and off, and leave words without quotes.
    found = re.fullmatch(r"(.*=<bool> *- )(.*) \(default: (true|false)\)", line)
    if found is not None:
        return f"{found[1]}{found[2] or 'on/off'} (default: {'on' if found[3] == 'true' else 'off'})"
    return re.sub(r'\(default: "(\w+)"\)$', r"(default: \1)", line)
