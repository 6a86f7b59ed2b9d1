"""Everything that is mapped, from the root table address down: spaces, their mappings, and what is wrong.

An image may be damaged or hold only some pages: that makes findings, never an error, and never work without end.
Structures that several devices share are read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pagetables.address import PAGE_SHIFT, PAGE_SIZE, DomainId, Gpa, Pasid, SourceId, level_shift
from pagetables.bits import Word
from pagetables.bulk_scan import MakeReader
from pagetables.capabilities import Capabilities
from pagetables.fault import FaultReason
from pagetables.formats import formats, rules
from pagetables.guest_memory import GuestMemory
from pagetables.layouts.context import LegacyContextEntry, LegacyRootEntry, ScalableContextEntry, ScalableRootEntry
from pagetables.layouts.pasid import PasidDirectoryEntry, PasidTableEntry
from pagetables.layouts.registers import RootTableAddress
from pagetables.layouts.values import LegacyTranslation, TableMode
from pagetables.memory import Memory
from pagetables.selection import EVERYTHING, Selection
from pagetables.source import (
    Source,
    TranslationType,
    decode_context,
    decode_pasid_entry,
    pasid_limit,
)
from pagetables.table_scan import Contents, Finding, Mapping, TableScanner, read_page
from pagetables.validity import (
    legacy_context_error,
    legacy_root_error,
    pasid_directory_error,
    pasid_entry_error,
    scalable_context_error,
    scalable_root_error,
)

__all__ = ["Contents", "Finding", "Mapping", "Scan", "Space", "scan"]

SPACE_LIMIT = 1 << 16  # spaces listed: a damaged image can claim 2**36
DIRECTORY_LIMIT = 1 << 18  # PASID directory entries followed, over all devices
_NOTHING = Contents()
_LEGACY_TYPES = frozenset(LegacyTranslation)
_PASID_TYPES = frozenset(TranslationType)
_Entry = tuple[int, int, int]  # index, address, raw word
_PasidEntries = tuple[tuple[int, PasidTableEntry], ...]


@dataclass(frozen=True, slots=True)
class Space:
    """What one (source-id, PASID) can reach. `pasid` is the index into the PASID table; None in legacy mode.

    `table`, `levels` and `contents` are the first stage's where it has one, else the second stage's; of a nested
    space, mappings lead to guest addresses, and `second_stage` says where those lie.
    """

    source_id: SourceId
    pasid: Pasid | None
    domain_id: DomainId
    translation: TranslationType
    levels: int
    table: Gpa
    contents: Contents = _NOTHING
    second_stage: Contents | None = None

    @property
    def mappings(self) -> Sequence[Mapping]:
        """Merged runs, in the order of IOVA."""
        return self.contents.mappings

    @property
    def pages(self) -> dict[int, int]:
        """Page size to number of leaves."""
        return dict(self.contents.pages)


@dataclass(frozen=True, slots=True)
class Scan:
    """All that a root table address leads to."""

    mode: str  # legacy, scalable, abort or reserved
    spaces: tuple[Space, ...]
    findings: tuple[Finding, ...]


def scan(
    memory: Memory,
    rtaddr: int,
    capabilities: Capabilities,
    *,
    source_id: SourceId | None = None,
    pasid: Pasid | None = None,
    selection: Selection = EVERYTHING,
    bulk: bool | MakeReader = True,
) -> Scan:
    """What the tables under `rtaddr` (the register's value, TTM included) map; of one device or PASID, if given.

    Of mappings, what `selection` takes; of a nested space, its first stage alone. `bulk` as `TableScanner` has it.
    """
    scanner = _Scanner(memory, capabilities, (source_id, pasid), selection, bulk)
    mode = RootTableAddress(rtaddr).ttm
    root = RootTableAddress(rtaddr).rta << PAGE_SHIFT & capabilities.address_limit - 1
    found: Iterator[Space] = iter(())
    if mode == TableMode.LEGACY:
        found = scanner.legacy(root)
    elif mode == TableMode.SCALABLE:
        found = scanner.scalable(root)
    elif mode != TableMode.ABORT:
        scanner.tell("table-mode", None, f"RTADDR.TTM is {mode}, which is reserved: the unit would refuse everything")
    spaces = list(islice(found, SPACE_LIMIT))
    if len(spaces) == SPACE_LIMIT or scanner.is_cut:
        scanner.tell("cut", None, f"there are more spaces than the {len(spaces)} listed")
    name = TableMode(mode).name.lower() if mode in set(TableMode) else "reserved"
    return Scan(name, tuple(spaces), tuple(scanner.findings))


class _Scanner:
    def __init__(
        self,
        memory: Memory,
        capabilities: Capabilities,
        wanted: tuple[SourceId | None, Pasid | None],
        selection: Selection,
        bulk: bool | MakeReader,
    ) -> None:
        self.findings: list[Finding] = []
        self._memory = memory
        self._capabilities = capabilities
        self._wanted_source, self._wanted_pasid = wanted
        self._selection = selection
        self._bulk = bulk
        self._entries: dict[tuple[int, type[Word]], tuple[_Entry, ...]] = {}
        self._pasid_tables: dict[int, _PasidEntries] = {}
        self._followed = 0
        self._told: set[tuple[str, int]] = set()
        second, first = formats(capabilities, nested=False, execute=False)
        self._second = TableScanner(memory, second, self.findings, selection, bulk=bulk)
        whole = selection.is_everything  # below a first stage, the second stage is shown as it is
        self._below = self._second if whole else TableScanner(memory, second, self.findings, bulk=bulk)
        self._first = TableScanner(memory, first, self.findings, selection, bulk=bulk)
        self._guests: dict[Source, TableScanner] = {}

    @property
    def is_cut(self) -> bool:
        # True if the directories claimed more than any machine has.
        return self._followed > DIRECTORY_LIMIT

    def tell(
        self,
        kind: str,
        at: int | None,
        message: str,
        source: SourceId | None = None,
        reason: FaultReason | None = None,
    ) -> None:
        # A structure that several devices share is told of once.
        if at is None or (kind, at) not in self._told:
            self._told.add((kind, at or 0))
            self.findings.append(Finding(kind, None if at is None else Gpa(at), message, source, reason))

    def _check(self, reason: FaultReason | None, word: Word, at: int, source: SourceId) -> None:
        # An entry that faults is told of; what it would map is shown all the same, as far as it can be read.
        if reason is not None:
            name = type(word).name.replace("_", "-")
            self.tell("bad-entry", at, f"{name} at {at:#x}: {reason.meaning} (fault {reason:02x}h)", source, reason)

    def _read(self, table: int, layout: type[Word], what: str, source: SourceId | None) -> tuple[_Entry, ...]:
        # (index, address, raw word) of the entries of a page that are not all zero.
        key = (table, layout)
        if key not in self._entries:
            page, missing = read_page(self._memory, table)
            if missing:
                kind = "missing-table" if missing * 8 == PAGE_SIZE else "partial-table"
                self.tell(kind, table, f"the {what} at {table:#x} is outside memory by {missing * 8} bytes", source)
            size = layout.width // 8
            words = (int.from_bytes(page[at : at + size], "little") for at in range(0, PAGE_SIZE, size))
            self._entries[key] = tuple((i, table + i * size, word) for i, word in enumerate(words) if word)
        return self._entries[key]

    def _is_wanted(self, source: SourceId) -> bool:
        return self._wanted_source in (None, source)

    def legacy(self, root: int) -> Iterator[Space]:
        for bus, at, raw in self._read(root, LegacyRootEntry, "root table", None):
            entry = LegacyRootEntry(raw)
            if not entry.p:
                continue
            start = SourceId(bus << 8)
            self._check(legacy_root_error(entry, self._capabilities), entry, at, start)
            for devfn, where, word in self._read(entry.ctp << PAGE_SHIFT, LegacyContextEntry, "context table", start):
                source = SourceId(start | devfn)
                context = LegacyContextEntry(word)
                if context.p and self._is_wanted(source):
                    self._check(legacy_context_error(context, self._capabilities), context, where, source)
                    if context.tt in _LEGACY_TYPES:
                        yield self._space(source, None, decode_context(context))

    def scalable(self, root: int) -> Iterator[Space]:
        for bus, at, raw in self._read(root, ScalableRootEntry, "root table", None):
            entry = ScalableRootEntry(raw)
            for upper, present, table in ((False, entry.lp, entry.lctp), (True, entry.up, entry.uctp)):
                if present:
                    start = SourceId(bus << 8 | upper << 7)
                    self._check(scalable_root_error(entry, upper, self._capabilities), entry, at, start)
                    yield from self._scalable_half(table << PAGE_SHIFT, start)

    def _scalable_half(self, table: int, start: SourceId) -> Iterator[Space]:
        for index, at, word in self._read(table, ScalableContextEntry, "context table", start):
            source = SourceId(start | index)
            context = ScalableContextEntry(word)
            if context.p and self._is_wanted(source):
                self._check(scalable_context_error(context, self._capabilities), context, at, source)
                for pasid, entry in self._pasids(context, source):
                    yield self._space(source, pasid, decode_pasid_entry(entry, bool(context.fpd)))

    def _pasids(self, context: ScalableContextEntry, source: SourceId) -> Iterator[tuple[Pasid, PasidTableEntry]]:
        first = context.pasiddirptr << PAGE_SHIFT
        for page in range(first, first + max(pasid_limit(context) // 64 * 8, PAGE_SIZE), PAGE_SIZE):
            for index, at, word in self._read(page, PasidDirectoryEntry, "PASID directory", source):
                directory = PasidDirectoryEntry(word)
                base = ((page - first) // 8 + index) * 64
                if not directory.p or base >= pasid_limit(context):
                    continue
                self._followed += 1
                if self._followed > DIRECTORY_LIMIT:
                    return
                self._check(pasid_directory_error(directory, self._capabilities), directory, at, source)
                for low, entry in self._pasid_table(directory.smptblptr << PAGE_SHIFT, source):
                    if self._wanted_pasid in (None, base + low):
                        yield Pasid(base + low), entry

    def _pasid_table(self, table: int, source: SourceId) -> _PasidEntries:
        if table not in self._pasid_tables:
            present = []
            for index, at, word in self._read(table, PasidTableEntry, "PASID table", source):
                entry = PasidTableEntry(word)
                if entry.p:
                    self._check(pasid_entry_error(entry, self._capabilities), entry, at, source)
                    if entry.pgtt in _PASID_TYPES:
                        present.append((index, entry))
            self._pasid_tables[table] = tuple(present)
        return self._pasid_tables[table]

    def _space(self, source_id: SourceId, pasid: Pasid | None, source: Source) -> Space:
        second = self._second_stage(source_id, source)
        contents, levels, table = second or _NOTHING, source.ss_levels, source.ss_table
        nested = source.translation is TranslationType.NESTED
        if source.fs_levels:
            contents, levels, table = self._first_stage(source_id, source), source.fs_levels, source.fs_table
        return Space(
            source_id,
            pasid,
            source.domain_id,
            source.translation,
            levels,
            table,
            contents,
            second if nested else None,
        )

    def _second_stage(self, source_id: SourceId, source: Source) -> Contents | None:
        if source.ss_levels not in (3, 4, 5):  # pass-through, first-stage, or an AW already told of
            return None
        limit = rules(self._capabilities, source).ss_input_limit
        scanner = self._below if source.translation is TranslationType.NESTED else self._second
        return scanner.contents(source.ss_table, source.ss_levels, limit, source_id)

    def _first_stage(self, source_id: SourceId, source: Source) -> Contents:
        if source.fs_levels not in (4, 5):
            return _NOTHING
        scanner = self._first
        if source.translation is TranslationType.NESTED:
            below = Source(TranslationType.SECOND_STAGE, DomainId(0), False, source.ss_table, source.ss_levels)
            if below not in self._guests:
                guest = GuestMemory(self._memory, source.ss_table, source.ss_levels, self._capabilities)
                form = formats(self._capabilities, nested=True, execute=False)[1]
                self._guests[below] = TableScanner(guest, form, self.findings, self._selection, bulk=False)
            scanner = self._guests[below]
        width = level_shift(source.fs_levels + 1)
        return scanner.contents(source.fs_table, source.fs_levels, 1 << width, source_id)
