"""What `vtd diff` prints: the JSON document, and a list for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cli.render import address, count, human_size
from pagetables.address import format_source_id

if TYPE_CHECKING:
    from rich.console import Console

    from pagetables.diff import Change, Difference, InterruptChange, RegisterChange, Run, SpaceChange

__all__ = ["difference_document", "show"]

SHOWN = 8  # changes listed for each device unless all are asked for
WIDTH = 80
_KINDS = ("gone", "come", "changed", "moved")
_SIGNS = {"gone": "-", "come": "+", "changed": "~", "moved": ">"}
_STYLES = {"gone": "red", "come": "green", "changed": "yellow", "moved": "cyan"}
_Line = tuple[int, str, str]


def difference_document(found: Difference) -> dict[str, Any]:
    """The JSON object of a comparison."""
    return {
        "equal": found.is_empty,
        "spaces": [_space_document(space) for space in found.spaces],
        "registers": [_register_document(register) for register in found.registers],
        "interrupts": [_interrupt_document(interrupt) for interrupt in found.interrupts],
        "notes": list(found.notes),
    }


def _space_document(space: SpaceChange) -> dict[str, Any]:
    mappings: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    for change in space.changes:
        mappings[change.kind].append(_change_document(change))
    return {
        "unit": space.key.unit,
        "source_id": format_source_id(space.key.source_id),
        "pasid": space.key.pasid,
        "kind": space.kind,
        "fields": {name: [_value(name, one), _value(name, other)] for name, one, other in space.fields},
        "mappings": mappings,
    }


def _value(name: str, value: Any) -> Any:
    return address(value) if name == "table" else value


def _change_document(change: Change) -> dict[str, Any]:
    one, other = _run_document(change.before), _run_document(change.after)
    if change.before is not None and change.after is not None:
        return {"size": change.size, "before": one, "after": other}
    return {"size": change.size, **(one or other or {})}


def _run_document(run: Run | None) -> dict[str, Any] | None:
    if run is None:
        return None
    access = None if run.access is None else run.access.text()
    return {"iova": address(run.iova), "gpa": address(run.gpa), "access": access}


def _register_document(one: RegisterChange) -> dict[str, Any]:
    return {
        "unit": one.unit,
        "name": one.name,
        "index": one.index,
        "before": address(one.before),
        "after": address(one.after),
        "fields": {name: [before, after] for name, before, after in one.fields},
    }


def _interrupt_document(one: InterruptChange) -> dict[str, Any]:
    return {
        "unit": one.unit,
        "index": one.index,
        "kind": _interrupt_kind(one),
        "before": None if one.before is None else address(one.before.entry),
        "after": None if one.after is None else address(one.after.entry),
        "fields": {name: [before, after] for name, before, after in one.fields},
    }


def _interrupt_kind(one: InterruptChange) -> str:
    return "come" if one.before is None else "gone" if one.after is None else "changed"


def show(out: Console, found: Difference, everything: bool) -> None:
    """Print a comparison for people, at most 80 columns wide; `everything` lists every change."""
    import textwrap

    from rich.text import Text

    width = min(out.width, WIDTH)
    for indent, style, line in _lines(found, everything):
        first = " " * indent
        wrapped = textwrap.fill(
            line, width, initial_indent=first, subsequent_indent=first + "  ", break_long_words=False
        )
        out.print(Text(wrapped, style=style), soft_wrap=True)


def _lines(found: Difference, everything: bool) -> Iterator[_Line]:
    # (indent, style, text) of each line.
    for spaces in _together(found.spaces):
        yield from _space_lines(spaces, everything)
    registers = [_register_line(one) for one in found.registers]
    interrupts = [_interrupt_line(one) for one in found.interrupts]
    for title, lines in (("registers", registers), ("interrupts", interrupts)):
        if lines:
            yield 0, "bold", f"{title}: {len(lines)} differ"
            yield from _some(lines, everything)
    if found.is_empty:
        yield 0, "bold green", "equal"
    for note in found.notes:
        yield 0, "yellow", f"note: {note}"


def _together(spaces: Iterable[SpaceChange]) -> list[list[SpaceChange]]:
    # Devices that share their tables, before and after, are told once.
    groups: dict[Any, list[SpaceChange]] = {}
    for space in spaces:
        groups.setdefault((space.key.unit, space.kind, space.fields, id(space.changes)), []).append(space)
    return list(groups.values())


def _space_lines(spaces: list[SpaceChange], everything: bool) -> Iterator[_Line]:
    one = spaces[0]
    names = ", ".join(_name(space) for space in spaces)
    verb = {"come": "new", "gone": "gone", "changed": "changed"}[one.kind]
    yield 0, "bold", f"{names}: {verb}{_summary(one.changes)}"
    for name, before, after in one.fields:
        words = f"{name.replace('_', '-')}: {_value(name, before)} -> {_value(name, after)}"
        yield 2, "yellow", words
    yield from _some([(_STYLES[change.kind], _change_line(change)) for change in one.changes], everything)


def _name(space: SpaceChange) -> str:
    pasid = "" if space.key.pasid is None else f" pasid {space.key.pasid:#x}"
    return f"{format_source_id(space.key.source_id)}{pasid}"


def _summary(changes: tuple[Change, ...]) -> str:
    numbers: Counter[str] = Counter(change.kind for change in changes)
    sizes: Counter[str] = Counter()
    for change in changes:
        sizes[change.kind] += change.size
    told = [f"{numbers[kind]:,} {kind} ({human_size(sizes[kind])})" for kind in _KINDS if numbers[kind]]
    return f"; mappings: {', '.join(told)}" if told else "; no mappings" if not changes else ""


def _change_line(change: Change) -> str:
    sign, before, after = _SIGNS[change.kind], change.before, change.after
    size = human_size(change.size)
    if before is None or after is None:
        return f"{sign} {' '.join(_place(run) for run in (before, after) if run is not None)}  {size}"
    if change.kind == "moved":
        return f"{sign} {before.iova:#x} => {_place(after)}  {size}"
    return f"{sign} {_place(before)} => {after.gpa:#x} {_access(after)}  {size}"


def _place(run: Run) -> str:
    return f"{run.iova:#x} -> {run.gpa:#x} {_access(run)}"


def _access(run: Run) -> str:
    return "?" if run.access is None else run.access.text()


def _register_line(one: RegisterChange) -> tuple[str, str]:
    name = f"{one.name}[{one.index}]" if type(one.before).copies > 1 else one.name
    fields = ", ".join(f"{field} {before:#x} -> {after:#x}" for field, before, after in one.fields)
    return "yellow", f"{name} {int(one.before):#x} -> {int(one.after):#x}: {fields}"


def _interrupt_line(one: InterruptChange) -> tuple[str, str]:
    kind = _interrupt_kind(one)
    entry = one.after or one.before
    source = "" if entry is None else f" {format_source_id(entry.entry.fields()['sid'])} vector {entry.vector:#04x}"
    fields = ", ".join(f"{name} {_hex(before)} -> {_hex(after)}" for name, before, after in one.fields)
    return _STYLES[kind], f"{_SIGNS[kind]} {one.index}{source}{f': {fields}' if fields else ''}"


def _hex(value: int | None) -> str:
    return "none" if value is None else f"{value:#x}"


def _some(lines: list[tuple[str, str]], everything: bool) -> Iterator[_Line]:
    shown = lines if everything or len(lines) <= SHOWN + 1 else lines[:SHOWN]
    for style, line in shown:
        yield 2, style, line
    if len(shown) < len(lines):
        yield 2, "dim", f"and {count(len(lines) - len(shown), 'more change')} (--all)"
