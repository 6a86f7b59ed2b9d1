"""Verdicts, and the rules they are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["RULES", "Place", "Rule", "Verdict", "owner_of"]


class Rule(NamedTuple):
    """One thing not to do. `also` are its numbers elsewhere: O1 to O16 of this project, `dma-debug` of Linux."""

    name: str
    explains: str
    also: str


class Place(NamedTuple):
    """An event of the case. `role` says what it did: mapped, unmapped, accessed, invalidated, freed, detached."""

    role: str
    event: int  # its number among all event lines, from 1
    file: int  # index into Trace.files
    line: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule that was broken. The last of `places` is the event that broke it; `owner` is a device or a space."""

    rule: str
    owner: str
    iova: int
    size: int
    says: str
    places: tuple[Place, ...]

    @property
    def at(self) -> Place:
        """The event that broke the rule."""
        return self.places[-1]


def owner_of(device: str) -> str:
    """A device as people name it: without the segment, where that is 0."""
    return device.removeprefix("0000:")


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("double-map", "a range is mapped over one that is still mapped", "O16"),
        Rule("double-unmap", "a mapping is taken back twice", "O16, dma-debug 2"),
        Rule("never-mapped", "something is unmapped that was never mapped", "O16, dma-debug 2"),
        Rule("error-value-unmapped", "the address that says a map failed is unmapped", "O16, dma-debug 1"),
        Rule("wrong-size", "a mapping is taken back with another size than it was made with", "O16, dma-debug 3"),
        Rule(
            "wrong-function", "a mapping is taken back by the function of another kind of mapping", "O16, dma-debug 4"
        ),
        Rule("wrong-entries", "a scatter list is taken back with another number of entries", "O16, dma-debug 6"),
        Rule(
            "wrong-direction",
            "a mapping is taken back, or synchronised, for another direction",
            "O16, dma-debug 7, 11 to 13",
        ),
        Rule(
            "unchecked-error", "nobody looked whether a map had failed before its address was used", "O16, dma-debug 8"
        ),
        Rule("sync-unmapped", "a range is synchronised that is not mapped", "O16, dma-debug 9"),
        Rule("sync-beyond", "more is synchronised than is mapped", "O16, dma-debug 10"),
        Rule(
            "overlapping-lines",
            "a cache line that a device may write is mapped twice at a time",
            "O16, dma-debug 21, 22",
        ),
        Rule("leak", "a mapping is alive when its device is detached, or its owner ends", "dma-debug 23"),
        Rule("shared-page", "a page that one owner's mapping exposes holds another owner's buffer", "O4"),
        Rule("access-outside", "a device accesses what nothing maps", "O1"),
        Rule("use-after-unmap", "a device accesses a range after it was unmapped", "O2"),
        Rule("wrong-access", "a device writes where it may read, or reads where it may write", "O3"),
        Rule("freed-while-mapped", "a page is freed that a mapping still reaches", "O5"),
        Rule(
            "freed-before-flush",
            "a page is freed that caches may still reach: its mapping was not invalidated",
            "O5, O6",
        ),
        Rule("reuse-before-flush", "a range is mapped again before its old translation was invalidated", "O8"),
        Rule("narrow-invalidation", "an invalidation covers less than what was unmapped", "O7"),
        Rule("early-invalidation", "a range is invalidated before, and not after, its entries are cleared", "O9"),
        Rule("unannounced-map", "a unit in caching mode is not told of a map before a device uses it", "O11"),
        Rule("device-tlb-first", "a device-TLB is invalidated before the IOTLB it refills from", "O10"),
    )
}
"""Every rule that is judged, by name."""
