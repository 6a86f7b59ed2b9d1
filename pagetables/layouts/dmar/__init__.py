"""The ACPI DMAR table: framed bytes, read and written without losing one.

A header, then remapping structures; each begins with a type and its length, and most end in device scopes. Reserved
bytes are kept, so that `build(parse(data)) == data`. Structures of unknown types are kept as they are. Importing this
package needs construct; the bit layouts beside it do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from construct import ConstructError

from pagetables.errors import InputError, LayoutError
from pagetables.layouts.dmar.frames import FRAMES, HEAD, HEADER, SCOPE
from pagetables.layouts.dmar.structures import (
    Andd,
    Atsr,
    DeviceScope,
    DmarTable,
    Drhd,
    Rhsa,
    Rmrr,
    Satc,
    ScopeType,
    Sidp,
    Structure,
    Unknown,
)

__all__ = [
    "Andd",
    "Atsr",
    "DeviceScope",
    "DmarTable",
    "Drhd",
    "Rhsa",
    "Rmrr",
    "Satc",
    "ScopeType",
    "Sidp",
    "Structure",
    "Unknown",
    "build",
    "parse",
    "parse_structure",
]

_KNOWN: dict[int, tuple[type[Any], Any]] = {
    kind.code: (kind, FRAMES[f"acpi_{kind.__name__.lower()}"]) for kind in (Drhd, Rmrr, Atsr, Rhsa, Andd, Satc, Sidp)
}


def parse(data: bytes) -> DmarTable:
    """The table in `data`, which must end where the table does; InputError naming the offset otherwise."""
    if len(data) < HEADER.sizeof():
        raise InputError(f"DMAR table: {len(data)} bytes, expected a header of {HEADER.sizeof()}")
    head = HEADER.parse(data)
    if head.signature != b"DMAR":
        raise InputError(f"DMAR table: signature {head.signature!r} at offset 0, expected b'DMAR'")
    if head.length != len(data):
        raise InputError(f"DMAR table: says it has {head.length} bytes (offset 4), but there are {len(data)}")
    if sum(data) & 0xFF:
        right = (head.checksum - sum(data)) & 0xFF
        raise InputError(f"DMAR table: checksum {head.checksum:#04x} at offset 9, expected {right:#04x}")
    kept = {field.name: head[field.name] for field in dataclasses.fields(DmarTable) if field.name in head}
    structures = tuple(parse_structure(chunk, at) for at, chunk in _split(data, HEADER.sizeof()))
    return DmarTable(**{**kept, "haw": head.haw + 1}, structures=structures)


def build(table: DmarTable) -> bytes:
    """The table's bytes, with lengths and checksum; LayoutError for a value that does not fit its field."""
    try:
        body = b"".join(map(_structure_bytes, table.structures))
        values = {**_fields(table), "haw": table.haw - 1, "signature": b"DMAR", "length": HEADER.sizeof() + len(body)}
        data = bytearray(HEADER.build({**values, "checksum": 0}) + body)
    except (ConstructError, ValueError) as error:
        raise LayoutError(f"DMAR table: {' '.join(str(error).split())}") from None
    data[9] = -sum(data) & 0xFF
    return bytes(data)


def _split(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at < len(data):
        if len(data) - at < HEAD.sizeof():
            raise InputError(f"DMAR table: {len(data) - at} bytes left at offset {at:#x}, too few for a structure")
        length = HEAD.parse(data[at : at + HEAD.sizeof()]).length
        if length < HEAD.sizeof():
            raise InputError(f"DMAR table: structure at offset {at:#x} has length {length}, expected 4 or more")
        if at + length > len(data):
            raise InputError(f"DMAR table: structure at offset {at:#x} has length {length}, {len(data) - at} are left")
        yield at, data[at : at + length]
        at += length


def parse_structure(chunk: bytes, at: int) -> Structure:
    """The structure that is `chunk`, at offset `at` of its table; InputError where it is damaged."""
    type_ = HEAD.parse(chunk).type
    if type_ not in _KNOWN:
        return Unknown(type_, chunk[HEAD.sizeof() :])
    kind, frame = _KNOWN[type_]
    name, size = kind.__name__.upper(), frame.sizeof()
    if len(chunk) < size:
        raise InputError(f"DMAR table: {name} at offset {at:#x} has length {len(chunk)}, expected {size} or more")
    head = frame.parse(chunk)
    kept = {field.name: head[field.name] for field in dataclasses.fields(kind) if field.name in head}
    structure: Structure = kind(**kept, **_rest(kind, chunk[size:], at + size))
    return structure


def _rest(kind: type[Any], rest: bytes, at: int) -> dict[str, Any]:
    if kind is Andd:
        path, end, padding = rest.partition(b"\0")
        if not end:
            raise InputError(f"DMAR table: the name in the ANDD at offset {at - 8:#x} does not end in a NUL")
        return {"path": path, "padding": padding}
    if kind is Rhsa:
        if rest:
            raise InputError(f"DMAR table: RHSA at offset {at - 20:#x} has length {20 + len(rest)}, expected 20")
        return {}
    return {"scopes": tuple(_scopes(rest, at))}


def _scopes(data: bytes, at: int) -> Iterator[DeviceScope]:
    size, start = SCOPE.sizeof(), 0
    while start < len(data):
        where = f"DMAR table: device scope at offset {at + start:#x}"
        left = len(data) - start
        if left < size:
            raise InputError(f"{where}: {left} bytes left, expected 8 or more")
        head = SCOPE.parse(data[start : start + size])
        if head.length < size + 2 or head.length % 2:
            raise InputError(f"{where}: length {head.length}, expected 6 and 2 for each hop, at least one")
        if head.length > left:
            raise InputError(f"{where}: length {head.length}, but {left} bytes are left")
        hops = data[start + size : start + head.length]
        path = tuple(zip(hops[::2], hops[1::2], strict=True))
        yield DeviceScope(head.type, head.start_bus, path, head.enum_id, head.flags, head.rsvd)
        start += head.length


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _structure_bytes(structure: Structure) -> bytes:
    if isinstance(structure, Unknown):
        return bytes(HEAD.build({"type": structure.type, "length": 4 + len(structure.body)})) + structure.body
    _, frame = _KNOWN[structure.code]
    if isinstance(structure, Andd):
        if b"\0" in structure.path:
            raise LayoutError(f"the name {structure.path!r} in an ANDD holds a NUL")
        rest = structure.path + b"\0" + structure.padding
    else:
        rest = b"".join(map(_scope_bytes, getattr(structure, "scopes", ())))
    length = frame.sizeof() + len(rest)
    return bytes(frame.build({**_fields(structure), "type": structure.code, "length": length})) + rest


def _scope_bytes(scope: DeviceScope) -> bytes:
    if not scope.path:
        raise LayoutError("a device scope has no path, expected at least one device and function")
    hops = bytes(number for hop in scope.path for number in hop)
    return bytes(SCOPE.build({**_fields(scope), "length": SCOPE.sizeof() + len(hops)})) + hops
