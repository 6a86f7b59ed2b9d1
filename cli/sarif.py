"""An audit as SARIF 2.1.0 (OASIS): what code-scanning services read."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pagetables.address import format_source_id

if TYPE_CHECKING:
    from pagetables.audit import Finding, Report, Rule

__all__ = ["sarif_log"]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif_log(report: Report, image: str) -> dict[str, Any]:
    """The SARIF log of one audit of the file `image`: a rule for each rule, a result for each finding."""
    places = {rule.id: index for index, rule in enumerate(report.rules)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "vtd audit",
                        "version": _version(),
                        "rules": [_rule(rule) for rule in report.rules],
                    }
                },
                "artifacts": [{"location": {"uri": _uri(image)}}],
                "results": [_result(finding, places[finding.rule.id], image) for finding in report.findings],
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            {"level": "note", "message": {"text": note}} for note in report.notes
                        ],
                    }
                ],
            }
        ],
    }


def _version() -> str:
    try:
        return metadata.version("vtd-emulator")
    except metadata.PackageNotFoundError:
        return "0"


def _uri(path: str) -> str:
    return quote(path.encode("utf-8", "surrogateescape"))


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": f"{rule.summary[0].upper()}{rule.summary[1:]}."},
        "help": {"text": f"See docs/audit/{rule.id}.md."},
        "defaultConfiguration": {"level": rule.worst.text},
    }


def _result(finding: Finding, index: int, image: str) -> dict[str, Any]:
    subject = finding.subject
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(image), "index": 0}}
    start = subject.entry if subject.start is None else subject.start
    if start is not None:
        place["address"] = {"absoluteAddress": start, "kind": "data"}
        if subject.start is not None and subject.size:
            place["address"]["length"] = subject.size
    devices = [_device(device.source_id, device.pasid) for device in subject.devices]
    location: dict[str, Any] = {"physicalLocation": place}
    if devices:
        location["logicalLocations"] = [{"name": name, "kind": "resource"} for name in devices]
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": index,
        "level": finding.severity.text,
        "message": {"text": finding.message},
        "locations": [location],
        "partialFingerprints": {"vtdSubject/v1": f"{finding.rule.id}:{','.join(devices)}:{start or 0:x}"},
    }


def _device(source_id: int, pasid: int | None) -> str:
    return format_source_id(source_id) + ("" if pasid is None else f"/{pasid:#x}")
