"""Rules of domain-ids: they tag what a unit caches, so that two meanings of one tag mix two devices' translations."""

from __future__ import annotations

from collections.abc import Iterator

from pagetables.audit.rule import Hit, Severity, Subject, rule
from pagetables.audit.scene import Requester, Scene, Unit
from pagetables.layouts.registers import Capability
from pagetables.source import TranslationType
from pagetables.wording import names

__all__ = ["ID_ACROSS_STAGES", "ID_REUSED", "ID_ZERO", "SEVERAL_IDS"]

_Tag = tuple[str, int, int]


def _tags(requester: Requester) -> Iterator[tuple[_Tag, tuple[int, int]]]:
    # First-stage translations are tagged with the PASID as well; second-stage ones by the domain-id alone.
    source, domain_id = requester.entries.source, requester.space.domain_id
    if source.ss_levels:
        yield ("second-stage", domain_id, 0), (source.ss_table, source.ss_levels)
    if source.fs_levels:
        yield ("first-stage", domain_id, requester.space.pasid or 0), (source.fs_table, source.fs_levels)


def _reused(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        tables: dict[_Tag, dict[tuple[int, int], Requester]] = {}
        for one in unit.requesters:
            for tag, table in _tags(one):
                tables.setdefault(tag, {}).setdefault(table, one)
        for (stage, domain_id, _), users in tables.items():
            if len(users) > 1:
                devices = tuple(one.device for one in users.values())
                where = names(f"{table:#x}" for table, _ in users)
                text = (
                    f"domain {domain_id} stands for {len(users)} different {stage} tables ({where}): what the unit "
                    f"caches for one of {names(devices)} may serve another"
                )
                at = next(iter(users.values())).entries.at
                yield Hit(Severity.ERROR, text, Subject(devices, entry=at, unit=unit.index))


ID_REUSED = rule("VTD107", "domain-id-reused", Severity.ERROR, "one domain-id stands for different tables")(_reused)


def _across_stages(scene: Scene) -> Iterator[Hit]:
    stages = (TranslationType.FIRST_STAGE, TranslationType.SECOND_STAGE)
    for unit in scene.units:
        users: dict[int, dict[TranslationType, Requester]] = {}
        for one in unit.requesters:
            if one.space.translation in stages:
                users.setdefault(one.space.domain_id, {}).setdefault(one.space.translation, one)
        for domain_id, by_stage in users.items():
            if len(by_stage) > 1:
                first, second = (by_stage[stage] for stage in stages)
                text = (
                    f"domain {domain_id} is first-stage for {first.device} and second-stage for {second.device}: an "
                    "invalidation of the one kind does not drop what the other cached"
                )
                yield Hit(Severity.WARNING, text, _pair(unit, first, second))


def _pair(unit: Unit, one: Requester, other: Requester) -> Subject:
    return Subject((one.device, other.device), entry=one.entries.at, unit=unit.index)


ID_ACROSS_STAGES = rule(
    "VTD108", "domain-id-across-stages", Severity.WARNING, "a domain-id is used by first-stage and second-stage alike"
)(_across_stages)


def _several_ids(scene: Scene) -> Iterator[Hit]:
    for domain in scene.domains:
        for unit in scene.units:
            users = {one.space.domain_id: one for one in domain.requesters if one.device.unit == unit.index}
            if len(users) > 1:
                devices = tuple(one.device for one in users.values())
                text = (
                    f"the tables of {names(devices)} are known by domain-ids {names(users)}: an unmap must invalidate "
                    "under each of them"
                )
                yield Hit(
                    Severity.WARNING, text, Subject(devices, entry=domain.requesters[0].entries.at, unit=unit.index)
                )


SEVERAL_IDS = rule("VTD109", "several-domain-ids", Severity.WARNING, "one set of tables has several domain-ids")(
    _several_ids
)


def _zero(scene: Scene) -> Iterator[Hit]:
    for unit in scene.units:
        capability = unit.read(Capability)
        if capability is None or not capability.cm:
            continue
        for one in unit.requesters:
            if one.space.domain_id == 0:
                text = f"{one.device} has domain-id 0, with which a unit in caching mode (CAP.CM) tags missing entries"
                yield Hit(Severity.WARNING, text, Subject((one.device,), entry=one.entries.at, unit=unit.index))


ID_ZERO = rule("VTD110", "domain-id-zero", Severity.WARNING, "domain-id 0 is used though caching mode reserves it")(
    _zero
)
