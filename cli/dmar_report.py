"""What `vtd dmar` prints: the JSON document, and a tree for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cli.render import address, count, human_size
from pagetables.address import format_source_id

if TYPE_CHECKING:
    from rich.tree import Tree

    from pagetables.dmar_check import DmarReport
    from pagetables.layouts.dmar import DeviceScope, DmarTable, Structure

__all__ = ["dmar_document", "dmar_tree"]

SHOWN = 100  # complaints that people are shown
_STYLES = {"note": "", "warning": "yellow", "error": "bold red"}
_FLAGS = (
    ("INTR_REMAP", "interrupt_remapping"),
    ("X2APIC_OPT_OUT", "x2apic_opt_out"),
    ("DMA_CTRL_PLATFORM_OPT_IN", "dma_opt_in"),
)
_ADDRESSES = {"base", "limit"}


def dmar_document(report: DmarReport) -> dict[str, Any]:
    """The JSON object of a table."""
    table = report.table
    return {
        "oem_id": _text(table.oemid),
        "oem_table_id": _text(table.oem_table_id),
        "revision": table.revision,
        "host_address_width": table.haw,
        "flags": [name for name, attribute in _FLAGS if getattr(table, attribute)],
        "structures": [{"offset": one.at, **_structure_document(one.structure)} for one in report.placed],
        "complaints": [
            {"check": one.check, "severity": one.severity.text, "offset": one.offset, "message": one.message}
            for one in report.complaints
        ],
    }


def _text(raw: bytes) -> str:
    text = raw.decode("ascii", "backslashreplace").rstrip("\0 ")
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def _structure_document(structure: Structure) -> dict[str, Any]:
    from pagetables.layouts.dmar import Unknown

    if isinstance(structure, Unknown):
        return {"kind": "unknown", "type": structure.type, "body": structure.body.hex()}
    document: dict[str, Any] = {"kind": type(structure).__name__.lower()}
    for name in structure.__slots__:
        value = getattr(structure, name)
        if name in _ADDRESSES:
            document[name] = address(value)
        elif name == "scopes":
            document[name] = [_scope_document(scope) for scope in value]
        elif name not in ("rsvd", "padding"):
            document[name] = _text(value) if isinstance(value, bytes) else value
    return document


def _scope_document(scope: DeviceScope) -> dict[str, Any]:
    return {
        "type": scope.type,
        "source_id": None if not _is_plain(scope) else format_source_id(scope.source_id or 0),
        "start_bus": scope.start_bus,
        "path": [list(hop) for hop in scope.path],
        "enum_id": scope.enum_id,
        "flags": scope.flags,
    }


def _is_plain(scope: DeviceScope) -> bool:
    return len(scope.path) == 1 and scope.path[0][0] <= 0x1F and scope.path[0][1] <= 7


def dmar_tree(report: DmarReport) -> Tree:
    """A table for people."""
    from rich.text import Text
    from rich.tree import Tree

    from pagetables.dmar_scopes import scope_text

    root = Tree(Text(_title(report.table), style="bold"))
    for one in report.placed:
        branch = root.add(Text(" ".join(_words(one.structure))))
        for scope in getattr(one.structure, "scopes", ()):
            branch.add(Text(scope_text(scope)))
    if not report.complaints:
        root.add(Text("nothing to complain about", style="green"))
        return root
    found = root.add(Text(_total(report), style="bold"))
    for complaint in report.complaints[:SHOWN]:
        text = f"{complaint.severity.text}: {complaint.message} ({complaint.check})"
        found.add(Text(text, style=_STYLES[complaint.severity.text]))
    if len(report.complaints) > SHOWN:
        found.add(Text(f"and {count(len(report.complaints) - SHOWN, 'more')} (--json)", style="dim"))
    return root


def _total(report: DmarReport) -> str:
    return f"{count(len(report.complaints), 'complaint')}"


def _title(table: DmarTable) -> str:
    flags = [name for name, attribute in _FLAGS if getattr(table, attribute)]
    name = f"{_text(table.oemid)} {_text(table.oem_table_id)}".strip()
    return f"DMAR table of {name}, host address width {table.haw}{', ' if flags else ''}{', '.join(flags)}"


def _words(structure: Structure) -> Iterator[str]:
    from pagetables.layouts.dmar import Andd, Atsr, Drhd, Rhsa, Rmrr, Satc, Unknown

    yield type(structure).__name__.upper()
    match structure:
        case Drhd():
            yield f"unit at {structure.base:#x}, {human_size(structure.register_bytes)} of registers"
            if structure.include_all:
                yield "(INCLUDE_PCI_ALL)"
        case Rmrr():
            size = max(structure.limit + 1 - structure.base, 0)
            yield f"reserved memory {structure.base:#x}-{structure.limit:#x} ({human_size(size)})"
        case Atsr():
            yield "every root port has ATS" if structure.all_ports else "root ports that have ATS"
        case Rhsa():
            yield f"the unit at {structure.base:#x} belongs to proximity domain {structure.pxm}"
        case Andd():
            yield f"namespace device {structure.devnum} is {_text(structure.path)}"
        case Satc():
            yield "integrated devices with a translation cache" + (", which need it" if structure.atc_required else "")
        case Unknown():
            yield f"type {structure.type}, {count(len(structure.body), 'byte')}"
        case _:
            yield "properties of integrated devices"
    if segment := getattr(structure, "segment", 0):
        yield f"[segment {segment}]"
