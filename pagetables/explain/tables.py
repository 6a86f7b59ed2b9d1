"""What the tables of an image say of an address, and of its neighbourhood."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property

from pagetables.address import Pasid, SourceId
from pagetables.explain.evidence import Owners, Region
from pagetables.images.inspection import Answer, answer
from pagetables.images.registers import RegisterPage
from pagetables.memory import Memory
from pagetables.request import Request
from pagetables.scan import Mapping, scan

__all__ = ["TableMappings", "Tables"]

FEW = 4
LOW_HALF = 1 << 32


class _Set:
    # One set of tables, and everybody who uses it.
    def __init__(self, mappings: Sequence[Mapping]) -> None:
        self.mappings = mappings
        self.users: dict[tuple[SourceId, Pasid | None], None] = {}

    @cached_property
    def starts(self) -> list[int]:
        return [one.iova for one in self.mappings]

    @property
    def owners(self) -> tuple[SourceId, ...]:
        return tuple(dict.fromkeys(source for source, _ in self.users))

    def region(self, index: int) -> Region | None:
        if not 0 <= index < len(self.mappings):
            return None
        one = self.mappings[index]
        return Region(one.iova, one.size, one.gpa, one.access, self.owners)

    def holding(self, address: int) -> Region | None:
        found = self.region(bisect_right(self.starts, address) - 1)
        return found if found is not None and address < found.end else None


class TableMappings:
    """Mappings of some devices, as tables have them (`pagetables.explain.evidence.Mappings`)."""

    def __init__(self, own: Iterable[_Set], others: Iterable[_Set]) -> None:
        self._own = tuple(own)
        self._others = tuple(others)

    @property
    def is_empty(self) -> bool:
        """True if nothing is mapped."""
        return not any(one.mappings for one in self._own)

    def holding(self, address: int) -> Region | None:
        """What holds `address`."""
        return next((found for one in self._own if (found := one.holding(address)) is not None), None)

    def below(self, address: int) -> Region | None:
        """Of what ends at or below `address`, the nearest."""
        found = [_last_ended(one, address) for one in self._own]
        return max((one for one in found if one is not None), key=lambda region: region.end, default=None)

    def above(self, address: int) -> Region | None:
        """Of what begins above `address`, the nearest."""
        found = [one.region(bisect_right(one.starts, address)) for one in self._own]
        return min((one for one in found if one is not None), key=lambda region: region.iova, default=None)

    def leading_to(self, gpa: int) -> Region | None:
        """What leads to `gpa`, at another address."""
        for one in self._own:
            for index, run in enumerate(one.mappings):
                if run.gpa <= gpa < run.gpa + run.size and int(run.gpa) != run.iova:
                    return one.region(index)
        return None

    def with_low_half(self, address: int) -> Region | None:
        """What holds an address from 4 GiB on whose low 32 bits are `address`."""
        for one in self._own:
            for index in range(bisect_right(one.starts, LOW_HALF - 1), len(one.mappings)):
                run = one.mappings[index]
                if (address - run.iova) % LOW_HALF < run.size:
                    return one.region(index)
        return None

    def of_others(self, address: int) -> tuple[Region, ...]:
        """What holds `address` for other devices, a few of them at most."""
        found = [region for one in self._others if (region := one.holding(address)) is not None]
        return tuple(found[:FEW])


class Tables:
    """The tables of an image: `pages` are the units' registers, `haw` the platform's physical address bits.

    They are read whole only where their neighbourhood is asked for.
    """

    def __init__(self, memory: Memory, pages: Sequence[RegisterPage], haw: int = 52) -> None:
        self.memory = memory
        self.pages = tuple(pages)
        self._haw = haw

    def answer(self, request: Request) -> Answer:
        """Where `request` leads, in the unit that knows its device."""
        return answer(self.memory, self.pages, request, self._haw)

    @cached_property
    def devices(self) -> Owners:
        """Everybody who has a present entry."""
        return frozenset(source for one in self._sets for source, _ in one.users)

    def mappings(self, owners: Owners, pasid: Pasid | None) -> TableMappings:
        """What `owners` have mapped for requests with `pasid`; PASID 0 is that of requests without."""
        own: list[_Set] = []
        others: list[_Set] = []
        for one in self._sets:
            is_own = any(source in owners and (user or 0) == (pasid or 0) for source, user in one.users)
            (own if is_own else others).append(one)
        return TableMappings(own, others)

    @cached_property
    def _sets(self) -> tuple[_Set, ...]:
        found: dict[tuple[int, int, int, str], _Set] = {}
        for unit, page in enumerate(self.pages):
            for space in scan(self.memory, int(page.root_table), page.capabilities(self._haw)).spaces:
                key = (unit, space.table, space.levels, space.translation.name)
                users = found.setdefault(key, _Set(space.mappings)).users
                users[space.source_id, space.pasid] = None
        return tuple(found.values())


def _last_ended(one: _Set, address: int) -> Region | None:
    # Runs do not overlap, so the last one that begins below the address is the one, or the one before it.
    index = bisect_right(one.starts, address) - 1
    found = one.region(index)
    return found if found is None or found.end <= address else one.region(index - 1)
