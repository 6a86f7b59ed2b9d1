"""What `vtd inspect` prints of a unit: the JSON document, and a tree for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cli.render import address, count, human_size
from pagetables.address import format_source_id

if TYPE_CHECKING:
    from rich.tree import Tree

    from pagetables.images.inspection import UnitReport
    from pagetables.images.interrupts import Interrupt
    from pagetables.layouts.registers import FaultRecord
    from pagetables.scan import Finding, Mapping, Space

__all__ = ["unit_document", "unit_tree"]

SHOWN = 8  # runs of mappings listed for each space unless all are asked for
_DELIVERY = ("fixed", "lowest-priority", "smi", "reserved", "nmi", "init", "reserved", "extint")


def unit_document(report: UnitReport) -> dict[str, Any]:
    """The JSON object of one unit."""
    base = report.registers.base
    return {
        "register_base": None if base is None else address(base),
        "mode": report.mode,
        "translation_enabled": report.translation_enabled,
        "interrupt_remapping_enabled": report.interrupt_remapping_enabled,
        "root_table": address(report.root_table),
        "spaces": [_space_document(space) for space in report.spaces],
        "interrupts": [_interrupt_document(interrupt) for interrupt in report.interrupts],
        "pending_faults": [_fault_document(record) for record in report.pending_faults],
        "findings": [_finding_document(finding) for finding in report.findings],
    }


def _space_document(space: Space) -> dict[str, Any]:
    document: dict[str, Any] = {
        "source_id": format_source_id(space.source_id),
        "pasid": space.pasid,
        "domain_id": space.domain_id,
        "translation": _spelt(space.translation.name),
        "levels": space.levels,
        "table": address(space.table),
        "pages": {str(size): number for size, number in sorted(space.pages.items())},
        "mappings": _mapping_documents(space.mappings, first_stage=_is_first_stage(space)),
    }
    if space.second_stage is not None:
        document["second_stage"] = {
            "pages": {str(size): number for size, number in sorted(space.second_stage.pages.items())},
            "mappings": _mapping_documents(space.second_stage.mappings, first_stage=False),
        }
    return document


def _mapping_documents(mappings: Iterable[Mapping], first_stage: bool) -> list[dict[str, Any]]:
    documents = []
    for one in mappings:
        document: dict[str, Any] = {
            "iova": address(one.iova),
            "gpa": address(one.gpa),
            "size": one.size,
            "access": one.access.text(),
        }
        if first_stage:
            document["user"] = one.user
        documents.append(document)
    return documents


def _interrupt_document(interrupt: Interrupt) -> dict[str, Any]:
    fields = interrupt.entry.fields()
    document: dict[str, Any] = {
        "index": interrupt.index,
        "vector": interrupt.vector,
        "destination": interrupt.destination,
        "source_id": format_source_id(fields["sid"]),
        "source_validation": fields["svt"],
        "source_qualifier": fields["sq"],
        "fault_processing_disabled": bool(fields["fpd"]),
        "posted": interrupt.descriptor_address is not None,
        "at": address(interrupt.at),
        "entry": address(interrupt.entry),
    }
    if interrupt.descriptor_address is None:
        document["destination_mode"] = "logical" if fields["dm"] else "physical"
        document["redirection_hint"] = bool(fields["rh"])
        document["trigger"] = "level" if fields["tm"] else "edge"
        document["delivery"] = _DELIVERY[fields["dlm"]]
    else:
        document["descriptor"] = address(interrupt.descriptor_address)
        document["urgent"] = bool(fields["urg"])
        document["notification_vector"] = interrupt.descriptor and interrupt.descriptor.nv
    return document


def _fault_document(record: FaultRecord) -> dict[str, Any]:
    return {
        "source_id": format_source_id(record.sid),
        "address": address(record.fi << 12),
        "reason": record.fr,
        "access": _fault_access(record),
        "pasid": record.pv if record.pp else None,
    }


def _fault_access(record: FaultRecord) -> str:
    # T1 T2: 00 write, 10 read, 11 atomic, 01 page request.
    return {0: "w", 2: "r", 3: "rw"}.get(record.t1 << 1 | record.t2, "-")


def _finding_document(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "at": None if finding.at is None else address(finding.at),
        "source_id": None if finding.source is None else format_source_id(finding.source),
        "message": finding.message,
    }


def unit_tree(report: UnitReport, everything: bool) -> Tree:
    """A tree for people; `everything` lists every mapping and interrupt, not the first few of each."""
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(_heading(report), style="bold"))
    seen: dict[tuple[int, int, str], str] = {}
    for space in report.spaces:
        branch = tree.add(Text(_space_line(space, seen)))
        if space.mappings and _key(space) not in seen:
            _add_some(branch, list(_mapping_lines(space)), everything, "run", "runs")
        seen.setdefault(_key(space), _name(space))
    if report.interrupts:
        branch = tree.add(
            Text(count(len(report.interrupts), "interrupt remapping entry", "interrupt remapping entries"))
        )
        _add_some(branch, [_interrupt_line(one) for one in report.interrupts], everything, "entry", "entries")
    tree.add(Text(_totals(report)))
    for record in report.pending_faults:
        tree.add(Text(_pending_line(record), style="yellow"))
    for finding in report.findings:
        tree.add(Text(f"finding: {finding.message}", style="red"))
    return tree


def _heading(report: UnitReport) -> str:
    base = report.registers.base
    name = "unit" if base is None else f"unit at {base:#x}"
    translation = "on" if report.translation_enabled else "off"
    interrupts = "on" if report.interrupt_remapping_enabled else "off"
    root = f"root table {report.root_table:#x}"
    return f"{name}: {report.mode} mode, {root}, translation {translation}, interrupt remapping {interrupts}"


def _key(space: Space) -> tuple[int, int, str]:
    return space.table, space.levels, space.translation.name


def _name(space: Space) -> str:
    pasid = "" if space.pasid is None else f" pasid {space.pasid:#x}"
    return f"{format_source_id(space.source_id)}{pasid}"


def _space_line(space: Space, seen: dict[tuple[int, int, str], str]) -> str:
    start = f"{_name(space)}  domain {space.domain_id}  {_spelt(space.translation.name)}"
    if not space.levels:
        return start
    tables = f"{start}, {space.levels} levels, table {space.table:#x}"
    if _key(space) in seen:
        return f"{tables}: as {seen[_key(space)]}"
    pages = [f"{number:,} x {human_size(size)}" for size, number in sorted(space.pages.items())]
    total = human_size(_mapped(space))
    return f"{tables}: {' + '.join(pages)} = {total}" if pages else f"{tables}: nothing mapped"


def _mapped(space: Space) -> int:
    return sum(size * number for size, number in space.pages.items())


def _is_first_stage(space: Space) -> bool:
    return space.translation.name in ("FIRST_STAGE", "NESTED")


def _mapping_lines(space: Space) -> Iterator[str]:
    width = max(len(f"{one.iova:#x}") for one in space.mappings)
    target = max(len(f"{one.gpa:#x}") for one in space.mappings)
    for one in space.mappings:
        user = "" if one.user or not _is_first_stage(space) else " supervisor"
        where = f"{one.iova:#{width}x} -> {one.gpa:#{target}x}"
        yield f"{where:<{width + target + 4}}  {human_size(one.size):>9}  {one.access.text()}{user}"


def _add_some(branch: Tree, lines: list[str], everything: bool, noun: str, plural: str) -> None:
    from rich.text import Text

    shown = lines if everything or len(lines) <= SHOWN + 1 else lines[:SHOWN]
    for line in shown:
        branch.add(Text(line))
    if len(shown) < len(lines):
        branch.add(Text(f"and {count(len(lines) - len(shown), f'more {noun}', f'more {plural}')} (--all)", style="dim"))


def _interrupt_line(one: Interrupt) -> str:
    source = format_source_id(one.entry.fields()["sid"])
    target = "an unknown destination" if one.destination is None else f"destination {one.destination:#x}"
    how = "" if one.descriptor_address is None else f", posted to {one.descriptor_address:#x}"
    return f"{one.index:5}  {source}  vector {one.vector:#04x}  {target}{how}"


def _totals(report: UnitReport) -> str:
    tables = {_key(space): space for space in report.spaces if space.levels}
    mapped = sum(_mapped(space) for space in tables.values())
    devices = len({space.source_id for space in report.spaces})
    leaves = sum(sum(space.pages.values()) for space in tables.values())
    sets = count(len(tables), "set of tables", "sets of tables")
    pages = count(leaves, "leaf", "leaves")
    return f"total: {count(devices, 'device')}, {sets}, {pages}, {human_size(mapped)} mapped"


def _pending_line(record: FaultRecord) -> str:
    access = {"w": "write", "r": "read", "rw": "atomic"}.get(_fault_access(record), "page request")
    who = format_source_id(record.sid)
    return f"pending fault: {access} of {record.fi << 12:#x} by {who}, reason {record.fr:#04x}"


def _spelt(name: str) -> str:
    return name.lower().replace("_", "-")
