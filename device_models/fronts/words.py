"""Numbers in commands, read as C's strtoull with base 0 reads them."""

from __future__ import annotations

__all__ = ["WordError", "number"]

_LIMIT = 1 << 64


class WordError(ValueError):
    """A word of a command that does not mean what should stand there."""


def number(word: bytes) -> int:
    """The number of 64 bits that `word` means: decimal, hexadecimal after 0x, octal after 0; negative ones wrap."""
    try:
        value = int(word, 0)
    except ValueError:
        value = _octal(word)
    if not -_LIMIT < value < _LIMIT or b"_" in word:
        raise WordError(f"{_shown(word)} is no number of 64 bits")
    return value % _LIMIT


def _octal(word: bytes) -> int:
    digits = word.removeprefix(b"-")
    if not digits.startswith(b"0"):
        raise WordError(f"{_shown(word)} is no number")
    try:
        value = int(digits, 8)
    except ValueError:
        raise WordError(f"{_shown(word)} is no number") from None
    return value if digits == word else -value


def _shown(word: bytes) -> str:
    return repr(word[:40].decode("ascii", "backslashreplace"))
