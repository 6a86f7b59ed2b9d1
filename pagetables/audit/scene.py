"""What rules look at: units and their requesters, the domains they share, what each can reach, who uses which page.

Everything here is worked out once, from a scan and the entries behind it; nothing is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa
from pagetables.audit.columns import columns_of
from pagetables.audit.entries import Entries, read_entries
from pagetables.audit.links import TableIndex, Tree
from pagetables.audit.ranges import NOTHING, Ranges, overlaps
from pagetables.audit.regions import Region
from pagetables.audit.reserved import Reserved, reserved_memory
from pagetables.audit.rule import Device
from pagetables.capabilities import Capabilities
from pagetables.formats import formats
from pagetables.guest_memory import GuestMemory
from pagetables.images.inspection import UnitReport
from pagetables.images.registers import RegisterPage
from pagetables.interrupt import ENTRY_SIZE
from pagetables.layouts.dmar import DmarTable
from pagetables.layouts.registers import (
    InvalidationQueueAddress,
    PageRequestQueueAddress,
    Register,
)
from pagetables.memory import Memory
from pagetables.request import Permissions
from pagetables.runs import Columns
from pagetables.scan import Space
from pagetables.source import Source, TranslationType

__all__ = ["Domain", "Requester", "Scene", "Structure", "Unit", "build_scene"]

R = TypeVar("R", bound=Register)
_Key = tuple[int, int, int, int]
_R, _W, _USER = (np.uint64(right) for right in (Permissions.R, Permissions.W, Permissions.USER))


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

    `columns` are its mappings as numbers, `readable` and `writable` the memory that they lead to.
    """

    requesters: tuple[Requester, ...]
    columns: Columns
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

    def identity(self, needed: Permissions = Permissions.NONE, least: int = 0) -> Ranges:
        """What is mapped to its own addresses, with all of the rights `needed`, in runs of `least` bytes or more.

        Nothing for a nested space: its tables lead to guest addresses.
        """
        if self.source.translation is TranslationType.NESTED:
            return NOTHING
        iova, gpa, size, bits = self.columns
        kept = (iova == gpa) & (bits & np.uint64(needed) == np.uint64(needed)) & (size >= np.uint64(least))
        return Ranges.union(gpa[kept], gpa[kept] + size[kept])


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
    reserved: Reserved = field(default_factory=dict)

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
        if source.ss_levels in (3, 4, 5):
            self._add(domain, (source.ss_table, source.ss_levels), Tree(source.ss_table, source.ss_levels, second, int))
        if source.fs_levels in (4, 5):
            host: Callable[[int], int | None] = int
            if nested:
                host = GuestMemory(self.memory, source.ss_table, source.ss_levels, capabilities).translate
            key = ("first", source.fs_table, source.fs_levels, source.ss_table)
            self._add(domain, key, Tree(source.fs_table, source.fs_levels, first, host))

    def _add(self, domain: int, key: tuple[object, ...], tree: Tree) -> None:
        if key not in self.trees:
            self.trees.add(key)
            self.tables.add(domain, tree, self.memory)


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
    reserved = reserved_memory(dmar, [unit.registers.base for unit in units])
    return Scene(memory, units, domains, builder.tables, dmar, tuple(regions), reserved)


def _domain(users: list[Requester]) -> Domain:
    sources = [user.entries.source for user in users]
    supervisor = any(source.supervisor_requests for source in sources)
    unprotected = any(source.supervisor_requests and not source.write_protect for source in sources)
    columns = columns_of(users[0].space.mappings)
    return Domain(tuple(users), columns, *_reach(users[0].space, columns, supervisor, unprotected))


def _reach(space: Space, columns: Columns, supervisor: bool, unprotected: bool) -> tuple[Ranges, Ranges]:
    # Supervisor requests reach supervisor pages, and write read-only ones where WPE=0.
    readable, writable = columns.bits & _R != 0, columns.bits & _W != 0
    if space.translation in (TranslationType.FIRST_STAGE, TranslationType.NESTED):
        allowed = readable if supervisor else readable & (columns.bits & _USER != 0)
        readable, writable = allowed, allowed if unprotected else allowed & writable
    ends = columns.gpa + columns.size
    read = Ranges.union(columns.gpa[readable], ends[readable])
    write = Ranges.union(columns.gpa[writable], ends[writable])
    if space.second_stage is None:
        return read, write
    below = columns_of(space.second_stage.mappings)
    return _through(read, below, _R), _through(write, below, _W)


def _through(guest: Ranges, below: Columns, needed: np.uint64) -> Ranges:
    # Where the second stage puts guest addresses; its runs are ascending and disjoint.
    kept = below.bits & needed != 0
    second = Ranges(below.iova[kept], below.iova[kept] + below.size[kept])
    mine, theirs = overlaps(guest, second)
    starts = np.maximum(guest.starts[mine], second.starts[theirs])
    ends = np.minimum(guest.ends[mine], second.ends[theirs])
    base, target = second.starts[theirs], below.gpa[kept][theirs]
    return Ranges.union(starts - base + target, ends - base + target)


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
