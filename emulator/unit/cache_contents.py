"""A unit's caches as values that an image holds and that tables are compared with."""

from __future__ import annotations

from emulator.unit.unit import RemappingUnit
from pagetables.cached import (
    CachedAbsence,
    CachedContext,
    CachedInterrupt,
    CachedPasid,
    CachedTable,
    CachedTranslation,
    UnitCaches,
)

__all__ = ["cache_contents"]


def cache_contents(unit: RemappingUnit) -> UnitCaches:
    """What `unit` has cached now, and how much it could hold."""
    now = unit.caches()
    return UnitCaches(
        register_base=unit.base,
        profile=unit.profile.name,
        root_table=int(unit.root),
        interrupt_table=int(unit.interrupt_table),
        haw=unit.capabilities.haw,
        capacities=_capacities(unit),
        contexts=tuple(CachedContext(one.source_id, int(one.context.entry), one.context.legacy) for one in now.context),
        pasids=tuple(CachedPasid(one.source_id, one.pasid, int(one.entry.entry)) for one in now.pasid),
        translations=tuple(
            CachedTranslation(
                *(one.domain_id, one.source_id, one.pasid, int(one.translation), one.privileged, one.iova),
                *(one.page_shift, one.gpa, int(one.permissions), one.rid_pasid, one.dirty),
            )
            for one in now.iotlb
        ),
        tables=tuple(
            CachedTable(
                *(int(one.stage), one.domain_id, one.source_id, one.pasid, one.level, one.address, one.table),
                int(one.permissions),
            )
            for one in now.tables
        ),
        interrupts=tuple(CachedInterrupt(one.index, int(one.entry)) for one in now.interrupts),
        absences=tuple(
            CachedAbsence(
                *(one.source_id, one.domain_id, one.fault.request.pasid, one.address, one.page_shift),
                *(int(one.fault.reason), one.pasid or 0),
            )
            for one in now.not_present
        ),
    )


def _capacities(unit: RemappingUnit) -> dict[str, int]:
    profile = unit.profile
    iotlb = profile.iotlb
    return {
        "contexts": profile.context_cache,
        "pasids": profile.pasid_cache,
        "translations": iotlb.limit or iotlb.sets * iotlb.ways,
        "tables": iotlb.tables,
        "interrupts": profile.interrupt_cache,
        "absences": 3 * profile.context_cache if unit.cap.cm and profile.behaves("cache_not_present") else 0,
    }
