"""Rules of the tables themselves: entries that a unit refuses, tables that hang together wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pagetables.address import PAGE_SIZE
from pagetables.audit.links import Sharing
from pagetables.audit.rule import Device, Hit, Severity, Subject, rule
from pagetables.audit.scene import Requester, Scene, Unit
from pagetables.fault import FaultReason
from pagetables.scan import Finding
from pagetables.wording import count, human_size, names

__all__ = [
    "ADDRESS_WIDTH",
    "BEYOND_WIDTH",
    "EMPTY_TABLE",
    "INCOMPLETE",
    "INVALID_ENTRY",
    "LINKED_TWICE",
    "LOOP",
    "OUTSIDE_MEMORY",
    "RESERVED_BITS",
    "SHARED_TABLE",
    "TABLE_MODE",
]

_RESERVED = {
    FaultReason.ROOT_RESERVED,
    FaultReason.CONTEXT_RESERVED,
    FaultReason.SM_ROOT_RESERVED,
    FaultReason.SM_CONTEXT_RESERVED,
    FaultReason.PASID_DIRECTORY_RESERVED,
    FaultReason.PASID_ENTRY_RESERVED,
    FaultReason.IR_RESERVED,
}


def _told(*kinds: str) -> Callable[[Finding], bool]:
    return lambda finding: finding.kind in kinds


def _from_scan(scene: Scene, severity: Severity, wanted: Callable[[Finding], bool]) -> Iterator[Hit]:
    for unit in scene.units:
        for finding in unit.report.findings:
            if wanted(finding):
                devices = () if finding.source is None else (Device(unit.index, finding.source),)
                yield Hit(severity, finding.message, Subject(devices, entry=finding.at, unit=unit.index))


def _has_reserved_bits(finding: Finding) -> bool:
    return finding.kind == "reserved-bits" or finding.reason in _RESERVED


RESERVED_BITS = rule("VTD301", "reserved-bits", Severity.ERROR, "reserved bits are set")(
    lambda scene: _from_scan(scene, Severity.ERROR, _has_reserved_bits)
)


def _address_width(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        for one, stage, levels, supported in _unsupported(unit):
            known = names(sorted(supported)) or "none"
            text = (
                f"{one.device} has {stage} tables of {levels} levels, and {unit} knows {known}: it refuses all requests"
            )
            yield Hit(Severity.ERROR, text, Subject((one.device,), entry=one.entries.at, unit=unit.index))


def _unsupported(unit: Unit) -> Iterator[tuple[Requester, str, int, frozenset[int]]]:
    second, first = unit.capabilities.second_stage_levels, unit.capabilities.first_stage_levels
    for one in unit.requesters:
        source = one.entries.source
        if source.ss_levels and source.ss_levels not in second:
            yield one, "second-stage", source.ss_levels, second
        if source.fs_levels and source.fs_levels not in first:
            yield one, "first-stage", source.fs_levels, first


ADDRESS_WIDTH = rule("VTD302", "address-width", Severity.ERROR, "tables have a width that the unit does not support")(
    _address_width
)


def _invalid_entry(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        told = {one.entries.at for one, *_ in _unsupported(unit)}
        for finding in unit.report.findings:
            if finding.kind == "bad-entry" and finding.reason not in _RESERVED and finding.at not in told:
                devices = () if finding.source is None else (Device(unit.index, finding.source),)
                yield Hit(Severity.ERROR, finding.message, Subject(devices, entry=finding.at, unit=unit.index))


INVALID_ENTRY = rule("VTD303", "invalid-entry", Severity.ERROR, "an entry asks for what the unit cannot do")(
    _invalid_entry
)

OUTSIDE_MEMORY = rule("VTD304", "outside-memory", Severity.WARNING, "a table is outside memory")(
    lambda scene: _from_scan(scene, Severity.WARNING, _told("missing-table", "partial-table"))
)


def _loop(scene: Scene) -> Iterator[Hit]:
    yield from _from_scan(scene, Severity.ERROR, _told("loop"))
    loops = {
        finding.at // PAGE_SIZE
        for unit in scene.units
        for finding in unit.report.findings
        if finding.kind == "loop" and finding.at is not None
    }
    for one in scene.tables.levels:
        if one.link.at is None or one.link.at // PAGE_SIZE not in loops:
            yield Hit(
                Severity.ERROR, f"{_table(one)}, and as one of level {one.level} {_users(scene, one)}", _of(scene, one)
            )


def _table(sharing: Sharing) -> str:
    return f"the table at {sharing.link.table:#x} is used as one of level {sharing.link.level}"


def _users(scene: Scene, sharing: Sharing) -> str:
    if sharing.tree == sharing.other:
        return f"by {names(scene.domains[sharing.tree].devices)} alike"
    first, second = (scene.domains[index].devices for index in (sharing.tree, sharing.other))
    return f"(by {names(first)}, and by {names(second)})"


def _of(scene: Scene, sharing: Sharing) -> Subject:
    domains = dict.fromkeys((sharing.tree, sharing.other))
    devices = tuple(device for index in domains for device in scene.domains[index].devices)
    return Subject(devices, sharing.link.table, PAGE_SIZE, sharing.link.at)


LOOP = rule("VTD305", "table-loop", Severity.ERROR, "a table is used at two levels, or leads back to itself")(_loop)


def _shared_table(scene: Scene) -> Iterator[Hit]:
    groups: dict[tuple[int, int], list[Sharing]] = {}
    for one in scene.tables.between:
        groups.setdefault((one.other, one.tree), []).append(one)
    for (first, second), shared in groups.items():
        some = names(scene.domains[first].devices), names(scene.domains[second].devices)
        text = (
            f"{count(len(shared), 'table')} of {some[0]} serve {some[1]} as well, the first at "
            f"{shared[0].link.table:#x} (level {shared[0].link.level}): a mapping for the one is one for the other"
        )
        yield Hit(Severity.WARNING, text, _of(scene, shared[0]))


SHARED_TABLE = rule("VTD306", "shared-table", Severity.WARNING, "tables are shared between domains")(_shared_table)

LINKED_TWICE = rule("VTD307", "linked-twice", Severity.WARNING, "a table is linked more than once in one space")(
    lambda scene: _from_scan(scene, Severity.WARNING, _told("shared-table"))
)


def _empty_table(scene: Scene) -> Iterator[Hit]:
    for index, links in scene.tables.empty.items():
        devices = scene.domains[index].devices
        first = links[0]
        text = (
            f"{count(len(links), 'empty table')} of {names(devices)} ({human_size(len(links) * PAGE_SIZE)}): "
            f"the first is at {first.table:#x}, for {first.iova:#x}"
        )
        yield Hit(Severity.NOTE, text, Subject(devices, first.table, PAGE_SIZE, first.at))


EMPTY_TABLE = rule("VTD308", "empty-table", Severity.NOTE, "tables are linked but empty")(_empty_table)

BEYOND_WIDTH = rule("VTD309", "beyond-width", Severity.WARNING, "mappings lie beyond the address width")(
    lambda scene: _from_scan(scene, Severity.WARNING, _told("beyond-width"))
)

TABLE_MODE = rule("VTD310", "table-mode", Severity.ERROR, "the root table address has a reserved mode")(
    lambda scene: _from_scan(scene, Severity.ERROR, _told("table-mode"))
)

INCOMPLETE = rule("VTD311", "incomplete", Severity.NOTE, "not everything was looked at")(
    lambda scene: _from_scan(scene, Severity.NOTE, _told("cut"))
)
