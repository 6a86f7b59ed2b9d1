"""The comparison of two sides: spaces by requester, registers by unit, interrupts by index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pagetables.diff.runs import Change, compare
from pagetables.diff.sides import Key, Side, SpaceState
from pagetables.diff.traced import as_traced
from pagetables.images.interrupts import Interrupt
from pagetables.images.registers import RegisterPage
from pagetables.layouts.registers import REGISTERS, Capability, FaultRecord, Register

__all__ = ["Difference", "InterruptChange", "RegisterChange", "SpaceChange", "diff"]

SpaceKind = Literal["come", "gone", "changed"]
_Fields = tuple[tuple[str, Any, Any], ...]
_COMPARED = ("domain_id", "translation", "levels", "table")
_PLACED = (None, "fro", "iro")


@dataclass(frozen=True, slots=True)
class SpaceChange:
    """A space that came, went or changed. `fields` are (name, before, after) of what differs besides the mappings."""

    key: Key
    kind: SpaceKind
    fields: _Fields
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class RegisterChange:
    """A register that differs, `index` counting its copies; `fields` are (name, before, after)."""

    unit: int
    name: str
    index: int
    before: Register
    after: Register
    fields: _Fields


@dataclass(frozen=True, slots=True)
class InterruptChange:
    """An interrupt remapping entry that came (`before` is None), went (`after` is None) or changed."""

    unit: int
    index: int
    before: Interrupt | None
    after: Interrupt | None
    fields: _Fields


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs; `notes` say what could not be compared."""

    spaces: tuple[SpaceChange, ...]
    registers: tuple[RegisterChange, ...]
    interrupts: tuple[InterruptChange, ...]
    notes: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """True if nothing differs."""
        return not (self.spaces or self.registers or self.interrupts)


def diff(before: Side, after: Side) -> Difference:
    """What changed from one side to the other. A trace has spaces only, and knows requests without PASID only."""
    notes = [*before.notes, *after.notes]
    registers: tuple[RegisterChange, ...] = ()
    interrupts: tuple[InterruptChange, ...] = ()
    if before.registers is None or after.registers is None:
        notes.append("registers and interrupts are not compared: not both sides have them")
    else:
        registers = tuple(_registers(before.registers, after.registers, notes))
        interrupts = tuple(_interrupts(before.interrupts or {}, after.interrupts or {}))
    return Difference(tuple(_spaces(before, after, notes)), registers, interrupts, tuple(notes))


def _spaces(before: Side, after: Side, notes: list[str]) -> Iterator[SpaceChange]:
    if before.is_trace is after.is_trace:
        old, new = before.spaces, after.spaces
    else:
        old, new = as_traced(before, after, notes)
    known: dict[tuple[int, int], tuple[Change, ...]] = {}
    for key in sorted(old.keys() | new.keys(), key=lambda key: (key.unit, key.source_id, key.pasid or 0)):
        one, other = old.get(key), new.get(key)
        left, right = () if one is None else one.runs, () if other is None else other.runs
        name = id(left), id(right)
        if name not in known:  # devices that share their tables share the comparison
            known[name] = tuple(compare(left, right))
        if one is None or other is None:
            yield SpaceChange(key, "come" if one is None else "gone", (), known[name])
        elif (fields := tuple(_fields(one, other))) or known[name]:
            yield SpaceChange(key, "changed", fields, known[name])


def _fields(one: SpaceState, other: SpaceState) -> Iterator[tuple[str, Any, Any]]:
    for name in _COMPARED:
        before, after = getattr(one, name), getattr(other, name)
        if before != after and before is not None and after is not None:
            yield name, before, after


def _registers(
    before: Sequence[RegisterPage], after: Sequence[RegisterPage], notes: list[str]
) -> Iterator[RegisterChange]:
    if [page.base for page in before] != [page.base for page in after]:
        notes.append("the units are not at the same addresses; they are compared in the order of their addresses")
    for unit, (one, other) in enumerate(zip(before, after, strict=False)):
        for name, register in REGISTERS.items():
            if register.mmio_base in _PLACED:
                for index in range(min(_copies(register, one), _copies(register, other))):
                    if one.has(register, index) and other.has(register, index):
                        yield from _register(unit, name, index, one.read(register, index), other.read(register, index))


def _copies(register: type[Register], page: RegisterPage) -> int:
    return page.read(Capability).nfr + 1 if register is FaultRecord else register.copies


def _register(unit: int, name: str, index: int, one: Register, other: Register) -> Iterator[RegisterChange]:
    if int(one) != int(other):
        yield RegisterChange(unit, name, index, one, other, tuple(_words(one.fields(), other.fields())))


def _words(one: Mapping[str, int], other: Mapping[str, int]) -> Iterator[tuple[str, Any, Any]]:
    for name in {**one, **other}:
        if one.get(name) != other.get(name):
            yield name, one.get(name), other.get(name)


def _interrupts(
    before: Mapping[tuple[int, int], Interrupt], after: Mapping[tuple[int, int], Interrupt]
) -> Iterator[InterruptChange]:
    for unit, index in sorted(before.keys() | after.keys()):
        one, other = before.get((unit, index)), after.get((unit, index))
        if one is None or other is None:
            yield InterruptChange(unit, index, one, other, ())
        elif int(one.entry) != int(other.entry):
            fields = tuple(_words(one.entry.fields(), other.entry.fields()))
            yield InterruptChange(unit, index, one, other, fields)
