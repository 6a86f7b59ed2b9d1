"""`vtd inspect --html`: one page with a map of each address space, which needs nothing but a browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.page import write_template
from cli.render import count, human_size
from cli.unit_outline import pending_line, slot_texts, unit_heading
from cli.unit_report import is_first_stage, spelt
from cli.unit_state import state_lines
from pagetables.address import SourceId, format_source_id
from pagetables.request import Permissions
from pagetables.runs import rows

if TYPE_CHECKING:
    from pagetables.images.inspection import UnitReport
    from pagetables.images.queues import Queue
    from pagetables.scan import Space

__all__ = ["write_page"]

TEMPLATE = Path(__file__).with_name("inspect_page.html")
LISTED = 20_000  # runs of one set of tables in a page; neighbours are drawn together where there are more
DRAWN = 5_000  # of which so many are left
FINEST = 13  # log2 of the smallest span of addresses drawn together
_USER = int(Permissions.USER)
_Key = tuple[int, int, str]
_Row = list[Any]

BySize = Callable[[int], list["UnitReport"]]


def write_page(path: str, image: str, units: list[UnitReport], names: Mapping[SourceId, str], by_size: BySize) -> None:
    """Write the page of `units` to `path`, whole or not at all. `by_size` reads them again for pages of one size."""
    sizes = sorted({size for unit in units for space in unit.spaces for size in space.pages})
    again = {size: by_size(size) for size in sizes} if len(sizes) > 1 else dict.fromkeys(sizes, units)
    document = {
        "image": os.path.basename(image) or image,
        "about": f"{count(len(units), 'remapping unit')}, read by vtd inspect",
        "units": [
            _unit_document(unit, names, {size: reports[number] for size, reports in again.items()})
            for number, unit in enumerate(units)
        ],
    }
    write_template(path, TEMPLATE, document)


def _unit_document(
    unit: UnitReport, names: Mapping[SourceId, str], by_size: Mapping[int, UnitReport]
) -> dict[str, Any]:
    numbers: dict[_Key, int] = {}
    sets: list[dict[str, Any]] = []
    for index, space in enumerate(unit.spaces):
        if space.levels and _key(space) not in numbers:
            numbers[_key(space)] = len(sets)
            sets.append(_set_document(index, {size: report for size, report in by_size.items() if size in space.pages}))
    return {
        "heading": unit_heading(unit),
        "state": list(state_lines(unit.registers)) if unit.registers.base is not None else [],
        "devices": [_device_document(space, names, numbers.get(_key(space))) for space in unit.spaces],
        "sets": sets,
        "interrupts": [
            [
                str(one.index),
                format_source_id(one.entry.sid),
                f"{one.vector:#04x}",
                "unknown" if one.destination is None else f"{one.destination:#x}",
                names.get(SourceId(one.entry.sid), ""),
            ]
            for one in unit.interrupts
        ],
        "queues": list(_queue_documents((unit.queue, "invalidation queue"), (unit.page_requests, "page requests"))),
        "faults": [pending_line(record, names) for record in unit.pending_faults],
        "findings": [finding.message for finding in unit.findings],
    }


def _key(space: Space) -> _Key:
    return space.table, space.levels, space.translation.name


def _device_document(space: Space, names: Mapping[SourceId, str], number: int | None) -> dict[str, Any]:
    pasid = "" if space.pasid is None else f" pasid {space.pasid:#x}"
    name = f"{format_source_id(space.source_id)}{pasid}"
    how = f"domain {space.domain_id}, {spelt(space.translation.name)}"
    if space.levels:
        how += f", {space.levels} levels, table {space.table:#x}"
    pages = [f"{leaves:,} x {human_size(size)}" for size, leaves in sorted(space.pages.items())]
    total = human_size(sum(size * leaves for size, leaves in space.pages.items()))
    summary = f"{' + '.join(pages)} = {total}" if pages else "nothing mapped" if space.levels else "no tables"
    label = names.get(space.source_id, "")
    title = f"{name}{f' {label}' if label else ''}: {how}"
    return {"name": name, "label": label, "summary": summary, "title": title, "set": number}


def _set_document(index: int, by_size: Mapping[int, UnitReport]) -> dict[str, Any]:
    runs = sorted(
        row for size, report in by_size.items() for row in _run_rows(report.spaces[index], size.bit_length() - 1)
    )
    drawn = _drawn_together(runs) if len(runs) > LISTED else runs
    return {
        "runs": [[f"{row[0]:#x}", row[1], None if row[2] is None else f"{row[2]:#x}", *row[3:]] for row in drawn],
        "total": len(runs),
        "cut": len(drawn) < len(runs),
    }


def _run_rows(space: Space, shift: int) -> Iterator[_Row]:
    first = is_first_stage(space)
    for iova, gpa, size, bits in rows(space.mappings):
        yield [iova, size, gpa, bits & 3, shift, bool(bits & _USER) if first else None]


def _drawn_together(runs: list[_Row]) -> list[_Row]:
    shift = FINEST
    while len({row[0] >> shift for row in runs}) > DRAWN:
        shift += 1
    blocks: dict[int, _Row] = {}
    for iova, size, _, access, pages, user in runs:
        block = blocks.setdefault(iova >> shift, [iova, 0, None, 0, pages, user, 0, 0])
        block[1] = iova + size - block[0]
        block[3] |= access
        block[4] = pages if pages == block[4] else 0
        block[6] += 1
        block[7] += size
    return list(blocks.values())


def _queue_documents(*queues: tuple[Queue | None, str]) -> Iterator[dict[str, Any]]:
    for queue, what in queues:
        if queue is None:
            continue
        title = f"{what}: {queue.length} slots of {queue.slot_size} bytes, head {queue.head}, tail {queue.tail}"
        if queue.note:
            title += f" ({queue.note})"
        yield {"title": title, "rows": [slot_texts(queue, slot) for slot in queue.slots]}
