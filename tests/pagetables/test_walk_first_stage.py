"""First-stage walks: both sides of every decision."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.engine import Engine
from pagetables.fault import FaultReason
from pagetables.memory import PhysicalMemory
from pagetables.request import Translation
from pagetables.walk import walk
from tests.builders import (
    FULL,
    GIB,
    MIB,
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
P, RW, US, A, D, EA, XD = 0x1, 0x2, 0x4, 0x20, 0x40, 0x400, 1 << 63
FS_RESERVED = {  # bits of a present entry that fault, by (level, is leaf); written from the manual's tables
    (5, False): 0x80,
    (4, False): 0x80,
    (3, False): 0,
    (2, False): 0,
    (3, True): 0x3FFF_E000,
    (2, True): 0x001F_E000,
    (1, True): 0,
}
SHAPES = [(5, False), (4, False), (3, False), (2, False), (3, True), (2, True), (1, True)]


# Where addresses lead


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("upper", [False, True], ids=["lower", "upper"])
def test_a_page_of_every_size_is_found_in_both_halves(engine: Engine, levels: int, level: int, upper: bool) -> None:
    scene = Scene()
    tables = scene.first_stage(levels)
    half = 1 << (shift_of(levels + 1) - 1)
    iova = (1 << 64) - half if upper else half - (1 << shift_of(level))
    tables.leaf(iova, gpa=8 * GIB, level=level)
    answer = scene.walk(engine, tables, write(iova + 0xABC))
    assert answer == Translation(8 * GIB + 0xABC, shift_of(level), granted("rwxu"))


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_each_level_is_indexed_by_its_own_nine_bits(engine: Engine, level: int) -> None:
    scene = Scene()
    tables = scene.first_stage(5)
    for index in (0, 1, 255):
        tables.leaf(index << shift_of(level), gpa=0x1000000 + index * 0x1000)
        assert scene.walk(engine, tables, read(index << shift_of(level))).gpa == 0x1000000 + index * 0x1000


def test_bit_7_of_a_pte_is_its_memory_type(engine: Engine) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.leaf(0x1000, gpa=0x5000, extra=0x80)
    assert scene.walk(engine, tables, read(0x1000)) == Translation(0x5000, 12, granted("rwxu"))


@pytest.mark.parametrize("fs1gp", [0, 1])
def test_a_1_gib_page_needs_fs1gp(engine: Engine, fs1gp: int) -> None:
    scene = Scene(capabilities(fs1gp=fs1gp))
    tables = scene.first_stage()
    at = tables.leaf(0, gpa=GIB, level=3)
    answer = scene.walk(engine, tables, read(0))
    assert answer == (Translation(GIB, 30, granted("rwxu")) if fs1gp else fault(R.FS_RESERVED, read(0), at, 3))


def test_2_mib_pages_need_no_capability(engine: Engine) -> None:
    scene = Scene(capabilities(fs1gp=0, sslps=0))
    tables = scene.first_stage()
    tables.leaf(0, gpa=GIB, level=2)
    assert scene.walk(engine, tables, read(0)) == Translation(GIB, 21, granted("rwxu"))


# Input addresses


@pytest.mark.parametrize("levels", [4, 5])
def test_an_address_that_is_not_canonical_is_refused(engine: Engine, levels: int) -> None:
    scene = Scene()
    tables = scene.first_stage(levels)
    half = 1 << (shift_of(levels + 1) - 1)
    for iova in (half, (1 << 64) - half - 1, 1 << 63, half | 1 << 63):
        assert scene.walk(engine, tables, read(iova)) == fault(R.NOT_CANONICAL, read(iova))
    for iova in (half - 1, (1 << 64) - half, (1 << 64) - 1):
        assert scene.walk(engine, tables, read(iova)).reason is R.FS_NOT_PRESENT


def test_mgaw_does_not_limit_a_first_stage_address(engine: Engine) -> None:
    scene = Scene(capabilities(mgaw=38))
    tables = scene.first_stage()
    tables.leaf(1 << 46, gpa=0x5000)
    assert scene.walk(engine, tables, read(1 << 46)).gpa == 0x5000


# Entries that cannot be read, are not present, or have reserved bits


@pytest.mark.parametrize("levels", [4, 5])
def test_a_root_outside_memory_is_an_access_error_of_the_root(engine: Engine, levels: int) -> None:
    scene = Scene()
    source = source_of(scene.first_stage(levels), fs_table=scene.size)
    request = read(0x3000)
    assert scene.walk(engine, source, request) == fault(R.FS_ROOT_ACCESS, request, scene.size, levels)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_table_outside_memory_is_an_access_error_of_an_entry(engine: Engine, level: int) -> None:
    scene = Scene()
    tables = scene.first_stage(5)
    tables.put(0, level + 1, scene.size | 0x27)
    request = read(5 << shift_of(level))
    assert scene.walk(engine, tables, request) == fault(R.FS_ENTRY_ACCESS, request, scene.size + 40, level)


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("make", [read, write, atomic])
def test_an_entry_without_p_is_not_present(engine: Engine, level: int, make: Any) -> None:
    scene = Scene()
    tables = scene.first_stage(5)
    at = tables.put(0x1000, level, 0xFFFF_FFFF_FFFF_FFFE)
    assert scene.walk(engine, tables, make(0x1000)) == fault(R.FS_NOT_PRESENT, make(0x1000), at, level)


def sweep(level: int, leaf: bool) -> list[tuple[int, int, bool, int]]:
    """Every bit of an entry of this shape but P, RW, US, A, PS, XD and the address: is it reserved?"""
    low = shift_of(level) if leaf else 12
    skipped = {0, 1, 2, 5, 63, *range(low, HAW)}
    if level in (2, 3):
        skipped.add(7)
    mask = FS_RESERVED[level, leaf] | (1 << 52) - (1 << HAW)
    return [(level, bit, leaf, mask >> bit & 1) for bit in range(64) if bit not in skipped]


@pytest.mark.parametrize("level, bit, leaf, is_reserved", [case for shape in SHAPES for case in sweep(*shape)])
def test_every_bit_of_every_entry_is_reserved_or_ignored_as_the_manual_says(
    engine: Engine, level: int, bit: int, leaf: bool, is_reserved: int
) -> None:
    scene = Scene()
    tables = scene.first_stage(5)
    if leaf:
        tables.leaf(0, gpa=0, level=level)
    else:
        tables.leaf(0, gpa=0x5000)
    at = tables.change(0, level, set=1 << bit)
    answer = scene.walk(engine, tables, read(0))
    if is_reserved:
        assert answer == fault(R.FS_RESERVED, read(0), at, level)
    else:
        assert answer == Translation(0 if leaf else 0x5000, shift_of(level if leaf else 1), granted("rwxu"))


def test_not_present_is_told_before_reserved_bits(engine: Engine) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.put(0, 4, 0x80)
    assert scene.walk(engine, tables, read(0)).reason is R.FS_NOT_PRESENT


def test_a_deeper_error_wins_over_a_permission_withheld_above(engine: Engine) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.leaf(0, gpa=0x5000)
    tables.change(0, 4, clear=RW | US)
    at = tables.change(0, 1, clear=P)
    assert scene.walk(engine, tables, write(0)) == fault(R.FS_NOT_PRESENT, write(0), at, 1)


# Permissions


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_a_user_request_needs_u_in_every_entry(engine: Engine, level: int) -> None:
    scene = Scene()
    tables = scene.first_stage(5)
    leaf = tables.leaf(0, gpa=0x5000)
    tables.change(0, level, clear=US)
    assert scene.walk(engine, tables, read(0)) == fault(R.USER_DENIED, read(0), leaf, 1)
    assert scene.walk(engine, tables, read(0, privileged=True)) == Translation(0x5000, 12, granted("rwx"))


def test_a_request_made_privileged_by_the_context_entry_is_a_supervisors(engine: Engine) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.leaf(0, gpa=0x5000, permissions="rws")
    assert scene.walk(engine, source_of(tables, privileged=True), read(0)).gpa == 0x5000


@pytest.mark.parametrize("make", [write, atomic])
@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_a_write_needs_rw_in_every_entry(engine: Engine, level: int, make: Any) -> None:
    scene = Scene()
    tables = scene.first_stage(5)
    leaf = tables.leaf(0, gpa=0x5000)
    tables.change(0, level, clear=RW)
    assert scene.walk(engine, tables, make(0)) == fault(R.SM_WRITE_DENIED, make(0), leaf, 1)
    assert scene.walk(engine, tables, read(0)) == Translation(0x5000, 12, granted("rxu"))


@pytest.mark.parametrize(
    "privileged, wpe, is_allowed",
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_only_a_supervisor_without_wpe_writes_a_read_only_page(
    engine: Engine, privileged: bool, wpe: bool, is_allowed: bool
) -> None:
    scene = Scene()
    tables = scene.first_stage()
    at = tables.leaf(0, gpa=0x5000, permissions="r")
    request = write(0, privileged=privileged)
    answer = scene.walk(engine, source_of(tables, write_protect=wpe), request)
    if is_allowed:
        assert answer == Translation(0x5000, 12, granted("rwxu"))
        assert scene.qword(at) & D
    else:
        assert answer == fault(R.SM_WRITE_DENIED, request, at, 1)


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("nxe", [False, True])
def test_xd_of_any_entry_forbids_execution_if_nxe(engine: Engine, level: int, nxe: bool) -> None:
    scene = Scene()
    tables = scene.first_stage(5)
    leaf = tables.leaf(0, gpa=0x5000)
    tables.change(0, level, set=XD)
    source = source_of(tables, no_execute=nxe)
    answer = scene.walk(engine, source, execute(0))
    if nxe:
        assert answer == fault(R.EXECUTE_DENIED, execute(0), leaf, 1)
        assert scene.walk(engine, source, read(0)) == Translation(0x5000, 12, granted("rwu"))
    else:
        assert answer == Translation(0x5000, 12, granted("rwxu"))


@pytest.mark.parametrize(
    "smep, privileged, page, is_allowed",
    [
        (True, True, "rw", False),
        (True, True, "rws", True),
        (False, True, "rw", True),
        (True, False, "rw", True),
    ],
)
def test_smep_keeps_a_supervisor_from_executing_user_pages(
    engine: Engine, smep: bool, privileged: bool, page: str, is_allowed: bool
) -> None:
    scene = Scene()
    tables = scene.first_stage()
    at = tables.leaf(0, gpa=0x5000, permissions=page)
    request = execute(0, privileged=privileged)
    answer = scene.walk(engine, source_of(tables, supervisor_execute_prevention=smep), request)
    if is_allowed:
        assert answer.gpa == 0x5000
    else:
        assert answer == fault(R.EXECUTE_DENIED, request, at, 1)


def test_user_is_judged_before_execute_and_execute_before_write(engine: Engine) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.leaf(0, gpa=0x5000, permissions="rs", extra=XD)
    source = source_of(tables, no_execute=True)
    assert scene.walk(engine, source, execute(0)).reason is R.USER_DENIED
    assert scene.walk(engine, source, write(0)).reason is R.USER_DENIED
    assert scene.walk(engine, source, execute(0, privileged=True)).reason is R.EXECUTE_DENIED


# The interrupt range


@pytest.mark.parametrize(
    "gpa, level, is_blocked",
    [
        (0xFEDF_F000, 1, False),
        (0xFEE0_0000, 1, True),
        (0xFEEF_F000, 1, True),
        (0xFEF0_0000, 1, False),
        (0xFEE0_0000, 2, True),
        (0xC000_0000, 3, True),
        (0x8000_0000, 3, False),
    ],
)
def test_a_page_that_meets_the_interrupt_range_is_refused_whole(
    engine: Engine, gpa: int, level: int, is_blocked: bool
) -> None:
    scene = Scene()
    tables = scene.first_stage()
    at = tables.leaf(0, gpa=gpa, level=level)
    answer = scene.walk(engine, tables, read(8))
    blocked = fault(R.SM_OUTPUT_IN_INTERRUPT_RANGE, read(8), at, level)
    assert answer == (blocked if is_blocked else Translation(gpa + 8, shift_of(level), granted("rwxu")))


# Accessed, extended-accessed and dirty bits


def clean(scene: Scene, levels: int = 4) -> Tables:
    """Tables in which A, EA and D are clear everywhere."""
    tables = scene.first_stage(levels)
    tables.leaf(0, gpa=0x5000)
    for level in range(1, levels + 1):
        tables.change(0, level, clear=A | D | EA)
    return tables


def flags(tables: Tables) -> list[int]:
    """A, EA and D of the entries for address 0, from the top down."""
    return [tables.raw(0, level) & (A | D | EA) for level in range(tables.levels, 0, -1)]


@pytest.mark.parametrize("make, leaf", [(read, A), (execute, A), (write, A | D), (atomic, A | D)])
def test_a_is_set_in_every_entry_and_d_in_the_leaf_of_a_write(engine: Engine, make: Any, leaf: int) -> None:
    scene = Scene()
    tables = clean(scene, 5)
    assert scene.walk(engine, tables, make(0)).gpa == 0x5000
    assert flags(tables) == [A, A, A, A, leaf]


def test_eafe_sets_ea_beside_a(engine: Engine) -> None:
    scene = Scene()
    tables = clean(scene)
    scene.walk(engine, source_of(tables, extended_accessed=True), write(0))
    assert flags(tables) == [A | EA, A | EA, A | EA, A | EA | D]


def test_ea_is_set_where_a_stands_already(engine: Engine) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.leaf(0, gpa=0x5000)
    scene.walk(engine, source_of(tables, extended_accessed=True), read(0))
    assert flags(tables) == [A | EA, A | EA, A | EA, A | EA | D]


@pytest.mark.parametrize("level", [2, 3])
def test_d_is_set_in_a_large_page(engine: Engine, level: int) -> None:
    scene = Scene()
    tables = scene.first_stage()
    at = tables.leaf(0, gpa=GIB, level=level)
    tables.change(0, level, clear=A | D)
    scene.walk(engine, tables, write(5 * MIB if level == 3 else 5))
    assert scene.qword(at) == GIB | 0xE7


@pytest.mark.parametrize("pwsnp, smpwcs", [(False, 1), (True, 0)])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_that_must_be_set_by_a_walk_that_does_not_snoop_faults(
    engine: Engine, level: int, pwsnp: bool, smpwcs: int
) -> None:
    scene = Scene(capabilities(smpwcs=smpwcs))
    tables = scene.first_stage()
    tables.leaf(0, gpa=0x5000)
    at = tables.change(0, level, clear=A)
    source = source_of(tables, walk_snoop=pwsnp)
    assert scene.walk(engine, source, read(0)) == fault(R.FS_UPDATE_NOT_SNOOPED, read(0), at, level)
    assert scene.qword(at) & A == 0


def test_d_that_must_be_set_by_a_walk_that_does_not_snoop_faults(engine: Engine) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.leaf(0, gpa=0x5000)
    at = tables.change(0, 1, clear=D)
    source = source_of(tables, walk_snoop=False)
    assert scene.walk(engine, source, read(0)).gpa == 0x5000
    assert scene.walk(engine, source, write(0)) == fault(R.FS_UPDATE_NOT_SNOOPED, write(0), at, 1)


def test_ea_that_must_be_set_by_a_walk_that_does_not_snoop_faults(engine: Engine) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.leaf(0, gpa=0x5000)
    source = source_of(tables, walk_snoop=False, extended_accessed=True)
    assert scene.walk(engine, source, read(0)).reason is R.FS_UPDATE_NOT_SNOOPED


def test_entries_with_a_and_d_preset_need_no_snooping_walk(engine: Engine) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.leaf(0, gpa=0x5000)
    assert scene.walk(engine, source_of(tables, walk_snoop=False), write(0)).gpa == 0x5000


def test_a_write_that_is_denied_sets_a_but_not_d(engine: Engine) -> None:
    scene = Scene()
    tables = clean(scene)
    tables.change(0, 1, clear=RW)
    assert scene.walk(engine, tables, write(0)).reason is R.SM_WRITE_DENIED
    assert flags(tables) == [A, A, A, A]


class ReadOnly(PhysicalMemory):
    """Memory in which nothing can be written by a unit."""

    def store(self, address: int, value: int) -> bool:
        """Refused."""
        return False


def test_an_update_that_memory_refuses_is_a_fault_of_its_own() -> None:
    # Only the Python engine can be given such a memory.
    scene = Scene()
    scene.memory = ReadOnly([(0, scene.size)])
    first = clean(scene)
    at = first.root_page
    answer = walk(scene.memory, source_of(first), read(0), FULL, update=True).outcome
    assert answer == fault(R.FS_UPDATE_FAILED, read(0), at, 4)
    second = scene.second_stage()
    second.leaf(0, gpa=0x5000)
    source = scalable(second, ss_accessed_dirty=True)
    answer = walk(scene.memory, source, read(0), FULL, update=True).outcome
    assert answer == fault(R.SS_UPDATE_FAILED, read(0), second.root_page, 4)


def test_a_walk_that_does_not_update_answers_the_same_and_writes_nothing() -> None:
    scene = Scene()
    tables = clean(scene)
    before = scene.memory.read(0, scene.size)
    assert scene.steps(tables, write(0)).outcome == Translation(0x5000, 12, granted("rwxu"))
    assert scene.memory.read(0, scene.size) == before
    assert scene.steps(source_of(tables, walk_snoop=False), read(0)).outcome.reason is R.FS_UPDATE_NOT_SNOOPED


def test_steps_name_each_entry_as_it_was_before_the_walk() -> None:
    scene = Scene()
    tables = clean(scene)
    found = walk(scene.memory, source_of(tables), write(0), FULL, update=True)
    assert [step.structure for step in found.steps] == ["fs-pml4e", "fs-pdpe-table", "fs-pde-table", "fs-pte"]
    assert [step.entry & (A | D) for step in found.steps] == [0, 0, 0, 0]
    assert found.steps[-1].fields["us"] == 1


@pytest.mark.parametrize("level, name", [(2, "fs-pde-2m"), (3, "fs-pdpe-1g")])
def test_steps_name_a_large_page_by_its_own_layout(level: int, name: str) -> None:
    scene = Scene()
    tables = scene.first_stage()
    tables.leaf(0, gpa=GIB, level=level)
    assert scene.steps(tables, read(0)).steps[-1].structure == name
