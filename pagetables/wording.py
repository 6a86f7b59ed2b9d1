"""Numbers and lists in words, as messages and commands say them."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["count", "human_size", "names"]

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_NAMED = 6


def human_size(size: int) -> str:
    """A size for people, exact where it is whole: `4 KiB`, `1.5 GiB`, `512 B`."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS))
    whole, rest = divmod(size, 1024**power)
    return f"{whole} {_UNITS[power - 1]}" if not rest else f"{size / 1024**power:.1f} {_UNITS[power - 1]}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: `1 leaf`, `2 leaves`, `5,285 pages`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def names(things: Iterable[object], limit: int = _NAMED) -> str:
    """The first few of `things`: `00:1f.0, 00:1f.2 and 00:1f.3`."""
    texts = [str(thing) for thing in things]
    if len(texts) > limit + 1:
        texts[limit:] = [f"{len(texts) - limit} more"]
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else "".join(texts)
