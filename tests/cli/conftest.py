"""Running `vtd` as a process, the way its users do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.__main__ import main

ROOT = Path(__file__).resolve().parent.parent.parent


def _obey_signals():
    # A suite that runs in the background inherits SIGINT ignored, one under nohup SIGHUP, and would hand that on.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def start():
    """Starts `vtd` with the arguments given; the process is ended with the test."""
    running = []

    def begin(*arguments, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
        command = [sys.executable, "-m", "cli", *map(str, arguments)]
        running.append(subprocess.Popen(command, env=environment, preexec_fn=_obey_signals, **options))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def until():
    """Waits until a function returns something, which it returns."""

    def wait(found):
        for _ in range(1200):
            if answer := found():
                return answer
            time.sleep(0.05)
        pytest.fail("it did not happen")

    return wait


@pytest.fixture
def vtd(start):
    """Runs `vtd` to its end; the status, what it printed, and what it said."""

    def run(*arguments, **options):
        process = start(*arguments, **options)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


@pytest.fixture
def printed(capsys):
    """Runs a command with `--json` in this process; the one document it prints, saying nothing else."""

    def run(*arguments, status=0):
        assert main([*map(str, arguments), "--json"]) == status
        out, err = capsys.readouterr()
        assert err == ""
        assert out.count("\n") == 1
        return json.loads(out)

    return run


@pytest.fixture
def said(capsys):
    """Runs a command in this process on input that cannot be used; the one line it says about it."""

    def run(*arguments):
        assert main([*map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return run
