"""Rules of the DMAR table: what firmware asks for, held against what the tables say."""

from __future__ import annotations

from collections.abc import Iterator

from pagetables.address import SourceId, format_source_id
from pagetables.audit.ranges import NOTHING, Ranges
from pagetables.audit.regions import RegionKind
from pagetables.audit.rule import Device, Hit, Severity, Subject, rule
from pagetables.audit.scene import Requester, Scene, Unit
from pagetables.errors import InputError
from pagetables.layouts.dmar import DeviceScope, DmarTable, Drhd, Rmrr
from pagetables.layouts.registers import GlobalStatus
from pagetables.request import Permissions
from pagetables.wording import human_size, names

__all__ = ["NOT_AUDITED", "NOT_IN_DMAR", "RMRR_IN_RAM", "RMRR_MISSING", "RMRR_TOO_WIDE", "reserved_for"]


def _rmrrs(table: DmarTable | None) -> Iterator[tuple[Rmrr, Ranges]]:
    for one in table.structures if table is not None else ():
        if isinstance(one, Rmrr) and one.base <= one.limit < 1 << 63:
            yield one, _memory(one)


def _memory(rmrr: Rmrr) -> Ranges:
    return Ranges.of([(rmrr.base, rmrr.limit + 1 - rmrr.base)])


def _devices(rmrr: Rmrr) -> set[SourceId]:
    # Behind a bridge the table does not say the bus number: such devices are not looked for.
    return {source for scope in rmrr.scopes if (source := _source(scope)) is not None}


def _source(scope: DeviceScope) -> SourceId | None:
    try:
        return scope.source_id
    except InputError:  # a device or function that PCI does not have: `vtd dmar` complains about it
        return None


def _drhd(scene: Scene, unit: Unit) -> Drhd | None:
    if scene.dmar is None:
        return None
    base = unit.registers.base
    if base is None:  # then only one can be meant
        return scene.dmar.units[0] if len(scene.dmar.units) == 1 else None
    return next((one for one in scene.dmar.units if one.base == base), None)


def _serves(scene: Scene, unit: Unit, rmrr: Rmrr, source: SourceId) -> bool:
    own = _drhd(scene, unit)
    if own is None or own.segment != rmrr.segment or scene.dmar is None:
        return False
    named = {one.base for one in scene.dmar.units if one.segment == own.segment and _names(one, source)}
    return own.base in named or (own.include_all and not named)


def _names(drhd: Drhd, source: SourceId) -> bool:
    return any(_source(scope) == source for scope in drhd.scopes)


def reserved_for(scene: Scene, requester: Requester) -> Ranges:
    """The memory that firmware reserves for `requester`: what it must reach at its own addresses."""
    unit, source = scene.units[requester.device.unit], requester.device.source_id
    found = NOTHING
    for rmrr, ranges in _rmrrs(scene.dmar):
        if source in _devices(rmrr) and _serves(scene, unit, rmrr, source):
            found = found | ranges
    return found


def _rmrr_missing(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        status = unit.read(GlobalStatus)
        if status is not None and not status.tes:
            continue
        users = {one.device.source_id: one for one in unit.requesters if one.entries.without_pasid}
        for rmrr, _ in _rmrrs(scene.dmar):
            for source in sorted(_devices(rmrr)):
                if _serves(scene, unit, rmrr, source):
                    yield from _missing(scene, unit, rmrr, source, users.get(source))


def _missing(scene: Scene, unit: Unit, rmrr: Rmrr, source: SourceId, user: Requester | None) -> Iterator[Hit]:
    wanted = _memory(rmrr)
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
    for rmrr, ranges in _rmrrs(scene.dmar):
        found = ranges & ram
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
