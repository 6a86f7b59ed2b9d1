"""The stale window: what was unmapped but may still be cached, how long it stayed so, and what came of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

__all__ = ["Ages", "Ranges", "StaleWindow"]


@dataclass(slots=True)
class Ages:
    """How long ranges waited for their invalidation, in nanoseconds."""

    ranges: int = 0
    longest_ns: int = 0
    total_ns: int = 0

    def add(self, age: int) -> None:
        """One more, which waited that long."""
        self.ranges += 1
        self.total_ns += age
        self.longest_ns = max(self.longest_ns, age)

    def as_dict(self) -> dict[str, int]:
        """How many, the longest and the mean, as a report prints them."""
        mean = self.total_ns // self.ranges if self.ranges else 0
        return {"ranges": self.ranges, "max_ns": self.longest_ns, "mean_ns": mean}


@dataclass(slots=True)
class StaleWindow:
    """How long unmapped ranges could still be cached, in virtual time, and whether they were used again before.

    `by_domain` has the ages of one domain's ranges, by its id; a replay's native loop counts its own in `ranges` alone.
    """

    ranges: int = 0
    longest_ns: int = 0
    total_ns: int = 0
    by_domain: dict[int, Ages] = field(default_factory=dict)
    reused_before_flush: int = 0
    accesses: int = 0  # by devices, through a translation that was stale
    pending: int = 0
    pages_freed_early: int = 0  # table pages given back while the unit could still walk them

    def closed(self, age: int, domain_id: int) -> None:
        """One range of a domain waited `age` ns for its invalidation."""
        self.ranges += 1
        self.total_ns += age
        self.longest_ns = max(self.longest_ns, age)
        own = self.by_domain.get(domain_id) or self.by_domain.setdefault(domain_id, Ages())
        own.add(age)

    def as_dict(self) -> dict[str, int]:
        """The window as a report prints it."""
        mean = self.total_ns // self.ranges if self.ranges else 0
        return {
            "ranges": self.ranges,
            "max_ns": self.longest_ns,
            "mean_ns": mean,
            "reused_before_flush": self.reused_before_flush,
            "accesses": self.accesses,
            "pending": self.pending,
            "pages_freed_early": self.pages_freed_early,
        }


class Ranges:
    """A set of addresses, kept as disjoint ranges in order: each question is a binary search, whatever their size."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, end: int) -> None:
        """[start, end) belongs to the set; what it touches or overlaps becomes one range with it."""
        low, high = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def meets(self, start: int, end: int) -> bool:
        """True if an address of [start, end) belongs to the set."""
        index = bisect_right(self._ends, start)
        return index < len(self._starts) and self._starts[index] < end

    def clear(self) -> None:
        """Nothing belongs to the set."""
        self._starts.clear()
        self._ends.clear()
