"""One side of a comparison: the spaces, registers and interrupts of an image, or the spaces of a trace's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pagetables.address import DomainId, Gpa, Pasid, SourceId
from pagetables.diff.runs import Run
from pagetables.images.inspection import inspect_unit
from pagetables.images.interrupts import Interrupt
from pagetables.images.registers import RegisterPage
from pagetables.memory import Memory
from pagetables.request import Permissions
from pagetables.scan import Mapping as TableMapping
from pagetables.scan import Space

__all__ = ["Key", "Side", "SpaceState", "image_side"]


class Key(NamedTuple):
    """Who has a space: the number of the unit (0 where only one is known), the requester, its PASID."""

    unit: int
    source_id: SourceId
    pasid: Pasid | None


@dataclass(frozen=True, slots=True)
class SpaceState:
    """What one requester can reach. `runs` are in the order of IOVA; None is what the source does not tell."""

    runs: Sequence[Run]
    domain_id: DomainId | None = None
    translation: str | None = None
    levels: int | None = None
    table: Gpa | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """Everything that is compared. `registers` and `interrupts` are None where the source has none.

    `unclaimed` is what a trace tells of without saying whose it is.
    """

    name: str
    spaces: Mapping[Key, SpaceState]
    registers: tuple[RegisterPage, ...] | None = None
    interrupts: Mapping[tuple[int, int], Interrupt] | None = None
    is_trace: bool = False
    unclaimed: tuple[Sequence[Run], ...] = ()
    notes: tuple[str, ...] = field(default=())


def image_side(name: str, memory: Memory, pages: Sequence[RegisterPage]) -> Side:
    """An image with the registers of its units; a page made from a root table address alone counts as no registers."""
    spaces: dict[Key, SpaceState] = {}
    interrupts: dict[tuple[int, int], Interrupt] = {}
    notes: list[str] = []
    known: dict[int, tuple[Run, ...]] = {}
    for unit, page in enumerate(sorted(pages, key=lambda page: page.base or 0)):
        report = inspect_unit(memory, page)
        for space in report.spaces:
            spaces[Key(unit, space.source_id, space.pasid)] = _state(space, known)
        interrupts |= {(unit, one.index): one for one in report.interrupts}
        notes += [f"{name}: {finding.message}" for finding in report.findings]
    has_registers = all(page.base is not None for page in pages)
    ordered = tuple(sorted(pages, key=lambda page: page.base or 0)) if has_registers else None
    return Side(name, spaces, ordered, interrupts if has_registers else None, notes=tuple(notes))


def _state(space: Space, known: dict[int, tuple[Run, ...]]) -> SpaceState:
    mappings = space.mappings
    if id(mappings) not in known:  # devices that share tables share the list, too
        known[id(mappings)] = tuple(map(_run, mappings))
    name = space.translation.name.lower().replace("_", "-")
    return SpaceState(known[id(mappings)], space.domain_id, name, space.levels, space.table)


def _run(one: TableMapping) -> Run:
    return Run(one.iova, one.gpa, one.size, one.access | (Permissions.USER if one.user else Permissions.NONE))
