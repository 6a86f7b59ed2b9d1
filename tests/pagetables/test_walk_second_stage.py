"""Second-stage and pass-through walks: both sides of every decision, in legacy and in scalable mode."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.engine import Engine
from pagetables.fault import Fault, FaultReason
from pagetables.request import Access, Request, Translation
from pagetables.source import Source, TranslationType
from tests.builders import (
    FULL,
    GIB,
    MIB,
    SID,
    Scene,
    Tables,
    atomic,
    capabilities,
    execute,
    fault,
    granted,
    read,
    scalable,
    shift_of,
    source_of,
    write,
)

R = FaultReason
HAW = FULL.haw
SS_RESERVED = {  # bits of a present entry that fault, by (level, is leaf); written from the manual's tables
    (5, False): 0x4000_0000_0000_0880,
    (4, False): 0x4000_0000_0000_0880,
    (3, False): 0x4000_0000_0000_0800,
    (2, False): 0x4000_0000_0000_0800,
    (3, True): 0x4000_0000_3FFF_F000,
    (2, True): 0x4000_0000_001F_F000,
    (1, True): 0x4000_0000_0000_0000,
}
SHAPES = [(5, False), (4, False), (3, False), (2, False), (3, True), (2, True), (1, True)]
MODES = ("legacy", "scalable")


def of_mode(mode: str, tables: Tables, **changed: Any) -> Source:
    """A source of `tables` in this mode."""
    return source_of(tables, **changed) if mode == "legacy" else scalable(tables, **changed)


def reason(mode: str, legacy: FaultReason, modern: FaultReason) -> FaultReason:
    """The code that this mode has for one thing."""
    return legacy if mode == "legacy" else modern


# Where addresses lead


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("levels", [3, 4, 5])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_page_of_every_size_is_found_at_every_depth(engine: Engine, levels: int, level: int, mode: str) -> None:
    scene = Scene()
    tables = scene.second_stage(levels)
    iova, offset = (1 << shift_of(levels + 1)) - (1 << shift_of(level)), 0xABC
    tables.leaf(iova, gpa=8 * GIB, level=level)
    answer = scene.walk(engine, of_mode(mode, tables), write(iova + offset))
    assert answer == Translation(8 * GIB + offset, shift_of(level), granted("rwx"))


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_each_level_is_indexed_by_its_own_nine_bits(engine: Engine, level: int) -> None:
    scene = Scene()
    tables = scene.second_stage(5)
    for index in (0, 1, 256, 511):
        iova = index << shift_of(level)
        tables.leaf(iova, gpa=0x1000000 + index * 0x1000)
        assert scene.walk(engine, tables, read(iova)).gpa == 0x1000000 + index * 0x1000


def test_last_byte_of_a_large_page_belongs_to_it(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0, gpa=GIB, level=3)
    assert scene.walk(engine, tables, read(GIB - 1)).gpa == 2 * GIB - 1
    assert isinstance(scene.walk(engine, tables, read(GIB)), Fault)


def test_bit_7_of_a_pte_is_ignored(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0x1000, gpa=0x5000, extra=0x80)
    assert scene.walk(engine, tables, read(0x1000)) == Translation(0x5000, 12, granted("rwx"))


def test_memory_type_bits_of_a_leaf_are_ignored(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0x1000, gpa=0x5000, extra=0x78)
    assert isinstance(scene.walk(engine, tables, read(0x1000)), Translation)


# Input addresses


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("levels", [3, 4, 5])
def test_address_beyond_the_width_of_the_tables_is_refused(engine: Engine, levels: int, mode: str) -> None:
    scene = Scene()
    source = of_mode(mode, scene.second_stage(levels))
    request = read(1 << shift_of(levels + 1))
    expected = reason(mode, R.ADDRESS_BEYOND_WIDTH, R.SM_ADDRESS_BEYOND_WIDTH)
    assert scene.walk(engine, source, request) == fault(expected, request)
    inside = scene.walk(engine, source, read((1 << shift_of(levels + 1)) - 1))
    assert inside.reason is reason(mode, R.READ_DENIED, R.SM_SS_NOT_PRESENT)


@pytest.mark.parametrize("mode", MODES)
def test_address_beyond_mgaw_is_refused_even_if_the_tables_are_wider(engine: Engine, mode: str) -> None:
    scene = Scene(capabilities(mgaw=41))
    tables = scene.second_stage()
    tables.leaf(0x3FF_FFFF_F000, gpa=0x5000)
    tables.leaf(0x400_0000_0000, gpa=0x5000)
    source, request = of_mode(mode, tables), write(0x400_0000_0000)
    expected = reason(mode, R.ADDRESS_BEYOND_WIDTH, R.SM_ADDRESS_BEYOND_WIDTH)
    assert scene.walk(engine, source, request) == fault(expected, request)
    assert isinstance(scene.walk(engine, source, write(0x3FF_FFFF_F000)), Translation)


# Entries that cannot be read, are not present, or have reserved bits


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("levels", [3, 4, 5])
def test_a_root_outside_memory_is_an_access_error_of_the_root(engine: Engine, levels: int, mode: str) -> None:
    scene = Scene()
    tables = scene.second_stage(levels)
    source = of_mode(mode, tables, ss_table=scene.size)
    request = read(0x1000)
    expected = reason(mode, R.CONTEXT_INVALID, R.SM_SS_ROOT_ACCESS)
    assert scene.walk(engine, source, request) == fault(expected, request, scene.size, levels)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_table_outside_memory_is_an_access_error_of_an_entry(engine: Engine, level: int, mode: str) -> None:
    scene = Scene()
    tables = scene.second_stage(5)
    tables.put(0, level + 1, scene.size | 3)
    request = read(5 << shift_of(level))
    expected = reason(mode, R.SS_ENTRY_ACCESS, R.SM_SS_ENTRY_ACCESS)
    assert scene.walk(engine, of_mode(mode, tables), request) == fault(expected, request, scene.size + 40, level)


def test_a_table_at_the_top_of_the_address_space_is_an_access_error(engine: Engine) -> None:
    scene = Scene(capabilities(haw=52))
    tables = scene.second_stage()
    tables.put(0, 2, (1 << 52) - 0x1000 | 3)
    assert scene.walk(engine, tables, read(0x1FF000)).reason is R.SS_ENTRY_ACCESS


def test_a_leaf_may_lead_outside_memory(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0x1000, gpa=(1 << HAW) - 0x1000)
    assert scene.walk(engine, tables, read(0x1FFF)).gpa == (1 << HAW) - 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("make", [read, write, atomic, execute])
def test_an_entry_without_r_and_w_is_not_present(engine: Engine, level: int, mode: str, make: Any) -> None:
    scene = Scene()
    tables = scene.second_stage(5)
    at = tables.put(0x1000, level, 0x7FFF_F000 & -(1 << shift_of(level)) | 0xFFC)  # anything but R and W
    request = make(0x1000)
    legacy = R.WRITE_DENIED if request.access.writes else R.READ_DENIED
    expected = reason(mode, legacy, R.SM_SS_NOT_PRESENT)
    assert scene.walk(engine, of_mode(mode, tables), request) == fault(expected, request, at, level)


def sweep(level: int, leaf: bool) -> list[tuple[int, int, bool, int]]:
    """Every bit of an entry of this shape but R, W, X, PS and the address: is it reserved?"""
    low = shift_of(level) if leaf else 12
    skipped = {0, 1, 2, *range(low, HAW)}
    if level in (2, 3):
        skipped.add(7)
    mask = SS_RESERVED[level, leaf] | (1 << 52) - (1 << HAW)
    return [(level, bit, leaf, mask >> bit & 1) for bit in range(64) if bit not in skipped]


@pytest.mark.parametrize("level, bit, leaf, is_reserved", [case for shape in SHAPES for case in sweep(*shape)])
def test_every_bit_of_every_entry_is_reserved_or_ignored_as_the_manual_says(
    engine: Engine, level: int, bit: int, leaf: bool, is_reserved: int
) -> None:
    scene = Scene()
    tables = scene.second_stage(5)
    if leaf:
        tables.leaf(0, gpa=0, level=level)
    else:
        tables.leaf(0, gpa=0x5000)
    at = tables.change(0, level, set=1 << bit)
    for mode in MODES:
        answer = scene.walk(engine, of_mode(mode, tables), read(0))
        if is_reserved:
            expected = reason(mode, R.SS_ENTRY_RESERVED, R.SM_SS_RESERVED)
            assert answer == fault(expected, read(0), at, level)
        else:
            assert answer == Translation(0 if leaf else 0x5000, shift_of(level if leaf else 1), granted("rwx"))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_snoop_bit_is_reserved_in_a_leaf_without_snoop_control(engine: Engine, level: int) -> None:
    scene = Scene(capabilities(sc=0))
    tables = scene.second_stage()
    at = tables.leaf(0, gpa=0, level=level, extra=1 << 11)
    assert scene.walk(engine, tables, read(0)) == fault(R.SS_ENTRY_RESERVED, read(0), at, level)


@pytest.mark.parametrize(
    "sslps, level, is_allowed", [(0, 2, False), (0, 3, False), (1, 2, True), (1, 3, False), (3, 3, True)]
)
def test_a_large_page_that_the_unit_does_not_have_is_a_reserved_bit(
    engine: Engine, sslps: int, level: int, is_allowed: bool
) -> None:
    scene = Scene(capabilities(sslps=sslps))
    tables = scene.second_stage()
    at = tables.leaf(0, gpa=GIB, level=level)
    answer = scene.walk(engine, tables, read(0))
    if is_allowed:
        assert answer == Translation(GIB, shift_of(level), granted("rwx"))
    else:
        assert answer == fault(R.SS_ENTRY_RESERVED, read(0), at, level)


def test_not_present_is_told_before_reserved_bits(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.put(0, 2, 1 << 62)
    assert scene.walk(engine, tables, write(0)).reason is R.WRITE_DENIED
    assert scene.walk(engine, scalable(tables), write(0)).reason is R.SM_SS_NOT_PRESENT


def test_a_deeper_error_wins_over_a_permission_withheld_above(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    at = tables.leaf(0, gpa=0x5000, extra=1 << 62)
    tables.change(0, 3, clear=2)
    assert scene.walk(engine, tables, write(0)) == fault(R.SS_ENTRY_RESERVED, write(0), at, 1)


def test_a_table_that_points_to_itself_ends_the_walk_at_level_1(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage(5)
    tables.put(0, 5, tables.root | 3)
    assert scene.walk(engine, tables, read(0xABC)) == Translation(tables.root + 0xABC, 12, granted("rwx"))


# Permissions


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "access, permissions, verdict",
    [
        (Access.READ, "r", None),
        (Access.READ, "rw", None),
        (Access.READ, "w", "read"),
        (Access.WRITE, "w", None),
        (Access.WRITE, "rw", None),
        (Access.WRITE, "r", "write"),
        (Access.ATOMIC, "rw", None),
        (Access.ATOMIC, "r", "write"),
        (Access.ATOMIC, "w", "read"),
        (Access.EXECUTE, "r", None),
        (Access.EXECUTE, "rx", None),
        (Access.EXECUTE, "w", "read"),
        (Access.EXECUTE, "wx", "read"),
    ],
)
def test_access_against_the_rights_of_a_leaf(
    engine: Engine, mode: str, access: Access, permissions: str, verdict: str | None
) -> None:
    scene = Scene()
    tables = scene.second_stage()
    at = tables.leaf(0x1000, gpa=0x5000, permissions=permissions)
    request = Request(SID, 0x1000, access)
    answer = scene.walk(engine, of_mode(mode, tables), request)
    if verdict is None:
        x = "x" if "r" in permissions else ""  # X bits are ignored without SSEE: to execute is to read
        assert answer == Translation(0x5000, 12, granted(permissions.replace("x", "") + x))
    else:
        legacy, modern = {
            "read": (R.READ_DENIED, R.SM_READ_DENIED),
            "write": (R.WRITE_DENIED, R.SM_WRITE_DENIED),
        }[verdict]
        assert answer == fault(reason(mode, legacy, modern), request, at, 1)


@pytest.mark.parametrize("level", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "make, cleared, legacy, modern",
    [(write, 2, R.WRITE_DENIED, R.SM_WRITE_DENIED), (read, 1, R.READ_DENIED, R.SM_READ_DENIED)],
)
def test_a_right_that_any_table_withholds_is_missing(
    engine: Engine, level: int, make: Any, cleared: int, legacy: FaultReason, modern: FaultReason
) -> None:
    scene = Scene()
    tables = scene.second_stage(5)
    leaf = tables.leaf(0x1000, gpa=0x5000)
    tables.change(0x1000, level, clear=cleared)
    assert scene.walk(engine, tables, make(0x1000)) == fault(legacy, make(0x1000), leaf, 1)
    assert scene.walk(engine, scalable(tables), make(0x1000)) == fault(modern, make(0x1000), leaf, 1)


@pytest.mark.parametrize("make", [read, write, atomic, execute])
def test_r_in_one_table_and_w_in_another_leave_nothing(engine: Engine, make: Any) -> None:
    scene = Scene()
    tables = scene.second_stage()
    leaf = tables.leaf(0x1000, gpa=0x5000, permissions="w")
    tables.change(0x1000, 2, clear=2)
    request = make(0x1000)
    assert scene.walk(engine, scalable(tables), request) == fault(R.SM_SS_NOT_PRESENT, request, leaf, 1)
    legacy = R.WRITE_DENIED if request.access.writes else R.READ_DENIED
    assert scene.walk(engine, tables, request) == fault(legacy, request, leaf, 1)


@pytest.mark.parametrize(
    "permissions, expected",
    [
        ("rx", None),
        ("x", None),
        ("rwx", None),
        ("r", R.EXECUTE_DENIED),
        ("rw", R.EXECUTE_DENIED),
        ("w", R.EXECUTE_DENIED),
    ],
)
def test_execute_with_ssee_needs_x(engine: Engine, permissions: str, expected: FaultReason | None) -> None:
    scene = Scene()
    tables = scene.second_stage()
    at = tables.leaf(0x1000, gpa=0x5000, permissions=permissions)
    for level in (2, 3, 4):
        tables.change(0x1000, level, set=4)
    answer = scene.walk(engine, scalable(tables, ss_execute=True), execute(0x1000))
    if expected is None:
        assert answer == Translation(0x5000, 12, granted(permissions))
    else:
        assert answer == fault(expected, execute(0x1000), at, 1)


@pytest.mark.parametrize("level", [2, 3, 4])
def test_execute_with_ssee_needs_x_in_every_table(engine: Engine, level: int) -> None:
    scene = Scene()
    tables = scene.second_stage()
    at = tables.leaf(0x1000, gpa=0x5000, permissions="rwx")
    for other in {2, 3, 4} - {level}:
        tables.change(0x1000, other, set=4)
    source = scalable(tables, ss_execute=True)
    assert scene.walk(engine, source, execute(0x1000)) == fault(R.EXECUTE_DENIED, execute(0x1000), at, 1)
    assert scene.walk(engine, source, read(0x1000)) == Translation(0x5000, 12, granted("rw"))


def test_an_execute_only_page_is_not_present_for_a_read(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    at = tables.leaf(0x1000, gpa=0x5000, permissions="x")
    source = scalable(tables, ss_execute=True)
    assert scene.walk(engine, source, read(0x1000)) == fault(R.SM_SS_NOT_PRESENT, read(0x1000), at, 1)


# The interrupt range


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "gpa, level, is_blocked",
    [
        (0xFEDF_F000, 1, False),
        (0xFEE0_0000, 1, True),
        (0xFEEF_F000, 1, True),
        (0xFEF0_0000, 1, False),
        (0xFEC0_0000, 2, False),
        (0xFEE0_0000, 2, True),
        (0xFF00_0000, 2, False),
        (0xC000_0000, 3, True),
        (0x1_0000_0000, 3, False),
    ],
)
def test_a_page_that_meets_the_interrupt_range_is_refused_whole(
    engine: Engine, mode: str, gpa: int, level: int, is_blocked: bool
) -> None:
    scene = Scene()
    tables = scene.second_stage()
    at = tables.leaf(0, gpa=gpa, level=level)
    answer = scene.walk(engine, of_mode(mode, tables), read(8))
    expected = reason(mode, R.OUTPUT_IN_INTERRUPT_RANGE, R.SM_OUTPUT_IN_INTERRUPT_RANGE)
    assert answer == (
        fault(expected, read(8), at, level) if is_blocked else Translation(gpa + 8, shift_of(level), granted("rwx"))
    )


def test_permissions_are_judged_before_the_interrupt_range(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0, gpa=0xFEE0_0000, permissions="r")
    assert scene.walk(engine, tables, write(0)).reason is R.WRITE_DENIED


# Accessed and dirty bits


A, D = 0x100, 0x200


def flags(tables: Tables, levels: int = 4) -> list[int]:
    """A and D of the entries for address 0, from the top down."""
    return [tables.raw(0, level) & (A | D) for level in range(levels, 0, -1)]


@pytest.mark.parametrize("make, leaf", [(read, A), (execute, A), (write, A | D), (atomic, A | D)])
def test_ssade_sets_a_in_every_entry_and_d_in_the_leaf_of_a_write(engine: Engine, make: Any, leaf: int) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0, gpa=0x5000)
    assert isinstance(scene.walk(engine, scalable(tables, ss_accessed_dirty=True), make(0)), Translation)
    assert flags(tables) == [A, A, A, leaf]


@pytest.mark.parametrize("level", [2, 3])
def test_ssade_sets_d_in_a_large_page(engine: Engine, level: int) -> None:
    scene = Scene()
    tables = scene.second_stage()
    at = tables.leaf(0, gpa=GIB, level=level)
    scene.walk(engine, scalable(tables, ss_accessed_dirty=True), write(5 * MIB if level == 3 else 5))
    assert scene.qword(at) == GIB | 0x83 | A | D


@pytest.mark.parametrize("mode", MODES)
def test_without_ssade_no_entry_changes(engine: Engine, mode: str) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0, gpa=0x5000)
    scene.walk(engine, of_mode(mode, tables), write(0))
    assert flags(tables) == [0, 0, 0, 0]


def test_a_bit_that_is_set_already_is_not_written_again(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0, gpa=0x5000, extra=A | D)
    for level in (2, 3, 4):
        tables.change(0, level, set=A)
    # A walk that does not snoop may not write: it passes because it has nothing to write.
    source = scalable(tables, ss_accessed_dirty=True, walk_snoop=False)
    assert isinstance(scene.walk(engine, source, write(0)), Translation)


@pytest.mark.parametrize("pwsnp, smpwcs", [(False, 1), (True, 0), (False, 0)])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_that_must_be_set_by_a_walk_that_does_not_snoop_faults(
    engine: Engine, level: int, pwsnp: bool, smpwcs: int
) -> None:
    scene = Scene(capabilities(smpwcs=smpwcs))
    tables = scene.second_stage()
    tables.leaf(0, gpa=0x5000)
    for above in range(level + 1, 5):
        tables.change(0, above, set=A)
    source = scalable(tables, ss_accessed_dirty=True, walk_snoop=pwsnp)
    answer = scene.walk(engine, source, read(0))
    assert answer == fault(R.SS_UPDATE_NOT_SNOOPED, read(0), tables.entry(0, level), level)
    assert tables.raw(0, level) & A == 0


def test_d_that_must_be_set_by_a_walk_that_does_not_snoop_faults(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    at = tables.leaf(0, gpa=0x5000, extra=A)
    for level in (2, 3, 4):
        tables.change(0, level, set=A)
    source = scalable(tables, ss_accessed_dirty=True, walk_snoop=False)
    assert isinstance(scene.walk(engine, source, read(0)), Translation)
    assert scene.walk(engine, source, write(0)) == fault(R.SS_UPDATE_NOT_SNOOPED, write(0), at, 1)


def test_a_write_that_is_denied_sets_a_but_not_d(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0, gpa=0x5000, permissions="r")
    assert scene.walk(engine, scalable(tables, ss_accessed_dirty=True), write(0)).reason is R.SM_WRITE_DENIED
    assert flags(tables) == [A, A, A, A]


def test_an_entry_with_reserved_bits_is_not_marked(engine: Engine) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0, gpa=0x5000, extra=1 << 62)
    scene.walk(engine, scalable(tables, ss_accessed_dirty=True), read(0))
    assert flags(tables) == [A, A, A, 0]


# Pass-through


def pass_through(legacy: bool) -> Source:
    """A source whose addresses are used as they are."""
    return Source(TranslationType.PASS_THROUGH, 7, legacy)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [read, write, atomic, execute])
def test_pass_through_uses_the_address_as_it_is(engine: Engine, mode: str, make: Any) -> None:
    scene = Scene()
    address = (1 << HAW) - 1
    answer = scene.walk(engine, pass_through(mode == "legacy"), make(address))
    assert answer == Translation(address, 12, granted("rwx"))


@pytest.mark.parametrize("mode", MODES)
def test_pass_through_beyond_haw_is_refused(engine: Engine, mode: str) -> None:
    scene = Scene()
    request = read(1 << HAW)
    expected = reason(mode, R.ADDRESS_BEYOND_WIDTH, R.SM_ADDRESS_BEYOND_HAW)
    assert scene.walk(engine, pass_through(mode == "legacy"), request) == fault(expected, request)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "address, is_blocked", [(0xFEDF_FFFF, False), (0xFEE0_0000, True), (0xFEEF_FFFF, True), (0xFEF0_0000, False)]
)
def test_pass_through_to_the_interrupt_range_is_refused(
    engine: Engine, mode: str, address: int, is_blocked: bool
) -> None:
    scene = Scene()
    answer = scene.walk(engine, pass_through(mode == "legacy"), write(address))
    expected = reason(mode, R.OUTPUT_IN_INTERRUPT_RANGE, R.SM_OUTPUT_IN_INTERRUPT_RANGE)
    assert answer == (fault(expected, write(address)) if is_blocked else Translation(address, 12, granted("rwx")))


# What a fault carries, what a walk shows


@pytest.mark.parametrize("is_disabled", [False, True])
def test_a_fault_of_a_source_with_fpd_is_not_recorded(engine: Engine, is_disabled: bool) -> None:
    scene = Scene()
    source = source_of(scene.second_stage(), fault_processing_disabled=is_disabled)
    answer = scene.walk(engine, source, read(0))
    assert isinstance(answer, Fault)
    assert answer.recorded is not is_disabled


def test_a_fault_carries_the_request_as_it_came(engine: Engine) -> None:
    scene = Scene()
    request = Request(0x1234, 0x7_7777_7777, Access.ATOMIC, pasid=5, privileged=True)
    assert scene.walk(engine, scalable(scene.second_stage()), request).request is request


def test_steps_name_each_entry_with_address_index_level_and_fields() -> None:
    scene = Scene()
    tables = scene.second_stage(5)
    iova = sum(n << shift_of(n) for n in range(1, 6))
    tables.leaf(iova, gpa=0x5000, permissions="r")
    found = scene.steps(tables, read(iova))
    assert isinstance(found.outcome, Translation)
    assert [(step.structure, step.index, step.level) for step in found.steps] == [
        ("ss-pml5e", 5, 5),
        ("ss-pml4e", 4, 4),
        ("ss-pdpe-table", 3, 3),
        ("ss-pde-table", 2, 2),
        ("ss-pte", 1, 1),
    ]
    assert [step.at for step in found.steps] == [tables.entry(iova, level) for level in range(5, 0, -1)]
    assert found.steps[-1].entry == 0x5001
    assert found.steps[-1].fields == {"r": 1, "w": 0, "x": 0, "emt": 0, "ipat": 0, "a": 0, "d": 0, "snp": 0, "addr": 5}


@pytest.mark.parametrize("level, name", [(2, "ss-pde-2m"), (3, "ss-pdpe-1g")])
def test_steps_name_a_large_page_by_its_own_layout(level: int, name: str) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0, gpa=GIB, level=level)
    assert scene.steps(tables, read(0)).steps[-1].structure == name


def test_steps_end_with_the_entry_that_decided_a_fault() -> None:
    scene = Scene()
    tables = scene.second_stage()
    at = tables.leaf(0, gpa=0x5000, permissions="r")
    found = scene.steps(tables, write(0))
    assert isinstance(found.outcome, Fault)
    assert (found.outcome.at, found.steps[-1].at, found.steps[-1].note) == (at, at, "withholds w")


def test_a_walk_that_does_not_update_answers_the_same_and_writes_nothing() -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.leaf(0, gpa=0x5000)
    before = scene.memory.read(0, scene.size)
    found = scene.steps(scalable(tables, ss_accessed_dirty=True), write(0))
    assert found.outcome == Translation(0x5000, 12, granted("rwx"))
    assert scene.memory.read(0, scene.size) == before
    unsnooped = scene.steps(scalable(tables, ss_accessed_dirty=True, walk_snoop=False), write(0))
    assert unsnooped.outcome.reason is R.SS_UPDATE_NOT_SNOOPED
