"""What rules look at: units and their requesters, the domains they share, what each can reach, who uses which page.

Everything here is worked out once, from a scan and the entries behind it; nothing is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa, Iova, SourceId
from pagetables.audit.entries import Entries, read_entries
from pagetables.audit.links import TableIndex, Tree
from pagetables.audit.ranges import Numbers, Ranges, overlaps
from pagetables.audit.regions import Region
from pagetables.audit.rule import Device
from pagetables.capabilities import Capabilities
from pagetables.formats import formats
from pagetables.images.inspection import UnitReport
from pagetables.images.interrupts import ENTRY_SIZE
from pagetables.images.registers import RegisterPage
from pagetables.layouts.dmar import DmarTable
from pagetables.layouts.registers import (
    InvalidationQueueAddress,
    PageRequestQueueAddress,
    Register,
)
from pagetables.memory import Memory
from pagetables.request import Access, Permissions, Request, Translation
from pagetables.scan import Mapping, Space
from pagetables.source import Source, TranslationType
from pagetables.walk import walk

__all__ = ["Domain", "Requester", "Scene", "Structure", "Unit", "build_scene"]

R = TypeVar("R", bound=Register)
_Key = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Requester:
    """A device, what the scan found of it, and its entries. `domain` is its place among the scene's domains.

    None: there is no domain, since its requests pass through.
    """

    device: Device
    space: Space
    entries: Entries
    domain: int | None


@dataclass(frozen=True, slots=True)
class Domain:
    """A set of tables and everybody who uses it; the units may know it by several domain-ids.

    `readable` and `writable` are the memory that they lead to.
    """

    requesters: tuple[Requester, ...]
    readable: Ranges
    writable: Ranges

    @property
    def devices(self) -> tuple[Device, ...]:
        """Its requesters, in order."""
        return tuple(sorted(requester.device for requester in self.requesters))

    @property
    def space(self) -> Space:
        """What the tables map; the same for all its requesters."""
        return self.requesters[0].space

    @property
    def source(self) -> Source:
        """How its first requester's requests are translated."""
        return self.requesters[0].entries.source

    @property
    def reachable(self) -> Ranges:
        """What can be read or written."""
        return self.readable | self.writable


@dataclass(frozen=True, slots=True)
class Structure:
    """Memory that a unit works by: devices that write it decide over their own isolation."""

    name: str
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Unit:
    """A remapping unit. `told` is false where nothing but its root table address is known."""

    index: int
    report: UnitReport
    capabilities: Capabilities
    requesters: tuple[Requester, ...]
    structures: tuple[Structure, ...]
    told: bool

    @property
    def registers(self) -> RegisterPage:
        """Its register page."""
        return self.report.registers

    def read(self, register: type[R]) -> R | None:
        """The value of a register, or None where nobody read it."""
        return self.registers.read(register) if self.told and self.registers.has(register) else None

    def __str__(self) -> str:
        return "the unit" if self.registers.base is None else f"the unit at {self.registers.base:#x}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything an audit judges."""

    memory: Memory
    units: tuple[Unit, ...]
    domains: tuple[Domain, ...]
    tables: TableIndex
    dmar: DmarTable | None = None
    regions: tuple[Region, ...] = ()

    @property
    def requesters(self) -> Iterator[Requester]:
        """Those of all units."""
        return (requester for unit in self.units for requester in unit.requesters)

    def of_kind(self, *kinds: object) -> Iterator[Region]:
        """The regions of one of `kinds`."""
        return (region for region in self.regions if region.kind in kinds)


@dataclass(slots=True)
class _Builder:
    memory: Memory
    keys: dict[_Key, int] = field(default_factory=dict)
    users: list[list[Requester]] = field(default_factory=list)
    tables: TableIndex = field(default_factory=TableIndex)
    trees: set[tuple[object, ...]] = field(default_factory=set)

    def unit(self, index: int, report: UnitReport, capabilities: Capabilities) -> Unit:
        requesters = tuple(self._requesters(index, report, capabilities))
        told = report.registers.base is not None
        return Unit(index, report, capabilities, requesters, tuple(_structures(report, requesters, told)), told)

    def _requesters(self, index: int, report: UnitReport, capabilities: Capabilities) -> Iterator[Requester]:
        rid_pasid = bool(capabilities.ecap.rps)
        for space in report.spaces:
            entries = read_entries(self.memory, report.registers.root_table, space, rid_pasid)
            device = Device(index, space.source_id, space.pasid)
            requester = Requester(device, space, entries, self._domain(entries.source))
            if requester.domain is not None:
                self.users[requester.domain].append(requester)
                self._add_trees(requester.domain, entries.source, capabilities)
            yield requester

    def _domain(self, source: Source) -> int | None:
        if source.translation is TranslationType.PASS_THROUGH:
            return None
        key = (source.fs_table, source.fs_levels, source.ss_table, source.ss_levels)
        if key not in self.keys:
            self.keys[key] = len(self.users)
            self.users.append([])
        return self.keys[key]

    def _add_trees(self, domain: int, source: Source, capabilities: Capabilities) -> None:
        nested = source.translation is TranslationType.NESTED
        second, first = formats(capabilities, nested=nested, execute=False)
        below = Source(TranslationType.SECOND_STAGE, source.domain_id, False, source.ss_table, source.ss_levels)
        if source.ss_levels in (3, 4, 5):
            self._add(domain, (source.ss_table, source.ss_levels), Tree(source.ss_table, source.ss_levels, second, int))
        if source.fs_levels in (4, 5):
            host: Callable[[int], int | None] = int
            if nested:
                host = _Host(self.memory, below, capabilities)
            key = ("first", source.fs_table, source.fs_levels, below.ss_table if nested else None)
            self._add(domain, key, Tree(source.fs_table, source.fs_levels, first, host))

    def _add(self, domain: int, key: tuple[object, ...], tree: Tree) -> None:
        if key not in self.trees:
            self.trees.add(key)
            self.tables.add(domain, tree, self.memory)


class _Host:
    # Where in memory a guest address lies, as the second stage below says.
    def __init__(self, memory: Memory, source: Source, capabilities: Capabilities) -> None:
        self._memory = memory
        self._source = source
        self._capabilities = capabilities

    def __call__(self, address: int) -> int | None:
        request = Request(SourceId(0), Iova(address), Access.READ)
        outcome = walk(self._memory, self._source, request, self._capabilities).outcome
        return outcome.gpa if isinstance(outcome, Translation) else None


def build_scene(
    memory: Memory,
    reports: Sequence[tuple[UnitReport, Capabilities]],
    dmar: DmarTable | None = None,
    regions: Iterable[Region] = (),
) -> Scene:
    """The scene of the units of `reports`, each with what it can do."""
    builder = _Builder(memory)
    units = tuple(builder.unit(index, *report) for index, report in enumerate(reports))
    domains = tuple(_domain(users) for users in builder.users)
    return Scene(memory, units, domains, builder.tables, dmar, tuple(regions))


def _domain(users: list[Requester]) -> Domain:
    sources = [user.entries.source for user in users]
    supervisor = any(source.supervisor_requests for source in sources)
    unprotected = any(source.supervisor_requests and not source.write_protect for source in sources)
    return Domain(tuple(users), *_reach(users[0].space, supervisor, unprotected))


def _reach(space: Space, supervisor: bool, unprotected: bool) -> tuple[Ranges, Ranges]:
    # Supervisor requests reach supervisor pages, and write read-only ones where WPE=0.
    runs = space.mappings
    starts, ends = _column(one.gpa for one in runs), _column(one.gpa + one.size for one in runs)
    readable = np.fromiter((bool(one.access & Permissions.R) for one in runs), bool, len(runs))
    writable = np.fromiter((bool(one.access & Permissions.W) for one in runs), bool, len(runs))
    if space.translation in (TranslationType.FIRST_STAGE, TranslationType.NESTED):
        allowed = np.fromiter((one.user or supervisor for one in runs), bool, len(runs))
        readable, writable = readable & allowed, (writable | unprotected) & readable & allowed
    read = Ranges.union(starts[readable], ends[readable])
    write = Ranges.union(starts[writable], ends[writable])
    if space.second_stage is None:
        return read, write
    below = space.second_stage.mappings
    return _through(read, below, Permissions.R), _through(write, below, Permissions.W)


def _through(guest: Ranges, below: Sequence[Mapping], needed: Permissions) -> Ranges:
    # Where the second stage puts guest addresses; its runs are ascending and disjoint.
    runs = [one for one in below if one.access & needed]
    second = Ranges(_column(one.iova for one in runs), _column(one.iova + one.size for one in runs))
    targets = _column(one.gpa for one in runs)
    mine, theirs = overlaps(guest, second)
    starts = np.maximum(guest.starts[mine], second.starts[theirs])
    ends = np.minimum(guest.ends[mine], second.ends[theirs])
    base, target = second.starts[theirs], targets[theirs]
    return Ranges.union(starts - base + target, ends - base + target)


def _column(numbers: Iterable[int]) -> Numbers:
    return np.fromiter(numbers, np.uint64)


def _structures(report: UnitReport, requesters: Sequence[Requester], told: bool) -> Iterator[Structure]:
    entries = {page for requester in requesters for page in requester.entries.pages}
    yield Structure("root, context and PASID tables", Ranges.of((page, PAGE_SIZE) for page in entries))
    if not told:
        return
    registers, base = report.registers, report.registers.base
    if base is not None:
        yield Structure("registers", Ranges.of([(base, PAGE_SIZE)]))
    if report.registers.status.qies and registers.has(InvalidationQueueAddress):
        queue = registers.queue
        yield Structure("invalidation queue", Ranges.of([(queue.iqa << PAGE_SHIFT, PAGE_SIZE << queue.qs)]))
    if report.interrupt_remapping_enabled:
        irta = registers.interrupt_table
        table = (irta.irta << PAGE_SHIFT, ENTRY_SIZE << irta.s + 1)
        yield Structure("interrupt remapping table", Ranges.of([table]))
        posted = {Gpa(one.descriptor_address) for one in report.interrupts if one.descriptor_address is not None}
        yield Structure("posted interrupt descriptors", Ranges.of((at, 64) for at in posted))
    if registers.has(PageRequestQueueAddress) and (requests := registers.read(PageRequestQueueAddress)).pqa:
        yield Structure("page request queue", Ranges.of([(requests.pqa << PAGE_SHIFT, PAGE_SIZE << requests.pqs)]))
