"""Every mapping of a set of paging tables, found by reading each table once.

Damage is reported, never followed without end: a table that leads back to one above it is a loop; one that was read
before, at the same level, is not read again. Findings of one kind are told once a table, however many entries it has.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from types import MappingProxyType

from pagetables.address import PAGE_SIZE, Gpa, Iova, SourceId, level_shift, level_size
from pagetables.errors import NoMemory
from pagetables.fault import FaultReason
from pagetables.formats import FirstStage, Format, Kind
from pagetables.memory import Memory
from pagetables.request import Permissions

__all__ = ["Contents", "Finding", "Mapping", "TableScanner", "read_page"]

ENTRIES = 512
ALIAS_LIMIT = 1 << 18  # runs listed again because a table is linked more than once; a damaged image can ask for 512**4
_PAGE = struct.Struct(f"<{ENTRIES}Q")
_EMPTY = bytes(PAGE_SIZE)
_SHOWN = Permissions.R | Permissions.W | Permissions.USER

_Run = tuple[int, int, int, int]  # iova, gpa, size, permissions


@dataclass(frozen=True, slots=True)
class Mapping:
    """Neighbouring pages that continue each other in IOVA and GPA with the same access. `user` is first-stage U/S."""

    iova: Iova
    gpa: Gpa
    size: int
    access: Permissions
    user: bool = False


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

    mappings: tuple[Mapping, ...] = ()
    pages: MappingProxyType[int, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class _Seen:
    # What a table was found to hold: a slice of the runs of its first visit, and its leaves by level.
    runs: list[_Run]
    start: int
    end: int
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
    """Scans tables of one format in one memory; what it learned of a table serves every root that leads there."""

    def __init__(self, memory: Memory, form: Format, findings: list[Finding]) -> None:
        self._memory = memory
        self._form = form
        self._findings = findings
        self._stage = "first-stage" if isinstance(form, FirstStage) else "second-stage"
        self._contents: dict[tuple[int, int, int], Contents] = {}
        self._seen: dict[tuple[int, int, int], _Seen] = {}
        self._rights: dict[int, int] = {}  # permissions by the bits that decide them
        self._aliased = 0
        self._begin(None)

    def _begin(self, source: SourceId | None) -> None:
        self._source = source
        self._runs: list[_Run] = []
        self._leaves = [0] * 6
        self._links: dict[tuple[int, int], int] = {}
        self._cut = False

    def contents(self, root: int, levels: int, limit: int, source: SourceId | None = None) -> Contents:
        """What the tables under `root` map below `limit`; `source` is named in findings."""
        key = (root, levels, limit)
        if key not in self._contents:
            self._begin(source)
            self._visit(root, levels, 0, int(_SHOWN), (), limit)
            pages = {level_size(level): count for level, count in enumerate(self._leaves) if count}
            self._contents[key] = Contents(self._merged(levels), MappingProxyType(pages))
        return self._contents[key]

    def _tell(self, kind: str, at: int, message: str) -> None:
        self._findings.append(Finding(kind, Gpa(at), message, self._source))

    def _visit(self, table: int, level: int, base: int, mask: int, path: tuple[int, ...], limit: int) -> None:
        links = self._links[table, level] = self._links.get((table, level), 0) + 1
        if links == 2:
            self._tell("shared-table", table, f"{self._name(table, level)} is linked more than once in one space")
        seen = self._seen.get((table, level, mask))
        if seen is not None:
            return self._repeat(seen, base)
        start, before = len(self._runs), tuple(self._leaves)
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
        leaves = tuple(now - then for now, then in zip(self._leaves, before, strict=True))
        self._seen[table, level, mask] = _Seen(self._runs, start, len(self._runs), base, leaves)
        return None

    def _repeat(self, seen: _Seen, base: int) -> None:
        for level, count in enumerate(seen.leaves):
            self._leaves[level] += count
        self._aliased += seen.end - seen.start
        if self._aliased > ALIAS_LIMIT:
            if not self._cut:
                self._findings.append(
                    Finding("cut", None, "tables linked many times are not listed again", self._source)
                )
            self._cut = True
            return
        shift = base - seen.base
        known = seen.runs[seen.start : seen.end]
        self._runs += [(iova + shift, gpa, size, bits) for iova, gpa, size, bits in known]

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
        bad: list[int] = []
        count = 0
        start = first = length = bits = -1
        for index, entry in enumerate(entries):
            if not entry & present:
                continue
            if entry & reserved:
                bad.append(index)
                continue
            count += 1
            iova, gpa = base + index * PAGE_SIZE, entry & address
            key = entry & bits_of
            granted = (rights[key] if key in rights else self._permissions(entry)) & mask
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
        for index, entry in enumerate(entries):
            kind = form.kind(entry, level) if entry else Kind.EMPTY
            if kind is Kind.EMPTY:
                continue
            iova = base + (index << shift)
            granted = self._permissions(entry) & mask
            if entry & form.reserved(level, kind):
                bad.append(index)
            elif iova >= limit:
                beyond.append(index)
            elif kind is Kind.LEAF:
                self._leaves[level] += 1
                self._runs.append((iova, form.output(entry, level), 1 << shift, granted))
            elif form.table(entry) in path:
                loops.append(index)
            else:
                self._visit(form.table(entry), level - 1, iova, granted, path, limit)
        self._tell_entries("reserved-bits", bad, table, level, "have reserved bits set")
        self._tell_entries("beyond-width", beyond, table, level, f"map addresses from {limit:#x} upwards")
        self._tell_entries("loop", loops, table, level, "lead back to a table above them")

    def _tell_entries(self, kind: str, indexes: list[int], table: int, level: int, what: str) -> None:
        if indexes:
            at = table + 8 * indexes[0]
            self._tell(kind, at, f"{len(indexes)} entries of {self._name(table, level)} {what}, the first at {at:#x}")

    def _merged(self, levels: int) -> tuple[Mapping, ...]:
        width = level_shift(levels + 1)
        signed = isinstance(self._form, FirstStage)  # the upper half stands at the end of 64 bits
        merged: list[_Run] = []
        for iova, gpa, size, bits in self._runs:
            if signed and iova >> width - 1:
                iova += (1 << 64) - (1 << width)
            if merged:
                before = merged[-1]
                if bits == before[3] and iova == before[0] + before[2] and gpa == before[1] + before[2]:
                    merged[-1] = (before[0], before[1], before[2] + size, bits)
                    continue
            merged.append((iova, gpa, size, bits))
        access = {bits: Permissions(bits) & ~Permissions.USER for bits in range(int(_SHOWN) + 1)}
        user = int(Permissions.USER)
        return tuple(
            Mapping(Iova(iova), Gpa(gpa), size, access[bits], bool(bits & user)) for iova, gpa, size, bits in merged
        )
