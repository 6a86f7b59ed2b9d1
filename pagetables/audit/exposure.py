"""Rules of memory: what must not be reached by DMA, and who reaches it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping

from pagetables import walk
from pagetables.address import PAGE_SIZE, SourceId
from pagetables.audit.ranges import Ranges
from pagetables.audit.regions import RegionKind
from pagetables.audit.rule import Hit, Severity, Subject, rule
from pagetables.audit.scene import Domain, Requester, Scene, Structure
from pagetables.wording import human_size, names

__all__ = ["INTERRUPT_RANGE", "KERNEL_MEMORY", "OTHERS_MEMORY", "OWN_STRUCTURES"]

_Severities = tuple[Severity, Severity]  # where it can be written; where it can be read only
_KERNEL: Mapping[RegionKind, _Severities] = {
    RegionKind.TEXT: (Severity.ERROR, Severity.WARNING),
    RegionKind.TABLES: (Severity.ERROR, Severity.WARNING),
    RegionKind.RODATA: (Severity.ERROR, Severity.NOTE),
    RegionKind.DATA: (Severity.WARNING, Severity.NOTE),
}
_PRIVATE: Mapping[RegionKind, _Severities] = {RegionKind.PRIVATE: (Severity.ERROR, Severity.WARNING)}
_INTERRUPTS = Ranges.of([(walk.INTERRUPT_RANGE[0], walk.INTERRUPT_RANGE[1] - walk.INTERRUPT_RANGE[0])])


def _exposed(domain: Domain, what: Ranges, name: str, severities: _Severities) -> Iterator[Hit]:
    written, seen = domain.writable & what, domain.readable & what
    for found, verb, severity in ((written, "write", severities[0]), (seen - written, "read", severities[1])):
        if len(found):
            start, size = next(iter(found))
            text = f"{names(domain.devices)} can {verb} {human_size(found.size)} of {name}, at {start:#x}"
            yield Hit(severity, text, Subject(domain.devices, start, size, domain.requesters[0].entries.at))


def _regions(scene: Scene, severities: Mapping[RegionKind, _Severities]) -> Iterator[Hit]:
    # Regions of one name and owner are one: two sweeps a domain, however many there are.
    groups: dict[tuple[RegionKind, str, tuple[SourceId, ...]], list[tuple[int, int]]] = {}
    for region in scene.of_kind(*severities):
        groups.setdefault((region.kind, region.name, region.devices), []).append((region.start, region.size))
    for (kind, name, owners), pieces in groups.items():
        what = Ranges.of(pieces)
        for domain in scene.domains:
            if not all(device.source_id in owners for device in domain.devices):
                yield from _exposed(domain, what, name, severities[kind])


def _kernel_memory(scene: Scene) -> Iterator[Hit]:
    return _regions(scene, _KERNEL)


KERNEL_MEMORY = rule("VTD201", "kernel-memory", Severity.ERROR, "a device reaches the kernel itself")(_kernel_memory)


def _own_structures(scene: Scene) -> Iterator[Hit]:
    tables = Ranges.of((page, PAGE_SIZE) for page in scene.tables.pages)
    everyone = [("the paging tables", tables)]
    for unit in scene.units:
        everyone += [(_name(one, len(scene.units), str(unit)), one.ranges) for one in unit.structures]
    for name, what in everyone:
        for domain in scene.domains:
            yield from _exposed(domain, what, name, (Severity.ERROR, Severity.WARNING))


def _name(structure: Structure, units: int, unit: str) -> str:
    return f"the {structure.name}" + (f" of {unit}" if units > 1 else "")


OWN_STRUCTURES = rule(
    "VTD202", "own-structures", Severity.ERROR, "a device reaches the tables or queues that hold it back"
)(_own_structures)


def _others_memory(scene: Scene) -> Iterator[Hit]:
    return _regions(scene, _PRIVATE)


OTHERS_MEMORY = rule("VTD203", "others-memory", Severity.ERROR, "a device reaches memory that is another's")(
    _others_memory
)


def _interrupt_range(scene: Scene) -> Iterator[Hit]:
    for domain in scene.domains:
        found = domain.reachable & _INTERRUPTS
        if len(found):
            start, size = next(iter(found))
            text = (
                f"mappings of {names(domain.devices)} lead to {start:#x}, where interrupts are sent: they are refused"
            )
            yield Hit(Severity.WARNING, text, Subject(domain.devices, start, size, domain.requesters[0].entries.at))
        users = [one for one in domain.requesters if one.entries.without_pasid]
        if users and _maps_interrupts(users[0]):
            devices = tuple(one.device for one in users)
            text = (
                f"0xfee00000-0xfeefffff is mapped for {names(devices)}: writes there are interrupts, whatever is mapped"
            )
            yield Hit(Severity.NOTE, text, Subject(devices, entry=users[0].entries.at))


def _maps_interrupts(user: Requester) -> bool:
    (first, size), *_ = _INTERRUPTS
    runs = user.space.mappings
    index = bisect_right(runs, first + size - 1, key=lambda one: one.iova) - 1
    return index >= 0 and runs[index].iova + runs[index].size > first


INTERRUPT_RANGE = rule("VTD204", "interrupt-range", Severity.WARNING, "mappings touch the addresses of interrupts")(
    _interrupt_range
)
