"""What may be wrong with the device scopes of a DMAR table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pagetables.dmar_rules import Complaint, Placed, of_kind
from pagetables.layouts.dmar import Andd, DeviceScope, DmarTable, Drhd, ScopeType, Sidp
from pagetables.severity import Severity

__all__ = ["check_scopes", "scope_text"]

_NAMES = {1: "endpoint", 2: "bridge", 3: "IOAPIC", 4: "HPET", 5: "namespace device"}
_NUMBERED = (ScopeType.IOAPIC, ScopeType.HPET, ScopeType.NAMESPACE_DEVICE)
NOTE, WARNING, ERROR = Severity
SIDP_FLAGS = 0b11111


def scope_text(scope: DeviceScope) -> str:
    """A scope in words: `bridge 00:1c.0`, `IOAPIC 9 at f0:1f.0`, `endpoint 00:1c.0/00.1` behind a bridge."""
    first, *rest = (f"{device:02x}.{function:x}" for device, function in scope.path)
    path = "/".join((f"{scope.start_bus:02x}:{first}", *rest))
    kind = _NAMES.get(scope.type, f"type {scope.type}")
    return f"{kind} {scope.enum_id} at {path}" if scope.type in _NUMBERED else f"{kind} {path}"


def check_scopes(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    """What is wrong with the scopes of all structures."""
    for one in placed:
        scopes: tuple[DeviceScope, ...] = getattr(one.structure, "scopes", ())
        for scope in scopes:
            yield from _plain(one, scope)
        for scope, times in Counter(scopes).items():
            if times > 1:
                yield Complaint("scope-twice", WARNING, f"{one.name} names {scope_text(scope)} twice", one.at)
    yield from _between_units(placed)
    yield from _numbers(table, placed)


def _plain(one: Placed, scope: DeviceScope) -> Iterator[Complaint]:
    text = f"{one.name}: {scope_text(scope)}"
    if scope.type not in _NAMES:
        yield Complaint("scope-type", WARNING, f"{text} is of a type that is not known", one.at)
    elif scope.type in (ScopeType.IOAPIC, ScopeType.HPET) and not isinstance(one.structure, Drhd):
        yield Complaint("scope-type", WARNING, f"{text} belongs into a DRHD", one.at)
    if any(device > 0x1F or function > 7 for device, function in scope.path):
        yield Complaint("scope-path", ERROR, f"{text}: there is no such device or function", one.at)
    if scope.flags & ~(SIDP_FLAGS if isinstance(one.structure, Sidp) else 0):
        yield Complaint("scope-flags", NOTE, f"{text}: reserved flags are set: {scope.flags:#x}", one.at)


def _between_units(placed: Sequence[Placed]) -> Iterator[Complaint]:
    owners: dict[tuple[int, int, int, tuple[tuple[int, int], ...]], Placed] = {}
    for one, drhd in of_kind(placed, Drhd):
        for scope in drhd.scopes:
            if scope.type in (ScopeType.ENDPOINT, ScopeType.BRIDGE):
                key = (drhd.segment, scope.type, scope.start_bus, scope.path)
                owner = owners.setdefault(key, one)
                if owner is not one:
                    text = f"{one.name}: {scope_text(scope)} is served by {owner.name} already"
                    yield Complaint("scope-twice", ERROR, text, one.at)


def _numbers(table: DmarTable, placed: Sequence[Placed]) -> Iterator[Complaint]:
    owners: dict[tuple[int, int], Placed] = {}
    named = {andd.devnum for _, andd in of_kind(placed, Andd)}
    for one, drhd in of_kind(placed, Drhd):
        for scope in drhd.scopes:
            if scope.type in (ScopeType.IOAPIC, ScopeType.HPET):
                owner = owners.setdefault((scope.type, scope.enum_id), one)
                if owner is not one:
                    text = f"{one.name}: {scope_text(scope)} is served by {owner.name} already"
                    yield Complaint("scope-twice", ERROR, text, one.at)
            elif scope.type == ScopeType.NAMESPACE_DEVICE and scope.enum_id not in named:
                text = f"{one.name}: {scope_text(scope)} has no ANDD that gives its name"
                yield Complaint("andd", WARNING, text, one.at)
    if table.interrupt_remapping and owners.keys().isdisjoint({(int(ScopeType.IOAPIC), n) for n in range(256)}):
        text = "no DRHD names an IOAPIC: Linux then leaves interrupt remapping off"
        yield Complaint("ioapic", WARNING, text)
