"""Opening an image: which kind of file it is decides its first bytes, never its name."""

from __future__ import annotations

import mmap
import os
import stat
import sys
import tempfile
from typing import IO

from pagetables.address import PAGE_SIZE
from pagetables.errors import ImageError
from pagetables.images.compressed import Readable, compression, unpack
from pagetables.images.elf_format import MAGIC
from pagetables.images.elf_reader import read_elf
from pagetables.images.image import Image, Segment

__all__ = ["open_image"]

# Dumps that are known by sight but not read: what it is, and what makes it readable.
_FOREIGN = {
    b"EMiL": ("a LiME dump", "convert it to an ELF core, or to raw memory"),
    b"KDUMP   ": ("a kdump-compressed dump", "take it with `dump-guest-memory` without -z, -l, -s"),
    b"DISKDUMP": ("a diskdump", "convert it to an ELF core, or to raw memory"),
    b"makedumpfile": ("a flattened makedumpfile dump", "take it with `makedumpfile -E`"),
    b"PAGEDU64": ("a Windows crash dump", "convert it to an ELF core, or to raw memory"),
    b"PAGEDUMP": ("a Windows crash dump", "convert it to an ELF core, or to raw memory"),
}
HEAD = 16


def open_image(path: str | os.PathLike[str]) -> Image:
    """The image at `path`: an ELF core or raw memory, also compressed (.gz, .zst, .xz); `-` is standard input."""
    name = os.fspath(path)
    if name == "-":
        return _from_stream("standard input", sys.stdin.buffer, None)
    with open(name, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe can be neither mapped nor read twice
            return _from_stream(name, file, None)
        return _from_file(name, file)


def _from_stream(path: str, file: Readable, kind: str | None) -> Image:
    with tempfile.TemporaryFile() as plain:
        unpack(path, file, kind, plain)
        return _from_file(path, plain, unpacked=kind is not None)


def _from_file(path: str, file: IO[bytes], unpacked: bool = False) -> Image:
    head = file.read(HEAD)
    file.seek(0)
    kind = compression(head)
    if kind is None:
        return _from_plain(path, file, head)
    if unpacked:  # there are files that unpack to themselves
        raise ImageError(f"{path}: compressed twice; unpack it first")
    return _from_stream(path, file, kind)


def _from_plain(path: str, file: IO[bytes], head: bytes) -> Image:
    if not head:
        raise ImageError(f"{path}: empty; expected an ELF core or raw memory")
    for magic, (what, advice) in _FOREIGN.items():
        if head.startswith(magic):
            raise ImageError(f"{path}: {what}, which is not read: {advice}")
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _recognised(path, data, head)
    except ImageError:
        data.close()
        raise


def _recognised(path: str, data: mmap.mmap, head: bytes) -> Image:
    if head.startswith(MAGIC):
        return Image(path, "ELF core", data, *read_elf(path, data))
    if len(data) % PAGE_SIZE == 0:
        return Image(path, "raw memory", data, [Segment(0, len(data), 0, len(data))])
    raise ImageError(
        f"{path}: neither an ELF core (it begins with {head[:4].hex(' ')}) nor raw memory from address 0 on "
        f"({len(data)} bytes are no whole number of pages)"
    )
