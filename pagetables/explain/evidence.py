"""What an explanation asks of its sources: who maps what, at one time; and what was mapped and freed before and after.

Tables answer for the time of the image, a trace for any time. Both are asked in the same words, so that one set of
rules judges by either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pagetables.address import Gpa, Iova, SourceId
from pagetables.request import Permissions

__all__ = ["History", "Mappings", "Moment", "Owners", "Region"]

Owners = frozenset[SourceId]
"""The requesters whose mappings count: the device, or, for an alias, the devices that it stands for."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was mapped or unmapped, and which line of which trace says so. `task` is empty if unknown."""

    time_ns: int
    cpu: int
    file: str
    line: int
    task: str = ""


@dataclass(frozen=True, slots=True)
class Region:
    """Addresses that are, or were, mapped together. `owners` is empty where nobody says whose they are.

    `gpa`, `access`, `mapped` and `unmapped` are None where the source does not tell; `unmapped` also where it is live.
    """

    iova: Iova
    size: int
    gpa: Gpa | None = None
    access: Permissions | None = None
    owners: tuple[SourceId, ...] = ()
    mapped: Moment | None = None
    unmapped: Moment | None = None

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.iova + self.size


class Mappings(Protocol):
    """What some devices have mapped at one time, and what others have."""

    @property
    def is_empty(self) -> bool:
        """True if these devices have nothing mapped."""

    def holding(self, address: int) -> Region | None:
        """What holds `address`."""

    def below(self, address: int) -> Region | None:
        """Of what ends at or below `address`, the nearest."""

    def above(self, address: int) -> Region | None:
        """Of what begins above `address`, the nearest."""

    def leading_to(self, gpa: int) -> Region | None:
        """What leads to `gpa`, at another address."""

    def with_low_half(self, address: int) -> Region | None:
        """What holds an address from 4 GiB on whose low 32 bits are `address`."""

    def of_others(self, address: int) -> tuple[Region, ...]:
        """What holds `address` for other devices, a few of them at most."""


class History(Protocol):
    """What a trace tells. Times are in nanoseconds of the trace's clock; None is the end of the trace."""

    @property
    def span(self) -> tuple[int, int]:
        """The times of the first and the last event."""

    def devices(self, time_ns: int | None) -> Owners:
        """Who was attached to a space then."""

    def mappings(self, owners: Owners, time_ns: int | None) -> Mappings:
        """What was live then."""

    def freed(self, owners: Owners, address: int, time_ns: int | None) -> Region | None:
        """Of what held `address` and was unmapped by then, the last; what no device claims counts as well."""

    def later(self, owners: Owners, address: int, time_ns: int | None) -> Region | None:
        """Of what held `address` and was mapped after then, the first."""
