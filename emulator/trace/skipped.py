"""Lines that could not be used: counted, listed, never dropped in silence."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

__all__ = ["Skipped", "SkippedLines"]


@dataclass(frozen=True, slots=True, order=True)
class Skipped:
    """A line that was not used, and why."""

    file: str
    line: int
    why: str


class SkippedLines(Sequence[Skipped]):
    """All lines that were not used, ordered by file, reason and line; kept grouped, as a trace may hold millions."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], array[int]] = {}

    def add(self, file: str, line: int, why: str) -> None:
        """Note a line."""
        lines = self._groups.get((file, why))
        if lines is None:
            lines = self._groups[file, why] = array("Q")
        lines.append(line)

    def groups(self) -> list[tuple[str, str, list[int]]]:
        """File, reason and lines of each group: for a summary."""
        return [(file, why, list(lines)) for (file, why), lines in sorted(self._groups.items(), key=lambda g: g[0])]

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def __iter__(self) -> Iterator[Skipped]:
        for file, why, lines in self.groups():
            for line in lines:
                yield Skipped(file, line, why)

    @overload
    def __getitem__(self, index: int) -> Skipped: ...
    @overload
    def __getitem__(self, index: slice) -> list[Skipped]: ...
    def __getitem__(self, index: int | slice) -> Skipped | list[Skipped]:
        return list(self)[index]
