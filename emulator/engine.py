"""The two engines, one protocol.

The Python engine is for reading and explains itself; the native one is for speed. Both work on the same bytes: the
physical memory and the register page. What differs is only who executes. There is no silent fallback: a missing or
stale C core is an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pagetables.address import DomainId, Gpa, Iova, Pasid, SourceId
from pagetables.capabilities import Capabilities
from pagetables.errors import VtdError
from pagetables.fault import Fault
from pagetables.mapper import PageTable, TableAllocator, TableMapper
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions, Request, Translation
from pagetables.source import Source, TranslationType

__all__ = [
    "ENGINES",
    "Engine",
    "EngineName",
    "Iotlb",
    "IotlbEntry",
    "IotlbGeometry",
    "MissingCore",
    "QueueState",
    "StaleCore",
    "TableEntry",
    "load_engine",
]

_FIRST_PASID = Pasid(0)
EngineName = Literal["native", "python"]
ENGINES: tuple[EngineName, ...] = ("native", "python")


class MissingCore(VtdError):
    """The C core is not built."""


class StaleCore(VtdError):
    """The C core was built from other layouts than those imported."""


@dataclass(frozen=True, slots=True)
class IotlbGeometry:
    """Capacity of an IOTLB: `sets` (a power of two) of `ways` entries.

    With a `limit` the whole IOTLB is emptied when it has that many entries and another comes. `tables` is the capacity
    of the paging-structure caches beside it, of both stages together: a power of two, or 0 for none. A unit that
    compares only the low `compared_bits` of page numbers (0: all) when pages are invalidated removes, besides these,
    other second-stage entries of the domain-id: those whose 4 KiB page number agrees in these bits, as far as the
    address mask lets them count.
    """

    sets: int = 256
    ways: int = 4
    limit: int = 0
    tables: int = 0
    compared_bits: int = 0


@dataclass(frozen=True, slots=True, order=True)
class IotlbEntry:
    """A cached translation with its tags. `iova` and `gpa` are page starts."""

    domain_id: DomainId
    source_id: SourceId
    pasid: Pasid | None
    translation: TranslationType
    privileged: bool
    iova: Iova
    page_shift: int
    gpa: Gpa
    permissions: Permissions
    dirty: bool = False
    rid_pasid: Pasid = _FIRST_PASID

    @property
    def effective_pasid(self) -> Pasid:
        """The PASID by which an invalidation names the entry: the request's, or RID_PASID for one without."""
        return self.rid_pasid if self.pasid is None else self.pasid


@dataclass(frozen=True, slots=True)
class TableEntry:
    """An entry of the paging-structure caches: the paging entry of `level` on the way of `address` leads to `table`.

    `address` is the first input address of the stage that the entry serves, `permissions` what all entries down to it
    grant. Second-stage entries are tagged by domain-id alone: `source_id` and `pasid` are None.
    """

    stage: TranslationType
    domain_id: DomainId
    source_id: SourceId | None
    pasid: Pasid | None
    level: int
    address: int
    table: Gpa
    permissions: Permissions


class Iotlb(Protocol):
    """An IOTLB: set-associative, tagged by source-id, PASID, domain-id and translation type; and, beside it and hit by
    the same invalidations, the paging-structure caches, which a miss consults.

    The set of a page is `(page ^ page >> bits ^ domain_id) & (sets - 1)` with page = iova >> page_shift and
    sets = 1 << bits. A fill takes the first way that is free, else the way that the set's counter names, which then
    moves on. A table entry has one place, `(page ^ page >> bits ^ domain_id ^ source_id ^ pasid ^ level << 1) &
    (tables - 1)` with page = address >> the level's shift and tables = 1 << bits (source-id and PASID count as 0 in the
    second stage). Both engines obey this, so that their contents can be compared.
    """

    geometry: IotlbGeometry

    def lookup(self, source: Source, request: Request) -> IotlbEntry | None:
        """The entry for this request (any permissions), or None."""
        ...

    def fill(self, entry: IotlbEntry) -> None:
        """Insert `entry`, replacing one with the same tags or, in a full set, the set's next victim."""
        ...

    def invalidate_all(self) -> None:
        """Remove everything."""
        ...

    def invalidate_domain(self, domain_id: int) -> None:
        """Remove everything of a domain-id."""
        ...

    def invalidate_pages(self, domain_id: int, address: int, mask: int, hint: bool = False) -> None:
        """Descriptor 2, page-selective: second-stage entries that meet 2**mask pages, and every first-stage, nested
        and pass-through entry of the domain-id. First-stage tables of the domain-id go, second-stage ones without
        `hint` (IH: only leaves changed)."""
        ...

    def invalidate_pasid(self, domain_id: int, pasid: int) -> None:
        """Descriptor 6, all of a PASID: every entry of (domain-id, PASID), and its first-stage tables; entries without
        PASID count as RID_PASID."""
        ...

    def invalidate_pasid_pages(self, domain_id: int, pasid: int, address: int, mask: int, hint: bool = False) -> None:
        """Descriptor 6, page-selective: first-stage and nested entries of (domain-id, PASID) that meet the pages, and
        without `hint` the first-stage tables of the PASID."""
        ...

    def entries(self) -> list[IotlbEntry]:
        """What is cached, sorted."""
        ...

    def tables(self) -> list[TableEntry]:
        """What the paging-structure caches hold, sorted."""
        ...


@dataclass(slots=True)
class QueueState:
    """What executing the invalidation queue needs. IQH and IQT are read and written in `registers`."""

    memory: PhysicalMemory
    registers: bytearray
    iotlb: Iotlb
    base: Gpa  # latched from IQA
    size: int  # bytes
    slot: int  # bytes of a descriptor: 16 or 32
    capabilities: Capabilities


class Engine(Protocol):
    """Who executes walks, mappings, cached translations and the common queue descriptors."""

    name: EngineName

    def walk(
        self, memory: PhysicalMemory, source: Source, request: Request, capabilities: Capabilities
    ) -> Translation | Fault:
        """The tables' answer, accessed and dirty bits updated as the hardware would."""
        ...

    def translate(
        self, iotlb: Iotlb, memory: PhysicalMemory, source: Source, request: Request, capabilities: Capabilities
    ) -> Translation | Fault:
        """The IOTLB's answer where it has one that permits the request, else the tables', which is then cached."""
        ...

    def translate_many(
        self,
        iotlb: Iotlb,
        memory: PhysicalMemory,
        source: Source,
        requests: Sequence[Request],
        capabilities: Capabilities,
    ) -> list[Translation | Fault]:
        """`translate` for each request of one source, in order."""
        ...

    def mapper(self, memory: PhysicalMemory, table: PageTable, allocator: TableAllocator) -> TableMapper:
        """The software side: maps and unmaps in `table`."""
        ...

    def iotlb(self, geometry: IotlbGeometry) -> Iotlb:
        """An empty IOTLB that this engine can use."""
        ...

    def run_queue(self, queue: QueueState) -> int:
        """Execute common descriptors from IQH on, advancing IQH in the register bytes; the number executed.

        Stops before a descriptor it leaves to the unit: anything but IOTLB and PASID-IOTLB invalidations and waits
        that only write a status word, and anything irregular. The Python engine leaves everything to the unit.
        """
        ...


def load_engine(name: str) -> Engine:
    """The engine called `name`; MissingCore or StaleCore if the C core cannot be used."""
    if name == "python":
        from emulator.python_engine import PythonEngine

        return PythonEngine()
    if name == "native":
        from emulator.native import NativeEngine

        return NativeEngine()
    raise VtdError(f"no engine is called {name!r}; there are native and python")
