"""Events that `trace-cmd report` could not format: it prints `[FAILED TO PARSE]` and the record's raw fields.

That happens to the dma events with arrays, in every trace-cmd known: arrays are bytes, little-endian, in hexadecimal;
`dir` is a number; the addresses of a mapping are called dma_addrs, phys_addrs, lengths, and those of an unmap addrs.
"""

from __future__ import annotations

import re
from typing import Any, Final

from emulator.trace.event import READ, WRITE, Kind, Segments

__all__ = ["MARK", "parse_unformatted"]

MARK: Final = "[FAILED TO PARSE]"

_FIELD = re.compile(r"(\w+)=(?:ARRAY\[([0-9a-f, ]*)\]|(\S*))", re.ASCII)
_DIRECTIONS = {"0": READ | WRITE, "1": READ, "2": WRITE}
_QWORD = 8
_DWORD = 4


def parse_unformatted(kind: Kind, text: str) -> tuple[Any, ...] | None:
    """The fields of an event with arrays, as the parsers of `emulator.trace.tracepoints` give them, or None."""
    scalars: dict[str, str] = {}
    arrays: dict[str, bytes] = {}
    for match in _FIELD.finditer(text):
        if match[3] is None:
            arrays[match[1]] = bytes(int(byte, 16) & 0xFF for byte in match[2].split(",") if byte.strip())
        else:
            scalars[match[1]] = match[3]
    if "device" not in scalars:
        return None
    physical = _words(arrays.get("phys_addrs", arrays.get("addrs", b"")), _QWORD)
    iovas, sizes = _words(arrays.get("dma_addrs", b""), _QWORD), _words(arrays.get("lengths", b""), _DWORD)
    lists = Segments(iovas, sizes, physical, scalars.get("truncated", "0") not in ("0", "0x0"))
    return (kind, scalars["device"], None, 0, 0, 0, _DIRECTIONS.get(scalars.get("dir", ""), 0), None, 0, lists)


def _words(array: bytes, size: int) -> tuple[int, ...]:
    whole = len(array) - len(array) % size
    return tuple(int.from_bytes(array[at : at + size], "little") for at in range(0, whole, size))
