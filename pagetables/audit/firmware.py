"""Rules of the DMAR table: what firmware asks for, held against what the tables say."""

from __future__ import annotations

from collections.abc import Iterator

from pagetables.address import SourceId, format_source_id
from pagetables.audit.ranges import Ranges
from pagetables.audit.regions import RegionKind
from pagetables.audit.reserved import memory_of, usable_rmrrs
from pagetables.audit.rule import Device, Hit, Severity, Subject, rule
from pagetables.audit.scene import Requester, Scene, Unit
from pagetables.layouts.dmar import Rmrr
from pagetables.layouts.registers import GlobalStatus
from pagetables.request import Permissions
from pagetables.wording import human_size, names

__all__ = ["NOT_AUDITED", "NOT_IN_DMAR", "RMRR_IN_RAM", "RMRR_MISSING", "RMRR_TOO_WIDE", "reserved_for"]


def reserved_for(scene: Scene, requester: Requester) -> Ranges:
    """The memory that firmware reserves for `requester`: what it must reach at its own addresses."""
    return memory_of(scene.reserved.get((requester.device.unit, requester.device.source_id), ()))


def _rmrr_missing(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        status = unit.read(GlobalStatus)
        if status is not None and not status.tes:
            continue
        users = {one.device.source_id: one for one in unit.requesters if one.entries.without_pasid}
        for (index, source), rmrrs in scene.reserved.items():
            if index == unit.index:
                for rmrr in rmrrs:
                    yield from _missing(scene, unit, rmrr, source, users.get(source))


def _missing(scene: Scene, unit: Unit, rmrr: Rmrr, source: SourceId, user: Requester | None) -> Iterator[Hit]:
    wanted = memory_of([rmrr])
    at = None if user is None else user.entries.at
    subject = Subject((Device(unit.index, source),), rmrr.base, wanted.size, at, unit.index)
    where = f"{rmrr.base:#x}-{rmrr.limit:#x}, which firmware reserves for {format_source_id(source)} (RMRR)"
    if user is None:
        yield Hit(Severity.NOTE, f"{where}, cannot be reached by it: it has no tables", subject)
    elif user.domain is not None:
        lacking = wanted - scene.domains[user.domain].identity(Permissions.R | Permissions.W)
        if len(lacking):
            start = next(iter(lacking))[0]
            text = f"{where}: {human_size(lacking.size)} of it are not mapped for that, from {start:#x} on"
            yield Hit(Severity.WARNING, text, subject)


RMRR_MISSING = rule("VTD601", "rmrr-missing", Severity.WARNING, "reserved memory of firmware is not mapped")(
    _rmrr_missing
)


def _rmrr_too_wide(scene: Scene) -> Iterator[Hit]:
    for one in scene.requesters:
        wanted = reserved_for(scene, one)
        if not len(wanted) or one.domain is None:
            continue
        identity = scene.domains[one.domain].identity()
        touching = {identity.around(start) for start, _ in identity & wanted}
        for start, size in sorted(around for around in touching if around is not None):
            beyond = Ranges.of([(start, size)]) - wanted
            if len(beyond):
                text = (
                    f"{one.device} has {start:#x}-{start + size - 1:#x} mapped for its reserved memory: "
                    f"{human_size(beyond.size)} more than firmware asks for"
                )
                first = next(iter(beyond))
                yield Hit(Severity.WARNING, text, Subject((one.device,), *first, one.entries.at))


RMRR_TOO_WIDE = rule("VTD602", "rmrr-too-wide", Severity.WARNING, "more is mapped than firmware reserves")(
    _rmrr_too_wide
)


def _rmrr_in_ram(scene: Scene) -> Iterator[Hit]:
    ram = Ranges.of((one.start, one.size) for one in scene.of_kind(RegionKind.RAM))
    for rmrr in usable_rmrrs(scene.dmar):
        found = memory_of([rmrr]) & ram
        if len(found):
            start, size = next(iter(found))
            text = (
                f"the RMRR {rmrr.base:#x}-{rmrr.limit:#x} holds {human_size(found.size)} that the operating system "
                f"uses, from {start:#x} on: its devices write there"
            )
            yield Hit(Severity.ERROR, text, Subject(start=start, size=size))


RMRR_IN_RAM = rule("VTD603", "rmrr-in-ram", Severity.ERROR, "firmware reserves memory that the system uses")(
    _rmrr_in_ram
)


def _not_in_dmar(scene: Scene) -> Iterator[Hit]:
    if scene.dmar is None:
        return
    known = [one.base for one in scene.dmar.units]
    for unit in scene.units:
        base = unit.registers.base
        if base is not None and base not in known:
            text = f"{unit} is none of those in the DMAR table ({names(f'{one:#x}' for one in known) or 'it has none'})"
            yield Hit(Severity.WARNING, text, Subject(start=base, unit=unit.index))


NOT_IN_DMAR = rule("VTD604", "unit-not-in-dmar", Severity.WARNING, "the DMAR table does not know the unit")(
    _not_in_dmar
)


def _not_audited(scene: Scene) -> Iterator[Hit]:
    if scene.dmar is None or any(unit.registers.base is None for unit in scene.units):
        return
    seen = {unit.registers.base for unit in scene.units}
    for drhd in scene.dmar.units:
        if drhd.base not in seen:
            text = f"the unit at {drhd.base:#x} of the DMAR table was not looked at: its registers are not here"
            yield Hit(Severity.NOTE, text, Subject(start=drhd.base))


NOT_AUDITED = rule("VTD605", "unit-not-audited", Severity.NOTE, "a unit of the platform was not looked at")(
    _not_audited
)
