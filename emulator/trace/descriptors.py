"""The invalidation descriptors that a trace tells of, in order: what two recordings of one machine are aligned by."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.trace.event import Descriptor

__all__ = ["Descriptors", "align"]

_WINDOW = 64  # how many descriptors one side may lack at a time
_AGREE = 3  # so many in a row must agree where two sequences meet again

Key = tuple[int, int]


def _none() -> array[int]:
    return array("Q")


@dataclass(slots=True)
class Descriptors:
    """`event` is the number of the event that submitted a descriptor, `low` and `high` its first two qwords."""

    event: array[int] = field(default_factory=_none)
    low: array[int] = field(default_factory=_none)
    high: array[int] = field(default_factory=_none)

    def __len__(self) -> int:
        return len(self.event)

    def add(self, event: int, descriptor: Descriptor) -> None:
        """Append the descriptor that event number `event` submitted."""
        self.event.append(event)
        self.low.append(descriptor.words[0])
        self.high.append(descriptor.words[1])

    def keys(self) -> list[Key]:
        """The two qwords of each."""
        return list(zip(self.low, self.high, strict=True))


def align(one: Sequence[Key], other: Sequence[Key]) -> npt.NDArray[np.int64]:
    """For each of `other` the index of its partner in `one`, or -1; partners are in order on both sides.

    Where the sequences part, the nearest place is taken from which a few in a row agree again.
    """
    partner = np.full(len(other), -1, np.int64)
    i = j = 0
    while i < len(one) and j < len(other):
        if one[i] == other[j]:
            partner[j] = i
            i, j = i + 1, j + 1
            continue
        skip = _meeting(one, other, i, j)
        i, j = i + skip[0], j + skip[1]
    return partner


def _meeting(one: Sequence[Key], other: Sequence[Key], i: int, j: int) -> tuple[int, int]:
    for distance in range(1, _WINDOW):
        for ahead in range(distance + 1):
            behind = distance - ahead
            left, right = one[i + ahead : i + ahead + _AGREE], other[j + behind : j + behind + _AGREE]
            shorter = min(len(left), len(right))
            if shorter and left[:shorter] == right[:shorter]:
                return ahead, behind
    return 1, 1
