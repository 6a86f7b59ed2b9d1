"""What is known of a machine beside its tables: its DMAR table, where its kernel is, what its memory is for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pagetables.audit.regions import Hints, Region, read_hints, read_symbols
from pagetables.dmar_check import check_dmar
from pagetables.errors import InputError
from pagetables.images.acpi import find_dmar
from pagetables.images.dmar_file import load_dmar
from pagetables.images.elf_format import Note
from pagetables.images.image import Image
from pagetables.layouts.dmar import DmarTable
from pagetables.wording import count

__all__ = ["Known", "gather", "kernel_place"]

_PHYS_BASE = re.compile(rb"^NUMBER\(phys_base\)=(-?[0-9]{1,20})$", re.MULTILINE)
_OFFSET = re.compile(rb"^KERNELOFFSET=([0-9a-f]{1,16})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Known:
    """What was found. `notes` say where it comes from, if nobody named it, and what is wrong with it."""

    dmar: DmarTable | None = None
    symbols: tuple[Region, ...] = ()
    hints: Hints | None = None
    notes: tuple[str, ...] = ()


def gather(image: Image, dmar: str | None = None, symbols: str | None = None, hints: str | None = None) -> Known:
    """What the files of these names tell, and the image itself: its DMAR table, and its VMCOREINFO.

    InputError for a file that is not what it should be; a damaged table in the image is a note.
    """
    table, notes = _dmar(image, dmar)
    told = None if hints is None else read_hints(hints)
    place = kernel_place(image.notes, told or Hints())
    regions = () if symbols is None else read_symbols(symbols, place)
    return Known(table, regions, told, tuple(notes))


def _dmar(image: Image, path: str | None) -> tuple[DmarTable | None, list[str]]:
    if path is None:
        found = find_dmar(image)
        data = None if found is None else found.table
    else:
        data = load_dmar(path)
    if data is None:
        return None, []
    try:
        report = check_dmar(data)
    except InputError as error:
        if path is not None:
            raise
        return None, [f"the DMAR table in the image was not read: {error}"]
    notes = [] if path is not None else ["the DMAR table is that of the image"]
    if report.complaints:
        notes.append(
            f"the DMAR table has faults of its own ({count(len(report.complaints), 'complaint')} of `vtd dmar`)"
        )
    return report.table, notes


def kernel_place(notes: Iterable[Note], hints: Hints) -> Hints:
    """The hints, completed with where VMCOREINFO says that the kernel is."""
    for note in notes:
        if note.owner != "VMCOREINFO":
            continue
        base, offset = _PHYS_BASE.search(note.data), _OFFSET.search(note.data)
        if base is not None and hints.phys_base is None:
            hints = replace(hints, phys_base=int(base[1]))
        if offset is not None and hints.kernel_offset is None:
            hints = replace(hints, kernel_offset=int(offset[1], 16))
    return hints
