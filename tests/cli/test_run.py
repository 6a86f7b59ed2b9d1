"""`vtd run`: machines from YAML behind a monitor, scripts, JSON, and what cannot be used."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cli.__main__ import main
from tests.conftest import FIXTURES

ONE, TWO = (str(FIXTURES / "machines" / name) for name in ("one-unit.yaml", "two-units.yaml"))


def test_without_a_question_the_machine_shows_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", ONE]) == 0
    printed = capsys.readouterr().out
    assert "    Host bridge: PCI device 8086:29c0\n" in printed
    assert "unit 0 at 0xfed90000, profile spec\n" in printed


def test_the_monitor_takes_commands_from_standard_input(vtd) -> None:
    done = vtd("run", TWO, "--monitor", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_two_units_tell_what_they_serve(start) -> None:
    process = start("run", TWO, "--monitor", stdin=subprocess.PIPE)
    out, err = process.communicate("info iommu\n# a remark\n\nquit\ninfo version\n")
    assert (process.returncode, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("unit")] == [
        "unit 0 at 0xfed90000, profile spec",
        "unit 1 at 0xfed91000, profile spec",
    ]
    assert '    02:04.0 edu "old0", requests as 02:00.0' in out.splitlines()
    assert "vtd-emulator" not in out  # nothing after quit


def test_a_script_is_executed_and_its_answers_are_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script"
    script.write_text("info status\nxp/2xw 0x2000\nfoo\n")
    assert main(["run", ONE, "--script", str(script), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "commands": [
            {"command": "info status", "output": "VM status: running\n"},
            {"command": "xp/2xw 0x2000", "output": "0000000000002000: 0x00000000 0x00000000\n"},
            {"command": "foo", "output": "unknown command: 'foo'\n"},
        ]
    }


@pytest.mark.parametrize("arguments, complaint", [(["nope.yaml"], "nope.yaml: No such file"), ([], "Missing argument")])
def test_what_is_missing_is_told_in_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_device_that_does_not_exist_names_file_and_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = tmp_path / "machine.yaml"
    machine.write_text("devices: [edo]\n")
    assert main(["run", str(machine)]) == 2
    said = capsys.readouterr().err
    assert "machine.yaml" in said
    assert "'edo' is not a valid device model name; did you mean edu?" in said
