"""Paging tables as rows: one table of one level of one stage."""

from __future__ import annotations

from cli.explorer.tables import Row, Table, Unit
from cli.explorer.wording import entry_words
from pagetables.address import Gpa, Pasid, SourceId, level_shift
from pagetables.formats import Format, Kind, formats
from pagetables.guest_memory import GuestMemory
from pagetables.memory import Memory
from pagetables.request import Request
from pagetables.source import Source, TranslationType

__all__ = ["PagingTable", "stages"]

ENTRIES = 512
FIRST, SECOND = "first stage", "second stage"
ADDRESS_BITS = 64


class PagingTable(Table):
    """The 512 entries at `at` of `level`, which translate the addresses from `base` on."""

    def __init__(
        self,
        unit: Unit,
        at: int,
        stage: str,
        form: Format,
        level: int,
        owner: tuple[SourceId, Pasid | None],
        memory: Memory,
        *,
        base: int = 0,
        is_top: bool = False,
    ) -> None:
        super().__init__(unit, at, ENTRIES, memory)
        self.stage = stage
        self.form = form
        self.level = level
        self.base = base
        self._owner = owner
        self._is_top = is_top
        self.layout = form.leaf_layouts[1] if level == 1 else form.table_layouts[level]
        self.name = f"{self.layout.name.split('_')[0]}-{('pte', 'pde', 'pdpe', 'pml4e', 'pml5e')[level - 1]}s"

    @property
    def source_id(self) -> SourceId:
        """The device that it is reached by."""
        return self._owner[0]

    @property
    def pasid(self) -> Pasid | None:
        """The PASID that it is reached by."""
        return self._owner[1]

    def index_of(self, request: Request, pasid: int) -> int:
        """Nine bits of the address."""
        return request.iova >> level_shift(self.level) & ENTRIES - 1

    def start_of(self, index: int) -> int:
        """The first address that an entry translates; those of the upper half of a first stage are at the end."""
        shift = level_shift(self.level)
        start = self.base + (index << shift)
        if self._is_top and self.stage == FIRST and index >= ENTRIES // 2:
            start += (1 << ADDRESS_BITS) - (ENTRIES << shift)
        return start

    def row(self, index: int, entry: int | None) -> Row:
        """A page that is mapped, or the table of the next level."""
        start, at = self.start_of(index), self.at + index * 8
        if entry is None:
            return Row(index, f"{start:#x}", at, self.layout, None, False, "not in the image")
        kind = self.form.kind(entry, self.level)
        layout, says = self.form.layout(self.level, kind), entry_words(self.form, entry, self.level)
        if kind is Kind.EMPTY:
            return Row(index, f"{start:#x}", at, layout, entry, False, says)
        if kind is Kind.LEAF:
            return Row(index, f"{start:#x}", at, layout, entry, True, says, self.form.output(entry, self.level))
        table = self._below(self.form.table(entry), start)
        return Row(index, f"{start:#x}", at, layout, entry, True, says, table.at, table, (table,))

    def _below(self, at: int, base: int) -> PagingTable:
        level = self.level - 1
        return PagingTable(self.unit, at, self.stage, self.form, level, self._owner, self.memory, base=base)


def stages(unit: Unit, source: Source, source_id: SourceId, pasid: Pasid | None) -> tuple[PagingTable, ...]:
    """The top tables of a source, the first stage's before the second's; none where it says nothing sensible."""
    nested = source.translation is TranslationType.NESTED
    second, first = formats(unit.capabilities, nested=nested, execute=source.ss_execute)
    owner, found = (source_id, pasid), []
    has_second = source.ss_levels in (3, 4, 5)
    if source.fs_levels in (4, 5) and (has_second or not nested):
        memory: Memory = unit.memory
        if nested:
            memory = GuestMemory(memory, Gpa(source.ss_table), source.ss_levels, unit.capabilities)
        found.append(PagingTable(unit, source.fs_table, FIRST, first, source.fs_levels, owner, memory, is_top=True))
    if has_second:
        table, levels = source.ss_table, source.ss_levels
        found.append(PagingTable(unit, table, SECOND, second, levels, owner, unit.memory, is_top=True))
    return tuple(found)
