"""A page as people read it: addresses, bytes, and what they are as text. Bytes that are not there are shown as such."""

from __future__ import annotations

from collections.abc import Iterator

from pagetables.address import PAGE_SIZE
from pagetables.errors import NoMemory
from pagetables.memory import Memory

__all__ = ["LINE", "hex_lines", "is_missing"]

LINE = 16  # bytes
ADDRESS_DIGITS = 12
_MISSING = " ".join(["--"] * 8)


def hex_lines(memory: Memory, page: int) -> Iterator[str]:
    """The page at `page` in lines of 77 columns, 16 bytes each."""
    for address in range(page, page + PAGE_SIZE, LINE):
        halves = [_bytes(memory, address), _bytes(memory, address + 8)]
        digits = " ".join(_MISSING if half is None else half.hex(" ") for half in halves)
        text = "".join(" " * 8 if half is None else _text(half) for half in halves)
        yield f"{address:0{ADDRESS_DIGITS}x} {digits} {text}"


def is_missing(memory: Memory, page: int) -> bool:
    """True if not one byte of the page at `page` is there."""
    return all(_bytes(memory, address) is None for address in range(page, page + PAGE_SIZE, 8))


def _bytes(memory: Memory, address: int) -> bytes | None:
    try:
        return memory.read(address, 8)
    except NoMemory:
        return None


def _text(data: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
