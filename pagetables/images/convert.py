"""From one container to another; the name of the file to write says which."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from pagetables.errors import InputError
from pagetables.images.elf import Sparse, write_elf_file
from pagetables.images.elf_format import Note
from pagetables.images.excerpt import tables_of
from pagetables.images.image import Image
from pagetables.images.lime import write_lime
from pagetables.images.raw import write_raw
from pagetables.images.registers import RegisterPage
from pagetables.images.saving import replacing

__all__ = ["CONTAINERS", "Converted", "container_of", "convert"]

CONTAINERS = {".elf": "ELF core", ".lime": "LiME dump", ".raw": "raw memory"}


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written: a container of so much `memory`, of which so much is `stored` (the rest is zero); `lost` says
    what it has no room for.
    """

    path: str
    container: str
    memory: int
    stored: int
    lost: tuple[str, ...]


def container_of(path: str | os.PathLike[str]) -> tuple[str, bool]:
    """The container that the name asks for (`.elf`, `.lime`, `.raw`), and whether to compress it (`.gz` after that)."""
    name = os.fspath(path)
    stem, packed = (name[:-3], True) if name.endswith(".gz") else (name, False)
    suffix = os.path.splitext(stem)[1]
    if suffix not in CONTAINERS:
        raise InputError(f"{name}: its name says no container; expected {', '.join(CONTAINERS)}, .gz appended or not")
    return CONTAINERS[suffix], packed


def convert(
    image: Image,
    path: str | os.PathLike[str],
    units: tuple[RegisterPage, ...] = (),
    *,
    tables_only: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Converted:
    """Write `image` with the registers of `units` to `path`, which appears only when it is whole.

    With `tables_only` only what the units look at is written, so that no other memory leaks out, and no other note
    than the registers. `progress` is told the bytes of memory just written.
    """
    container, packed = container_of(path)
    memory: Sparse = tables_of(image, units) if tables_only else image
    if not memory.regions:
        raise InputError(f"{image.path}: has none of the tables: nothing to keep")
    notes = [*_unit_notes(units), *(() if tables_only else _other_notes(image.notes, replaced=bool(units)))]
    with _file(path, packed) as file:
        _WRITERS[container](file, _Told(memory, progress) if progress else memory, notes)
    return Converted(
        os.fspath(path),
        container,
        sum(size for _, size in memory.regions),
        sum(size for _, size in memory.touched()),
        tuple(_lost(container, memory, notes)),
    )


def _unit_notes(units: Iterable[RegisterPage]) -> Iterator[Note]:
    return (Note(*unit.note()) for unit in units)


def _other_notes(notes: Sequence[Note], *, replaced: bool) -> Iterator[Note]:
    return (note for note in notes if not (replaced and RegisterPage.from_notes([note])))


def _lost(container: str, memory: Sparse, notes: Sequence[Note]) -> Iterator[str]:
    if container != "ELF core" and notes:
        yield f"a {container.split()[0]} file has no room for registers (--save-registers keeps them)"
    gaps = memory.regions[-1][0] + memory.regions[-1][1] - sum(size for _, size in memory.regions)
    if container == "raw memory" and gaps:
        yield f"raw memory has no gaps: {gaps} bytes that the image does not have read as zero"


@contextmanager
def _file(path: str | os.PathLike[str], packed: bool) -> Iterator[BinaryIO]:
    with replacing(path) as file:
        if not packed:
            yield file
            return
        # no name and no time inside: the same input gives the same bytes
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as pack:
            yield cast(BinaryIO, pack)


def _elf(file: BinaryIO, memory: Sparse, notes: Sequence[Note]) -> None:
    write_elf_file(file, memory, notes)


def _lime(file: BinaryIO, memory: Sparse, _: Sequence[Note]) -> None:
    write_lime(file, memory)


def _raw(file: BinaryIO, memory: Sparse, _: Sequence[Note]) -> None:
    write_raw(file, memory)


_WRITERS = {"ELF core": _elf, "LiME dump": _lime, "raw memory": _raw}


class _Told:
    # Memory that tells how much of it was read.

    def __init__(self, memory: Sparse, progress: Callable[[int], None]) -> None:
        self._memory = memory
        self._progress = progress
        self.regions = memory.regions
        self.touched = memory.touched

    def read(self, address: int, size: int) -> bytes:
        self._progress(size)
        return self._memory.read(address, size)
