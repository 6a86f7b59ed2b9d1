"""A DMAR table from a file: the table itself, what `acpidump` prints, or an image of memory that holds it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator

from pagetables.errors import ImageError, InputError
from pagetables.images.acpi import find_dmar
from pagetables.images.compressed import compression, unpack
from pagetables.images.opening import open_image

__all__ = ["load_dmar", "parse_acpidump"]

SIGNATURE = b"DMAR"
LONGEST = 16 << 20  # bytes of a table, or of a dump of all of them
HEAD = 4096
_TITLE = re.compile(rb"[ \t]*([A-Za-z0-9_!]{4}) @ (?:0x)?[0-9A-Fa-f]+\s*")
_ROW = re.compile(rb"[ \t]*([0-9A-Fa-f]{4,8}): (.*)")
_BYTE = re.compile(rb"[0-9A-Fa-f]{2}")
ROW = 16
ROW_WIDTH = 3 * ROW  # two digits and a space each; what follows is the same as text


def load_dmar(path: str) -> bytes:
    """The DMAR table in the file at `path` (`-` is standard input), as it stands there; InputError if there is none.

    It may be the table, the text of acpidump, both also compressed, or any image of memory.
    """
    if path == "-":
        return _from_small(path, sys.stdin.buffer.read(LONGEST)) or _nothing("standard input")
    with open(path, "rb") as file:
        head = file.read(HEAD)
        kind = compression(head)
        if kind is None and _is_small(head):
            return _from_small(path, head + file.read(LONGEST)) or _nothing(path)
        if kind is not None and (table := _from_compressed(path, file, kind)):
            return table
    with open_image(path) as image:
        found = find_dmar(image)
    return found.table if found is not None else _nothing(path)


def _nothing(name: str) -> bytes:
    raise InputError(
        f"{name}: no DMAR table in it; expected the table itself, the text of acpidump, or an image of memory"
    )


def _is_small(head: bytes) -> bool:
    return head.startswith(SIGNATURE) or any(_TITLE.fullmatch(line) for line in head.splitlines()[:8])


def _from_small(name: str, data: bytes) -> bytes | None:
    if data.startswith(SIGNATURE) and not _TITLE.fullmatch(data.split(b"\n", 1)[0]):
        return data
    return parse_acpidump(data, name)


def _from_compressed(path: str, file: io.BufferedReader, kind: str) -> bytes | None:
    file.seek(0)
    plain = io.BytesIO()
    try:
        unpack(path, file, kind, plain, LONGEST)
    except ImageError:  # damaged, or as long as only an image is: that is for the image's reader to say
        return None
    data = plain.getvalue()
    return _from_small(path, data) or _nothing(path) if _is_small(data[:HEAD]) else None


def parse_acpidump(data: bytes, name: str = "acpidump") -> bytes | None:
    """The DMAR table in what `acpidump` printed; None if it has none. InputError where its rows are damaged.

    A table begins with a line `DMAR @ 0x...`, and has rows of an offset, 16 bytes, and the same as text.
    """
    table: bytearray | None = None
    for number, line in enumerate(data.splitlines(), 1):
        title = _TITLE.fullmatch(line)
        if title is not None:
            if table:
                break
            table = bytearray() if title[1] == SIGNATURE else None
        elif table is not None and (row := _ROW.match(line)) is not None:
            if int(row[1], 16) != len(table):
                raise InputError(f"{name}: line {number}: a row for {int(row[1], 16):#x}, expected {len(table):#x}")
            table += bytes(_bytes(row[2], f"{name}: line {number}"))
    return bytes(table) if table else None


def _bytes(text: bytes, where: str) -> Iterator[int]:
    for word in text[:ROW_WIDTH].split():
        if not _BYTE.fullmatch(word):
            raise InputError(f"{where}: {word.decode('ascii', 'backslashreplace')!r} is not a byte")
        yield int(word, 16)
