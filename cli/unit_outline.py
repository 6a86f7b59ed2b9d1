"""What `vtd inspect` shows of a unit: a tree for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from cli.outline import Node
from cli.render import count, human_size
from cli.unit_report import Told, fault_access, fault_name, field_values, is_first_stage, spelt
from cli.unit_state import state_nodes
from pagetables.address import SourceId, format_source_id
from pagetables.request import Permissions
from pagetables.runs import rows

if TYPE_CHECKING:
    from pagetables.images.inspection import UnitReport
    from pagetables.images.interrupts import Interrupt
    from pagetables.images.queues import Queue, Slot
    from pagetables.layouts.registers import FaultRecord
    from pagetables.runs import Mapping as Run
    from pagetables.scan import Space

__all__ = ["Extent", "pending_line", "slot_texts", "unit_heading", "unit_outline"]

SHOWN = 8  # of each list, unless all is asked for
STEP = 1 << 14
_ACCESS = tuple(Permissions(bits).text() for bits in range(16))
_Key = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Extent:
    """What is listed whole, and not the first few: every mapping, every interrupt and descriptor."""

    mappings: bool = False
    rest: bool = False


def unit_outline(report: UnitReport, extent: Extent, names: Mapping[SourceId, str], told: Told) -> Node:
    """The tree of one unit."""
    return Node(unit_heading(report), "bold", _branches(report, extent, names, told))


def _branches(report: UnitReport, extent: Extent, names: Mapping[SourceId, str], told: Told) -> Iterator[Node]:
    yield from state_nodes(report.registers)
    seen: dict[_Key, str] = {}
    for space in report.spaces:
        known = seen.setdefault(_key(space), _name(space, {}))
        yield _space_node(space, None if known == _name(space, {}) else known, extent.mappings, names, told)
    if report.interrupts:
        title = count(len(report.interrupts), "interrupt remapping entry", "interrupt remapping entries")
        entries = (Node(_interrupt_line(one, names)) for one in report.interrupts)
        yield Node(title, "", _some(entries, len(report.interrupts), extent.rest, "entry", "entries"))
    for queue, what in ((report.queue, "invalidation queue"), (report.page_requests, "page request queue")):
        if queue is not None:
            yield _queue_node(queue, what, extent.rest)
    yield Node(_totals(report))
    for record in report.pending_faults:
        yield Node(pending_line(record, names), "yellow")
    for finding in report.findings:
        yield Node(f"finding: {finding.message}", "red")


def unit_heading(report: UnitReport) -> str:
    """A unit in one line."""
    base = report.registers.base
    name = "unit" if base is None else f"unit at {base:#x}"
    translation = "on" if report.translation_enabled else "off"
    interrupts = "on" if report.interrupt_remapping_enabled else "off"
    root = f"root table {report.root_table:#x}"
    return f"{name}: {report.mode} mode, {root}, translation {translation}, interrupt remapping {interrupts}"


def _key(space: Space) -> _Key:
    return space.table, space.levels, space.translation.name


def _name(space: Space, names: Mapping[SourceId, str]) -> str:
    pasid = "" if space.pasid is None else f" pasid {space.pasid:#x}"
    name = names.get(space.source_id)
    return f"{format_source_id(space.source_id)}{pasid}{f'  {name}' if name else ''}"


def _space_node(space: Space, shared: str | None, everything: bool, names: Mapping[SourceId, str], told: Told) -> Node:
    start = f"{_name(space, names)}  domain {space.domain_id}  {spelt(space.translation.name)}"
    if not space.levels:
        return Node(start)
    tables = f"{start}, {space.levels} levels, table {space.table:#x}"
    if shared is not None:
        return Node(f"{tables}: as {shared}")
    pages = [f"{number:,} x {human_size(size)}" for size, number in sorted(space.pages.items())]
    text = f"{tables}: {' + '.join(pages)} = {human_size(_mapped(space))}" if pages else f"{tables}: nothing mapped"
    return Node(text, "", _contents(space, everything, told))


def _contents(space: Space, everything: bool, told: Told) -> Iterator[Node]:
    mappings = space.mappings
    lines = _mapping_nodes(mappings, is_first_stage(space), told)
    yield from _some(lines, len(mappings), everything, "run", "runs")
    if space.second_stage is not None:
        below = space.second_stage.mappings
        nodes = _mapping_nodes(below, False, told)
        title = f"second stage, below: {count(len(below), 'run')}"
        yield Node(title, "", _some(nodes, len(below), everything, "run", "runs"))


def _mapped(space: Space) -> int:
    return sum(size * number for size, number in space.pages.items())


def _mapping_nodes(mappings: Sequence[Run], first_stage: bool, told: Told) -> Iterator[Node]:
    if not len(mappings):
        return
    width = len(f"{mappings[len(mappings) - 1].iova:#x}")  # they ascend
    for number, (iova, gpa, size, bits) in enumerate(rows(mappings), 1):
        user = " supervisor" if first_stage and not bits & Permissions.USER else ""
        yield Node(f"{iova:#{width}x} -> {gpa:#14x}  {human_size(size):>9}  {_ACCESS[bits]}{user}")
        if not number % STEP:
            told(STEP)


def _some(nodes: Iterable[Node], total: int, everything: bool, noun: str, plural: str) -> Iterator[Node]:
    shown = total if everything or total <= SHOWN + 1 else SHOWN
    yield from islice(nodes, shown)
    if shown < total:
        yield Node(f"and {count(total - shown, f'more {noun}', f'more {plural}')} (--all)", "dim")


def _interrupt_line(one: Interrupt, names: Mapping[SourceId, str]) -> str:
    sid = SourceId(one.entry.sid)
    target = "an unknown destination" if one.destination is None else f"destination {one.destination:#x}"
    how = "" if one.descriptor_address is None else f", posted to {one.descriptor_address:#x}"
    name = f"  {names[sid]}" if sid in names else ""
    return f"{one.index:5}  {format_source_id(sid)}  vector {one.vector:#04x}  {target}{how}{name}"


def _queue_node(queue: Queue, what: str, everything: bool) -> Node:
    state = "on" if queue.is_enabled else "off"
    waiting = f"{queue.pending} waiting" if queue.pending else "empty"
    slots = f"{queue.length} slots of {queue.slot_size} bytes at {queue.address:#x}"
    title = f"{what} {state}: {slots}, head {queue.head}, tail {queue.tail}: {waiting}"
    return Node(title, "", _queue_lines(queue, everything))


def _queue_lines(queue: Queue, everything: bool) -> Iterator[Node]:
    if queue.note:
        yield Node(f"note: {queue.note}", "yellow")
    if everything:
        yield from (Node(_slot_line(queue, slot)) for slot in queue.slots)
        return
    # What waits, and before it what was read last.
    ordered = sorted(queue.slots, key=lambda slot: (slot.index - queue.head) % queue.length)
    waiting = [slot for slot in ordered if slot.is_pending][:SHOWN]
    read = [slot for slot in ordered if not slot.is_pending][-SHOWN:]
    following = [slot for slot in ordered if slot.index == queue.tail and slot not in read]
    shown = (*read, *waiting, *following)
    yield from (Node(_slot_line(queue, slot)) for slot in shown)
    if rest := len(ordered) - len(shown):
        yield Node(f"and {count(rest, 'more descriptor')} (--all)", "dim")


def _slot_line(queue: Queue, slot: Slot) -> str:
    place, name, rest = slot_texts(queue, slot)
    return f"{place:>5} {name:20} {rest}".rstrip()


def slot_texts(queue: Queue, slot: Slot) -> list[str]:
    """A slot in three texts: its place (`*` if it waits), the descriptor's name, its fields with head and tail."""
    marks = [name for name, at in (("head", queue.head), ("tail", queue.tail)) if at == slot.index]
    texts = [f"{name}={_shown(value)}" for name, value in field_values(slot).items() if value not in (0, "0x0")]
    if slot.reserved_bits:
        texts.append(f"reserved bits set: {slot.reserved_bits:#x}")
    if marks:
        texts.append(f"<- {' and '.join(marks)}")
    return [f"{slot.index}{'*' if slot.is_pending else ' '}", slot.name, " ".join(texts)]


def _shown(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:#x}" if value > 9 else str(value)


def _totals(report: UnitReport) -> str:
    tables = {_key(space): space for space in report.spaces if space.levels}
    mapped = sum(_mapped(space) for space in tables.values())
    devices = len({space.source_id for space in report.spaces})
    leaves = sum(sum(space.pages.values()) for space in tables.values())
    sets = count(len(tables), "set of tables", "sets of tables")
    pages = count(leaves, "leaf", "leaves")
    return f"total: {count(devices, 'device')}, {sets}, {pages}, {human_size(mapped)} mapped"


def pending_line(record: FaultRecord, names: Mapping[SourceId, str]) -> str:
    """A fault that software has not cleared, in one line."""
    access = {"w": "write", "r": "read", "rw": "atomic"}.get(fault_access(record), "page request")
    sid = SourceId(record.sid)
    who = format_source_id(sid) + (f" ({names[sid]})" if sid in names else "")
    reason = f"reason {record.fr:#04x} ({fault_name(record.fr) or 'reserved'})"
    if 0x20 <= record.fr <= 0x2F:
        return f"pending fault: interrupt {record.fi >> 36:#x} of {who}, {reason}"
    return f"pending fault: {access} of {record.fi << 12:#x} by {who}, {reason}"
