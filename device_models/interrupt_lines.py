"""Interrupt lines: wires with a level, that somebody may watch.

A line is named by its owner's object path, a name and a number, as qtest's `irq_intercept_in` and `irq_intercept_out`
take them.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["InterruptLines"]


class InterruptLines:
    """`count` lines called `name` (an unnamed group is "" as in QEMU); several sources of one line are or-ed."""

    def __init__(self, count: int, name: str = "") -> None:
        self.name = name
        self.count = count
        self.levels = [0] * count
        self.watchers: list[Callable[[int, int], None]] = []
        self._raised: list[set[object]] = [set() for _ in range(count)]

    def set(self, number: int, level: bool | int, source: object = None) -> None:
        """`source` raises (1) or lowers (0) a line; watchers get (number, level) when that changes it."""
        raised = self._raised[number]
        (raised.add if level else raised.discard)(source)
        self._become(number, int(bool(raised)))

    def lower_all(self) -> None:
        """As after a reset: every line low."""
        for number in range(self.count):
            self._raised[number].clear()
            self._become(number, 0)

    def _become(self, number: int, level: int) -> None:
        if self.levels[number] != level:
            self.levels[number] = level
            for watch in self.watchers:
                watch(number, level)
