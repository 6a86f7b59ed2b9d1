"""`vtd run`: machines from YAML behind a monitor, scripts, JSON, and what cannot be used."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
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


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes the file `script` into the current folder."""
    monkeypatch.chdir(tmp_path)
    return (tmp_path / "script").write_text


def test_a_script_is_executed_and_its_answers_are_a_document(script, printed) -> None:
    script("info status\n\n# a remark\nxp/2xw 0x2000\nquit\nfoo\n")
    assert printed("run", ONE, "--script", "script") == {
        "commands": [
            {"command": "info status", "output": "VM status: running\n"},
            {"command": "xp/2xw 0x2000", "output": "0000000000002000: 0x00000000 0x00000000\n"},
            {"command": "quit", "output": ""},
        ]
    }


FAILING = {
    "foo": "unknown command: 'foo'",
    "inof status": "unknown command: 'inof status'; did you mean info?",
    "info nothing": "unknown command: 'info nothing'",
    "help nothing": "help nothing: unknown command: 'nothing'",
    "walk 00:03.0": "walk 00:03.0: expected BDF IOVA [r|w|x]",
    "xp 0x": "xp 0x: ",
    "device_add nothing": "device_add nothing: 'nothing' is not a valid device model name",
    "device_del nothing": "device_del nothing: Device 'nothing' not found",
    "writel 0x1000": "writel 0x1000: FAIL missing argument",
}


@pytest.mark.parametrize("line", FAILING)
def test_a_script_ends_with_the_first_command_that_fails_and_names_its_line(script, capsys, line: str) -> None:
    script(f"info status\n\n{line}\ninfo version\n")
    assert main(["run", ONE, "--script", "script", "--dump", "out.elf"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"vtd: script, line 3: {FAILING[line]}")
    assert err.count("\n") == 1
    assert "VM status: running\n" in out
    assert "vtd-emulator" not in out
    assert not Path("out.elf").exists()


def test_the_document_of_a_script_that_failed_ends_with_the_failure(script, capsys) -> None:
    script("foo\ninfo status\n")
    assert main(["run", ONE, "--script", "script", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {"commands": [{"command": "foo", "output": "unknown command: 'foo'\n"}]}
    assert err == "vtd: script, line 1: unknown command: 'foo'\n"


def test_a_monitor_that_is_piped_goes_on_and_tells_the_first_failure_in_the_end(start) -> None:
    process = start("run", ONE, "--monitor", stdin=subprocess.PIPE)
    out, err = process.communicate("foo\ninfo status\nbar\n")
    assert out == "unknown command: 'foo'\nVM status: running\nunknown command: 'bar'\n"
    assert (process.returncode, err) == (2, "vtd: standard input, line 1: unknown command: 'foo'\n")


def test_a_piped_script_that_is_no_text_is_told(start) -> None:
    process = start("run", ONE, "--script", "-", stdin=subprocess.PIPE, text=False)
    _, err = process.communicate(b"info status\n\xff\xfe\0\n")
    assert (process.returncode, err) == (2, b"vtd: standard input: this is binary; expected monitor commands\n")


def test_a_terminal_does_not_obey_what_a_script_holds(script, capsys) -> None:
    script("\x1b[2J" + "x" * 1000 + "\n")
    assert main(["run", ONE, "--script", "script", "--json"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("vtd: script, line 1: unknown command: '\\x1b[2Jxxx")
    assert len(err) < 250


def test_a_machine_may_be_compressed_or_come_from_standard_input(tmp_path: Path, vtd, printed, said) -> None:
    packed = tmp_path / "machine.yaml.gz"
    packed.write_bytes(gzip.compress(Path(ONE).read_bytes()))
    shown = printed("run", ONE)
    assert printed("run", packed) == shown
    assert printed("caches", packed) == printed("caches", ONE)
    with open(ONE, encoding="utf-8") as machine:
        assert json.loads(vtd("run", "-", "--json", stdin=machine).stdout) == shown
    assert "standard input can be read only once" in said("run", "-", "--monitor")
    packed.write_bytes(packed.read_bytes()[:-9])
    assert f"{packed}: the compressed data is broken or cut short" in said("run", packed)


def test_what_is_typed_at_a_terminal_may_fail() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cli", "run", ONE, "--monitor"]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.write(ours, b"foo\nquit\n")
    out, err = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, err) == (0, "")
    assert "unknown command: 'foo'\n" in out


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
