"""What `vtd explain` prints: the JSON document, and verdict, evidence and next steps for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cli.render import address, count
from pagetables.address import SourceId, format_source_id

if TYPE_CHECKING:
    from rich.console import Console

    from emulator.trace.history import TraceHistory
    from pagetables.dmesg import FaultLine, KernelLog
    from pagetables.explain import Explained, Explanation, Moment, Region
    from pagetables.explain.judging import Past

__all__ = ["document", "show"]

WIDTH = 80
_CLOCK = "the time stamps of the log and of the trace are taken to be of one clock, in seconds since the boot"


def document(
    found: Iterable[Explained], log: KernelLog, history: TraceHistory | None, names: Mapping[SourceId, str]
) -> dict[str, Any]:
    """The JSON object of everything explained; `names` are those of devices, where known."""
    return {
        "faults": [_fault_document(one, names) for one in found],
        "log": {"limited": log.is_limited, "suppressed": log.suppressed, "unprinted": len(log.silent)},
        "notes": [*_log_notes(log), *([] if history is None else [_CLOCK, *history.trace.notes])],
    }


def _fault_document(one: Explained, names: Mapping[SourceId, str]) -> dict[str, Any]:
    from cli.walk_report import answer_document
    from pagetables.explain.codes import named

    what, fault, times = one.what, one.storm.first, one.storm.times
    reason = named(fault.reason)
    return {
        "source_id": format_source_id(fault.source_id),
        "name": names.get(fault.source_id),
        "pasid": fault.pasid,
        "access": "-" if what.request is None else what.request.access.value,
        "address": None if fault.address is None else address(fault.address),
        "index": fault.index,
        "reason": fault.reason,
        "condition": reason and reason.condition,
        "meaning": reason and reason.meaning,
        "text": fault.text,
        "line": fault.line or None,
        "count": len(one.storm.faults),
        "addresses": [address(each) for each in one.storm.addresses],
        "first_time": times and times[0],
        "last_time": times and times[1],
        "walk": None if what.answer is None else answer_document(what.answer),
        "agrees": what.agrees,
        "history": None if what.past is None else _past_document(what.past),
        "verdict": what.verdict.value,
        "explained": what.verdict.explained,
        "sentence": what.sentence,
        "evidence": list(what.evidence),
        "next": list(what.next),
    }


def _past_document(past: Past) -> dict[str, Any]:
    return {
        "time_ns": past.time_ns,
        "trace_begins_ns": past.span[0],
        "trace_ends_ns": past.span[1],
        "live": _region_document(past.live),
        "freed": _region_document(past.freed),
        "later": _region_document(past.later),
        "below": _region_document(past.below),
        "above": _region_document(past.above),
        "others": [_region_document(region) for region in past.others],
    }


def _region_document(region: Region | None) -> dict[str, Any] | None:
    if region is None:
        return None
    return {
        "iova": address(region.iova),
        "gpa": None if region.gpa is None else address(region.gpa),
        "size": region.size,
        "access": None if region.access is None else region.access.text(),
        "devices": [format_source_id(owner) for owner in region.owners],
        "mapped": _moment_document(region.mapped),
        "unmapped": _moment_document(region.unmapped),
    }


def _moment_document(moment: Moment | None) -> dict[str, Any] | None:
    if moment is None:
        return None
    return {
        "time_ns": moment.time_ns,
        "cpu": moment.cpu,
        "task": moment.task or None,
        "file": moment.file,
        "line": moment.line,
    }


def _log_notes(log: KernelLog) -> Iterator[str]:
    if log.is_limited:
        yield "the kernel prints at most 10 faults in 5 seconds and reached that: there were more than these"
    if log.suppressed:
        yield f"the kernel says that it left out {count(log.suppressed, 'line')}"
    if log.silent:
        lines = ", ".join(str(line) for line in log.silent[:4]) + (", ..." if len(log.silent) > 4 else "")
        times = count(len(log.silent), "time")
        yield f"{times} the log announces a fault and prints none (line {lines})"


def show(out: Console, found: list[Explained], log: KernelLog, names: Mapping[SourceId, str]) -> None:
    """Print everything explained, for people: at most 80 columns wide. `names` are those of devices, where known."""
    from rich.text import Text

    width = min(out.width, WIDTH)

    for number, one in enumerate(found, 1):
        if number > 1:
            out.print()
        for indent, style, line in _lines(number, one, names):
            out.print(Text(_wrapped(line, indent, width), style=style), soft_wrap=True)
    if not found:
        where = f"{count(log.lines, 'line')} of the log hold no DMAR fault" if log.lines else "no fault is pending"
        out.print(f"nothing to explain: {where}")
    for note in _log_notes(log):
        out.print(Text(_wrapped(f"note: {note}", 0, width), style="yellow"), soft_wrap=True)


def _wrapped(line: str, indent: int, width: int) -> str:
    # What goes on in the next line stands two columns further right.
    import textwrap

    first = " " * indent
    return textwrap.fill(
        line,
        width,
        initial_indent=first,
        subsequent_indent=first + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _lines(number: int, one: Explained, names: Mapping[SourceId, str]) -> Iterator[tuple[int, str, str]]:
    # (indent, style, text) of each line of one explanation.
    what = one.what
    yield 0, "bold", f"{number}. {what.sentence}"
    yield 3, "green" if what.verdict.explained else "red", f"{what.verdict.value}{_times(one)}"
    if names:
        source = one.storm.first.source_id
        yield 3, "", f"{format_source_id(source)}: {names.get(source, 'no device of this machine')}"
    if one.assumed:
        yield 3, "yellow", f"{count(one.assumed, 'page')} of this storm were not looked at one by one"
    for line in what.evidence:
        yield 3, "", line
    yield from _walk_lines(what)
    yield 3, "bold", "look at next"
    for line in what.next:
        yield 5, "", f"- {line}"


def _times(one: Explained) -> str:
    faults, times = one.storm.faults, one.storm.times
    often = "" if len(faults) == 1 else f", {len(faults)} times"
    if times is not None:
        often += f", at {times[0]:.6f} s" if times[0] == times[1] else f", from {times[0]:.6f} s to {times[1]:.6f} s"
    pages = one.storm.addresses
    if len(pages) > 1:
        often += f", {pages[0]:#x} to {pages[-1]:#x}"
    return often + _place(one.storm.first)


def _place(fault: FaultLine) -> str:
    return f", line {fault.line}" if fault.line else ", pending in the registers"


def _walk_lines(what: Explanation) -> Iterator[tuple[int, str, str]]:
    if what.answer is None:
        return
    yield 3, "bold", "walk in the image"
    for step in what.answer.steps:
        level = f" (level {step.level})" if step.level else ""
        yield 5, "cyan", f"{step.structure}{level} at {step.at:#x}: {step.entry:#x}"
    outcome = what.answer.outcome
    from pagetables.explain.codes import describe
    from pagetables.request import Translation

    if isinstance(outcome, Translation):
        yield 5, "green", f"translated: {outcome.gpa:#x}, access {outcome.permissions.text()}"
    else:
        yield 5, "red", f"fault {describe(outcome.reason)}"
    for note in what.answer.notes:
        yield 5, "yellow", note
