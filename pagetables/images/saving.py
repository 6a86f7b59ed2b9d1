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
    with _blaming(os.fspath(path), target):
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):  # /dev/fd/N has no real path
            with open(path, "wb") as special:
                yield special
        else:
            with _beside(target) as file:
                yield file


@contextmanager
def _beside(target: str) -> Iterator[BinaryIO]:
    folder, name = os.path.split(target)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(temporary, _mode_of_new_files())
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too: nothing half written stays
        os.unlink(temporary)
        raise


@contextmanager
def _blaming(asked: str, target: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader left: no fault of the file
        raise
    except OSError as error:  # in the user's words: the temporary name is ours, and a write that fails has no name
        ours = error.filename in (None, asked, target) or str(error.filename).endswith(".tmp")
        if not ours or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, asked) from error


def _mode_of_new_files() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
