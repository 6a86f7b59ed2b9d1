"""Domains: the software's name for one set of tables, the devices that use it, and the tag it has in caches."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emulator.engine import Engine
from pagetables.address import PAGE_SIZE, DomainId, SourceId
from pagetables.errors import MappingError, OutOfPages
from pagetables.mapper import PageTable, Stage, TableAllocator, TableMapper
from pagetables.memory import PhysicalMemory

__all__ = ["BeyondWidth", "Domain", "DomainIds", "NoAddress", "NoDomainId", "TableShape"]

FIRST_DOMAIN_ID = 2  # 0 tags absent entries in caching mode, 1 is pass-through and shared virtual addresses


class NoDomainId(MappingError):
    """Every domain-id of the unit is in use (Linux: "No free domain ids"): the device stays without a domain."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 0)


class BeyondWidth(MappingError):
    """A range that the domain's tables cannot reach, or an address too wide for the unit."""


class NoAddress(MappingError):
    """The address allocator has no run of free pages that fits."""


class DomainIds:
    """The domain-ids of one unit: the lowest free one is given; 0 and 1 are reserved."""

    def __init__(self, width: int) -> None:
        self.limit = 1 << width
        self._lowest = FIRST_DOMAIN_ID  # all below are in use
        self._used: set[int] = set()

    def take(self, wanted: int | None = None) -> DomainId:
        """`wanted` if it is free, else the lowest domain-id nobody has; NoDomainId if there is none."""
        if wanted is None or not FIRST_DOMAIN_ID <= wanted < self.limit or wanted in self._used:
            while self._lowest in self._used:
                self._lowest += 1
            wanted = self._lowest
        if wanted >= self.limit:
            raise NoDomainId(
                f"all {self.limit - FIRST_DOMAIN_ID} domain-ids are in use (CAP.ND gives {self.limit}, 0 and 1 are "
                "reserved); let devices share a domain, or use a profile with a larger ND"
            )
        self._used.add(wanted)
        return DomainId(wanted)

    def give_back(self, domain_id: DomainId) -> None:
        """The id is free again."""
        self._used.discard(domain_id)
        self._lowest = min(self._lowest, domain_id)


@dataclass(frozen=True, slots=True)
class TableShape:
    """How the tables of new domains look."""

    stage: Stage = Stage.SECOND
    levels: int = 4
    leaf_levels: frozenset[int] = frozenset({1, 2, 3})


class Domain:
    """One set of tables. `iova_limit` and `gpa_limit` bound what may be mapped.

    The domain-id is taken back when the last device leaves; until one comes again `tagged` is False, nothing of the
    domain can be cached, and `domain_id` is only what it last was.
    """

    def __init__(
        self,
        domain_id: DomainId,
        shape: TableShape,
        memory: PhysicalMemory,
        engine: Engine,
        supply: TableAllocator,
        iova_limit: int,
        gpa_limit: int,
    ) -> None:
        root = supply.take()
        if root is None:
            raise OutOfPages(f"no page for the root of domain-id {domain_id}", 0)
        memory.write(root, bytes(PAGE_SIZE))
        self.domain_id = domain_id
        self.tagged = True
        self.table = PageTable(shape.stage, root, shape.levels, shape.leaf_levels)
        self.devices: set[SourceId] = set()
        self.iova_limit, self.gpa_limit = min(iova_limit, self.table.limit), gpa_limit
        self._memory, self._engine, self._supply = memory, engine, supply
        self._mappers: dict[frozenset[int], TableMapper] = {}

    def mapper(self, leaf_levels: frozenset[int] | None = None) -> TableMapper:
        """A mapper of these tables; `leaf_levels` narrows the levels at which it may map pages."""
        allowed = self.table.leaf_levels if leaf_levels is None else self.table.leaf_levels & leaf_levels | {1}
        if allowed not in self._mappers:
            table = replace(self.table, leaf_levels=frozenset(allowed))
            self._mappers[allowed] = self._engine.mapper(self._memory, table, self._supply)
        return self._mappers[allowed]

    def check(self, iova: int, gpa: int, size: int) -> None:
        """BeyondWidth if [iova, iova + size), or what it maps to, is out of reach; MappingError unless it is pages."""
        if size <= 0 or (iova | gpa | size) % PAGE_SIZE:
            raise MappingError(f"iova={iova:#x} gpa={gpa:#x} size={size:#x} are not whole pages", iova)
        if iova < 0 or iova + size > self.iova_limit:
            width = (self.iova_limit - 1).bit_length()
            raise BeyondWidth(
                f"iova={iova:#x}+{size:#x} is beyond the {width} bits of {self.table.levels}-level "
                f"{self.table.stage.value} tables",
                iova,
            )
        if gpa + size > self.gpa_limit:
            width = (self.gpa_limit - 1).bit_length()
            raise BeyondWidth(f"gpa={gpa:#x}+{size:#x} is beyond the host address width of {width} bits", iova)
