"""The README's table of what is modelled: made of docs/capabilities.yaml and the fault reasons that tests raise.

`python -m tests.capability_table` writes it into README.md, between its two comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.pagetables.test_every_fault import CASES, ELSEWHERE, NOT_MODELLED

ROOT = Path(__file__).resolve().parent.parent
SOURCE, README = ROOT / "docs" / "capabilities.yaml", ROOT / "README.md"
BEGIN, END = "<!-- capabilities: docs/capabilities.yaml -->\n", "<!-- end of capabilities -->\n"
COLUMNS = {"here": "here", "qemu-7.2": "QEMU 7.2", "qemu-11.1": "QEMU 11.1", "openvmm": "openvmm"}
OPENVMM_REASONS = 15  # counted in its VtdFault


@dataclass(frozen=True)
class Capability:
    """A line of the table: who has the feature, what shows ours, which register fields the `spec` profile needs."""

    feature: str
    cells: dict[str, str]
    evidence: tuple[str, ...]
    registers: tuple[str, ...]


def capabilities() -> list[Capability]:
    """Every feature in docs/capabilities.yaml."""
    found = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    return [_capability(entry) for entry in found]


def _capability(entry: dict[str, Any]) -> Capability:
    cells = {name: {True: "yes", False: "no"}.get(entry[name], entry[name]) for name in COLUMNS}
    return Capability(entry["feature"], cells, tuple(entry.get("evidence", ())), tuple(entry.get("registers", ())))


def table() -> str:
    """The table in Markdown."""
    lines = [f"| | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {one.feature} | {' | '.join(one.cells[name] for name in COLUMNS)} |" for one in capabilities()]
    return "\n".join([*lines, _fault_reasons()]) + "\n"


def _fault_reasons() -> str:
    modelled = len(CASES) + len(ELSEWHERE)
    rest = ", ".join(f"{reason:02X}h" for reason in NOT_MODELLED)
    here = f"{modelled} of {modelled + len(NOT_MODELLED)}, each by a named test"
    left_out = f"fault reasons (not {rest}: no public source gives their conditions)"
    return f"| {left_out} | {here} | part: legacy codes in scalable mode too | part: likewise | {OPENVMM_REASONS} |"


def section() -> str:
    """What stands in README.md between the two comments."""
    found = re.search(re.escape(BEGIN) + "(.*?)" + re.escape(END), README.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"README.md has no lines {BEGIN!r} and {END!r}")
    return found[1]


def write() -> None:
    """Put the table into README.md."""
    text = README.read_text(encoding="utf-8")
    README.write_text(text.replace(BEGIN + section() + END, BEGIN + table() + END), encoding="utf-8")


if __name__ == "__main__":
    write()
