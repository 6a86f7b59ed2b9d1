"""What `-device help` and `-device TYPE,help` print."""

from __future__ import annotations

from device_models.fronts.invocation import CommandLineError
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
    return "\n".join(help_lines(name, kind.properties)) + "\n"
