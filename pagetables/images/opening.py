"""Opening an image: which kind of file it is decides its first bytes, never its name."""

from __future__ import annotations

import mmap
import os
import stat
import sys
import tempfile
from typing import IO

from pagetables.errors import ImageError
from pagetables.images import elf_format, flattened, kcore, kdump, lime
from pagetables.images.compressed import Readable, compression, unpack
from pagetables.images.elf_reader import read_elf
from pagetables.images.flattened import Flattened
from pagetables.images.image import Image
from pagetables.images.kdump import KdumpImage
from pagetables.images.raw import read_raw

__all__ = ["open_image"]

# Dumps that are known by sight but not read: what it is, and what makes it readable.
_FOREIGN = {
    b"DISKDUMP": ("a diskdump", "convert it to an ELF core, or to raw memory"),
    b"PAGEDU64": ("a Windows crash dump", "convert it to an ELF core, or to raw memory"),
    b"PAGEDUMP": ("a Windows crash dump", "convert it to an ELF core, or to raw memory"),
}
_READ = "an ELF core, a kdump-compressed dump, a LiME dump or raw memory"
HEAD = 16


def open_image(path: str | os.PathLike[str], base: int | None = None) -> Image:
    """The image at `path`, also compressed (.gz, .zst, .xz); `-` is standard input.

    It is an ELF core, a kdump-compressed dump (both also flattened), a LiME dump, raw memory, or /proc/kcore.
    `base` is the physical address of the first byte of raw memory, 0 if None; other images know their addresses.
    """
    name = os.fspath(path)
    if name == "-":
        return _from_stream("standard input", sys.stdin.buffer, None, base)
    if os.path.realpath(name) == kcore.PATH:
        return kcore.KcoreImage(name)
    with open(name, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe can be neither mapped nor read twice
            return _from_stream(name, file, None, base)
        return _from_file(name, file, base)


def _from_stream(path: str, file: Readable, kind: str | None, base: int | None) -> Image:
    with tempfile.TemporaryFile() as plain:
        unpack(path, file, kind, plain)
        return _from_file(path, plain, base, unpacked=kind is not None)


def _from_file(path: str, file: IO[bytes], base: int | None, unpacked: bool = False) -> Image:
    head = file.read(HEAD)
    file.seek(0)
    kind = compression(head)
    if kind is None:
        return _from_plain(path, file, head, base)
    if unpacked:  # there are files that unpack to themselves
        raise ImageError(f"{path}: compressed twice; unpack it first")
    return _from_stream(path, file, kind, base)


def _from_plain(path: str, file: IO[bytes], head: bytes, base: int | None) -> Image:
    if not head:
        raise ImageError(f"{path}: empty; expected {_READ}")
    for magic, (what, advice) in _FOREIGN.items():
        if head.startswith(magic):
            raise ImageError(f"{path}: {what}, which is not read: {advice}")
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    descriptor = os.dup(file.fileno())
    try:
        return _recognised(path, data, head, base, descriptor)
    except ImageError:
        data.close()
        os.close(descriptor)
        raise


def _recognised(path: str, data: mmap.mmap, head: bytes, base: int | None, descriptor: int) -> Image:
    dump: mmap.mmap | Flattened = data
    if head.startswith(flattened.MAGIC):
        dump = Flattened(path, data)
        head = dump[:HEAD]
    if base is not None and head.startswith((elf_format.MAGIC, lime.MAGIC, kdump.MAGIC)):
        raise ImageError(f"{path}: its addresses are in the file; a base is for raw memory")
    if head.startswith(elf_format.MAGIC):
        segments, notes = read_elf(path, dump)
        if isinstance(dump, Flattened):
            segments = [piece for segment in segments for piece in dump.placed(segment)]
        return Image(path, "ELF core", data, segments, notes, descriptor)
    if head.startswith(kdump.MAGIC):
        return KdumpImage(path, data, dump, descriptor)
    if isinstance(dump, Flattened):
        raise ImageError(f"{path}: flattened, but neither a kdump-compressed dump nor an ELF core")
    if head.startswith(lime.MAGIC):
        return Image(path, "LiME dump", data, lime.read_lime(path, data), (), descriptor)
    return Image(path, "raw memory", data, read_raw(path, head, len(data), base), (), descriptor)
