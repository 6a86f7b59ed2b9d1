"""Mappings that no event of a trace claimed, given to the devices that were seen to use them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from emulator.trace.columns import Columns
from emulator.trace.history import NEVER
from emulator.trace.lifetimes import Lifetimes

__all__ = ["claimed_spaces"]


def claimed_spaces(columns: Columns, lifetimes: Lifetimes, used: Mapping[int, int]) -> Any:
    """The column `space` after each mapping in `used` (number of the lifetime -> space) has moved to its user's space.

    What one unmap closes moves together, as does what several unmaps close of one map.
    """
    space = columns.space.copy()
    if not used:
        return space
    mapped, unmapped = lifetimes.mapped.tolist(), lifetimes.unmapped.tolist()
    of_row: defaultdict[int, list[int]] = defaultdict(list)
    for number, rows in enumerate(zip(mapped, unmapped, strict=True)):
        for row in rows:
            if row != NEVER:
                of_row[row].append(number)
    moved: set[int] = set()
    for number, user in used.items():
        waiting = [number]
        while waiting:
            one = waiting.pop()
            if one in moved:
                continue
            moved.add(one)
            for row in (mapped[one], unmapped[one]):
                if row != NEVER:
                    space[row] = user
                    waiting += of_row[row]
    return space
