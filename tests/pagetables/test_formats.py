"""What the paging formats answer, held against masks and encodings written by hand."""

from __future__ import annotations

import pytest

from pagetables import layouts
from pagetables.formats import FIRST_STAGE, SECOND_STAGE, FirstStage, Kind, SecondStage, formats, rules
from pagetables.request import Permissions
from pagetables.source import Source, TranslationType
from tests.builders import FULL, GIB, MIB, capabilities, granted

ALL = frozenset({1, 2, 3})
HAW = 46
ABOVE_HAW = 0x000F_C000_0000_0000  # 51:46
SS_TOP = 0x4000_0000_0000_0880
SS_TABLE = 0x4000_0000_0000_0800
SS_LEAF = {1: 0x4000_0000_0000_0000, 2: 0x4000_0000_001F_F000, 3: 0x4000_0000_3FFF_F000}
FS_LEAF = {1: 0, 2: 0x001F_E000, 3: 0x3FFF_E000}


@pytest.mark.parametrize("level, mask", [(5, SS_TOP), (4, SS_TOP), (3, SS_TABLE), (2, SS_TABLE)])
def test_second_stage_table_entry_reserves(level: int, mask: int) -> None:
    assert SecondStage(ALL, 1 << HAW).reserved(level, Kind.TABLE) == mask | ABOVE_HAW


@pytest.mark.parametrize("level", [1, 2, 3])
def test_second_stage_leaf_reserves(level: int) -> None:
    assert SecondStage(ALL, 1 << HAW).reserved(level, Kind.LEAF) == SS_LEAF[level] | ABOVE_HAW


@pytest.mark.parametrize("level", [1, 2, 3])
def test_snoop_bit_of_a_leaf_is_reserved_without_snoop_control(level: int) -> None:
    without = SecondStage(ALL, 1 << 52, snoop_control=False)
    assert without.reserved(level, Kind.LEAF) == SS_LEAF[level] | 1 << 11


def test_page_size_bit_is_reserved_where_the_unit_has_no_such_page() -> None:
    small = SecondStage(frozenset({1}), 1 << 52)
    middle = SecondStage(frozenset({1, 2}), 1 << 52)
    assert [small.reserved(level, Kind.TABLE) for level in (2, 3)] == [SS_TABLE | 0x80] * 2
    assert [middle.reserved(level, Kind.TABLE) for level in (2, 3)] == [SS_TABLE, SS_TABLE | 0x80]
    assert small.kind(0x83, 2) is Kind.TABLE
    assert middle.kind(0x83, 2) is Kind.LEAF


@pytest.mark.parametrize("level, mask", [(5, 0x80), (4, 0x80), (3, 0), (2, 0)])
def test_first_stage_table_entry_reserves(level: int, mask: int) -> None:
    assert FirstStage(ALL, 1 << HAW).reserved(level, Kind.TABLE) == mask | ABOVE_HAW


@pytest.mark.parametrize("level", [1, 2, 3])
def test_first_stage_leaf_reserves(level: int) -> None:
    assert FirstStage(ALL, 1 << HAW).reserved(level, Kind.LEAF) == FS_LEAF[level] | ABOVE_HAW


def test_first_stage_page_size_is_reserved_at_1_gib_without_fs1gp() -> None:
    assert FirstStage(frozenset({1, 2}), 1 << 52).reserved(3, Kind.TABLE) == 0x80


@pytest.mark.parametrize(
    "entry, level, kind",
    [
        (0, 1, Kind.EMPTY),
        (0x5000, 1, Kind.EMPTY),
        (0x4, 1, Kind.EMPTY),  # X alone does not make an entry present
        (0x5001, 1, Kind.LEAF),
        (0x5002, 1, Kind.LEAF),
        (0x5083, 1, Kind.LEAF),  # bit 7 is ignored in a PTE
        (0x5003, 2, Kind.TABLE),
        (0x20_0083, 2, Kind.LEAF),
        (0x4000_0083, 3, Kind.LEAF),
        (0x5083, 4, Kind.TABLE),  # and reserved in a PML4E
    ],
)
def test_kind_of_a_second_stage_entry(entry: int, level: int, kind: Kind) -> None:
    assert SECOND_STAGE.kind(entry, level) is kind


def test_x_alone_is_present_where_execution_is_asked_for() -> None:
    assert SecondStage(execute=True).kind(0x5004, 1) is Kind.LEAF


@pytest.mark.parametrize(
    "entry, level, kind",
    [
        (0x26, 1, Kind.EMPTY),
        (0x25, 1, Kind.LEAF),
        (0xA5, 1, Kind.LEAF),  # bit 7 is PAT in a PTE
        (0x27, 2, Kind.TABLE),
        (0xE7, 2, Kind.LEAF),
        (0xE7, 3, Kind.LEAF),
        (0xA7, 5, Kind.TABLE),
    ],
)
def test_kind_of_a_first_stage_entry(entry: int, level: int, kind: Kind) -> None:
    assert FIRST_STAGE.kind(entry, level) is kind


@pytest.mark.parametrize("bits, text", [(0, ""), (1, "r"), (2, "w"), (3, "rw"), (5, "rx"), (7, "rwx")])
def test_second_stage_permissions(bits: int, text: str) -> None:
    assert SECOND_STAGE.permissions(0x8000_0000_0000_5000 | bits) == granted(text)


@pytest.mark.parametrize(
    "entry, text",
    [(0x0, "x"), (0x1, "rx"), (0x3, "rwx"), (0x5, "rxu"), (0x7, "rwxu"), (1 << 63 | 0x7, "rwu"), (1 << 63 | 1, "r")],
)
def test_first_stage_permissions(entry: int, text: str) -> None:
    assert FIRST_STAGE.permissions(entry) == granted(text)


@pytest.mark.parametrize(
    "gpa, level, permissions, snoop, entry",
    [
        (0x5000, 1, "rw", False, 0x5003),
        (0x5000, 1, "r", False, 0x5001),
        (0x5000, 1, "w", False, 0x5002),
        (0x20_0000, 2, "rw", False, 0x20_0083),
        (0x4000_0000, 3, "r", False, 0x4000_0081),
        (0x5000, 1, "rw", True, 0x5803),
    ],
)
def test_second_stage_leaf_as_linux_writes_it(gpa: int, level: int, permissions: str, snoop: bool, entry: int) -> None:
    assert SECOND_STAGE.leaf(gpa, level, granted(permissions), snoop=snoop) == entry


@pytest.mark.parametrize(
    "gpa, level, permissions, entry",
    [
        (0x5000, 1, "r", 0x5025),
        (0x5000, 1, "rw", 0x5067),
        (0x20_0000, 2, "rw", 0x20_00E7),
        (0x4000_0000, 3, "r", 0x4000_00A5),
    ],
)
def test_first_stage_leaf_as_linux_writes_it(gpa: int, level: int, permissions: str, entry: int) -> None:
    assert FIRST_STAGE.leaf(gpa, level, granted(permissions)) == entry


def test_table_entries_as_linux_writes_them() -> None:
    assert SECOND_STAGE.table_entry(0x1234000) == 0x1234003
    assert FIRST_STAGE.table_entry(0x1234000) == 0x1234027


@pytest.mark.parametrize("form", [SECOND_STAGE, FIRST_STAGE], ids=["second", "first"])
@pytest.mark.parametrize("level, low", [(1, 12), (2, 21), (3, 30)])
def test_output_of_a_leaf_is_its_page_frame(form: SecondStage | FirstStage, level: int, low: int) -> None:
    everything = (1 << 64) - 1
    assert form.output(everything, level) == (1 << 52) - (1 << low)
    assert form.table(everything) == (1 << 52) - (1 << 12)


@pytest.mark.parametrize("form", [SECOND_STAGE, FIRST_STAGE], ids=["second", "first"])
@pytest.mark.parametrize("level, size", [(2, 2 * MIB), (3, GIB)])
def test_split_leaf_says_the_same_one_level_down(form: SecondStage | FirstStage, level: int, size: int) -> None:
    leaf = form.leaf(4 * GIB, level, Permissions.R | Permissions.W)
    leaves = form.split_leaf(leaf, level)
    part = size // 512
    assert len(leaves) == 512
    assert leaves == [form.leaf(4 * GIB + i * part, level - 1, Permissions.R | Permissions.W) for i in range(512)]


def test_split_keeps_software_bits_snoop_and_dirty() -> None:
    odd = 1 << 63 | 1 << 52 | 0xB83 | 0x20_0000
    assert SECOND_STAGE.split_leaf(odd, 2)[1] == 1 << 63 | 1 << 52 | 0xB03 | 0x20_1000


def test_split_moves_the_pat_bit_of_a_first_stage_2_mib_page() -> None:
    assert FIRST_STAGE.split_leaf(0x20_10E7, 2)[0] == 0x20_00E7  # PAT: 12 of a large page, 7 of a small one
    assert FIRST_STAGE.split_leaf(0x20_00E7, 2)[0] == 0x20_0067
    assert FIRST_STAGE.split_leaf(0x4000_10E7, 3)[1] == 0x4020_10E7


@pytest.mark.parametrize(
    "level, kind, name",
    [
        (1, Kind.LEAF, "pte"),
        (1, Kind.EMPTY, "pte"),
        (2, Kind.LEAF, "pde_2m"),
        (2, Kind.EMPTY, "pde_table"),
        (3, Kind.LEAF, "pdpe_1g"),
        (3, Kind.TABLE, "pdpe_table"),
        (4, Kind.TABLE, "pml4e"),
        (5, Kind.TABLE, "pml5e"),
    ],
)
def test_layout_by_level_and_kind(level: int, kind: Kind, name: str) -> None:
    assert SECOND_STAGE.layout(level, kind) is layouts.find(f"ss_{name}")
    assert FIRST_STAGE.layout(level, kind) is layouts.find(f"fs_{name}")


def source(translation: TranslationType, levels: int = 4) -> Source:
    return Source(translation, 1, legacy=False, ss_levels=levels, fs_levels=4)


@pytest.mark.parametrize("levels, limit", [(3, 1 << 39), (4, 1 << 48), (5, 1 << 57)])
def test_rules_limit_second_stage_input_to_the_width_of_the_tables(levels: int, limit: int) -> None:
    assert rules(FULL, source(TranslationType.SECOND_STAGE, levels)).ss_input_limit == limit


def test_rules_limit_second_stage_input_to_mgaw() -> None:
    assert rules(capabilities(mgaw=41), source(TranslationType.SECOND_STAGE)).ss_input_limit == 1 << 42


def test_rules_are_the_formats_masks_by_level() -> None:
    found = rules(capabilities(sc=0, sslps=1, fs1gp=0), source(TranslationType.FIRST_STAGE))
    assert found.ss_reserved_leaf[1:4] == tuple(SS_LEAF[n] | 0x800 | ABOVE_HAW for n in (1, 2, 3))
    assert found.ss_reserved_table == (
        0,
        0,
        SS_TABLE | ABOVE_HAW,
        SS_TABLE | 0x80 | ABOVE_HAW,
        *[SS_TOP | ABOVE_HAW] * 2,
    )
    assert found.ss_large == (0, 0, 0x80, 0, 0, 0)
    assert found.fs_reserved_leaf[1:4] == tuple(FS_LEAF[n] | ABOVE_HAW for n in (1, 2, 3))
    assert found.fs_reserved_table[2:] == (ABOVE_HAW, 0x80 | ABOVE_HAW, 0x80 | ABOVE_HAW, 0x80 | ABOVE_HAW)
    assert found.fs_large == (0, 0, 0x80, 0, 0, 0)
    assert found.address_limit == 1 << HAW


def test_nested_first_stage_entries_are_not_limited_by_haw() -> None:
    found = rules(FULL, source(TranslationType.NESTED))
    assert found.fs_reserved_leaf[1:4] == (FS_LEAF[1], FS_LEAF[2], FS_LEAF[3])
    assert found.ss_reserved_leaf[1] == SS_LEAF[1] | ABOVE_HAW
    second, first = formats(FULL, nested=True, execute=False)
    assert (second.address_limit, first.address_limit) == (1 << HAW, 1 << 52)
