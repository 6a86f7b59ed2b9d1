"""What looks like a context table, a PASID table or a paging table: questions asked of pages of which nothing is known.

A page passes only if every entry that is not zero makes sense. That is stricter than hardware, and what kernels write.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pagetables.address import PAGE_SHIFT, PAGE_SIZE
from pagetables.bits import Word
from pagetables.errors import InputError
from pagetables.formats import FIRST_STAGE, SECOND_STAGE, Format
from pagetables.layouts.context import LegacyContextEntry, ScalableContextEntry
from pagetables.layouts.pasid import PasidDirectoryEntry, PasidTableEntry
from pagetables.layouts.values import LegacyTranslation, TranslationType

__all__ = ["Holding", "Plausibility", "Verdict"]

PATHS = 4  # of a table, tried before it counts as empty
SPACES = 256  # of one device, looked at
WORK = 1 << 24  # entries judged; a machine's real tables take some ten thousand
CONTEXTS = 4096  # verdicts kept
_DIRECTORY = struct.Struct("<512Q")
_NOTHING = bytes(PAGE_SIZE)
_MEMORY_TYPES = 0b11111 << 91  # EMT, PWT and PCD of a PASID entry: reserved since revision 4.0, used before


class Holding(Protocol):
    """Memory that knows what it has."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        ...

    def contains(self, address: int, size: int) -> bool:
        """True if the memory has all `size` bytes at `address`."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a context table looks like: its devices by what they lead to, and the entries that make no sense."""

    mapped: frozenset[int] = frozenset()  # tables with at least one page mapped
    empty: frozenset[int] = frozenset()  # tables with none
    passed: int = 0  # devices that pass through
    devices: int = 0
    bad: int = 0


class Plausibility:
    """Answers for one memory; a page is judged once."""

    def __init__(self, memory: Holding) -> None:
        self._memory = memory
        self._contexts: dict[tuple[int, bool], Verdict] = {}
        self._tables: dict[tuple[int, int, bool], bool | None] = {}
        self._work = WORK

    def _spend(self, entries: int) -> None:
        self._work -= entries
        if self._work < 0:
            raise InputError(f"more than {WORK:,} entries look like tables: nobody could tell which are")

    def is_page(self, address: int) -> bool:
        """True if `address` is a page of this memory, and not the first one, to which stray zeros point."""
        return address > 0 and not address % PAGE_SIZE and self._memory.contains(address, PAGE_SIZE)

    def context_table(self, address: int, scalable: bool) -> Verdict:
        """What the page at `address` looks like as a context table of legacy or scalable mode."""
        key = address, scalable
        self._spend(1)
        if key not in self._contexts:
            if len(self._contexts) == CONTEXTS:
                self._contexts.clear()
            page = self._memory.read(address, PAGE_SIZE)
            self._spend(PAGE_SIZE // 16)
            spaces = self._scalable(page) if scalable else self._legacy(page)
            self._contexts[key] = _judged(list(spaces))
        return self._contexts[key]

    def _legacy(self, page: bytes) -> Iterator[list[_Space | None]]:
        for raw in _entries(page, LegacyContextEntry):
            entry = LegacyContextEntry(raw)
            known = entry.tt in set(LegacyTranslation) and entry.aw + 2 in (3, 4, 5)
            if not entry.p or entry & LegacyContextEntry.reserved_mask or not known:
                yield [None]
            elif entry.tt == LegacyTranslation.PASS_THROUGH:
                yield [_Space()]
            else:
                yield [self._space(entry.ssptptr << PAGE_SHIFT, entry.aw + 2, first=False)]

    def _scalable(self, page: bytes) -> Iterator[list[_Space | None]]:
        for raw in _entries(page, ScalableContextEntry):
            entry = ScalableContextEntry(raw)
            directory = entry.pasiddirptr << PAGE_SHIFT
            if not entry.p or entry & ScalableContextEntry.reserved_mask or not self.is_page(directory):
                yield [None]
            else:
                yield list(islice(self._directory(directory), SPACES))

    def _directory(self, address: int) -> Iterator[_Space | None]:
        self._spend(64)
        for raw in _DIRECTORY.unpack(self._memory.read(address, PAGE_SIZE)):
            entry = PasidDirectoryEntry(raw)
            table = entry.smptblptr << PAGE_SHIFT
            if raw and (not entry.p or entry & PasidDirectoryEntry.reserved_mask or not self.is_page(table)):
                yield None
                return
            if raw:
                for word in _entries(self._memory.read(table, PAGE_SIZE), PasidTableEntry):
                    self._spend(1)
                    yield self._pasid_entry(PasidTableEntry(word))

    def _pasid_entry(self, entry: PasidTableEntry) -> _Space | None:
        if not entry.p or entry & PasidTableEntry.reserved_mask & ~_MEMORY_TYPES:
            return None
        if entry.pgtt == TranslationType.PASS_THROUGH:
            return _Space()
        if entry.pgtt == TranslationType.FIRST_STAGE and entry.fspm < 2:
            return self._space(entry.fsptptr << PAGE_SHIFT, entry.fspm + 4, first=True)
        if entry.pgtt in (TranslationType.SECOND_STAGE, TranslationType.NESTED) and entry.aw + 2 in (3, 4, 5):
            return self._space(entry.ssptptr << PAGE_SHIFT, entry.aw + 2, first=False)
        return None

    def _space(self, table: int, levels: int, *, first: bool) -> _Space | None:
        maps = self._maps(table, levels, first)
        return None if maps is None else _Space(table, maps)

    def _maps(self, table: int, level: int, first: bool) -> bool | None:
        # True if the table maps anything, False if it is empty, None if it is no table.
        key = table, level, first
        if key not in self._tables:
            self._spend(64)
            self._tables[key] = None  # for a table that leads to itself
            if self.is_page(table):
                self._tables[key] = self._looks_into(table, level, FIRST_STAGE if first else SECOND_STAGE)
        return self._tables[key]

    def _looks_into(self, table: int, level: int, form: Format) -> bool | None:
        entries: npt.NDArray[np.uint64] = np.frombuffer(self._memory.read(table, PAGE_SIZE), "<u8")
        present = entries[(entries & np.uint64(form.present)) != 0]
        # What is not present is zero, but for the first stage: a process keeps track of what it swapped out there.
        if form is SECOND_STAGE and len(present) != np.count_nonzero(entries):
            return None
        is_leaf = (present & np.uint64(form.page_size_bit[level])) != 0 if level > 1 else np.ones(len(present), bool)
        leaves, links = present[is_leaf], present[~is_leaf]
        bad_leaves = (leaves & np.uint64(form.reserved_leaf[level])).any()
        if bad_leaves or (links & np.uint64(form.reserved_table[level])).any():
            return None
        tables = [int(form.table(entry)) for entry in links.tolist()]
        if table in tables or not all(self.is_page(one) for one in tables):
            return None
        below = [self._maps(one, level - 1, form is FIRST_STAGE) for one in tables[:PATHS]]
        return None if None in below else bool(len(leaves)) or any(below)


@dataclass(frozen=True, slots=True)
class _Space:
    table: int = 0  # 0: passes through
    maps: bool = False


def _entries(page: bytes, layout: type[Word]) -> Iterator[int]:
    size = layout.width // 8
    if page != _NOTHING:
        for at in range(0, PAGE_SIZE, size):
            if raw := int.from_bytes(page[at : at + size], "little"):
                yield raw


def _judged(devices: list[list[_Space | None]]) -> Verdict:
    good = [spaces for spaces in devices if spaces and None not in spaces]
    all_spaces = [space for spaces in good for space in spaces if space is not None]
    return Verdict(
        mapped=frozenset(space.table for space in all_spaces if space.maps),
        empty=frozenset(space.table for space in all_spaces if space.table and not space.maps),
        passed=sum(not space.table for space in all_spaces),
        devices=len(good),
        bad=sum(None in spaces for spaces in devices),
    )
