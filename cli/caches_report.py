"""What `vtd caches` prints: each cache of each unit, and which entries memory no longer agrees with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cli.outline import Node, print_outline
from cli.render import address, human_size
from pagetables.address import format_source_id
from pagetables.cache_check import Cached, CheckedEntry, Freshness
from pagetables.cached import (
    CachedAbsence,
    CachedContext,
    CachedInterrupt,
    CachedPasid,
    CachedTable,
    CachedTranslation,
    UnitCaches,
)
from pagetables.fault import FaultReason
from pagetables.interrupt_entry import interrupt_entry
from pagetables.layouts.context import LegacyContextEntry, ScalableContextEntry
from pagetables.layouts.pasid import PasidTableEntry
from pagetables.layouts.values import TranslationType
from pagetables.request import Permissions

__all__ = ["CheckedUnit", "caches_document", "has_stale", "print_caches"]

_NAMES = {
    "contexts": "context cache",
    "pasids": "PASID cache",
    "translations": "IOTLB",
    "tables": "paging-structure caches",
    "interrupts": "interrupt entry cache",
    "absences": "not-present entries",
}
_KINDS: dict[str, type[Any]] = {
    "contexts": CachedContext,
    "pasids": CachedPasid,
    "translations": CachedTranslation,
    "tables": CachedTable,
    "interrupts": CachedInterrupt,
    "absences": CachedAbsence,
}
_DEVICES = ("source_id",)
_PLAIN = ("domain_id", "level", "index", "pasid", "rid_pasid", "reason")


@dataclass(frozen=True, slots=True)
class CheckedUnit:
    """A unit's caches, with every entry compared with the tables in memory."""

    caches: UnitCaches
    entries: tuple[CheckedEntry, ...]

    def of_kind(self, name: str) -> list[CheckedEntry]:
        """The entries of one cache, by its field in `UnitCaches`."""
        return [one for one in self.entries if isinstance(one.entry, _KINDS[name])]

    @property
    def stale(self) -> int:
        """How many entries memory no longer agrees with."""
        return sum(one.freshness is Freshness.STALE for one in self.entries)


def has_stale(units: Sequence[CheckedUnit]) -> bool:
    """True if any unit would use something that memory no longer says."""
    return any(unit.stale for unit in units)


# -- JSON -------------------------------------------------------------------------------------------------------------


def caches_document(units: Sequence[CheckedUnit]) -> dict[str, Any]:
    """The JSON document: each unit with its caches by name, `capacity` and `entries` of each, `state` of each entry."""
    return {"units": [_unit(unit) for unit in units]}


def _unit(unit: CheckedUnit) -> dict[str, Any]:
    caches = unit.caches
    return {
        "register_base": address(caches.register_base),
        "profile": caches.profile,
        "root_table": address(caches.root_table),
        "interrupt_table": address(caches.interrupt_table),
        "stale": unit.stale,
        "caches": {
            name: {"capacity": caches.capacities.get(name), "entries": [_entry(one) for one in unit.of_kind(name)]}
            for name in _NAMES
        },
    }


def _entry(one: CheckedEntry) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in dataclasses.asdict(one.entry).items():
        fields |= _field(name, value)
    return {**fields, "state": one.freshness.value, "why": one.why}


def _field(name: str, value: Any) -> dict[str, Any]:
    if name == "permissions":
        return {"access": Permissions(value).text(), "execute": bool(Permissions(value) & Permissions.X)}
    if name == "page_shift":
        return {"page_size": 1 << value if value else 0}
    if name == "stage":
        return {name: _stage(value)}
    if name in _DEVICES and value is not None:
        return {name: format_source_id(value)}
    return {name: value if isinstance(value, bool) or value is None or name in _PLAIN else address(value)}


# -- people -----------------------------------------------------------------------------------------------------------


def print_caches(units: Sequence[CheckedUnit]) -> None:
    """Print each unit as a tree of its caches."""
    for unit in units:
        caches = unit.caches
        stale = f", {unit.stale} stale" if unit.stale else ""
        text = f"unit at {caches.register_base:#x}, profile {caches.profile}: {len(unit.entries)} cached{stale}"
        print_outline(Node(text, "bold", _caches(unit)))


def _caches(unit: CheckedUnit) -> Iterator[Node]:
    for name, spoken in _NAMES.items():
        entries, capacity = unit.of_kind(name), unit.caches.capacities.get(name)
        if capacity or entries:
            yield Node(f"{spoken}: {len(entries)} of {capacity}", children=map(_line, entries))


def _line(one: CheckedEntry) -> Node:
    text = _TEXTS[type(one.entry)](one.entry)
    if one.freshness is Freshness.SAME:
        return Node(text)
    style = "bold red" if one.freshness is Freshness.STALE else "dim"
    return Node(text, children=[Node(f"{one.freshness.value}: {one.why}", style)])


def _context(one: CachedContext) -> str:
    layout = LegacyContextEntry if one.legacy else ScalableContextEntry
    return f"{format_source_id(one.source_id)}  {_fields(layout(one.entry).fields())}"


def _pasid(one: CachedPasid) -> str:
    return f"{format_source_id(one.source_id)} PASID {one.pasid:#x}  {_fields(PasidTableEntry(one.entry).fields())}"


def _translation(one: CachedTranslation) -> str:
    who = _requester(one.source_id, one.pasid)
    what = f"{one.iova:#x} -> {one.gpa:#x}  {human_size(1 << one.page_shift)} {_rights(one.permissions)}"
    marks = "".join(word for word, there in ((" privileged", one.privileged), (" dirty", one.dirty)) if there)
    return f"{what}  {who} domain {one.domain_id} {_stage(one.stage)}{marks}"


def _table(one: CachedTable) -> str:
    who = "" if one.source_id is None else f" {_requester(one.source_id, one.pasid)}"
    return (
        f"level {one.level} of {one.address:#x} -> table {one.table:#x}  {_rights(one.permissions)} "
        f"domain {one.domain_id}{who} {_stage(one.stage)}"
    )


def _interrupt(one: CachedInterrupt) -> str:
    return f"index {one.index:#x}  {_fields(interrupt_entry(one.entry).fields())}"


def _absence(one: CachedAbsence) -> str:
    size = f" {human_size(1 << one.page_shift)}" if one.page_shift else ""
    where = f" at {one.address:#x}{size}" if size else ""
    meaning = next((reason.meaning for reason in FaultReason if reason == one.reason), "")
    return f"{_requester(one.source_id, one.pasid)}{where}: {one.reason:02x}h {meaning}".rstrip()


def _requester(source_id: int, pasid: int | None) -> str:
    return format_source_id(source_id) + ("" if pasid is None else f" PASID {pasid:#x}")


def _fields(fields: dict[str, int]) -> str:
    return " ".join(f"{name.upper()}={value:#x}" for name, value in fields.items() if value)


def _rights(permissions: int) -> str:
    rights = Permissions(permissions)
    return rights.text() + ("x" if rights & Permissions.X else "")


def _stage(stage: int) -> str:
    return TranslationType(stage).name.lower().replace("_", "-")


_TEXTS: dict[type[Cached], Any] = {
    CachedContext: _context,
    CachedPasid: _pasid,
    CachedTranslation: _translation,
    CachedTable: _table,
    CachedInterrupt: _interrupt,
    CachedAbsence: _absence,
}
