"""What `vtd audit` prints: text for people, JSON; SARIF and JUnit are beside it."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cli.render import address, console, count, emit_json, human_size
from pagetables.address import format_source_id

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pagetables.audit import Device, Finding, Reach, Report

__all__ = ["audit_document", "list_rules", "print_report"]

_STYLES = {"note": "", "warning": "yellow", "error": "bold red"}
SHOWN = 50  # findings of one rule that people are shown


def print_report(report: Report, image: str, form: str) -> None:
    """Print `report` as `form` says: text, json, sarif or junit."""
    if form == "json":
        emit_json(audit_document(report))
    elif form == "sarif":
        from cli.sarif import sarif_log

        emit_json(sarif_log(report, image))
    elif form == "junit":
        from cli.junit import junit_text

        sys.stdout.write(junit_text(report, image))
    else:
        _print_text(console(), report, image)


def audit_document(report: Report) -> dict[str, Any]:
    """The JSON object of an audit."""
    return {
        "units": [
            {"register_base": None if (base := unit.registers.base) is None else address(base), "mode": unit.mode}
            for unit in report.units
        ],
        "findings": [_finding_document(finding) for finding in report.findings],
        "reach": [_reach_document(reach) for reach in report.reach],
        "notes": list(report.notes),
    }


def _finding_document(finding: Finding) -> dict[str, Any]:
    subject = finding.subject
    return {
        "rule": finding.rule.id,
        "name": finding.rule.name,
        "severity": finding.severity.text,
        "message": finding.message,
        "devices": [_device_document(device) for device in subject.devices],
        "start": None if subject.start is None else address(subject.start),
        "size": subject.size,
        "entry": None if subject.entry is None else address(subject.entry),
        "unit": subject.unit,
    }


def _device_document(device: Device) -> dict[str, Any]:
    return {"unit": device.unit, "source_id": format_source_id(device.source_id), "pasid": device.pasid}


def _reach_document(reach: Reach) -> dict[str, Any]:
    return {
        **_device_document(reach.device),
        "domain_id": reach.domain_id,
        "translation": reach.translation,
        "everything": reach.everything,
        "read_bytes": reach.readable.size,
        "write_bytes": reach.writable.size,
        "readable": [{"start": address(start), "size": size} for start, size in reach.readable],
        "writable": [{"start": address(start), "size": size} for start, size in reach.writable],
    }


def _print_text(out: Console, report: Report, image: str) -> None:
    from rich.padding import Padding
    from rich.text import Text

    out.print(Text(f"{image}: {_summary(report)}", style="bold"), soft_wrap=True)
    for severity, group in groupby(report.findings, key=lambda one: one.severity):
        out.print(Text(f"\n{severity.text}", style=_STYLES[severity.text] or "bold"))
        for rule, findings in groupby(group, key=lambda one: one.rule):
            out.print(Padding(Text(f"{rule.id} {rule.name}: {rule.summary}"), (0, 0, 0, 2), expand=False))
            told = list(findings)
            for finding in told[:SHOWN]:
                out.print(Padding(Text(finding.message, style="dim"), (0, 0, 0, 9), expand=False))
            if len(told) > SHOWN:
                out.print(
                    Padding(Text(f"and {len(told) - SHOWN:,} more (--json)", style="dim"), (0, 0, 0, 9), expand=False)
                )
    if report.reach:
        out.print(Text("\nwhat each device reaches", style="bold"))
        out.print(_reach_table(report))
    for note in report.notes:
        out.print(Padding(Text(f"note: {note}", style="dim"), 0, expand=False))


def _summary(report: Report) -> str:
    devices = len({(reach.device.unit, reach.device.source_id) for reach in report.reach})
    parts = [count(len(report.units), "unit"), count(devices, "device"), count(len(report.rules), "rule")]
    for severity in ("error", "warning", "note"):
        number = sum(one.severity.text == severity for one in report.findings)
        if number:
            parts.append(count(number, severity))
    return ", ".join(parts if report.findings else [*parts, "nothing found"])


def _reach_table(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in (("device", "left"), ("domain", "right"), ("how", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # a Literal in the stubs
    for name in ("reads", "writes", "pieces"):
        table.add_column(name, justify="right", no_wrap=True)
    for reach in report.reach:
        if reach.everything:
            sizes = ("everything", "everything", "")
        else:
            pieces = len(reach.readable | reach.writable)
            sizes = (human_size(reach.readable.size), human_size(reach.writable.size), f"{pieces:,}")
        name = str(reach.device) if len(report.units) == 1 else f"{reach.device} (unit {reach.device.unit})"
        table.add_row(name, str(reach.domain_id), reach.translation, *sizes)
    return table


def list_rules() -> None:
    """Print the rules there are."""
    from rich import box
    from rich.table import Table

    from pagetables.audit import RULES

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rule", "name", "at worst", "what it finds"):
        table.add_column(name, no_wrap=name in ("rule", "at worst"))
    for rule in RULES:
        table.add_row(rule.id, rule.name, rule.worst.text, rule.summary)
    console().print(table)
