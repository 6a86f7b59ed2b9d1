"""What `vtd walk` prints: the JSON document, and the steps one by one for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cli.render import address, human_size

if TYPE_CHECKING:
    from rich.text import Text

    from pagetables.fault import Fault
    from pagetables.images.inspection import Answer
    from pagetables.request import Translation
    from pagetables.step import Step

__all__ = ["answer_document", "answer_lines"]

INDENT = "     "
QWORDS = 4  # a line


def answer_document(answer: Answer) -> dict[str, Any]:
    """The JSON object of one answer."""
    from pagetables.request import Translation

    outcome = answer.outcome
    base = answer.registers.base
    return {
        **(_translated(outcome) if isinstance(outcome, Translation) else _faulted(answer, outcome)),
        "register_base": None if base is None else address(base),
        "notes": list(answer.notes),
        "steps": [_step_document(step) for step in answer.steps],
    }


def _translated(outcome: Translation) -> dict[str, Any]:
    return {
        "outcome": "translated",
        "gpa": address(outcome.gpa),
        "page_size": 1 << outcome.page_shift,
        "access": outcome.permissions.text(),
    }


def _faulted(answer: Answer, fault: Fault) -> dict[str, Any]:
    return {
        "outcome": "fault",
        "reason": int(fault.reason),
        "name": _spelt(fault.reason.name),
        "condition": fault.reason.condition,
        "meaning": fault.reason.meaning,
        "at": None if fault.at is None else address(fault.at),
        "level": fault.level,
        "recorded": fault.recorded,
        "remedy": _remedy(answer, fault),
    }


def _step_document(step: Step) -> dict[str, Any]:
    return {
        "structure": step.structure,
        "index": step.index,
        "at": address(step.at),
        "entry": address(step.entry),
        "level": step.level,
        "fields": step.fields,
        "note": step.note,
    }


def _remedy(answer: Answer, fault: Fault) -> str | None:
    from pagetables.remedies import remedy

    return remedy(fault, answer.steps[-1].entry if answer.steps else None)


def answer_lines(answer: Answer) -> Iterator[Text]:
    """The question, each step, and the verdict, as lines of text."""
    from rich.text import Text

    from pagetables.request import Translation

    yield Text(f"{answer.request}", style="bold")
    yield Text(f"{INDENT}root table address register {int(answer.registers.root_table):#x}")
    for number, step in enumerate(answer.steps, 1):
        yield from _step_lines(number, step)
    if isinstance(answer.outcome, Translation):
        yield from _translation_lines(answer.outcome)
    else:
        yield from _fault_lines(answer, answer.outcome)
    for note in answer.notes:
        yield Text(f"note: {note}", style="yellow")


def _step_lines(number: int, step: Step) -> Iterator[Text]:
    from rich.text import Text

    level = f" (level {step.level})" if step.level else ""
    yield Text(f"{number:3}. {step.structure}{level} at {step.at:#x}, index {step.index:#x}", style="bold")
    qwords = [f"{part:#018x}" for part in step.layout(step.entry).qwords()]
    for start in range(0, len(qwords), QWORDS):
        yield Text(f"{INDENT}{' '.join(qwords[start : start + QWORDS])}", style="cyan")
    yield Text(f"{INDENT}{_fields(step)}")
    if reserved := step.entry & step.layout.reserved_mask:
        yield Text(f"{INDENT}reserved bits are set: {reserved:#x}", style="red")
    if step.note:
        yield Text(f"{INDENT}{step.note}", style="dim")


def _fields(step: Step) -> str:
    # Flags that are set by name, other fields that are not 0 with their value, addresses as addresses.
    shown = []
    for field in step.layout.fields_by_name.values():
        value = step.entry >> field.lo & field.limit
        if not value or field.label.lower() not in step.fields:
            continue
        names = {int(member): _spelt(member.name) for member in field.values or ()}
        number = value << field.lo % 64 if field.address else value
        shown.append(field.label if field.width == 1 else f"{field.label}={names.get(value, f'{number:#x}')}")
    return " ".join(shown) or "nothing is set"


def _translation_lines(outcome: Translation) -> Iterator[Text]:
    from rich.text import Text

    page = human_size(1 << outcome.page_shift)
    text = f"translated: {outcome.gpa:#x}, in a page of {page}, access {outcome.permissions.text()}"
    yield Text(text, style="bold green")


def _fault_lines(answer: Answer, fault: Fault) -> Iterator[Text]:
    from rich.text import Text

    reason = fault.reason
    where = "" if fault.at is None else f", decided at {fault.at:#x}"
    text = f"fault {int(reason):#04x} {_spelt(reason.name)} (condition {reason.condition}){where}"
    yield Text(text, style="bold red")
    yield Text(f"{INDENT}meaning: {reason.meaning}")
    yield Text(f"{INDENT}to pass: {_remedy(answer, fault)}")
    if not fault.recorded:
        yield Text(f"{INDENT}the unit records nothing of it (fault processing is disabled, or abort mode)")


def _spelt(name: str) -> str:
    return name.lower().replace("_", "-")
