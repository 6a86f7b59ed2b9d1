"""What an algorithm may ask of a paging format, answered for the second and the first stage.

Walker, mapper and scanner know no bit; a format knows no loop. Masks are those of the layouts. What may be set
depends on the unit: the host address width, the large pages of SSLPS and FS1GP, and snoop control (ECAP.SC).
`Rules` is the same knowledge as plain numbers by level, for the native engine.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pagetables.address import GPA_LIMIT, Gpa, level_shift
from pagetables.bits import Word
from pagetables.capabilities import Capabilities
from pagetables.layouts.first_stage import FsPde2M, FsPdeTable, FsPdpe1G, FsPdpeTable, FsPml4E, FsPml5E, FsPte
from pagetables.layouts.second_stage import SsPde2M, SsPdeTable, SsPdpe1G, SsPdpeTable, SsPml4E, SsPml5E, SsPte
from pagetables.request import Permissions
from pagetables.source import Source, TranslationType

__all__ = [
    "ALL_LEAF_LEVELS",
    "FIRST_STAGE",
    "SECOND_STAGE",
    "FirstStage",
    "Format",
    "Kind",
    "Rules",
    "SecondStage",
    "formats",
    "rules",
]

LEVELS = 6  # tuples are indexed by level; 0 is not used
ALL_LEAF_LEVELS = frozenset({1, 2, 3})


class Kind(enum.Enum):
    """What an entry is."""

    EMPTY = "empty"
    TABLE = "table"
    LEAF = "leaf"


class Format(ABC):
    """A paging format as a unit with these leaf levels and this address limit reads it. Subclasses know the bits."""

    leaf_layouts: Mapping[int, type[Word]]
    table_layouts: Mapping[int, type[Word]]
    present: int  # an entry with none of these bits is empty
    accessed: int  # bits that mark an entry as used
    dirty: int  # bits that mark a leaf as written
    permission_bits: int  # bits that decide what an entry grants

    def __init__(self, leaf_levels: frozenset[int], address_limit: int) -> None:
        self.leaf_levels = leaf_levels
        self.address_limit = address_limit
        self.page_size_bit = self._by_level(
            {2: self._page_size(2) if 2 in leaf_levels else 0, 3: self._page_size(3) if 3 in leaf_levels else 0}
        )
        self.reserved_leaf = self._by_level({n: self._reserved(one) for n, one in self.leaf_layouts.items()})
        self.reserved_table = self._by_level(
            {n: self._reserved(one) | self._unsupported_size(n) for n, one in self.table_layouts.items()}
        )
        self.leaf_address = self._by_level({n: one.field("addr").mask for n, one in self.leaf_layouts.items()})
        self._table_address = self.table_layouts[2].field("addr").mask

    @staticmethod
    def _by_level(values: Mapping[int, int]) -> tuple[int, ...]:
        return tuple(values.get(level, 0) for level in range(LEVELS))

    def _page_size(self, level: int) -> int:
        return self.table_layouts[level].field("ps").mask

    def _unsupported_size(self, level: int) -> int:
        # A unit without this large page takes PS as a reserved bit of an entry that points to a table.
        return self._page_size(level) if level in (2, 3) and level not in self.leaf_levels else 0

    def _reserved(self, layout: type[Word]) -> int:
        return layout.reserved_mask | layout.field("addr").mask & ~(self.address_limit - 1)

    def kind(self, entry: int, level: int) -> Kind:
        """What `entry` of a table of `level` is."""
        if not entry & self.present:
            return Kind.EMPTY
        return Kind.LEAF if level == 1 or entry & self.page_size_bit[level] else Kind.TABLE

    def layout(self, level: int, kind: Kind) -> type[Word]:
        """The layout an entry of this level and kind is read by (an empty one as the leaf or table it would be)."""
        leaf = kind is Kind.LEAF or level == 1
        return self.leaf_layouts[level] if leaf else self.table_layouts[level]

    def table(self, entry: int) -> Gpa:
        """The table that an entry of kind TABLE points to."""
        return Gpa(entry & self._table_address)

    def tables(self, entries: Iterable[int]) -> list[Gpa]:
        """The tables that entries of kind TABLE point to."""
        address = self._table_address
        return [Gpa(entry & address) for entry in entries]

    def output(self, entry: int, level: int) -> Gpa:
        """The start of the page that a leaf of `level` maps."""
        return Gpa(entry & self.leaf_address[level])

    def reserved(self, level: int, kind: Kind) -> int:
        """The bits that must be zero in an entry of this level and kind."""
        return self.reserved_leaf[level] if kind is Kind.LEAF else self.reserved_table[level]

    @abstractmethod
    def permissions(self, entry: int) -> Permissions:
        """The rights that `entry` grants."""

    @abstractmethod
    def leaf(self, gpa: Gpa, level: int, permissions: Permissions, *, snoop: bool = False) -> int:
        """The entry that maps the page at `gpa`, as Linux writes it."""

    @abstractmethod
    def table_entry(self, gpa: Gpa) -> int:
        """The entry that links the table at `gpa`, as Linux writes it."""

    def split_leaf(self, entry: int, level: int) -> list[int]:
        """The 512 leaves of `level` - 1 that together say what the leaf `entry` of `level` says."""
        step = level_shift(level - 1)
        base = int(self.output(entry, level))
        attributes = self._smaller(entry & ~self.leaf_address[level] & ~self._page_size(level), level)
        if level - 1 > 1:
            attributes |= self._page_size(level - 1)
        return [attributes | base + (index << step) for index in range(512)]

    def _smaller(self, attributes: int, level: int) -> int:
        return attributes


class SecondStage(Format):
    """Second-stage entries: R and W say that an entry is present."""

    leaf_layouts = {1: SsPte, 2: SsPde2M, 3: SsPdpe1G}
    table_layouts = {2: SsPdeTable, 3: SsPdpeTable, 4: SsPml4E, 5: SsPml5E}
    accessed = SsPte.a.mask
    dirty = SsPte.d.mask
    permission_bits = SsPte.r.mask | SsPte.w.mask | SsPte.x.mask
    link = SsPdeTable.of(r=1, w=1)

    def __init__(
        self,
        leaf_levels: frozenset[int] = ALL_LEAF_LEVELS,
        address_limit: int = GPA_LIMIT,
        *,
        snoop_control: bool = True,
        execute: bool = False,
    ) -> None:
        self._snoop_control = snoop_control
        # X makes an entry present only where SSEE=1 and the request wants to execute.
        self.present = SsPte.r.mask | SsPte.w.mask | (SsPte.x.mask if execute else 0)
        super().__init__(leaf_levels, address_limit)

    def _reserved(self, layout: type[Word]) -> int:
        leaf = layout in self.leaf_layouts.values()
        snoop = layout.field("snp").mask if leaf and not self._snoop_control else 0
        return super()._reserved(layout) | snoop

    def permissions(self, entry: int) -> Permissions:
        """R, W and X as the entry has them; whether X counts is the source's SSEE to say."""
        return _SS_PERMISSIONS[entry & 7]

    def leaf(self, gpa: Gpa, level: int, permissions: Permissions, *, snoop: bool = False) -> int:
        """Page frame, R and W as asked (W alone is legal), PS for a large page, SNP if `snoop`."""
        entry = int(gpa)
        entry |= SsPte.r.mask if permissions & Permissions.R else 0
        entry |= SsPte.w.mask if permissions & Permissions.W else 0
        entry |= self._page_size(level) if level > 1 else 0
        return entry | (SsPte.snp.mask if snoop else 0)

    def table_entry(self, gpa: Gpa) -> int:
        """Table address, R and W: the leaf alone decides."""
        return int(gpa) | self.link


class FirstStage(Format):
    """First-stage entries, the x86-64 format: P says that an entry is present."""

    leaf_layouts = {1: FsPte, 2: FsPde2M, 3: FsPdpe1G}
    table_layouts = {2: FsPdeTable, 3: FsPdpeTable, 4: FsPml4E, 5: FsPml5E}
    present = FsPte.p.mask
    accessed = FsPte.a.mask
    extended_accessed = FsPte.ea.mask
    dirty = FsPte.d.mask
    permission_bits = FsPte.p.mask | FsPte.rw.mask | FsPte.us.mask | FsPte.xd.mask
    link = FsPdeTable.of(p=1, rw=1, us=1, a=1)

    def __init__(self, leaf_levels: frozenset[int] = ALL_LEAF_LEVELS, address_limit: int = GPA_LIMIT) -> None:
        super().__init__(leaf_levels, address_limit)

    def permissions(self, entry: int) -> Permissions:
        """R if present, W by RW, X unless XD, USER by US."""
        granted = Permissions.R if entry & FsPte.p.mask else Permissions.NONE
        if entry & FsPte.rw.mask:
            granted |= Permissions.W
        if entry & FsPte.us.mask:
            granted |= Permissions.USER
        return granted if entry & FsPte.xd.mask else granted | Permissions.X

    def leaf(self, gpa: Gpa, level: int, permissions: Permissions, *, snoop: bool = False) -> int:
        """Page frame, P, US and A; RW and D where writable, so that the unit has no bit left to set; PS if large."""
        entry = int(gpa) | FsPte.p.mask | FsPte.us.mask | FsPte.a.mask
        entry |= FsPte.rw.mask | FsPte.d.mask if permissions & Permissions.W else 0
        return entry | (self._page_size(level) if level > 1 else 0)

    def table_entry(self, gpa: Gpa) -> int:
        """Table address, P, RW, US and A: the leaf alone decides."""
        return int(gpa) | self.link

    def _smaller(self, attributes: int, level: int) -> int:
        # The third PAT bit of a large page stands at 12; of a 4 KiB page at 7, where large pages have PS.
        if level == 2 and attributes & FsPde2M.pat.mask:
            return attributes & ~FsPde2M.pat.mask | FsPte.pat.mask
        return attributes


_SS_PERMISSIONS = tuple(
    (Permissions.R if bits & SsPte.r.mask else Permissions.NONE)
    | (Permissions.W if bits & SsPte.w.mask else Permissions.NONE)
    | (Permissions.X if bits & SsPte.x.mask else Permissions.NONE)
    for bits in range(8)
)

SECOND_STAGE = SecondStage()  # as software writes and reads it: every page size, every address bit
FIRST_STAGE = FirstStage()


@lru_cache(maxsize=64)
def formats(capabilities: Capabilities, *, nested: bool, execute: bool) -> tuple[SecondStage, FirstStage]:
    """Both formats as a unit reads them. `execute`: X alone makes a second-stage entry present.

    In a nested walk a first-stage entry holds a guest address: it is limited by the second stage's width, not by HAW.
    """
    second = SecondStage(
        capabilities.second_stage_leaf_levels,
        capabilities.address_limit,
        snoop_control=bool(capabilities.ecap.sc),
        execute=execute,
    )
    limit = GPA_LIMIT if nested else capabilities.address_limit
    return second, FirstStage(capabilities.first_stage_leaf_levels, limit)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a walk of one source checks, as numbers; tuples are indexed by level (0 to 5).

    `ss_large` and `fs_large` hold the PS bit of the levels where a large page is allowed, else 0: an entry of level
    1, or with that bit, is a leaf; any other present entry is checked against the mask for tables.
    """

    ss_reserved_leaf: tuple[int, ...]
    ss_reserved_table: tuple[int, ...]
    ss_large: tuple[int, ...]
    fs_reserved_leaf: tuple[int, ...]
    fs_reserved_table: tuple[int, ...]
    fs_large: tuple[int, ...]
    ss_input_limit: int  # the first second-stage input address beyond min(MGAW, AW)
    address_limit: int  # the first address beyond the host address width


@lru_cache(maxsize=64)
def _rules(capabilities: Capabilities, nested: bool, ss_levels: int) -> Rules:
    second, first = formats(capabilities, nested=nested, execute=False)
    return Rules(
        ss_reserved_leaf=second.reserved_leaf,
        ss_reserved_table=second.reserved_table,
        ss_large=second.page_size_bit,
        fs_reserved_leaf=first.reserved_leaf,
        fs_reserved_table=first.reserved_table,
        fs_large=first.page_size_bit,
        ss_input_limit=1 << min(capabilities.mgaw, level_shift(ss_levels + 1)),
        address_limit=capabilities.address_limit,
    )


def rules(capabilities: Capabilities, source: Source) -> Rules:
    """What a walk of `source` in a unit of these capabilities checks."""
    return _rules(capabilities, source.translation is TranslationType.NESTED, source.ss_levels)
