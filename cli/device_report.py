"""Device types as people and programs read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from device_models.device import Device
from device_models.pci.function import PciFunction
from device_models.properties import Property, help_lines
from device_models.registry import distribution_of, find_device_type
from emulator.profile import profile_names

__all__ = ["device_document", "device_outline", "device_table"]

_DESCRIBED_FROM = 24  # the column in which QEMU's help begins to describe


def device_document(name: str, profiles: Sequence[str] | None = None) -> dict[str, Any]:
    """A type as JSON: its properties, and under `profiles` those of machines that have others."""
    dialects = _dialects(name, profiles)
    main, *others = dialects.items()
    document: dict[str, Any] = {
        "name": name,
        "explains": find_device_type(name).EXPLAINS,
        "bus": _bus(find_device_type(name)),
        "id": _identity(find_device_type(name)),
        "distribution": distribution_of(name),
        "properties": _properties(main[1]),
    }
    if profiles is None:
        document["profiles"] = {each: _properties(found) for names, found in others for each in names}
    return document


def device_table(names: Sequence[str]) -> RenderableType:
    """A line for each type."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for heading in ("type", "bus", "id", "what it is"):
        table.add_column(heading, header_style="bold", no_wrap=heading != "what it is")
    for name in names:
        kind = find_device_type(name)
        origin = distribution_of(name)
        explains = f"{kind.EXPLAINS} (from {origin})" if origin else kind.EXPLAINS
        table.add_row(name, _bus(kind), _identity(kind) or "", explains)
    return table


def device_outline(name: str, profiles: Sequence[str] | None = None) -> RenderableType:
    """What a type is, and its properties: where profiles differ, once for each group of them."""
    kind = find_device_type(name)
    place = " ".join(filter(None, (_bus(kind), _identity(kind))))
    parts: list[RenderableType] = [Text.assemble((name, "bold"), f"  {kind.EXPLAINS} ({place})"), ""]
    dialects = _dialects(name, profiles)
    for names, properties in dialects.items():
        if len(dialects) > 1:
            parts.append(Text(f"with profile {', '.join(names)}:", "bold"))
        parts += [*_help(help_lines(name, properties)), ""]
    return Group(*parts[:-1])


def _help(lines: Sequence[str]) -> list[RenderableType]:
    # QEMU's lines; on a narrow terminal what is behind the dash stays behind it.
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for line in lines[1:]:
        left, dash, right = line.partition("- ")
        grid.add_row(left.rstrip().ljust(_DESCRIBED_FROM if dash else 0), dash + right)
    return [Text(lines[0]), grid]


def _dialects(name: str, profiles: Sequence[str] | None) -> dict[tuple[str, ...], Mapping[str, Property[Any]]]:
    # Properties by the profiles that have them, those of most profiles first.
    types: dict[type[Device], list[str]] = {}
    for profile in profiles or profile_names():
        types.setdefault(find_device_type(name, profile), []).append(profile)
    ordered = sorted(types.items(), key=lambda item: -len(item[1]))
    return {tuple(names): kind.properties for kind, names in ordered}


def _properties(properties: Mapping[str, Property[Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "type": known.type_name,
            "default": known.json(known.default) if known.default is not None else None,
            "explains": known.explains,
        }
        for name, known in sorted(properties.items())
    ]


def _bus(kind: type[Device]) -> str:
    return "PCI" if issubclass(kind, PciFunction) else "System"


def _identity(kind: type[Device]) -> str | None:
    return f"{kind.VENDOR:04x}:{kind.DEVICE:04x}" if issubclass(kind, PciFunction) else None
