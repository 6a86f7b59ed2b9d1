"""`vtd compare`: devices use what is mapped unless somebody says otherwise, so that stale hits are seen."""

from __future__ import annotations

import json

import pytest

from cli.__main__ import main

LINES = (
    '{"event": "trace", "version": 2, "kernel_rule": "7.x"}',
    '{"event": "space", "space": 0, "name": "nic", "domain": 1, "attributed": true}',
    '{"event": "attach", "time": 0, "cpu": 0, "space": 0, "device": "01:00.0"}',
    '{"event": "map", "time": 1000, "space": 0, "iova": "0x1000", "size": 4096, "gpa": "0x5000", "access": "r"}',
    '{"event": "unmap", "time": 9000, "cpu": 0, "space": 0, "iova": "0x1000", "size": 4096}',
)
USED = '{"event": "access", "time": 5000, "cpu": 0, "device": "01:00.0", "iova": "0x1000", "size": 8, "access": "r"}'


@pytest.fixture
def made(tmp_path, capsys):
    """Makes a trace of `lines`, compares on it with more arguments, and gives the accesses of each run."""

    def compare(lines, *arguments: str) -> list[int]:
        trace = tmp_path / "t.jsonl"
        trace.write_text("".join(f"{line}\n" for line in lines))
        assert main(["compare", str(trace), "--preset", "linux-7", "--jobs", "1", "--json", *arguments]) == 0
        return [one["accesses"]["made"] for one in json.loads(capsys.readouterr().out)["runs"]]

    return compare


def test_devices_use_each_mapping_once_and_once_before_its_unmap_unless_somebody_chose(made, tmp_path):
    assert made(LINES) == [2]
    assert made(LINES, "--set", "accesses=late") == [3]
    assert made(LINES, "--set", "accesses=none") == [0]
    assert made(LINES, "--grid", "accesses=none,rule,late") == [0, 2, 3]
    machine = tmp_path / "machine.yaml"
    machine.write_text("accesses: none\n")
    assert made(LINES, "--machine", str(machine)) == [0]


def test_no_accesses_are_made_up_beside_those_of_the_trace(made):
    assert made([*LINES[:4], USED, LINES[4]]) == [1]
    assert made([*LINES[:4], USED, LINES[4]], "--set", "accesses=rule") == [3]


def test_a_trace_without_unmaps_has_no_latency_of_unmaps(tmp_path, capsys):
    trace = tmp_path / "t.jsonl"
    trace.write_text("".join(f"{line}\n" for line in LINES[:4]))
    assert main(["compare", str(trace), "--preset", "linux-7,static", "--jobs", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "unmap" not in shown.partition(" 0 in every run:")[0]
    assert "unmap, median" not in shown
