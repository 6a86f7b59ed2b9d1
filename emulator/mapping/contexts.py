"""Root, context and PASID tables as software writes them: which page, which words, in which order.

Pages are taken on demand and written with the present bit last; entries are taken down with the present bit first, so
that the unit never sees half an entry. What has to be invalidated between the steps is the driver's business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Protocol

from pagetables.address import PAGE_SIZE, Gpa
from pagetables.bits import Word
from pagetables.errors import VtdError
from pagetables.layouts.context import LegacyContextEntry, ScalableContextEntry
from pagetables.layouts.pasid import PasidTableEntry
from pagetables.mapper import PageTable, Stage
from pagetables.memory import PhysicalMemory

__all__ = ["ContextTables", "LegacyContexts", "NoPage", "Pages", "ScalableContexts", "zeroed_page"]

FIRST_STAGE, SECOND_STAGE = 1, 2  # PGTT
DIRECTORY_SIZE = 2  # PDTS: 2**(2+7) entries of 8 bytes fill the page
_QWORD = struct.Struct("<Q")


class NoPage(VtdError):
    """The system has no page for a structure of the unit."""


class Pages(Protocol):
    """Where pages for queues, root, context and PASID tables come from; the caller may sleep."""

    def take(self) -> Gpa | None:
        """A page, or None."""
        ...

    def give_back(self, pages: Iterable[Gpa]) -> None:
        """These pages are free again."""
        ...


class ContextTables(Protocol):
    """The tables that say where a source-id is translated."""

    root: Gpa

    def install(self, source_id: int, domain_id: int, table: PageTable) -> None:
        """Make `source_id` use `table`, tagged `domain_id`."""
        ...

    def clear_present(self, source_id: int) -> None:
        """Take away the present bit of the entry nearest to the tables; the rest of it stays."""
        ...

    def erase(self, source_id: int) -> None:
        """Zero what is left of the entry."""
        ...


def zeroed_page(memory: PhysicalMemory, pages: Pages) -> Gpa:
    """A page of zeros; NoPage if there is none."""
    page = pages.take()
    if page is None:
        raise NoPage("no page is free for the unit's own tables; give it more kernel memory")
    memory.write(page, bytes(PAGE_SIZE))
    return page


class _Tables:
    def __init__(self, memory: PhysicalMemory, pages: Pages) -> None:
        self._memory, self._pages = memory, pages
        self.root = zeroed_page(memory, pages)

    def _write(self, address: int, entry: Word) -> None:
        # The lowest qword holds the present bit: it goes last.
        for index, qword in reversed(list(enumerate(entry.qwords()))):
            self._memory.write(address + 8 * index, _QWORD.pack(qword))

    def _qword(self, address: int) -> int:
        value: int = _QWORD.unpack(self._memory.read(address, 8))[0]
        return value

    def _clear_present(self, address: int) -> None:
        self._memory.write(address, _QWORD.pack(self._qword(address) & ~1))

    def _zero(self, address: int, size: int) -> None:
        self._memory.write(address, bytes(size))

    def _linked(self, at: int) -> Gpa:
        # The page that the qword at `at` points to; a fresh one is linked where there is none. Root entries, root
        # halves and directory entries are alike here: present bit 0, page 63:12.
        value = self._qword(at)
        if not value & 1:
            value = zeroed_page(self._memory, self._pages) | 1
            self._memory.write(at, _QWORD.pack(value))
        return Gpa(value & ~(PAGE_SIZE - 1))


class LegacyContexts(_Tables):
    """Legacy mode: root table, one context table a bus, second-stage tables."""

    def install(self, source_id: int, domain_id: int, table: PageTable) -> None:
        """A context entry for untranslated requests: second-stage, or an error for first-stage tables."""
        if table.stage is not Stage.SECOND:
            raise VtdError("legacy mode translates by second-stage tables only; first-stage ones need scalable mode")
        entry = LegacyContextEntry.of(p=1, ssptptr=table.root >> 12, aw=table.levels - 2, did=domain_id)
        self._write(self._entry(source_id), entry)

    def clear_present(self, source_id: int) -> None:
        """Take away the context entry's present bit."""
        self._clear_present(self._entry(source_id))

    def erase(self, source_id: int) -> None:
        """Zero the context entry."""
        self._zero(self._entry(source_id), 16)

    def _entry(self, source_id: int) -> int:
        return self._linked(self.root + 16 * (source_id >> 8)) + 16 * (source_id & 0xFF)


class ScalableContexts(_Tables):
    """Scalable mode: root halves, context entries, a PASID directory and table a device; requests use PASID 0.

    `snoop_walks` sets PWSNP for first-stage tables, which needs ECAP.SMPWCS.
    """

    def __init__(self, memory: PhysicalMemory, pages: Pages, snoop_walks: bool = False) -> None:
        super().__init__(memory, pages)
        self._snoop_walks = snoop_walks

    def install(self, source_id: int, domain_id: int, table: PageTable) -> None:
        """A PASID entry 0 for the tables, then, if the device has none, the context entry that leads to it."""
        context = self._context(source_id)
        value = self._qword(context)
        directory = Gpa(value & ~(PAGE_SIZE - 1)) if value & 1 else zeroed_page(self._memory, self._pages)
        self._write(self._linked(directory), self._entry(domain_id, table))
        if not value & 1:
            self._write(context, ScalableContextEntry.of(p=1, pdts=DIRECTORY_SIZE, pasiddirptr=directory >> 12))

    def clear_present(self, source_id: int) -> None:
        """Take away the PASID entry's present bit."""
        self._clear_present(self._pasid_entry(source_id))

    def erase(self, source_id: int) -> None:
        """Zero the PASID entry."""
        self._zero(self._pasid_entry(source_id), 64)

    def clear_context(self, source_id: int) -> tuple[Gpa, ...]:
        """Take away the context entry's present bit; the pages to give back once that is invalidated."""
        directory = Gpa(self._qword(self._context(source_id)) & ~(PAGE_SIZE - 1))
        self._clear_present(self._context(source_id))
        return directory, self._linked(directory)

    def erase_context(self, source_id: int) -> None:
        """Zero the context entry."""
        self._zero(self._context(source_id), 32)

    def _context(self, source_id: int) -> int:
        devfn = source_id & 0xFF
        half = self.root + 16 * (source_id >> 8) + 8 * (devfn >> 7)
        return self._linked(half) + 32 * (devfn & 0x7F)

    def _pasid_entry(self, source_id: int) -> int:
        return self._linked(self._qword(self._context(source_id)) & ~(PAGE_SIZE - 1))

    def _entry(self, domain_id: int, table: PageTable) -> PasidTableEntry:
        entry = PasidTableEntry.of(p=1, aw=table.levels - 2, did=domain_id)
        if table.stage is Stage.SECOND:
            return entry.replace(pgtt=SECOND_STAGE, ssptptr=table.root >> 12)
        return entry.replace(
            pgtt=FIRST_STAGE, fspm=table.levels - 4, fsptptr=table.root >> 12, pwsnp=int(self._snoop_walks)
        )
