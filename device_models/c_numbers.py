"""Numbers of options and commands, read as C's strtoull with base 0 reads them, which QEMU uses for both."""

from __future__ import annotations

import re

__all__ = ["NotANumber", "parse_c_number"]

_LIMIT = 1 << 64
_NUMBER = re.compile(rb"\s*[+-]?(?:(0[0-7]{1,30})|0[xX][0-9a-fA-F]{1,30}|0|[1-9][0-9]{0,30})")


class NotANumber(ValueError):
    """A word that does not mean what should stand there."""


def parse_c_number(word: bytes) -> int:
    """The number of 64 bits that `word` means: decimal, hexadecimal after 0x, octal after 0; negative ones wrap."""
    found = _NUMBER.fullmatch(word)
    if found is None:
        raise NotANumber(f"{_shown(word)} is no number")
    value = int(word, 8 if found[1] else 0)
    if not -_LIMIT < value < _LIMIT:
        raise NotANumber(f"{_shown(word)} is no number of 64 bits")
    return value % _LIMIT


def _shown(word: bytes) -> str:
    return repr(word[:40].decode("ascii", "backslashreplace"))
