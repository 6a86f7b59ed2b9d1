"""`vtd convert-trace`: what it says, what it writes, and what it refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from emulator.trace import read_traces
from tests.conftest import FIXTURES

TRACE = FIXTURES / "traces" / "t-vfio-superpages.txt.xz"
JSON = """\
{"event": "attach", "device": "00:03.0", "domain": 5}
{"event": "map", "device": "00:03.0", "iova": "0x1000", "gpa": "0x5000", "size": 8192, "access": "rw", "time": "1s"}
{"event": "access", "device": "00:03.0", "iova": "0x1000", "size": 8, "time": "2s"}
nonsense
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text(JSON)
    return path


def test_kernel_text_keeps_every_event_line_in_another_frame(vtd, tmp_path: Path) -> None:
    out = tmp_path / "t.perf.gz"
    done = vtd("convert-trace", TRACE, out)
    assert (done.returncode, done.stdout) == (0, f"{out}: perf script, 27,578 lines\n")
    assert "left out: whatever stands between task and event name" in done.stderr
    assert gzip.decompress(out.read_bytes()).count(b"\n") == 27578
    assert read_traces([out]).applied_counts == read_traces([TRACE]).applied_counts


def test_other_formats_say_what_they_leave_out(vtd, tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    done = vtd("convert-trace", TRACE, out, "--json")
    shown = json.loads(done.stdout)
    assert (shown["out"], shown["format"], done.returncode) == (str(out), "Parquet", 0)
    assert shown["written"] == len(read_traces([TRACE]).columns)
    assert "3747 qi_submit events" in shown["left_out"]
    assert f"{out}: left out: 3747 qi_submit events\n" in done.stderr


def test_text_leaves_out_what_it_has_no_place_for(vtd, trace: Path) -> None:
    done = vtd("convert-trace", trace, "-", "--to", "ftrace")
    assert done.returncode == 0
    assert "map: IOMMU: iova=0x0000000000001000 - 0x0000000000003000" in done.stdout
    assert "-: left out: 1 device accesses\n" in done.stderr
    assert f"-: left out: 1 line of {trace} that could not be used\n" in done.stderr


def test_standard_input_is_read(vtd, trace: Path, tmp_path: Path) -> None:
    with trace.open() as stdin:
        done = vtd("convert-trace", "-", tmp_path / "o.jsonl", stdin=stdin)
    assert done.returncode == 0
    assert len(read_traces([tmp_path / "o.jsonl"]).columns) == 3


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["{trace}", "out.dat"], "the name does not tell the format"),
        (["{trace}", "out.dat", "--to", "parket"], "did you mean parquet"),
        (["{trace}", "-", "--to", "jsonl", "--json"], "both want standard output"),
        (["none", "out.jsonl"], "none: No such file"),
        (["{trace}", "nowhere/out.jsonl"], "nowhere/out.jsonl: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(said, arguments, says, trace: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in said("convert-trace", *(one.format(trace=trace) for one in arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["trace.jsonl"]
