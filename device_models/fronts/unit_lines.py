"""Remapping units in words: `info iommu` (registers decoded, caches, devices behind each) and `walk`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from device_models.pci.bus import PciBus
from device_models.pci.function import PciFunction
from emulator.engine import IotlbEntry
from emulator.unit import RemappingUnit
from pagetables.address import Iova, SourceId, format_source_id
from pagetables.errors import InputError
from pagetables.fault import Fault
from pagetables.images.registers import RegisterPage
from pagetables.layouts.registers import REGISTERS, FaultRecord
from pagetables.layouts.values import TableMode
from pagetables.request import Access, Request, Translation
from pagetables.source import Source, lookup
from pagetables.step import Step
from pagetables.walk import walk

if TYPE_CHECKING:
    from device_models.machine import SystemMachine

__all__ = ["unit_lines", "walk_lines"]

_ALWAYS = ("VER", "CAP", "ECAP", "GSTS", "RTADDR", "FSTS", "FECTL", "IQH", "IQT", "IQA", "IRTA")
_LISTED = 16  # cache entries of one kind
_ACCESSES = {"r": Access.READ, "w": Access.WRITE, "x": Access.EXECUTE}
_ADDRESS_LIMIT = 1 << 64


def unit_lines(machine: SystemMachine) -> Iterator[str]:
    """What `info iommu` prints: each unit, then the devices that no unit remaps."""
    functions = list(_functions(machine.root_bus))
    for number, unit in enumerate(machine.units):
        behind = [function for function in functions if machine.unit_for(function.source_id) is unit]
        yield from _one_unit(number, unit, str(machine.scopes.place(unit).scope), behind)
    free = [function for function in functions if machine.unit_for(function.source_id) is None]
    if not machine.units:
        yield "no remapping unit: -device intel-iommu adds one"
    if free:
        yield "devices that no unit remaps:"
        yield from (f"  {_function(function)}" for function in free)


def walk_lines(machine: SystemMachine, source_id: SourceId, iova: int, access: str) -> Iterator[str]:
    """Where a request would lead by the tables in memory now: each step, the verdict, and what the IOTLB would say.

    Nothing is changed or cached by it. InputError for an access other than r, w and x.
    """
    if access not in _ACCESSES:
        raise InputError(f"access {access!r}: expected r, w or x")
    if not 0 <= iova < _ADDRESS_LIMIT:
        raise InputError(f"{iova:#x} is no address of 64 bits")
    request = Request(source_id, Iova(iova), _ACCESSES[access])
    unit = machine.unit_for(source_id)
    yield str(request)
    if unit is None:
        yield f"no unit remaps {format_source_id(source_id)}: the address is {iova:#x}"
        return
    if not unit.gsts.tes:
        yield "translation is off (GSTS.TES=0): addresses pass as they are; this is what the tables say"
    found = lookup(machine.memory, int(unit.root), request, unit.capabilities)
    yield from _step_lines(found.steps, 1)
    if isinstance(found.outcome, Fault):
        yield _verdict(found.outcome)
        return
    walked = walk(machine.memory, found.outcome, request, unit.capabilities)
    yield from _step_lines(walked.steps, len(found.steps) + 1)
    yield _verdict(walked.outcome)
    yield from _cached(unit, found.outcome, request, walked.outcome)


def _step_lines(steps: tuple[Step, ...], first: int) -> Iterator[str]:
    for number, step in enumerate(steps, first):
        level = f" (level {step.level})" if step.level else ""
        yield f"{number:3}. {step.structure}{level} at {step.at:#x}, index {step.index:#x}: {step.entry:#x}"
        if step.note:
            yield f"     {step.note}"


def _verdict(outcome: Translation | Fault) -> str:
    if isinstance(outcome, Translation):
        return f"  -> {outcome.gpa:#x} ({outcome.permissions.text()}, page of {1 << outcome.page_shift:#x} bytes)"
    return f"  -> fault {int(outcome.reason):02x}h {outcome.reason.condition}: {outcome.reason.meaning}"


def _cached(unit: RemappingUnit, source: Source, request: Request, outcome: Translation | Fault) -> Iterator[str]:
    entry = next((one for one in unit.iotlb.entries() if _is_for(one, source, request)), None)
    if entry is None:
        return
    gpa = entry.gpa + (request.iova & (1 << entry.page_shift) - 1)
    stale = isinstance(outcome, Fault) or outcome.gpa != gpa or outcome.permissions.text() != entry.permissions.text()
    yield f"  the IOTLB has {gpa:#x} ({entry.permissions.text()}){': stale' if stale else ''}"


def _is_for(entry: IotlbEntry, source: Source, request: Request) -> bool:
    tagged = (entry.source_id, entry.domain_id, entry.pasid) == (request.source_id, source.domain_id, request.pasid)
    return tagged and entry.iova >> entry.page_shift == request.iova >> entry.page_shift


# -- info iommu -------------------------------------------------------------------------------------------------------


def _one_unit(number: int, unit: RemappingUnit, scope: str, behind: list[PciFunction]) -> Iterator[str]:
    status = unit.gsts
    yield f"unit {number} at {unit.base:#x}, profile {unit.profile.name}"
    yield f"  serves {scope}"
    mode = TableMode(unit.root.ttm).name.lower() if unit.root.ttm in set(TableMode) else "reserved"
    yield f"  translation {_state(status.tes)}, {mode} mode, root table {int(unit.root) & ~0xFFF:#x}"
    queue, remapping = _state(status.qies), _state(status.ires)
    yield f"  queued invalidation {queue}, interrupt remapping {remapping}"
    yield "  registers"
    yield from _register_lines(RegisterPage(unit.base, unit.register_page()))
    yield "  caches"
    yield from _cache_lines(unit)
    yield f"  devices behind it: {len(behind)}"
    yield from (f"    {_function(function)}" for function in behind)


def _state(bit: int) -> str:
    return "on" if bit else "off"


def _register_lines(page: RegisterPage) -> Iterator[str]:
    for name, layout in REGISTERS.items():
        if layout is FaultRecord or layout.copies > 1 or layout.mmio_base not in (None, "iro") or not page.has(layout):
            continue
        word = page.read(layout)
        if name in _ALWAYS or int(word) not in (0, layout.power_on):
            yield from _register(name, int(word), layout.width, word.fields())
    for record in page.pending_faults():
        yield from _register("FRCD", int(record), 128, record.fields())


def _register(name: str, value: int, width: int, fields: dict[str, int]) -> Iterator[str]:
    head = f"    {name:<11} {value:#0{width // 4 + 2}x} "
    words = [f"{field}={part if part < 10 else hex(part)}" for field, part in fields.items() if part]
    line = head
    for word in words:
        if len(line) + len(word) > 79:
            yield line.rstrip()
            line = " " * 15
        line += f" {word}"
    yield line.rstrip()


def _cache_lines(unit: RemappingUnit) -> Iterator[str]:
    caches = unit.caches()
    rows = {
        "context-cache": [f"{format_source_id(one.source_id)}" for one in caches.context],
        "PASID-cache": [
            f"{format_source_id(one.source_id)} PASID {one.pasid:#x}, domain {one.domain_id}" for one in caches.pasid
        ],
        "IOTLB": [
            f"{one.iova:#x} -> {one.gpa:#x} ({one.permissions.text()}, {1 << one.page_shift:#x} bytes), "
            f"domain {one.domain_id}, {format_source_id(one.source_id)}"
            for one in caches.iotlb
        ],
        "interrupt entry cache": [f"{one.index}: {int(one.entry):#x}" for one in caches.interrupts],
        "paging-structure caches": [f"level {one.level} of {one.address:#x}: {one.table:#x}" for one in caches.tables],
        "not-present entries": [f"{format_source_id(one.source_id)} {one.address:#x}" for one in caches.not_present],
    }
    for name, entries in rows.items():
        if entries or name in ("context-cache", "IOTLB"):
            yield f"    {name}: {len(entries)}"
            yield from (f"      {entry}" for entry in entries[:_LISTED])
            if len(entries) > _LISTED:
                yield f"      and {len(entries) - _LISTED} more"


def _functions(bus: PciBus) -> Iterator[PciFunction]:
    for _, function in sorted(bus.functions.items()):
        yield function
        if function.secondary is not None:
            yield from _functions(function.secondary)


def _function(function: PciFunction) -> str:
    bus = 0 if function.bus is None else function.bus.number
    own = SourceId(bus << 8 | function.devfn)
    alias = "" if function.source_id == own else f", requests as {format_source_id(function.source_id)}"
    name = f' "{function.id}"' if function.id else ""
    return f"{format_source_id(own)} {function.TYPE}{name}{alias}"
