"""The group: help, usage errors, and what becomes of every way to fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import click
import pytest
from rich.table import Column, Table

from cli import application, commands, render
from cli.__main__ import main
from cli.options import DEVICE, NUMBER
from pagetables.errors import VtdError
from tests.conftest import FIXTURES


@pytest.fixture
def failing(monkeypatch):
    """A command `fail` that raises what the test wants, under the real group."""

    def install(error):
        @click.command("fail")
        def fail():
            raise error

        monkeypatch.setattr(application.vtd, "get_command", lambda ctx, name: fail)

    return install


def one_line(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vtd: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (VtdError("what\nwhere"), "vtd: what where\n"),
        (FileNotFoundError(2, "No such file or directory", "x.elf"), "vtd: x.elf: No such file or directory\n"),
        (OSError(28, "No space left on device"), "vtd: No space left on device\n"),
        (OSError("odd"), "vtd: odd\n"),
        (PermissionError(13, "Permission denied", b"\xff"), "vtd: \\udcff: Permission denied\n"),
        (MemoryError(), "vtd: out of memory\n"),
        (RecursionError(), "vtd: the input is nested too deeply\n"),
        (VtdError("a\x1b[2J\x07 Größe"), "vtd: a\\x1b[2J\\x07 Größe\n"),
        (click.ClickException("wrong"), "vtd: wrong\n"),
        (click.FileError("x", "no"), "vtd: Could not open file 'x': no\n"),
    ],
)
def test_an_error_is_one_line_and_status_2(failing, capsys, error, message):
    failing(error)
    assert main(["fail"]) == 2
    assert one_line(capsys) == message


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_quiet(failing, capsys, error):
    failing(error)
    assert main(["fail"]) == 130
    assert one_line(capsys) == "vtd: interrupted\n"


def test_a_reader_that_left_is_no_error(failing, capsys):
    failing(BrokenPipeError())
    assert main(["fail"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"]])
def test_wrong_usage_is_one_line_that_says_where_help_is(capsys, arguments):
    assert main(arguments) == 2
    assert "nonsense" in (line := one_line(capsys))
    assert "(see vtd --help)" in line


def test_a_command_that_is_mistyped_has_near_ones(capsys):
    assert main(["inspct", "x"]) == 2
    assert "no command is called 'inspct'; did you mean inspect?" in one_line(capsys)


def test_no_command_prints_help_and_fails(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: vtd" in err


def test_help_lists_every_command_with_its_summary(capsys):
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    context = click.Context(application.vtd)
    names = application.vtd.list_commands(context)
    assert {"inspect", "walk"} <= set(names)
    for name in names:
        command = application.vtd.get_command(context, name)
        assert command.get_short_help_str(), f"{name} has no summary"
        assert out.count(f"\n  {name} ") == 1
    assert sorted(name for group in commands.GROUPS.values() for name in group) == names
    assert "..." not in out.split("\n", 1)[1]
    assert max(map(len, out.splitlines())) <= 80


def test_the_readme_lists_every_command_once():
    rows = (FIXTURES.parent / "README.md").read_text().splitlines()
    for name in application.vtd.list_commands(click.Context(application.vtd)):
        assert sum(row.startswith((f"| `vtd {name} ", f"| `vtd {name}`")) for row in rows) == 1, name


def test_help_imports_no_command():
    code = "import sys; from cli.__main__ import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split("\n")[-2].split()}
    assert loaded & {"emulator", "device_models", "numpy", "rich", "yaml", "pyarrow"} == set()
    assert "cli.commands.replay" not in done.stdout


def test_every_command_has_help_with_an_example(capsys):
    for name in application.vtd.list_commands(click.Context(application.vtd)):
        assert main([name, "--help"]) == 0
        assert f"vtd {name} " in capsys.readouterr().out.split("Usage:")[1].split("\n", 1)[1], f"{name}: no example"


def test_the_version_is_said(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vtd ")


def test_unknown_names_are_no_modules():
    context = click.Context(application.vtd)
    assert application.vtd.get_command(context, "../inspect") is None
    assert application.vtd.get_command(context, "") is None


def test_completion_knows_the_commands(vtd):
    done = vtd(env={"_VTD_COMPLETE": "bash_complete", "COMP_WORDS": "vtd insp", "COMP_CWORD": "1"})
    assert "inspect" in done.stdout


def test_interrupting_a_running_command_leaves_one_line(start, tmp_path, until):
    os.mkfifo(tmp_path / "image")
    process = start("inspect", tmp_path / "image")
    descriptor = until(lambda: writing_end(tmp_path / "image"))  # somebody reads it now
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    os.close(descriptor)
    assert (process.returncode, out, err) == (130, "", "vtd: interrupted\n")


def writing_end(pipe):
    """A descriptor that writes to a pipe, once somebody reads that."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


ENDINGS = [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "terminated")]


@pytest.mark.parametrize("number, word", ENDINGS)
@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_command_that_is_asked_to_end_leaves_nothing_half_written(start, tmp_path, until, name, number, word):
    process = start("generate", "nic-tx", name, "--events", "50000000", cwd=tmp_path, start_new_session=True)
    until(lambda: any(path.stat().st_size > 1 << 16 for path in tmp_path.iterdir()))
    os.killpg(process.pid, number)  # as a terminal does it
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", f"vtd: {word}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def ending(failing, monkeypatch):
    """A command `fail` that does what the test wants; what is ignored, before or afterwards, is not in other tests."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}

    def install(act):
        @click.command("fail")
        def fail():
            act()

        monkeypatch.setattr(application.vtd, "get_command", lambda ctx, name: fail)

    yield install
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, word", ENDINGS)
def test_a_request_to_end_that_was_swallowed_comes_again(ending, capsys, number, word):
    seen = []

    def swallow():
        try:
            signal.raise_signal(number)
        except BaseException as error:  # as numpy does it where it looks for an attribute
            seen.append(error)
        while True:
            signal.pause()

    ending(swallow)
    assert main(["fail"]) == 128 + number
    assert len(seen) == 1
    assert one_line(capsys) == f"vtd: {word}\n"


def test_a_second_ctrl_c_does_not_disturb_who_cleans_up(ending, capsys):
    done = []

    def clean_up():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            try:
                raise OSError("on the way")
            except OSError:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGTERM)
            done.append("cleaned")

    ending(clean_up)
    assert main(["fail"]) == 130
    assert done == ["cleaned"]
    assert one_line(capsys) == "vtd: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # nothing is left that Ctrl-C could end
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_request_in_a_finalizer_is_quiet_and_comes_again(ending, capsys):
    class Last:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def drop():
        last = Last()
        del last
        while True:
            signal.pause()

    ending(drop)
    assert main(["fail"]) == 130
    assert one_line(capsys) == "vtd: interrupted\n"


def test_signals_that_are_ignored_stay_ignored(ending, capsys):
    ending(lambda: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert main(["fail"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_thread_may_run_a_command(ending):
    ending(lambda: None)
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(main(["fail"])))
    thread.start()
    thread.join()
    assert statuses == [0]


def test_output_to_a_closed_pipe_ends_quietly():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "cli", "--help"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="NOT RUN: no /dev/full here")
def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "cli", "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr == b"vtd: No space left on device\n"


def test_json_is_one_document_on_one_line(capsys):
    render.emit_json({"a": [1, "é"]})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"a": [1, "é"]}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (4096, "4 KiB"),
        (1536, "1.5 KiB"),
        (1 << 21, "2 MiB"),
        (1 << 30, "1 GiB"),
        (5 << 40, "5 TiB"),
        (1 << 57, "128 PiB"),
    ],
)
def test_sizes_are_written_for_people(size, text):
    assert render.human_size(size) == text


def test_counts_agree_with_their_noun():
    assert render.count(1, "leaf", "leaves") == "1 leaf"
    assert render.count(5285, "page") == "5,285 pages"
    assert render.count(0, "leaf", "leaves") == "0 leaves"


def test_progress_says_nothing_where_stderr_is_no_terminal(capsys):
    with render.progress("working", 10) as advance:
        advance(5)
    assert capsys.readouterr() == ("", "")


def test_the_console_prints_text_as_it_stands(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    render.console().print("[red]:smile: 00:1f.2 0x1000 " + "x" * 80)
    assert capsys.readouterr().out == "[red]:smile: 00:1f.2 0x1000 " + "x" * 80 + "\n"


def test_numbers_and_devices_are_parsed_once():
    assert NUMBER.convert("0x1000", None, None) == 0x1000
    assert NUMBER.convert(5, None, None) == 5
    assert DEVICE.convert("00:1f.2", None, None) == 0xFA
    for kind, text in [(NUMBER, "-1"), (NUMBER, "x"), (DEVICE, "00:20.0")]:
        with pytest.raises(click.BadParameter, match="expected"):
            kind.convert(text, None, None)


def test_no_table_is_cut_and_no_line_ends_in_blanks(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    table = Table("name", "about", Column("number", no_wrap=True), box=None)
    table.add_row("a-name-without-a-place-to-break-it", "words that can stand below each other", "1,234,567 (4.7 GiB)")
    table.add_row("b", "", "")
    render.console().print(table)
    out = capsys.readouterr().out
    assert "…" not in out
    assert "1,234,567 (4.7 GiB)" in out
    assert not [line for line in out.splitlines() if line != line.rstrip()]
    rows = [line.split() for line in out.splitlines()]
    assert "".join(row[0] for row in rows[1:3]) == "a-name-without-a-place-to-break-it"


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize(
    "arguments",
    [["devices"], ["profiles"], ["profiles", "spec"], ["presets"], ["size"], ["decode", "--list"], ["audit", "--list"]],
    ids=" ".join,
)
def test_lists_fit_a_terminal_as_far_as_they_can(capsys, monkeypatch, arguments, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    assert [line for line in lines if line.endswith(" ")] == []
    unbroken = {"size": 74, "audit": 64}.get(arguments[0], 0)  # columns of numbers and names, which nothing breaks
    assert max(map(len, lines)) <= max(width, unbroken)
