"""Who mapped and unmapped an address, and when: a trace asked about the past (`pagetables.explain.evidence.History`).

Every mapping is followed from its map to its unmap; one that was unmapped in pieces is as many lifetimes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.trace.event import Kind
from emulator.trace.framing import FRAME
from emulator.trace.live import Live, Range
from emulator.trace.opening import open_trace, pieces
from emulator.trace.trace import Trace
from pagetables.address import Gpa, Iova, SourceId
from pagetables.explain.evidence import Moment, Owners, Region
from pagetables.request import Permissions

__all__ = ["TraceHistory", "TraceMappings"]

FEW = 4
LOW_HALF = 1 << 32
EVERYTHING = 1 << 64
NEVER = -1
_Mask = npt.NDArray[np.bool_]


class TraceHistory:
    """The lifetimes of all mappings of a trace."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._tasks = _Tasks(trace.files)
        self._attachments = list(_attachments(trace))
        start, end, mapped, unmapped = _lifetimes(trace)
        columns = trace.columns
        self.mapped, self.unmapped = mapped, unmapped  # rows; NEVER where it is live at the end
        self.start, self.end = start, end
        self.space = columns.space[mapped]
        self.gpa = columns.gpa[mapped] + (start - columns.iova[mapped])
        self._begin = columns.time_ns[mapped]
        self._freed = np.where(unmapped == NEVER, np.uint64(EVERYTHING - 1), columns.time_ns[unmapped])
        self._claimed = np.array([bool(space.devices) for space in trace.spaces] or [False])

    @property
    def span(self) -> tuple[int, int]:
        """The times of the first and the last event that is replayed; zeros for a trace without any."""
        times = self.trace.columns.time_ns
        return (int(times[0]), int(times[-1])) if len(times) else (0, 0)

    def devices(self, time_ns: int | None) -> Owners:
        """Who was attached to a space then."""
        return frozenset(self.spaces_at(time_ns))

    def mappings(self, owners: Owners, time_ns: int | None) -> TraceMappings:
        """What was live then."""
        spaces = {space for source, space in self.spaces_at(time_ns).items() if source in owners}
        return TraceMappings(self, self._live(time_ns), self._is_in(spaces or self._ever(owners)))

    def freed(self, owners: Owners, address: int, time_ns: int | None) -> Region | None:
        """Of what held `address` and was unmapped by then, the last; what no device claims counts as well."""
        gone = self._holds(address) & (self.unmapped != NEVER)
        if time_ns is not None:
            gone &= self._freed <= np.uint64(time_ns)
        return self._preferred(gone, owners, latest=True)

    def later(self, owners: Owners, address: int, time_ns: int | None) -> Region | None:
        """Of what held `address` and was mapped after then, the first."""
        if time_ns is None:
            return None
        return self._preferred(self._holds(address) & (self._begin > np.uint64(time_ns)), owners, latest=False)

    def live(self) -> npt.NDArray[np.int64]:
        """The numbers of the lifetimes that last until the end of the trace."""
        return np.flatnonzero(self.unmapped == NEVER)

    def access(self, index: int | np.int64) -> Permissions | None:
        """What the mapping grants, None where the trace does not tell; kernels before 7 let every mapping be read."""
        asked = Permissions(int(self.trace.columns.access[self.mapped[index]]))
        return asked | Permissions.R if asked and self.trace.kernel_rule == "6.x" else asked or None

    def region(self, index: int) -> Region:
        """One lifetime, told."""
        unmapped = int(self.unmapped[index])
        return Region(
            Iova(int(self.start[index])),
            int(self.end[index] - self.start[index]),
            Gpa(int(self.gpa[index])),
            self.access(index),
            self.trace.spaces[int(self.space[index])].devices,
            self._moment(int(self.mapped[index])),
            None if unmapped == NEVER else self._moment(unmapped),
        )

    def _moment(self, row: int) -> Moment:
        columns = self.trace.columns
        file, line = int(columns.file[row]), int(columns.line[row])
        task = self._tasks.of(file, line)
        return Moment(int(columns.time_ns[row]), int(columns.cpu[row]), self.trace.files[file], line, task)

    def spaces_at(self, time_ns: int | None) -> dict[SourceId, int]:
        """The number of the space that each device was attached to then."""
        spaces: dict[SourceId, int] = {}
        for time, source, space in self._attachments:
            if time_ns is not None and time > time_ns:
                break
            if space is None:
                spaces.pop(source, None)
            else:
                spaces[source] = space
        return spaces

    def _ever(self, owners: Owners) -> set[int]:
        return {space.index for space in self.trace.spaces if owners & set(space.devices)}

    def _is_in(self, spaces: set[int]) -> _Mask:
        found: _Mask = np.isin(self.space, np.array(sorted(spaces), np.uint32))
        return found

    def _live(self, time_ns: int | None) -> _Mask:
        found: _Mask = self.unmapped == NEVER
        if time_ns is not None:
            found = (self._begin <= np.uint64(time_ns)) & (self._freed > np.uint64(time_ns))
        return found

    def _holds(self, address: int) -> _Mask:
        found: _Mask = (self.start <= np.uint64(address)) & (self.end > np.uint64(address))
        return found

    def _preferred(self, mask: _Mask, owners: Owners, *, latest: bool) -> Region | None:
        for which in (self._is_in(self._ever(owners)), ~self._claimed[self.space]):
            found = np.flatnonzero(mask & which)
            if len(found):
                times = self._freed[found] if latest else self._begin[found]
                return self.region(int(found[times.argmax() if latest else times.argmin()]))
        return None


class TraceMappings:
    """Mappings of some devices at one time, as a trace tells them (`pagetables.explain.evidence.Mappings`)."""

    def __init__(self, history: TraceHistory, live: _Mask, own: _Mask) -> None:
        self._history = history
        self._own = live & own
        self._others = live & ~own

    @property
    def is_empty(self) -> bool:
        """True if nothing is mapped."""
        return not self._own.any()

    def holding(self, address: int) -> Region | None:
        """What holds `address`."""
        return self._first(self._own & self._history._holds(address))

    def below(self, address: int) -> Region | None:
        """Of what ends at or below `address`, the nearest."""
        found = np.flatnonzero(self._own & (self._history.end <= np.uint64(address)))
        return self._history.region(int(found[self._history.end[found].argmax()])) if len(found) else None

    def above(self, address: int) -> Region | None:
        """Of what begins above `address`, the nearest."""
        found = np.flatnonzero(self._own & (self._history.start > np.uint64(address)))
        return self._history.region(int(found[self._history.start[found].argmin()])) if len(found) else None

    def leading_to(self, gpa: int) -> Region | None:
        """What leads to `gpa`, at another address."""
        one = self._history
        there = (one.gpa <= np.uint64(gpa)) & (np.uint64(gpa) - one.gpa < one.end - one.start) & (one.gpa != one.start)
        return self._first(self._own & there)

    def with_low_half(self, address: int) -> Region | None:
        """What holds an address from 4 GiB on whose low 32 bits are `address`."""
        one = self._history
        into = (np.uint64(address) - one.start) & np.uint64(LOW_HALF - 1)
        return self._first(self._own & (one.start >= np.uint64(LOW_HALF)) & (into < one.end - one.start))

    def of_others(self, address: int) -> tuple[Region, ...]:
        """What holds `address` for other devices, a few of them at most."""
        found = np.flatnonzero(self._others & self._history._holds(address))
        return tuple(self._history.region(int(index)) for index in found[:FEW])

    def _first(self, mask: _Mask) -> Region | None:
        found = np.flatnonzero(mask)
        return self._history.region(int(found[0])) if len(found) else None


class _Tasks:
    # Who ran when a line was written: the columns do not keep it, so a file that is asked about is read once more.
    def __init__(self, files: tuple[str, ...]) -> None:
        self._files = files
        self._names: list[str] = [""]
        self._of_line: dict[int, array[int]] = {}

    def of(self, file: int, line: int) -> str:
        if file not in self._of_line:
            self._of_line[file] = self._read(self._files[file])
        lines = self._of_line[file]
        return self._names[lines[line - 1]] if line <= len(lines) else ""

    def _read(self, name: str) -> array[int]:
        lines, numbers = array("I"), {"": 0}
        if name == "-":  # standard input is read once only
            return lines
        with open_trace(name) as stream:
            for piece in pieces(stream, name):
                for line in piece.decode("utf-8", "replace").removesuffix("\n").split("\n"):
                    frame = FRAME.match(line)
                    task = f"{frame[1]}-{frame[2]}" if frame else ""
                    if task not in numbers:
                        numbers[task] = len(self._names)
                        self._names.append(task)
                    lines.append(numbers[task])
        return lines


def _attachments(trace: Trace) -> Iterator[tuple[int, SourceId, int | None]]:
    columns = trace.columns
    rows = np.flatnonzero((columns.kind == Kind.ATTACH) | (columns.kind == Kind.DETACH))
    for row in rows:
        space = int(columns.space[row]) if columns.kind[row] == Kind.ATTACH else None
        yield int(columns.time_ns[row]), SourceId(int(columns.source[row])), space


def _lifetimes(trace: Trace) -> tuple[npt.NDArray[Any], ...]:
    # (start, end, row of the map, row of the unmap) of each piece of each mapping.
    columns = trace.columns
    live: dict[int, Live] = {}
    found = tuple(array(kind) for kind in "QQqq")

    def end(pieces: list[Range], row: int) -> None:
        for piece in pieces:
            for column, value in zip(found, (piece.start, min(piece.end, EVERYTHING - 1), piece.row, row), strict=True):
                column.append(value)

    rows = zip(*(getattr(columns, name).tolist() for name in ("kind", "space", "iova", "size")), strict=True)
    for row, (kind, space, iova, size) in enumerate(rows):
        if kind == Kind.MAP:
            live.setdefault(space, Live()).add(Range(iova, iova + size, row))
        elif kind == Kind.UNMAP and space in live:
            end(live[space].take(iova, iova + size), row)
    for ranges in live.values():
        end(ranges.overlapping(0, EVERYTHING), NEVER)
    kinds = (np.uint64, np.uint64, np.int64, np.int64)
    return tuple(np.array(column, kind) for column, kind in zip(found, kinds, strict=True))
