"""`xp`, the monitor's look at physical memory: /COUNT FORMAT SIZE, printed as QEMU prints it.

Formats: x hexadecimal, d signed, u unsigned, o octal, c characters. Sizes: b 1, h 2, w 4, g 8 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from device_models.address_space import AddressSpace
from pagetables.errors import InputError

__all__ = ["DumpFormat", "dump_lines"]

_SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
_FORMATS = "xduoc"
_NARROW, _WIDE = 8, 16  # bytes of a line: of single bytes, of anything larger
_MOST = 1 << 20
_PLAIN = {"\n": "\\n", "\r": "\\r", "'": "\\'", "\\": "\\\\"}


@dataclass(frozen=True, slots=True)
class DumpFormat:
    """How to print, and how much; what an option does not say is as it was the last time."""

    count: int = 1
    form: str = "x"
    size: int = 4

    def changed(self, text: str) -> DumpFormat:
        """This format after `text`, such as `4xw`; InputError in QEMU's words if it is none."""
        found = re.match(r"\d*", text)
        digits = found[0] if found else ""
        count, form, size = int(digits or 1), self.form, self.size
        for letter in text[len(digits) :]:
            if letter in _FORMATS:
                form = letter
            elif letter in _SIZES:
                size = _SIZES[letter]
            elif letter == "i":
                raise InputError("no disassembler here: use x, d, u, o or c")
            else:
                raise InputError(f"invalid char in format: '{letter}'")
        if count > _MOST:
            raise InputError(f"{count} items: at most {_MOST} at a time")
        return DumpFormat(count, form, size)


def dump_lines(space: AddressSpace, address: int, how: DumpFormat) -> Iterator[str]:
    """Lines of memory from `address` on. The dump ends where nothing answers."""
    size = 1 if how.form == "c" else how.size
    per_line = (_NARROW if size == 1 else _WIDE) // size
    for start in range(0, how.count, per_line):
        at, items = address + start * size, min(per_line, how.count - start)
        data, complete = space.load(at, items * size)
        prefix = f"{at & (1 << 64) - 1:016x}:"
        if not complete:
            yield f"{prefix} Cannot access memory"
            return
        words = (data[place : place + size] for place in range(0, len(data), size))
        yield prefix + "".join(f" {_item(word, how.form)}" for word in words)


def _item(data: bytes, form: str) -> str:
    bits, value = 8 * len(data), int.from_bytes(data, "little")
    if form == "x":
        return f"0x{value:0{bits // 4}x}"
    if form == "c":
        return f"'{_character(value)}'"
    if form == "o":
        return f"{'0' if value else ''}{value:o}".rjust(-(-bits // 3))
    if form == "d" and value >> bits - 1:
        value -= 1 << bits
    return str(value).rjust(-(-bits * 10 // 33))


def _character(value: int) -> str:
    text = chr(value)
    if text in _PLAIN:
        return _PLAIN[text]
    return text if 32 <= value < 127 else f"\\x{value:02x}"
