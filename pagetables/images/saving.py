"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well, and vanishes when it does not.

    What is not a regular file (a pipe, /dev/null) is written to as it is: it must not be replaced.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
        with open(target, "wb") as special:
            yield special
        return
    folder, name = os.path.split(target)
    descriptor, temporary = _temporary_beside(folder, name, os.fspath(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(temporary, _mode_of_new_files())
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too: nothing half written stays
        os.unlink(temporary)
        raise


def _temporary_beside(folder: str, name: str, asked: str) -> tuple[int, str]:
    try:
        return tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
    except OSError as error:  # in the user's words: the temporary name is ours
        raise OSError(error.errno, error.strerror, asked) from error


def _mode_of_new_files() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
