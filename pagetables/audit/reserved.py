"""Which memory firmware reserves for which device (RMRR), as the DMAR table says: worked out once, for all devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pagetables.address import SourceId
from pagetables.audit.ranges import Ranges
from pagetables.errors import InputError
from pagetables.layouts.dmar import DeviceScope, DmarTable, Drhd, Rmrr

__all__ = ["Reserved", "memory_of", "reserved_memory", "usable_rmrrs"]

Reserved = Mapping[tuple[int, SourceId], Sequence[Rmrr]]  # by unit (its place in the audit) and device


def usable_rmrrs(table: DmarTable | None) -> Iterator[Rmrr]:
    """Those that reserve anything at all; `vtd dmar` complains about the others."""
    for one in table.structures if table is not None else ():
        if isinstance(one, Rmrr) and one.base <= one.limit < 1 << 63:
            yield one


def memory_of(rmrrs: Sequence[Rmrr]) -> Ranges:
    """The memory that `rmrrs` reserve."""
    return Ranges.of((one.base, one.limit + 1 - one.base) for one in rmrrs)


def reserved_memory(table: DmarTable | None, bases: Sequence[int | None]) -> Reserved:
    """What is reserved for the devices behind the units whose registers are at `bases`, by unit and device.

    A unit whose base is not known is the only one of the table, or none of it. Devices behind bridges are left out,
    since the table does not tell their bus numbers.
    """
    if table is None:
        return {}
    units = {index: drhd for index, base in enumerate(bases) if (drhd := _drhd(table, base)) is not None}
    named: dict[tuple[int, SourceId], set[int]] = {}  # segment and device: the bases of the units that name it
    for drhd in table.units:
        for source in _devices(drhd.scopes):
            named.setdefault((drhd.segment, source), set()).add(drhd.base)
    found: dict[tuple[int, SourceId], list[Rmrr]] = {}
    for rmrr in usable_rmrrs(table):
        for source in sorted(_devices(rmrr.scopes)):
            for index, drhd in units.items():
                owners = named.get((rmrr.segment, source), set())
                if drhd.segment == rmrr.segment and (drhd.base in owners or (drhd.include_all and not owners)):
                    found.setdefault((index, source), []).append(rmrr)
    return found


def _drhd(table: DmarTable, base: int | None) -> Drhd | None:
    if base is None:
        return table.units[0] if len(table.units) == 1 else None
    return next((one for one in table.units if one.base == base), None)


def _devices(scopes: Sequence[DeviceScope]) -> set[SourceId]:
    return {source for scope in scopes if (source := _source(scope)) is not None}


def _source(scope: DeviceScope) -> SourceId | None:
    try:
        return scope.source_id
    except InputError:  # a device or function that PCI does not have: `vtd dmar` complains about it
        return None
