"""An audit as JUnit XML: what CI systems read. A rule is a test case, and fails if it finds more than notes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pagetables.severity import Severity

if TYPE_CHECKING:
    from pagetables.audit import Finding, Report

__all__ = ["junit_text"]


def junit_text(report: Report, image: str) -> str:
    """The XML document of one audit of the file `image`."""
    found: dict[str, list[Finding]] = {rule.id: [] for rule in report.rules}
    for finding in report.findings:
        found[finding.rule.id].append(finding)
    failures = sum(any(_fails(one) for one in findings) for findings in found.values())
    numbers = {"tests": str(len(found)), "failures": str(failures), "errors": "0"}
    root = ElementTree.Element("testsuites", {"name": "vtd audit", **numbers})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _printable(image), **numbers})
    for rule in report.rules:
        name = f"{rule.id} {rule.name}"
        case = ElementTree.SubElement(suite, "testcase", {"classname": "vtd.audit", "name": name, "time": "0"})
        bad = [one for one in found[rule.id] if _fails(one)]
        if bad:
            worst = max(one.severity for one in bad).text
            failure = ElementTree.SubElement(case, "failure", {"type": worst, "message": _printable(bad[0].message)})
            failure.text = _lines(bad)
        notes = [one for one in found[rule.id] if not _fails(one)]
        if notes:
            ElementTree.SubElement(case, "system-out").text = _lines(notes)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _fails(finding: Finding) -> bool:
    return finding.severity > Severity.NOTE


def _lines(findings: list[Finding]) -> str:
    return "\n".join(f"{one.severity.text}: {_printable(one.message)}" for one in findings)


def _printable(text: str) -> str:
    # XML has no control characters, not even escaped, nor half surrogates as names of files may have.
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
