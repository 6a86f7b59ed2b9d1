"""`vtd generate`: a trace on request, and one line for what cannot be made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emulator.trace import read_traces
from emulator.workloads import WORKLOADS


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".ftrace", ".perf.xz"])
def test_generated_trace_is_read_again(vtd, suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"t{suffix}"
    done = vtd("generate", "nvme", out, "--events", 3000, "--devices", 2, "--json")
    shown = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (shown["out"], shown["workload"], shown["events"]) == (str(out), "nvme", 3000)
    trace = read_traces([out])
    assert sum(trace.applied_counts.values()) == 3000
    assert [space.domain_id for space in trace.spaces] == [1, 2]
    assert trace.columns.time_ns[-1] == shown["span_ns"]
    assert not trace.skipped


def test_all_formats_tell_the_same(vtd, tmp_path: Path) -> None:
    traces = []
    for name in ("t.parquet", "t.jsonl", "t.ftrace"):
        assert vtd("generate", "pressure", tmp_path / name, "--events", 2000).returncode == 0
        traces.append(read_traces([tmp_path / name]))
    for name in ("kind", "space", "iova", "gpa", "size", "access", "time_ns", "cpu"):
        assert (traces[0].columns[name] == traces[1].columns[name]).all(), name
        assert (traces[0].columns[name] == traces[2].columns[name]).all(), name


def test_workloads_are_listed(vtd, printed) -> None:
    shown = printed("generate", "--list")
    assert [one["name"] for one in shown["workloads"]] == list(WORKLOADS)
    people = vtd("generate", "--list").stdout
    assert all(name in people for name in WORKLOADS)
    assert max(map(len, people.splitlines())) <= 80


def test_people_are_told_what_was_written(vtd, tmp_path: Path) -> None:
    done = vtd("generate", "nic-tx", tmp_path / "t.jsonl", "--events", 1000)
    assert done.stdout.startswith(f"{tmp_path / 't.jsonl'}: JSON Lines, 1,000 events of nic-tx in ")


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["nic-xt", "o.jsonl"], "did you mean nic-tx"),
        (["nic-tx"], "--list tells the workloads"),
        (["nic-tx", "o.dat"], "does not tell the format"),
        (["nic-tx", "o.jsonl", "--events", "0"], "expected at least 1"),
        (["nic-tx", "o.jsonl", "--events", "9" * 30], "--events"),
        (["nic-tx", "o.jsonl", "--devices", "99"], "expected 1 to 64"),
        (["nic-tx", "-", "--to", "jsonl", "--json"], "both want standard output"),
    ],
)
def test_what_cannot_be_made_is_one_line(said, arguments, says, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in said("generate", *arguments)
    assert not list(tmp_path.iterdir())
