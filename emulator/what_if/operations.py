"""What a trace's software asked for, apart from the addresses it got: operations on buffers.

A buffer is one address range: what one unmap takes away as a whole. A scatter list shows as several maps and one unmap;
its maps are one buffer, and those that follow each other on one CPU are one operation of several pieces. Lifetimes,
sizes, CPUs and targets are the trace's; which address a buffer gets is the runner's choice, as recorded or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.ledger import Ledger, keep_ledger
from emulator.trace.columns import Columns
from emulator.trace.event import Kind
from emulator.trace.live import Live, Range
from emulator.trace.trace import Trace
from pagetables.address import PAGE_SHIFT

__all__ = ["NO_ROW", "Operations", "Pairs", "Prepared", "operations", "pair_up"]

Words = npt.NDArray[Any]
NO_ROW = -1
_SPACE_BITS = 12  # of a key of space and page


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which rows belong together. All are indexed by row, NO_ROW where nothing is meant.

    `buffer`: of maps, unmaps and accesses, the first row of the buffer. `closer`: of maps, the row that unmaps it
    (first). `start` and `end` of a buffer are at its first row.
    """

    buffer: Words
    closer: Words
    start: Words
    end: Words

    def reordered(self, rows: Words) -> Pairs:
        """The same pairs when the rows stand in this order."""
        place = np.full(len(rows) + 1, NO_ROW, np.int64)  # the last: where NO_ROW is found
        place[rows] = np.arange(len(rows))
        return Pairs(place[self.buffer[rows]], place[self.closer[rows]], self.start[rows], self.end[rows])


@dataclass(frozen=True, slots=True)
class Operations:
    """One entry an operation, in order, in Python lists: nothing is faster to loop over.

    `buffer` numbers the buffers, `offset` is where in the buffer the operation begins, `size` how far it reaches. The
    pieces of a map are those from `first` up to the next operation's `first`; each has target, size, access and leaf
    levels. `end_ns` of a map is when the trace unmaps it, or -1.
    """

    row: list[int]
    time_ns: list[int]
    kind: list[int]
    space: list[int]
    cpu: list[int]
    buffer: list[int]
    offset: list[int]
    size: list[int]
    end_ns: list[int]
    first: list[int]
    piece_offset: list[int]  # in the buffer
    piece_gpa: list[int]
    piece_size: list[int]
    piece_access: list[int]
    piece_levels: list[int]
    buffer_start: list[int]  # as recorded
    buffer_size: list[int]

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A trace with what every run of it begins with, so that many runs begin with it at once. Nothing changes it."""

    trace: Trace
    ledger: Ledger
    ops: Operations

    @classmethod
    def of(cls, trace: Trace) -> Prepared:
        """The trace, prepared."""
        ledger = keep_ledger(trace.columns)
        return cls(trace, ledger, operations(trace.columns, ledger))


def operations(columns: Columns, ledger: Ledger | None = None) -> Operations:
    """The operations of these events; what `ledger` leaves out is left out."""
    order = (ledger or keep_ledger(columns)).order
    rows = columns.take(order)
    # An event that was put behind a later one happens no earlier than that.
    time = np.maximum.accumulate(rows.time_ns.astype(np.int64)) if len(rows) else rows.time_ns.astype(np.int64)
    pairs = pair_up(rows)
    if np.any(rows.kind == Kind.ACCESS):
        moved = _accesses_last(rows, pairs)
        rows, order, pairs = rows.take(moved), order[moved], pairs.reordered(moved)
        time = np.maximum.accumulate(time[moved])
    opens = _operation_starts(rows, pairs.buffer)
    return _listed(rows, order, time, pairs, opens)


def pair_up(columns: Columns) -> Pairs:
    """Who unmaps what. Most traces unmap what one map mapped; others are gone through event by event."""
    return _exact_pairs(columns) or _Pairing(columns).run()


def _exact_pairs(columns: Columns) -> Pairs | None:
    rows = np.flatnonzero((columns.kind == Kind.MAP) | (columns.kind == Kind.UNMAP))
    if np.any(columns.kind == Kind.ACCESS) or (len(rows) and int(columns.space.max()) >> _SPACE_BITS):
        return None
    key = columns.iova[rows] >> PAGE_SHIFT << _SPACE_BITS | columns.space[rows]
    order = np.argsort(key, kind="stable")
    rows, key = rows[order], key[order]
    maps, size = columns.kind[rows] == Kind.MAP, columns.size[rows]
    again = np.append(False, key[1:] == key[:-1])[: len(rows)]
    after_map = again & np.append(False, maps[:-1])[: len(rows)]
    same = np.append(False, size[1:] == size[:-1])[: len(rows)]
    if np.any(maps == after_map) or np.any(after_map & ~same):
        return None  # a map after a map, an unmap after none, or of another size
    pairs = _no_pairs(columns)
    pairs.buffer[rows[maps]] = rows[maps]
    closers = np.flatnonzero(after_map)
    pairs.buffer[rows[closers]] = rows[closers - 1]
    pairs.closer[rows[closers - 1]] = rows[closers]
    return pairs


def _no_pairs(columns: Columns) -> Pairs:
    none = np.full(len(columns), NO_ROW, np.int64)
    start = columns.iova.astype(np.uint64)
    return Pairs(none, none.copy(), start.copy(), start + columns.size)


class _Pairing:
    # Rows of maps are joined (union-find) where one unmap, or what is left of a map, ties them together.

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._pairs = _no_pairs(columns)
        self._parent: dict[int, int] = {}
        self._live: dict[int, Live] = {}
        self._owner: dict[int, int] = {}  # of unmaps and accesses: a map of their buffer

    def run(self) -> Pairs:
        columns = self._columns
        kinds, spaces = columns.kind.tolist(), columns.space.tolist()
        starts, sizes = columns.iova.tolist(), columns.size.tolist()
        for row, (kind, space, start, size) in enumerate(zip(kinds, spaces, starts, sizes, strict=True)):
            if kind == Kind.MAP:
                self._parent[row] = row
                self._in(space).add(Range(start, start + size, row))
            elif kind == Kind.UNMAP:
                self._unmap(row, self._in(space).take(start, start + size))
            elif kind == Kind.ACCESS and (met := self._in(space).overlapping(start, start + max(size, 1))):
                self._owner[row] = met[0].row
        return self._settled()

    def _in(self, space: int) -> Live:
        live = self._live.get(space)
        if live is None:
            live = self._live[space] = Live()
        return live

    def _unmap(self, row: int, pieces: list[Range]) -> None:
        for piece in pieces:
            if self._pairs.closer[piece.row] == NO_ROW:
                self._pairs.closer[piece.row] = row
            self._join(piece.row, pieces[0].row)
            self._owner[row] = piece.row

    def _root(self, row: int) -> int:
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._parent[max(one, other)] = min(one, other)

    def _settled(self) -> Pairs:
        pairs = self._pairs
        for row in self._parent:
            root = self._root(row)
            pairs.buffer[row] = root
            pairs.start[root] = min(pairs.start[root], pairs.start[row])
            pairs.end[root] = max(pairs.end[root], pairs.end[row])
        for row, owner in self._owner.items():
            pairs.buffer[row] = self._root(owner)
        return pairs


def _accesses_last(columns: Columns, pairs: Pairs) -> Words:
    # The rows in order, but no access within an operation: other devices go on while a list is mapped.
    work = np.flatnonzero(columns.kind != Kind.ACCESS)
    opens = _operation_starts(columns.take(work), pairs.buffer[work])
    operation = np.zeros(len(columns), np.int64)
    operation[work] = opens
    operation = 2 * np.cumsum(operation) + (columns.kind == Kind.ACCESS)
    return np.argsort(operation, kind="stable")


def _operation_starts(columns: Columns, buffer: Words) -> Words:
    # True where a row begins an operation: it is no map, or does not continue the map before it.
    if not len(columns):
        return np.zeros(0, bool)
    maps = columns.kind == Kind.MAP
    end = columns.iova + columns.size
    follows = maps[1:] & maps[:-1] & (buffer[1:] == buffer[:-1]) & (columns.iova[1:] == end[:-1])
    follows &= (columns.cpu[1:] == columns.cpu[:-1]) & (columns.space[1:] == columns.space[:-1])
    return np.append(True, ~follows)


def _listed(columns: Columns, order: Words, time: Words, pairs: Pairs, opens: Words) -> Operations:
    first = np.flatnonzero(opens)
    own = np.flatnonzero(pairs.buffer == np.arange(len(columns)))  # the first row of each buffer
    number = np.full(len(columns) + 1, NO_ROW, np.int64)
    number[own] = np.arange(len(own))
    buffer = number[pairs.buffer[first]]
    base = np.where(buffer >= 0, pairs.start[pairs.buffer[first]], 0).astype(np.uint64)
    last = np.append(first[1:], len(columns)) - 1
    closer = pairs.closer[first]
    end = (columns.iova + columns.size)[last] if len(first) else columns.iova
    return Operations(
        row=order[first].tolist(),
        time_ns=time[first].tolist(),
        kind=columns.kind[first].tolist(),
        space=columns.space[first].tolist(),
        cpu=columns.cpu[first].tolist(),
        buffer=buffer.tolist(),
        offset=(columns.iova[first] - base).tolist(),
        size=(end - columns.iova[first]).tolist(),
        end_ns=np.where(closer >= 0, time[closer], NO_ROW).tolist() if len(time) else [],
        first=[*first.tolist(), len(columns)],
        piece_offset=_piece_offsets(columns, pairs),
        piece_gpa=columns.gpa.tolist(),
        piece_size=columns.size.tolist(),
        piece_access=columns.access.tolist(),
        piece_levels=columns.leaf_levels.tolist(),
        buffer_start=pairs.start[own].tolist(),
        buffer_size=(pairs.end - pairs.start)[own].tolist(),
    )


def _piece_offsets(columns: Columns, pairs: Pairs) -> list[int]:
    own = pairs.buffer >= 0
    base = np.where(own, pairs.start[pairs.buffer], columns.iova).astype(np.uint64)
    offsets: list[int] = (columns.iova - base).tolist()
    return offsets
