"""What a test needs from the machine it runs on: where that is missing it is skipped, loudly.

`VTD_REQUIRE` names what must not be missing (native, qemu, newer-qemu, chromium, iasl, corpus): there the test fails.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

from emulator.engine import Engine, MissingCore, load_engine
from tests.qemu import find_newer_qemu, find_qemu, qemu_version

REQUIRED = os.environ.get("VTD_REQUIRE", "").split()


def absent(word: str, says: str) -> NoReturn:
    """What VTD_REQUIRE calls `word` is not here: fail if it had to be, else skip."""
    if word in REQUIRED:
        pytest.fail(f"VTD_REQUIRE names {word}: {says}")
    pytest.skip(f"NOT RUN: {says}")


def need_engine(name: str) -> Engine:
    """The engine called `name`, and no other in its place."""
    try:
        engine = load_engine(name)
    except MissingCore as missing:
        absent("native", str(missing))
    assert engine.name == name
    return engine


def need_program(word: str, *names: str, package: str) -> str:
    """The path of the first program of these names that is installed."""
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return found
    absent(word, f"{names[0]} is not installed (Debian: apt install {package})")


def need_qemu(version: str = "") -> str:
    """The path of the installed QEMU, whose version begins with `version`."""
    found = find_qemu()
    if found is None:
        absent("qemu", "qemu-system-x86_64 is not installed (Debian: apt install qemu-system-x86)")
    return _of_version(found, "qemu", version)


def need_newer_qemu(version: str = "10.0") -> str:
    """The path of the QEMU beside the installed one, whose version begins with `version`."""
    found = find_newer_qemu()
    if found is None:
        absent("newer-qemu", "VTD_NEWER_QEMU names no newer QEMU (.ci/newer-qemu unpacks one)")
    return _of_version(found, "newer-qemu", version)


def _of_version(binary: str, word: str, version: str) -> str:
    found = qemu_version(binary)
    if not f"{found}.".startswith(f"{version}." if version else ""):
        absent(word, f"{binary} is QEMU {found}, to be compared with is {version}")
    return binary
