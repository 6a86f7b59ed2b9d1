"""CAP and ECAP for all options that real QEMUs were asked for, and what they refused (fixtures/qemu-capabilities.csv).

Of 10.2.50, which has no profile, nothing is held; options that a version does not have must be unknown here too.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from device_models.machine import SystemMachine
from device_models.options import OptionError

BASE = 0xFED9_0000
PROFILES = {"7.2.22": "qemu-7.2", "10.0.2": "qemu-10.0", "11.1.3": "qemu-11.1"}
RECORDED = Path(__file__).resolve().parent.parent.parent / "fixtures" / "qemu-capabilities.csv"
ROWS = [row for row in csv.DictReader(RECORDED.read_text().splitlines(), delimiter=";") if row["version"] in PROFILES]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['version']}:{row['options']}")
def test_a_unit_with_options_says_what_qemus_said(row: dict[str, str]) -> None:
    machine = SystemMachine(PROFILES[row["version"]], engine="python")
    device = f"intel-iommu,{row['options']}".rstrip(",")
    words, _, message = row["answer"].partition(": ")
    if words in ("refused", "absent"):
        with pytest.raises(OptionError) as refused:
            machine.add_device(device)
        assert message in str(refused.value)
        assert message or "not found" in str(refused.value)
        return
    machine.add_device(device)
    cap, ecap = (int(word, 16) for word in words.split())
    assert machine.space.read_number(BASE + 8, 8) == cap
    assert machine.space.read_number(BASE + 16, 8) == ecap


def test_every_version_was_asked_for_some_30_sets_of_options() -> None:
    assert {version: sum(row["version"] == version for row in ROWS) for version in PROFILES} == {
        "7.2.22": 34,
        "10.0.2": 34,
        "11.1.3": 35,
    }
