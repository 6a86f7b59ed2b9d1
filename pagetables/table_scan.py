"""Every mapping of a set of paging tables, found by reading each table once.

Damage is reported, never followed without end: a table that leads back to one above it is a loop; one that was read
before, at the same level, is not read again. Findings of one kind are told once a table, however many entries it has.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import compress, repeat
from types import MappingProxyType

from pagetables import bulk_scan, wording
from pagetables.address import PAGE_SIZE, Gpa, SourceId, level_shift, level_size
from pagetables.errors import NoMemory
from pagetables.fault import FaultReason
from pagetables.formats import FirstStage, Format, Kind
from pagetables.memory import Memory
from pagetables.request import Permissions
from pagetables.runs import Columns, Mapping, Piece, Run, mappings_of
from pagetables.selection import EVERYTHING, Selection

__all__ = ["Contents", "Finding", "Mapping", "TableScanner", "read_page"]

ENTRIES = 512
ALIAS_LIMIT = 1 << 18  # runs listed again because a table is linked more than once; a damaged image can ask for 512**4
FEW = 8  # leaf tables that are read one by one: a batch costs as much
_PAGE = struct.Struct(f"<{ENTRIES}Q")
_EMPTY = bytes(PAGE_SIZE)
_SHOWN = Permissions.R | Permissions.W | Permissions.USER
_Place = tuple[int, int]  # in the pieces: which, and where in it


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the tables that a unit would stumble over: what kind, where, for whom."""

    kind: str
    at: Gpa | None
    message: str
    source: SourceId | None = None
    reason: FaultReason | None = None  # what a request would end in, where an entry is bad


@dataclass(frozen=True, slots=True)
class Contents:
    """What a set of tables maps: merged runs in the order of IOVA, and how many leaves there are of each size."""

    mappings: Sequence[Mapping] = ()
    pages: MappingProxyType[int, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class _Seen:
    # What a table was found to hold: a part of the pieces of its first visit, and its leaves by level.
    pieces: list[Piece]
    start: _Place
    end: _Place
    runs: int  # as many as its tables have, each for itself
    base: int
    leaves: tuple[int, ...]


def read_page(memory: Memory, at: int) -> tuple[bytes, int]:
    """The 4 KiB at `at` and how many of its qwords are outside memory; those read as zero."""
    try:
        return memory.read(at, PAGE_SIZE), 0
    except NoMemory:
        qwords = [memory.load(at + offset) for offset in range(0, PAGE_SIZE, 8)]
        return _PAGE.pack(*(qword or 0 for qword in qwords)), qwords.count(None)


class TableScanner:
    """Scans tables of one format in one memory; what it learned of a table serves every root that leads there.

    `selection` leaves out mappings; findings are told of every table that is read. `bulk` reads many leaf tables at
    once where numpy is there; what is found is the same. It may also be what makes a faster reader than numpy's.
    """

    def __init__(
        self,
        memory: Memory,
        form: Format,
        findings: list[Finding],
        selection: Selection = EVERYTHING,
        *,
        bulk: bool | bulk_scan.MakeReader = True,
    ) -> None:
        self._memory = memory
        self._form = form
        self._findings = findings
        self._selection = selection
        self._bulk = bool(bulk) and not selection.by_leaf and bulk_scan.is_possible()
        self._make_reader: bulk_scan.MakeReader = bulk_scan.BulkReader if isinstance(bulk, bool) else bulk
        self._readers: dict[int, bulk_scan.LeafReader] = {}
        self._stage = "first-stage" if isinstance(form, FirstStage) else "second-stage"
        self._contents: dict[tuple[int, int, int], Contents] = {}
        self._seen: dict[tuple[int, int, int], _Seen] = {}
        self._seen_in_bulk: dict[tuple[int, int], int] = {}  # leaf table and mask: where it was first
        self._rights: dict[int, int] = {}  # permissions by the bits that decide them
        self._aliased = 0
        self._begin(None, 4)

    def _begin(self, source: SourceId | None, levels: int) -> None:
        self._source = source
        self._runs: list[Run] = []
        self._pieces: list[Piece] = [self._runs]
        self._before = 0  # runs in the pieces before the last, as many as their tables have, each for itself
        self._leaves = [0] * 6
        self._links: dict[tuple[int, int], int] = {}
        self._cut = False
        self._alone = 0  # entries of a level 2 table that are read one by one, up to here
        width = level_shift(levels + 1)
        self._half = 1 << width - 1 if isinstance(self._form, FirstStage) else 1 << 64
        self._upper = (1 << 64) - (1 << width)  # the upper half of first-stage addresses stands at the end of 64 bits

    def contents(self, root: int, levels: int, limit: int, source: SourceId | None = None) -> Contents:
        """What the tables under `root` map below `limit`; `source` is named in findings."""
        key = (root, levels, limit)
        if key not in self._contents:
            self._begin(source, levels)
            self._visit(root, levels, 0, int(_SHOWN), (), limit)
            pages = {level_size(level): count for level, count in enumerate(self._leaves) if count}
            self._contents[key] = Contents(mappings_of(self._merged()), MappingProxyType(pages))
        return self._contents[key]

    def _place(self) -> _Place:
        return len(self._pieces) - 1, len(self._runs)

    def _canonical(self, iova: int) -> int:
        return iova + self._upper if iova >= self._half else iova

    def _tell(self, kind: str, at: int, message: str) -> None:
        self._findings.append(Finding(kind, Gpa(at), message, self._source))

    def _visit(self, table: int, level: int, base: int, mask: int, path: tuple[int, ...], limit: int) -> None:
        links = self._links[table, level] = self._links.get((table, level), 0) + 1
        if links == 2:
            self._tell("shared-table", table, f"{self._name(table, level)} is linked more than once in one space")
        # What lies partly outside the selection is not the same wherever it is linked.
        whole = self._selection.covers(self._canonical(base), level_size(level + 1))
        seen = self._known(table, level, mask) if whole else None
        if seen is not None:
            return self._repeat(seen, base)
        start, before, runs = self._place(), tuple(self._leaves), self._before + len(self._runs)
        page, missing = read_page(self._memory, table)
        if missing:
            kind = "missing-table" if missing == ENTRIES else "partial-table"
            self._tell(kind, table, f"{self._name(table, level)} is outside memory by {missing * 8} of 4096 bytes")
        if page != _EMPTY:
            entries = _PAGE.unpack(page)
            if level == 1:
                self._leaf_table(entries, table, base, mask)
            else:
                self._table(entries, table, level, base, mask, (*path, table), limit)
        if whole:
            leaves = tuple(now - then for now, then in zip(self._leaves, before, strict=True))
            found = self._before + len(self._runs) - runs
            self._seen[table, level, mask] = _Seen(self._pieces, start, self._place(), found, base, leaves)
        return None

    def _known(self, table: int, level: int, mask: int) -> _Seen | None:
        key = (table, level, mask)
        if level == 1 and key not in self._seen and (table, mask) in self._seen_in_bulk:
            self._seen[key] = self._seen_again(table, mask, self._seen_in_bulk[table, mask])
        return self._seen.get(key)

    def _seen_again(self, table: int, mask: int, base: int) -> _Seen:
        # A batch keeps no account of its tables; it had nothing to tell of this one.
        runs, leaves = self._runs, self._leaves
        self._runs, self._leaves = [], [0] * 6
        self._leaf_table(_PAGE.unpack(read_page(self._memory, table)[0]), table, base, mask)
        found = _Seen([self._runs], (0, 0), (0, len(self._runs)), len(self._runs), base, tuple(self._leaves))
        self._runs, self._leaves = runs, leaves
        return found

    def _repeat(self, seen: _Seen, base: int) -> None:
        for level, count in enumerate(seen.leaves):
            self._leaves[level] += count
        self._aliased += seen.runs
        if self._aliased > ALIAS_LIMIT:
            if not self._cut:
                self._findings.append(
                    Finding("cut", None, "tables linked many times are not listed again", self._source)
                )
            self._cut = True
            return
        shift = base - seen.base
        for number in range(seen.start[0], seen.end[0] + 1):
            piece = seen.pieces[number]
            known = list(piece.runs()) if isinstance(piece, Columns) else piece
            first = seen.start[1] if number == seen.start[0] else 0
            last = seen.end[1] if number == seen.end[0] else len(known)
            self._runs += [(iova + shift, gpa, size, bits) for iova, gpa, size, bits in known[first:last]]

    def _name(self, table: int, level: int) -> str:
        return f"the {self._stage} table at {table:#x} (level {level})"

    def _permissions(self, entry: int) -> int:
        key = entry & self._form.permission_bits
        if key not in self._rights:
            self._rights[key] = int(self._form.permissions(entry))
        return self._rights[key]

    def _leaf_table(self, entries: tuple[int, ...], table: int, base: int, mask: int) -> None:
        # The inner loop of every scan: runs are merged as they come.
        form = self._form
        present, reserved, address = form.present, form.reserved_leaf[1], form.leaf_address[1]
        rights, bits_of = self._rights, form.permission_bits
        takes = self._taken(base) if not self._selection.is_everything else None
        bad: list[int] = []
        count = 0
        start = first = length = bits = -1
        for index, entry in enumerate(entries):
            if not entry & present:
                continue
            if entry & reserved:
                bad.append(index)
                continue
            iova, gpa = base + index * PAGE_SIZE, entry & address
            key = entry & bits_of
            granted = (rights[key] if key in rights else self._permissions(entry)) & mask
            if takes is not None and not takes(index, gpa, granted):
                continue
            count += 1
            if granted == bits and iova == start + length and gpa == first + length:
                length += PAGE_SIZE
                continue
            if length > 0:
                self._runs.append((start, first, length, bits))
            start, first, length, bits = iova, gpa, PAGE_SIZE, granted
        if length > 0:
            self._runs.append((start, first, length, bits))
        self._leaves[1] += count
        self._tell_entries("reserved-bits", bad, table, 1, "have reserved bits set")

    def _table(
        self,
        entries: tuple[int, ...],
        table: int,
        level: int,
        base: int,
        mask: int,
        path: tuple[int, ...],
        limit: int,
    ) -> None:
        form, shift = self._form, level_shift(level)
        bad: list[int] = []
        beyond: list[int] = []
        loops: list[int] = []
        done = 0  # entries read in batches, up to here
        self._alone = 0
        for index in compress(range(ENTRIES), entries):
            if index < done:
                continue
            entry = entries[index]
            kind = form.kind(entry, level)
            if kind is Kind.EMPTY:
                continue
            iova = base + (index << shift)
            granted = self._permissions(entry) & mask
            if entry & form.reserved(level, kind):
                bad.append(index)
            elif iova >= limit:
                beyond.append(index)
            elif not self._selection.reaches(self._canonical(iova), 1 << shift):
                continue
            elif kind is Kind.LEAF:
                self._large_leaf(iova, form.output(entry, level), level, granted)
            elif level == 2 and (read := self._batch(entries, index, iova, mask, path, limit)):
                done = index + read
            elif form.table(entry) in path:
                loops.append(index)
            else:
                self._visit(form.table(entry), level - 1, iova, granted, path, limit)
        self._tell_entries("reserved-bits", bad, table, level, "have reserved bits set")
        self._tell_entries("beyond-width", beyond, table, level, f"map addresses from {limit:#x} upwards")
        self._tell_entries("loop", loops, table, level, "lead back to a table above them")

    def _large_leaf(self, iova: int, gpa: int, level: int, granted: int) -> None:
        if self._selection.takes(gpa, level_size(level), granted):
            self._leaves[level] += 1
            self._runs.append((iova, gpa, level_size(level), granted))

    def _taken(self, base: int) -> Callable[[int, int, int], bool]:
        selection, start = self._selection, self._canonical(base)

        def takes(index: int, gpa: int, granted: int) -> bool:
            near = selection.reaches(start + index * PAGE_SIZE, PAGE_SIZE)
            return near and selection.takes(gpa, PAGE_SIZE, granted)

        return takes

    def _batch(
        self, entries: tuple[int, ...], index: int, iova: int, mask: int, path: tuple[int, ...], limit: int
    ) -> int:
        # How many entries from `index` on were read at once: all lead to clean tables that nobody linked before.
        if not self._bulk or index < self._alone:
            return 0
        end = self._alone = self._alike(entries, index, min(index + bulk_scan.TABLES, ENTRIES))
        places = list(compress(range(index, end), entries[index:end]))
        span = level_size(2)
        last = iova + (places[-1] - index + 1) * span
        if len(places) < FEW or last > limit or not self._selection.covers(self._canonical(iova), last - iova):
            return 0
        tables = self._form.tables(filter(None, entries[index:end]))
        granted = self._permissions(entries[index]) & mask
        if not self._are_new(tables, granted, path):
            return 0
        if granted not in self._readers:
            self._readers[granted] = self._make_reader(self._memory, self._form, granted)
        batch = self._readers[granted].read(tables, iova, [at - index for at in places])
        if batch is None:
            return 0
        bases = range(iova, last, span) if len(places) == end - index else [iova + (at - index) * span for at in places]
        self._seen_in_bulk.update(zip(zip(tables, repeat(granted)), bases, strict=False))
        self._links.update(dict.fromkeys(zip(tables, repeat(1)), 1))
        self._leaves[1] += batch.leaves
        self._before += len(self._runs) + batch.separate
        self._runs = []
        self._pieces += (batch.columns, self._runs)
        return end - index

    def _alike(self, entries: tuple[int, ...], index: int, end: int) -> int:
        # The entries from `index` on that lead to tables with the same rights, and empty ones between them.
        form = self._form
        deciding = form.present | form.permission_bits | form.page_size_bit[2] | form.reserved_table[2]
        rest = entries[index] & deciding
        if {entry & deciding for entry in entries[index:end]} == {rest}:
            return end
        at = index
        while at < end and (not entries[at] or entries[at] & deciding == rest):
            at += 1
        return at

    def _are_new(self, tables: list[Gpa], mask: int, path: tuple[int, ...]) -> bool:
        once = set(tables)
        return (
            len(once) == len(tables)
            and once.isdisjoint(path)
            and self._links.keys().isdisjoint(zip(tables, repeat(1)))
            and self._seen.keys().isdisjoint(zip(tables, repeat(1), repeat(mask)))
            and self._seen_in_bulk.keys().isdisjoint(zip(tables, repeat(mask)))
        )

    def _tell_entries(self, kind: str, indexes: list[int], table: int, level: int, what: str) -> None:
        if indexes:
            at = table + 8 * indexes[0]
            many = wording.count(len(indexes), "entry", "entries")
            self._tell(kind, at, f"{many} of {self._name(table, level)} {what}, the first at {at:#x}")

    def _merged(self) -> list[Piece]:
        # Runs that continue each other over tables become one; those of a batch are merged but for its ends.
        current: list[Run] = []
        merged: list[Piece] = [current]
        last: Run | None = None
        for piece in self._pieces:
            runs = piece if isinstance(piece, list) else [piece.run(0)] if len(piece.iova) else []
            fused = False
            for iova, gpa, size, bits in runs:
                iova = self._canonical(iova)
                fused = last is not None and (iova, gpa, bits) == (last[0] + last[2], last[1] + last[2], last[3])
                if last and fused:
                    last = (last[0], last[1], last[2] + size, bits)
                    continue
                if last:
                    current.append(last)
                last = (iova, gpa, size, bits)
            if last and isinstance(piece, Columns) and len(piece.iova) > 1:
                if fused:
                    current.append(last)
                inner = self._placed(piece.part(1 if fused else 0, -1))
                current = []
                merged += (inner, current)
                last = self._placed(piece.part(-1, None)).run(0)
        if last:
            current.append(last)
        return merged

    def _placed(self, columns: Columns) -> Columns:
        # The tables of a batch lie in the same half.
        if columns.iova[0] < self._half:
            return columns
        return columns._replace(iova=columns.iova + self._upper)
