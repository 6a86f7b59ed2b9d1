"""limit.c, compiled into a folder of its own that goes away, and loaded by cffi."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import cffi

from pagetables.errors import VtdError

__all__ = ["NoCompiler", "compile_limits"]

SOURCE = Path(__file__).with_name("limit.c")
ARGUMENTS = ("-std=gnu11", "-O3", "-fPIC", "-shared")  # the core's own optimisation, nothing for this processor alone


class NoCompiler(VtdError):
    """limit.c could not be compiled here."""


def compile_limits() -> tuple[Any, Any]:
    """cffi's (ffi, lib) of limit.c; NoCompiler, and why."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("a benchmark compiles its limit, and there is no C compiler (cc); Debian: apt install gcc")
    ffi = cffi.FFI()
    ffi.cdef(
        "\n".join(re.findall(r"^(?!static)\w[^;{]*?\)(?=\n\{)", SOURCE.read_text(encoding="utf-8"), re.M)).replace(
            ")\n", ");\n"
        )
        + ";"
    )
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "limit.so"
        done = subprocess.run(
            [*compiler.split(), *ARGUMENTS, str(SOURCE), "-o", str(library)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NoCompiler(f"{SOURCE.name} does not compile: {(done.stderr.splitlines() or ['?'])[0]}")
        return ffi, ffi.dlopen(str(library))
