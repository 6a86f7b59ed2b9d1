"""From what was gathered while reading to the columns and spaces of a `Trace`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from emulator.trace.apart import MOST_SPACES, Apart
from emulator.trace.attribution import Attributor
from emulator.trace.columns import Columns
from emulator.trace.settling import Row, Settler, Votes
from emulator.trace.skipped import SkippedLines
from emulator.trace.spaces import Space

__all__ = ["assemble"]

_ANY_PAGE = 0b111
_ONLY_4K = 0b001
_UNKNOWN = "nothing that this trace maps is live there: mapped before the recording began"
_CROWDED = f"the address is mapped {MOST_SPACES} times over"


def assemble(
    found: Attributor, files: tuple[str, ...], skipped: SkippedLines, early_4k: bool
) -> tuple[Columns, tuple[Space, ...], list[str]]:
    """Columns with final spaces, the spaces, and notes; rows that cannot be used go to `skipped`.

    `early_4k`: direct maps made before their space had a device got 4 KiB pages only, as before kernel 7.
    """
    found.finish()
    columns = found.rows.columns()
    out, notes = found.stand_ins.settle(found.signs)
    rows = _rows(columns, out)
    tasks = {wait.row: task for task, maps in found.waiting.items() for waits in maps.values() for wait in waits}
    settler = _settled(found, rows, tasks)
    apart = Apart(found.book, rows, settler.space, tasks)
    apart.place()
    unknown = [n for n in settler.unknown + apart.unknown if not found.rows.named[n]]
    for lines, why in ((sorted(set(unknown)), _UNKNOWN), (apart.crowded, _CROWDED)):
        for n in lines:
            skipped.add(files[columns.file[n]], int(columns.line[n]), why)
    notes += _notes(found, settler, columns, files, len(unknown))
    if apart.moved:
        notes.append(
            f"{apart.moved} unattributed unmaps found their range in pieces; what they closed is likely, not sure"
        )
    spaces, numbers = found.book.close()
    keep = np.ones(len(columns), bool)
    keep[[*out, *unknown, *apart.crowded]] = False
    return _final(found, columns, settler.space, numbers, early_4k).take(keep), tuple(spaces), notes


def _rows(columns: Columns, out: set[int]) -> list[Row]:
    lists = (columns.kind.tolist(), columns.iova.tolist(), columns.size.tolist(), columns.gpa.tolist())
    rows = [Row(kind, iova, iova + size, gpa) for kind, iova, size, gpa in zip(*lists, strict=True)]
    for n in out:
        rows[n] = Row(0, 0, 0, 0)
    return rows


def _settled(found: Attributor, rows: list[Row], tasks: dict[int, int]) -> Settler:
    settler = Settler(found, rows, tasks)
    settler.run(Votes(Counter))
    if settler.doubtful:  # the first run has learnt which task works on which space
        learnt, settler = settler.votes, Settler(found, rows, tasks)
        settler.run(learnt)
    settler.follow_attachers()
    return settler


def _final(found: Attributor, columns: Columns, space: list[int], numbers: list[int], early_4k: bool) -> Columns:
    renumbered = np.array([*numbers, 0], np.uint32)  # NO_SPACE is the last one, of rows that are left out
    levels: npt.NDArray[np.uint8] = columns.leaf_levels.copy()
    levels[levels == 0] = _ANY_PAGE
    if early_4k:
        levels[found.early] = _ONLY_4K
    values = {name: columns[name] for name in Columns.names()}
    return Columns(**values | {"space": renumbered[np.array(space, np.int64)], "leaf_levels": levels})


def _notes(found: Attributor, settler: Settler, columns: Columns, files: tuple[str, ...], unknown: int) -> list[str]:
    notes = []
    if unknown:
        notes.append(f"{unknown} unmaps of what was mapped before the recording began are left out")
    if found.partial:
        n = found.partial[0]
        where = f"{files[columns.file[n]]}:{columns.line[n]}"
        notes.append(f"{len(found.partial)} unmaps removed another size than was asked, the first at {where}")
    if settler.doubtful:
        notes.append(
            f"{settler.doubtful} unmaps could have closed one of several unclaimed maps; the likeliest was taken"
        )
    return notes
