"""Running `vtd` as a process, the way its users do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _obey_ctrl_c():
    # A suite that runs in the background inherits SIGINT ignored, and would hand that on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start():
    """Starts `vtd` with the arguments given; the process is ended with the test."""
    running = []

    def begin(*arguments, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
        command = [sys.executable, "-m", "cli", *map(str, arguments)]
        running.append(subprocess.Popen(command, env=environment, preexec_fn=_obey_ctrl_c, **options))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def vtd(start):
    """Runs `vtd` to its end; the status, what it printed, and what it said."""

    def run(*arguments, **options):
        process = start(*arguments, **options)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run
