"""Tables as rows, read when they are shown: from a unit's root table down to the entries that say how to translate.

Whatever an image holds can be shown. A word that it does not hold is None, an entry that makes no sense leads nowhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from cli.explorer.wording import source_words
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Pasid, SourceId, format_source_id
from pagetables.bits import Word
from pagetables.capabilities import Capabilities
from pagetables.errors import NoMemory, VtdError
from pagetables.images.registers import RegisterPage
from pagetables.layouts.context import LegacyContextEntry, LegacyRootEntry, ScalableContextEntry, ScalableRootEntry
from pagetables.layouts.pasid import PasidDirectoryEntry, PasidTableEntry
from pagetables.layouts.registers import RootTableAddress
from pagetables.layouts.values import TableMode
from pagetables.memory import Memory
from pagetables.request import Request
from pagetables.source import Source, decode_context, decode_pasid_entry, pasid_limit

__all__ = ["ContextTable", "PasidDirectory", "PasidTable", "RootTable", "Row", "Table", "Unit"]


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a table. `entry` is None where the image does not hold it; `page` is what it leads to, for `x`."""

    index: int
    covers: str
    at: int
    layout: type[Word]
    entry: int | None
    present: bool
    says: str
    page: int | None = None
    table: Table | None = None
    stages: tuple[Table, ...] = ()  # all the tables it leads to: two, of a nested space


class Unit:
    """A unit of an image: its registers, and the memory that its tables lie in."""

    def __init__(self, memory: Memory, registers: RegisterPage) -> None:
        self.memory = _Forgiving(memory)
        self.registers = registers

    @cached_property
    def capabilities(self) -> Capabilities:
        """What it can do, as far as the registers tell."""
        return self.registers.capabilities()

    @property
    def is_scalable(self) -> bool:
        """True if RTADDR leads to tables of scalable mode."""
        return self.registers.root_table.ttm == TableMode.SCALABLE

    @property
    def name(self) -> str:
        """`unit 0xfed90000`."""
        return "unit" if self.registers.base is None else f"unit {self.registers.base:#x}"

    def root(self) -> RootTable:
        """The root table, where everything begins."""
        root: RootTableAddress = self.registers.root_table
        return RootTable(self, root.rta << PAGE_SHIFT)


class _Forgiving:
    # A damaged image is shown as far as it can be: what cannot be read (a page that does not unpack) is not there.
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def load(self, address: int) -> int | None:
        try:
            return self._memory.load(address)
        except VtdError:
            return None

    def read(self, address: int, size: int) -> bytes:
        try:
            return self._memory.read(address, size)
        except VtdError:
            raise NoMemory(address, size) from None


class Table(ABC):
    """Entries that stand together at `at`. A request selects one of them."""

    name: str
    layout: type[Word]
    level = 0  # of paging tables: 1 to 5

    def __init__(self, unit: Unit, at: int, count: int, memory: Memory | None = None) -> None:
        self.unit = unit
        self.at = at
        self.count = count
        self.memory = unit.memory if memory is None else memory

    @property
    def source_id(self) -> SourceId | None:
        """Whose table it is, where it is one device's."""
        return None

    @property
    def pasid(self) -> Pasid | None:
        """Whose table it is, where it is one PASID's."""
        return None

    @abstractmethod
    def index_of(self, request: Request, pasid: int) -> int:
        """The row that `request` selects, which has this PASID where there are PASID tables."""

    @abstractmethod
    def row(self, index: int, entry: int | None) -> Row:
        """The row of `entry`."""

    @cached_property
    def words(self) -> tuple[int | None, ...]:
        """The raw entries, read once."""
        return tuple(_words(self.memory, self.at, self.layout.width // 8, self.count))

    @property
    def missing(self) -> int:
        """How many entries the image does not hold."""
        return self.words.count(None)

    def row_at(self, index: int) -> Row:
        """One row."""
        return self.row(index, self.words[index])

    def rows(self, everything: bool = False, keep: int = -1) -> Iterator[Row]:
        """The rows whose entries are present, and the one to `keep`; all if `everything`."""
        for index, entry in enumerate(self.words):
            if everything or entry or index == keep:
                row = self.row(index, entry)
                if everything or row.present or index == keep:
                    yield row


def _words(memory: Memory, at: int, size: int, count: int) -> Iterator[int | None]:
    for start in range(at, at + size * count, PAGE_SIZE):
        length = min(PAGE_SIZE, at + size * count - start)
        try:
            data = memory.read(start, length)
        except NoMemory:
            yield from (_word(memory, where, size) for where in range(start, start + length, size))
            continue
        yield from (int.from_bytes(data[offset : offset + size], "little") for offset in range(0, length, size))


def _word(memory: Memory, at: int, size: int) -> int | None:
    parts = [memory.load(at + offset) for offset in range(0, size, 8)]
    known = [part for part in parts if part is not None]
    return sum(part << 64 * i for i, part in enumerate(known)) if len(known) == len(parts) else None


class RootTable(Table):
    """256 buses; in scalable mode a row for each half of a bus."""

    name = "root table"

    def __init__(self, unit: Unit, at: int) -> None:
        super().__init__(unit, at, 256)
        self.layout = ScalableRootEntry if unit.is_scalable else LegacyRootEntry
        self.halves = 2 if unit.is_scalable else 1

    @cached_property
    def words(self) -> tuple[int | None, ...]:
        """The raw entries, those of scalable mode once for each half."""
        words = _words(self.memory, self.at, 16, self.count)
        return tuple(word for word in words for _ in range(self.halves))

    def index_of(self, request: Request, pasid: int) -> int:
        """The bus, or half of a bus, of the requester."""
        return request.source_id >> 8 if self.halves == 1 else request.source_id >> 7

    def row(self, index: int, entry: int | None) -> Row:
        """A bus and its context table."""
        bus, upper = divmod(index, self.halves)
        raw = entry or 0
        if self.halves == 1:
            legacy = LegacyRootEntry(raw)
            present, page, covers = legacy.p, legacy.ctp, f"bus {bus:02x}"
        else:
            word = ScalableRootEntry(raw)
            present, page = (word.up, word.uctp) if upper else (word.lp, word.lctp)
            covers = f"bus {bus:02x} {'10.0-1f.7' if upper else '00.0-0f.7'}"
        at, where = self.at + bus * 16, page << PAGE_SHIFT
        if not present:
            return Row(index, covers, at, self.layout, entry, False, _absent(entry))
        table = ContextTable(self.unit, where, SourceId(index << (8 if self.halves == 1 else 7)))
        return Row(index, covers, at, self.layout, entry, True, f"context table {where:#x}", where, table)


class ContextTable(Table):
    """The functions of a bus, or of half of one: `first` is the source-id of the first."""

    name = "context table"

    def __init__(self, unit: Unit, at: int, first: SourceId) -> None:
        super().__init__(unit, at, 128 if unit.is_scalable else 256)
        self.layout = ScalableContextEntry if unit.is_scalable else LegacyContextEntry
        self.first = first

    def index_of(self, request: Request, pasid: int) -> int:
        """The requester's device and function."""
        return request.source_id - self.first

    def row(self, index: int, entry: int | None) -> Row:
        """A device, and its paging tables or its PASID directory."""
        source_id = SourceId(self.first + index)
        covers, at = format_source_id(source_id), self.at + index * self.layout.width // 8
        if not (entry or 0) & 1 or entry is None:
            return Row(index, covers, at, self.layout, entry, False, _absent(entry))
        if self.unit.is_scalable:
            directory = PasidDirectory(self.unit, ScalableContextEntry(entry), source_id)
            says = f"PASID directory {directory.at:#x}"
            return Row(index, covers, at, self.layout, entry, True, says, directory.at, directory)
        return _leading(self, index, covers, entry, decode_context(LegacyContextEntry(entry)), source_id, None)


class PasidDirectory(Table):
    """The PASID tables of a device, each of 64 PASIDs."""

    name = "PASID directory"
    layout = PasidDirectoryEntry

    def __init__(self, unit: Unit, context: ScalableContextEntry, source_id: SourceId) -> None:
        super().__init__(unit, context.pasiddirptr << PAGE_SHIFT, pasid_limit(context) // 64)
        self.context = context
        self._source_id = source_id

    @property
    def source_id(self) -> SourceId:
        """The device that it is reached by."""
        return self._source_id

    def index_of(self, request: Request, pasid: int) -> int:
        """The upper bits of the PASID."""
        return min(pasid >> 6, self.count - 1)

    def row(self, index: int, entry: int | None) -> Row:
        """64 PASIDs and their table."""
        word = PasidDirectoryEntry(entry or 0)
        covers, at, where = f"pasid {index * 64:#x}", self.at + index * 8, word.smptblptr << PAGE_SHIFT
        if not word.p:
            return Row(index, covers, at, self.layout, entry, False, _absent(entry))
        table = PasidTable(self, where, index * 64, bool(self.context.fpd or word.fpd))
        return Row(index, covers, at, self.layout, entry, True, f"PASID table {where:#x}", where, table)


class PasidTable(Table):
    """64 PASIDs of a device."""

    name = "PASID table"
    layout = PasidTableEntry

    def __init__(self, directory: PasidDirectory, at: int, first: int, fpd: bool) -> None:
        super().__init__(directory.unit, at, 64)
        self.directory = directory
        self.first = first
        self._fpd = fpd

    @property
    def source_id(self) -> SourceId:
        """The device that it is reached by."""
        return self.directory.source_id

    def index_of(self, request: Request, pasid: int) -> int:
        """The lower bits of the PASID."""
        return pasid & 63

    def row(self, index: int, entry: int | None) -> Row:
        """A PASID and its paging tables."""
        pasid, at = Pasid(self.first + index), self.at + index * 64
        word = PasidTableEntry(entry or 0)
        if not word.p:
            return Row(index, f"pasid {pasid:#x}", at, self.layout, entry, False, _absent(entry))
        if not 1 <= word.pgtt <= 4:
            says = f"translation type {word.pgtt} is reserved"
            return Row(index, f"pasid {pasid:#x}", at, self.layout, entry, True, says)
        source = decode_pasid_entry(word, self._fpd)
        return _leading(self, index, f"pasid {pasid:#x}", int(word), source, self.source_id, pasid)


def _leading(
    table: Table, index: int, covers: str, entry: int, source: Source, source_id: SourceId, pasid: Pasid | None
) -> Row:
    # An entry that decides how a device's addresses are translated.
    from cli.explorer.paging import stages  # which is made of what this module declares

    found = stages(table.unit, source, source_id, pasid)
    at, first = table.at + index * table.layout.width // 8, found[0] if found else None
    page = None if first is None else first.at
    return Row(index, covers, at, table.layout, entry, True, source_words(source), page, first, found)


def _absent(entry: int | None) -> str:
    return "not in the image" if entry is None else "not present"
