"""The cffi builder of `emulator._core`, named by setup.py.

core.h is both the header and, without its preprocessor lines, the text given to `cdef`: there is no second copy of a
prototype. layout.h is generated beside it just before.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
if str(ROOT) not in sys.path:  # a build back end runs this file, not the module
    sys.path.insert(0, str(ROOT))

from emulator.core.generate import header  # noqa: E402

__all__ = ["COMPILE_ARGS", "SOURCES", "builder", "cdef_text", "write_layout"]

SOURCES = ["iotlb.c", "walk.c", "walk_many.c", "translate.c", "map.c", "unmap.c", "queue.c", "replay.c", "list.c"]
HEADERS = ["core.h", "iotlb.h", "layout.h", "memory.h", "queue.h", "tables.h"]
COMPILE_ARGS = ["-std=gnu11", "-O3", "-fno-semantic-interposition", "-Wall", "-Wextra", "-Werror=implicit"]


def cdef_text() -> str:
    """core.h without its preprocessor lines."""
    lines = (HERE / "core.h").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def write_layout() -> None:
    """Write layout.h where it is missing or differs."""
    path, text = HERE / "layout.h", header()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _builder() -> cffi.FFI:
    write_layout()
    ffi = cffi.FFI()
    ffi.cdef(cdef_text())
    ffi.set_source(
        "emulator._core",
        '#include "core.h"',
        sources=[f"emulator/core/{name}" for name in SOURCES],
        depends=[f"emulator/core/{name}" for name in HEADERS],
        include_dirs=["emulator/core"],
        extra_compile_args=COMPILE_ARGS,
        optional=True,  # without a compiler the rest installs, and the native engine says what is missing
    )
    return ffi


builder = _builder()
