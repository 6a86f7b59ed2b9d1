"""One structure that a lookup or a walk read."""

from __future__ import annotations

from dataclasses import dataclass

from pagetables.address import Gpa
from pagetables.bits import Word
from pagetables.memory import Memory

__all__ = ["Step", "load_words"]


@dataclass(frozen=True, slots=True)
class Step:
    """An entry as it was read: which structure, at which index, where, the raw word, and how to read it.

    `level` is that of a paging entry, 0 for others; `note` says what the entry did to the request, where that is
    not plain.
    """

    structure: str
    index: int
    at: Gpa
    entry: int
    layout: type[Word]
    level: int = 0
    note: str = ""

    @property
    def fields(self) -> dict[str, int]:
        """The entry's fields by name, without reserved and ignored bits."""
        return self.layout(self.entry).fields()

    @classmethod
    def of(cls, word: Word, index: int, at: int, level: int = 0, note: str = "") -> Step:
        """A step that read `word`."""
        return cls(type(word).name.replace("_", "-"), index, Gpa(at), int(word), type(word), level, note)


def load_words(memory: Memory, at: int, layout: type[Word]) -> int | None:
    """The entry of `layout` at `at`, or None if any part of it is outside memory."""
    entry = 0
    for offset in range(0, layout.width // 8, 8):
        qword = memory.load(at + offset)
        if qword is None:
            return None
        entry |= qword << offset * 8
    return entry
