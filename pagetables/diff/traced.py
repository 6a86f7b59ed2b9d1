"""An image as a trace sees it, so that the two can be compared.

A trace knows one unit, no PASID, no U/S bit and no aliases; and of some mappings it does not say whose they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pagetables.address import format_source_id
from pagetables.diff.runs import Run, common, disjoint, uncovered
from pagetables.diff.sides import Key, Side, SpaceState
from pagetables.request import Permissions

__all__ = ["as_traced"]

Spaces = Mapping[Key, SpaceState]
_READ_WRITE = Permissions.R | Permissions.W


def as_traced(before: Side, after: Side, notes: list[str]) -> tuple[Spaces, Spaces]:
    """The spaces of both sides, one of which is a trace, in a form that can be compared; `notes` get what is left."""
    image, trace = (after, before) if before.is_trace else (before, after)
    flat = _flat(image, trace, notes)
    tables = {id(state.runs): _plain(state.runs) for state in flat.values()}
    found = {key: replace(state, runs=tables[id(state.runs)]) for key, state in flat.items()}
    told, claimed = _with_unclaimed(found, trace)
    if claimed:
        notes.append(f"{claimed} bytes are mapped alike, but the trace does not say for whom")
    return (told, found) if before.is_trace else (found, told)


def _flat(image: Side, trace: Side, notes: list[str]) -> dict[Key, SpaceState]:
    # RID_PASID is 0, as Linux sets it.
    if left := sum(bool(key.pasid) for key in image.spaces):
        notes.append(f"{left} spaces of requests with a PASID are not compared: a trace does not tell of them")
    flat = {Key(0, key.source_id, None): state for key, state in image.spaces.items() if not key.pasid}
    for key in [key for key in flat if key not in trace.spaces and _is_alias(key, flat)]:
        notes.append(f"{format_source_id(key.source_id)} is an alias of its bus, which a trace does not tell of")
        del flat[key]
    return flat


def _is_alias(key: Key, flat: Mapping[Key, SpaceState]) -> bool:
    # Device 0, function 0 of a bus, with the tables of another device there: conventional PCI behind a bridge.
    mates = (one for one in flat if one != key and one.source_id >> 8 == key.source_id >> 8)
    return not key.source_id & 0xFF and any(flat[one].table == flat[key].table for one in mates)


def _plain(runs: Sequence[Run]) -> list[Run]:
    return disjoint(run._replace(access=None if run.access is None else run.access & _READ_WRITE) for run in runs)


def _with_unclaimed(tables: Spaces, trace: Side) -> tuple[dict[Key, SpaceState], int]:
    # The trace's spaces, each with what its tables have and the trace tells of without saying whose it is.
    told: dict[Key, SpaceState] = {}
    known: dict[tuple[int, int], list[Run]] = {}
    claimed = 0
    for key, state in trace.spaces.items():
        image = tables.get(key, state)
        name = id(image.runs), id(state.runs)
        if name not in known:
            runs = _readable(state.runs) if image.translation == "first-stage" else list(state.runs)
            found = disjoint(run for part in trace.unclaimed for run in common(image.runs, part))
            missing = list(uncovered(found, runs))
            claimed += sum(run.size for run in missing)
            known[name] = disjoint([*runs, *missing])
        told[key] = replace(state, runs=known[name])
    return told, claimed


def _readable(runs: Sequence[Run]) -> list[Run]:
    # What first-stage tables let be written they let be read.
    return [run._replace(access=run.access and run.access | Permissions.R) for run in runs]
