"""`vtd replay`: traces in, reports out, and one line for what cannot be replayed."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import FIXTURES
from tests.traces import with_log

TRACE = """\
{"event": "attach", "device": "00:03.0", "domain": 5}
{"event": "map", "device": "00:03.0", "iova": "0x1000", "gpa": "0x5000", "size": 8192, "access": "rw", "time": "1s"}
{"event": "map", "device": "00:03.0", "iova": "0x9000", "gpa": "0x7000", "size": 4096, "access": "w", "time": "2s"}
{"event": "unmap", "device": "00:03.0", "iova": "0x1000", "size": 8192, "time": "3s"}
"""
MISUSE = TRACE + '{"event": "unmap", "device": "00:03.0", "iova": "0x1000", "size": 8192, "time": "4s"}\n'
FAULT = TRACE + '{"event": "access", "device": "00:03.0", "iova": "0x1234", "size": 4, "access": "w"}\n'


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text(TRACE)
    return path


def document(done: subprocess.CompletedProcess[str], status: int = 0):
    assert (done.returncode, done.stderr) == (status, "")
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_replay_is_one_json_document(vtd, trace: Path) -> None:
    shown = document(vtd("replay", trace, "--engine", "python", "--json"))
    assert shown["applied"] == {"map": 2, "unmap": 1, "access": 0, "attach": 1, "detach": 0}
    assert (shown["live_mappings"], shown["live_bytes"], shown["engine"]) == (1, 4096, "python")
    assert shown["table_pages"] == {"peak": 4, "final": 4, "freed": 0}
    assert shown["invalidations"]["page"] == shown["invalidations"]["wait"] == 1


def test_people_read_it_within_eighty_columns(vtd, trace: Path) -> None:
    done = vtd("replay", trace, "--engine", "python", env={"COLUMNS": "200"})
    assert done.returncode == 0
    assert "2 maps and 1 unmap replayed" in done.stdout
    assert "00:03.0" in done.stdout
    assert "1 mapping, 4 KiB" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_misuse_is_listed_with_both_lines_and_is_a_no(vtd, tmp_path: Path) -> None:
    path = tmp_path / "misuse.jsonl"
    path.write_text(MISUSE)
    shown = document(vtd("replay", path, "--engine", "python", "--json"), status=1)
    (found,) = shown["misuse"]
    assert (found["kind"], found["line"], found["events"][0]["line"]) == ("double-unmap", 5, 4)
    done = vtd("replay", path, "--engine", "python")
    assert done.returncode == 1
    assert "misuse by the recorded software" in done.stdout
    assert "unmapped line 4" in " ".join(done.stdout.split())


def test_a_fault_is_listed_and_is_a_no(vtd, tmp_path: Path) -> None:
    path = tmp_path / "fault.jsonl"
    path.write_text(FAULT)
    shown = document(vtd("replay", path, "--engine", "python", "--json"), status=1)
    assert [(fault["iova"], fault["access"], fault["reason"]) for fault in shown["faults"]] == [("0x1234", "w", 5)]
    done = vtd("replay", path, "--engine", "python")
    assert "write of 0x1234 by 00:03.0: reason 0x5" in done.stdout


@pytest.mark.parametrize("option", [["--set", "mode=scalable"], ["--machine", "machine.yaml"]], ids=["set", "machine"])
def test_settings_come_from_options_and_files(vtd, trace: Path, option: list[str]) -> None:
    (trace.parent / "machine.yaml").write_text("mode: scalable\nflush: deferred\nengine: native\n")
    done = vtd("replay", trace, *option, "--flush", "strict", "--engine", "python", "--json", cwd=trace.parent)
    settings = document(done)["settings"]
    assert (settings["mode"], settings["flush"]) == ("scalable", "strict")


@pytest.mark.parametrize(
    "until, applied", [("#2", (1, 0)), ("2s", (2, 0)), ("2500ms", (2, 0)), ("99s", (2, 1))], ids=str
)
def test_a_replay_may_end_early(vtd, trace: Path, until: str, applied: tuple[int, int]) -> None:
    counts = document(vtd("replay", trace, "--engine", "python", "--until", until, "--json"))["applied"]
    assert (counts["map"], counts["unmap"]) == applied


def test_several_traces_are_merged_by_time(vtd, trace: Path) -> None:
    other = trace.with_name("other.jsonl.gz")
    line = '{"event": "map", "device": "00:04.0", "iova": 4096, "gpa": 4096, "size": 4096, "time": "1500ms"}\n'
    other.write_bytes(gzip.compress(line.encode()))
    shown = document(vtd("replay", trace, other, "--engine", "python", "--json"))
    assert shown["applied"]["map"] == 3
    assert shown["files"] == [str(trace), str(other)]


def test_standard_input_is_a_trace(start) -> None:
    process = start("replay", "-", "--engine", "python", "--json", stdin=subprocess.PIPE)
    out, err = process.communicate(TRACE)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["applied"]["map"] == 2


def test_a_dump_holds_the_tables_and_the_registers(vtd, trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.elf"
    assert vtd("replay", trace, "--engine", "python", "--dump", path, "--json").returncode == 0
    data = path.read_bytes()
    assert data[:4] == b"\x7fELF"
    assert data.count(b"VTD\0") == 2  # the notes of registers and caches
    register_base = (0xFED9_0000).to_bytes(8, "little")
    assert register_base in data
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_dump_that_cannot_be_written_is_one_line(vtd, trace: Path, tmp_path: Path) -> None:
    assert "nowhere" in refused(vtd("replay", trace, "--engine", "python", "--dump", tmp_path / "nowhere" / "out.elf"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--set", "levels=6"], "levels=6: expected 3 or 4 or 5"),
        (["--set", "level=4"], "did you mean levels"),
        (["--set", "levels"], "KEY=VALUE"),
        (["--pool", "respol"], "did you mean respool"),
        (["--flush", "never"], "known: deferred"),
        (["--iova", "rbtreee"], "did you mean rbtree"),
        (["--engine", "rust"], "expected native or python"),
        (["--set", "profile=qemu-72"], "did you mean qemu-7.2"),
        (["--machine", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["--until", "tomorrow"], "'tomorrow' is no time"),
    ],
)
def test_a_wrong_option_is_one_line(vtd, trace: Path, arguments: list[str], message: str) -> None:
    assert message in refused(vtd("replay", trace, *arguments))


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x02\x01", b"hello\nworld\n", b"\x1f\x8bbroken"])
def test_what_is_no_trace_is_one_line(vtd, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lie"
    path.write_bytes(content)
    assert "lie" in refused(vtd("replay", path, "--engine", "python"))


def test_a_directory_and_a_missing_file_are_one_line(vtd, tmp_path: Path) -> None:
    assert str(tmp_path) in refused(vtd("replay", tmp_path))
    assert "gone" in refused(vtd("replay", tmp_path / "gone"))


def test_what_was_dumped_is_inspected_as_the_recorded_tables(vtd, tmp_path: Path) -> None:
    folder = FIXTURES / "images" / "t-vfio-superpages"
    image = tmp_path / "out.elf"
    trace = FIXTURES / "traces" / "t-vfio-superpages.txt.xz"
    document(vtd("replay", trace, "--engine", "python", "--dump", image, "--json"))
    (ours,) = document(vtd("inspect", image, "--json"))["units"]
    inspected = vtd("inspect", folder / "image.elf.gz", "--registers", folder / "registers.json", "--json")
    (theirs,) = document(inspected)["units"]
    shown = {space["source_id"]: space for space in ours["spaces"]}
    recorded = {space["source_id"]: space for space in theirs["spaces"]}
    assert set(recorded) - set(shown) == {"03:00.0"}  # the bridge's alias, which no event names
    for device, space in shown.items():
        assert space["domain_id"] == recorded[device]["domain_id"]
        assert space["pages"] == recorded[device]["pages"]
        assert covered(space) == covered(recorded[device])


def covered(space: dict) -> list[tuple[int, int, int]]:
    """The mappings without their access: runs that continue each other are one."""
    runs: list[tuple[int, int, int]] = []
    for found in space["mappings"]:
        iova, gpa, size = int(found["iova"], 16), int(found["gpa"], 16), found["size"]
        if runs and runs[-1][0] + runs[-1][2] == iova and runs[-1][1] + runs[-1][2] == gpa:
            iova, gpa, size = runs[-1][0], runs[-1][1], runs[-1][2] + size
            runs.pop()
        runs.append((iova, gpa, size))
    return runs


def test_accesses_of_a_qemu_log_are_replayed(vtd, tmp_path: Path) -> None:
    trace, log = with_log(tmp_path, "vtd_dmar_fault sid 0x18 fault 6 addr 0x1000 write 0")
    shown = document(vtd("replay", trace, "--accesses", log, "--engine", "python", "--json"), status=1)
    assert shown["applied"]["access"] == 2
    assert len(shown["faults"]) == 1
    assert shown["alignment"] == {
        "matched": 1, "only_trace": 0, "only_log": 0, "accesses": 1, "placed": 1, "faults": 1, "claimed": 0,
        "aliases": {},
    }  # fmt: skip
    people = vtd("replay", trace, "--accesses", log, "--engine", "python").stdout
    assert "1 of 1 descriptors match" in " ".join(people.split())
    assert "no log of QEMU's vtd_* events" in refused(vtd("replay", trace, "--accesses", trace))
