"""Nested walks: every first-stage table, and the result, goes through the second stage."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.engine import Engine, load_engine
from pagetables.fault import FaultReason
from pagetables.request import Translation
from pagetables.source import Source
from pagetables.walk import walk
from tests.builders import (
    GIB,
    MIB,
    Scene,
    atomic,
    capabilities,
    execute,
    fault,
    granted,
    nested,
    read,
    shift_of,
    write,
)

R = FaultReason
GUEST = 0x4000_0000  # where a guest sees its tables: this much above the memory that holds them
A, D, EA = 0x20, 0x40, 0x400  # first stage
SS_A, SS_D = 0x100, 0x200
PAGE = 0x7000  # guest address that the leaf maps
HOST = 0x9000  # where the second stage puts it


class Guest:
    """A guest whose tables lie GUEST above the memory that holds them, with one page: IOVA 0 -> PAGE -> HOST."""

    def __init__(self, levels: int = 4, ss_levels: int = 4, haw: int = 46, **caps: int) -> None:
        self.scene = Scene(capabilities(haw, **caps))
        self.first = self.scene.first_stage(levels, offset=GUEST)
        self.first.leaf(0, gpa=PAGE)
        self.second = self.scene.second_stage(ss_levels)
        self.second.leaf(PAGE, gpa=HOST)
        self.show_tables()

    def show_tables(self) -> None:
        """Map every first-stage table where the guest sees it."""
        for page in self.first.pages:
            self.second.leaf(page + GUEST, gpa=page)

    def source(self, **changed: Any) -> Source:
        """The nested source, with fields changed."""
        return nested(self.first, self.second, **changed)

    def table(self, level: int) -> int:
        """The guest address of the first-stage table of `level` for IOVA 0."""
        return (self.first.entry(0, level) & -0x1000) + GUEST

    def host_entry(self, level: int) -> int:
        """Where the second-stage leaf lies that maps the first-stage table of `level`."""
        return self.second.entry(self.table(level), 1)


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("ss_levels", [3, 4, 5])
def test_both_stages_are_walked_at_every_depth(engine: Engine, levels: int, ss_levels: int) -> None:
    guest = Guest(levels, ss_levels)
    answer = guest.scene.walk(engine, guest.source(), write(0xABC))
    assert answer == Translation(HOST + 0xABC, 12, granted("rwxu"))


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("ss_level", [1, 2, 3])
def test_the_page_is_the_smaller_of_both_stages(engine: Engine, level: int, ss_level: int) -> None:
    guest = Guest()
    guest.first.leaf(GIB, gpa=8 * GIB, level=level)
    guest.show_tables()
    guest.second.leaf(8 * GIB, gpa=16 * GIB, level=ss_level)
    answer = guest.scene.walk(engine, guest.source(), read(GIB + 0xABC))
    assert answer == Translation(16 * GIB + 0xABC, shift_of(min(level, ss_level)), granted("rwxu"))


def test_the_offset_in_a_large_first_stage_page_goes_through_small_second_stage_pages(engine: Engine) -> None:
    guest = Guest()
    guest.first.leaf(GIB, gpa=8 * GIB, level=2)
    guest.show_tables()
    guest.second.leaf(8 * GIB + 5 * 0x1000, gpa=0x77000)
    assert guest.scene.walk(engine, guest.source(), read(GIB + 5 * 0x1000 + 8)).gpa == 0x77008


def test_steps_show_the_second_stage_before_each_first_stage_entry() -> None:
    guest = Guest(levels=4, ss_levels=3)
    found = guest.scene.steps(guest.source(), read(0))
    second = ["ss-pdpe-table", "ss-pde-table", "ss-pte"]
    names = [step.structure for step in found.steps]
    assert names == [*second, "fs-pml4e", *second, "fs-pdpe-table", *second, "fs-pde-table", *second, "fs-pte", *second]
    assert found.steps[0].note == "of the first-stage table of level 4"
    assert found.steps[3].at == guest.first.root_page  # where it really is, not where the guest sees it


# Checks of addresses


def test_a_nested_address_must_be_canonical(engine: Engine) -> None:
    guest = Guest()
    assert guest.scene.walk(engine, guest.source(), read(1 << 47)) == fault(R.NOT_CANONICAL, read(1 << 47))


def test_a_root_table_beyond_the_second_stage_width_is_refused(engine: Engine) -> None:
    guest = Guest(ss_levels=3)
    source = guest.source(fs_table=1 << 39)
    assert guest.scene.walk(engine, source, read(0)) == fault(R.FS_TABLE_BEYOND_WIDTH, read(0))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_table_beyond_the_second_stage_width_is_refused(engine: Engine, level: int) -> None:
    guest = Guest(ss_levels=3)
    guest.first.put(0, level + 1, 1 << 39 | 0x27)
    assert guest.scene.walk(engine, guest.source(), read(0)) == fault(R.FS_TABLE_BEYOND_WIDTH, read(0))


def test_mgaw_limits_the_second_stage_input_too(engine: Engine) -> None:
    guest = Guest(mgaw=40)
    guest.first.put(0, 2, 1 << 41 | 0x27)
    assert guest.scene.walk(engine, guest.source(), read(0)).reason is R.FS_TABLE_BEYOND_WIDTH


def test_a_result_beyond_the_second_stage_width_is_refused(engine: Engine) -> None:
    guest = Guest(ss_levels=3)
    guest.first.leaf(0, gpa=1 << 39)
    assert guest.scene.walk(engine, guest.source(), read(0)) == fault(R.SM_ADDRESS_BEYOND_WIDTH, read(0))


def test_a_guest_address_may_be_larger_than_haw(engine: Engine) -> None:
    guest = Guest(haw=39)
    guest.first.leaf(0, gpa=1 << 45)
    guest.second.leaf(1 << 45, gpa=HOST)
    assert guest.scene.walk(engine, guest.source(), read(8)).gpa == HOST + 8


# First-stage entries


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_first_stage_errors_keep_their_codes(engine: Engine, level: int) -> None:
    guest = Guest()
    at = guest.first.change(0, level, clear=1)
    assert guest.scene.walk(engine, guest.source(), read(0)) == fault(R.FS_NOT_PRESENT, read(0), at, level)


def test_reserved_bits_of_a_first_stage_entry_fault(engine: Engine) -> None:
    guest = Guest()
    at = guest.first.change(0, 4, set=0x80)
    assert guest.scene.walk(engine, guest.source(), read(0)) == fault(R.FS_RESERVED, read(0), at, 4)


@pytest.mark.parametrize("level, reason", [(4, R.FS_ROOT_ACCESS), (3, R.FS_ENTRY_ACCESS), (1, R.FS_ENTRY_ACCESS)])
def test_a_first_stage_table_that_the_second_stage_puts_outside_memory(
    engine: Engine, level: int, reason: FaultReason
) -> None:
    guest = Guest()
    outside = guest.scene.size
    guest.second.leaf(guest.table(level), gpa=outside)
    assert guest.scene.walk(engine, guest.source(), read(0)) == fault(reason, read(0), outside, level)


# Second-stage errors under way to a first-stage table


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "clear, set_bits, reason", [(3, 0, R.SM_SS_NOT_PRESENT), (0, 1 << 62, R.SM_SS_RESERVED)], ids=["absent", "reserved"]
)
def test_a_bad_second_stage_entry_of_a_first_stage_table(
    engine: Engine, level: int, clear: int, set_bits: int, reason: FaultReason
) -> None:
    guest = Guest()
    at = guest.second.change(guest.table(level), 1, clear=clear, set=set_bits)
    assert guest.scene.walk(engine, guest.source(), read(0)) == fault(reason, read(0), at, 1)


@pytest.mark.parametrize("level", [1, 4])
def test_access_errors_of_the_second_stage_keep_their_codes(engine: Engine, level: int) -> None:
    guest = Guest()
    guest.second.put(guest.table(level), 2, guest.scene.size | 3)
    answer = guest.scene.walk(engine, guest.source(), read(0))
    assert (answer.reason, answer.level) == (R.SM_SS_ENTRY_ACCESS, 1)
    root = guest.scene.walk(engine, guest.source(ss_table=guest.scene.size), read(0))
    assert (root.reason, root.level) == (R.SM_SS_ROOT_ACCESS, 4)


@pytest.mark.parametrize(
    "level, reason", [(4, R.FS_ROOT_READ_DENIED), (3, R.FS_TABLE_READ_DENIED), (1, R.FS_TABLE_READ_DENIED)]
)
@pytest.mark.parametrize("make", [read, write])
def test_a_first_stage_table_without_second_stage_read_permission(
    engine: Engine, level: int, reason: FaultReason, make: Any
) -> None:
    guest = Guest()
    at = guest.second.change(guest.table(level), 1, clear=1)
    assert guest.scene.walk(engine, guest.source(), make(0)) == fault(reason, make(0), at, 1)


def test_read_and_write_withheld_by_different_tables_leave_a_first_stage_table_not_present(engine: Engine) -> None:
    guest = Guest()
    guest.second.leaf(GIB * 64, gpa=0x3000)  # another 1 GiB region of the second stage, for the root table
    source = guest.source(fs_table=GIB * 64)
    at = guest.second.change(GIB * 64, 1, clear=1)
    guest.second.change(GIB * 64, 2, clear=2)
    assert guest.scene.walk(engine, source, read(0)) == fault(R.SM_SS_NOT_PRESENT, read(0), at, 1)


# Permissions of both stages


@pytest.mark.parametrize(
    "permissions, make, reason",
    [
        ("r", write, R.SM_WRITE_DENIED),
        ("r", atomic, R.SM_WRITE_DENIED),
        ("w", read, R.SM_READ_DENIED),
        ("w", execute, R.SM_READ_DENIED),
        ("", read, R.SM_SS_NOT_PRESENT),
        ("r", read, None),
        ("w", write, None),
    ],
)
def test_the_second_stage_judges_the_result_by_the_requests_own_access(
    engine: Engine, permissions: str, make: Any, reason: FaultReason | None
) -> None:
    guest = Guest()
    at = guest.second.leaf(PAGE, gpa=HOST, permissions=permissions)
    answer = guest.scene.walk(engine, guest.source(), make(0))
    if reason is None:
        assert answer == Translation(HOST, 12, granted("rxu" if permissions == "r" else "wu"))
    else:
        assert answer == fault(reason, make(0), at, 1)


def test_rights_are_those_that_both_stages_grant(engine: Engine) -> None:
    guest = Guest()
    guest.first.leaf(0, gpa=PAGE, permissions="r")
    assert guest.scene.walk(engine, guest.source(), read(0)).permissions == granted("rxu")


def test_the_first_stage_is_judged_before_the_result_goes_through_the_second(engine: Engine) -> None:
    guest = Guest()
    at = guest.first.leaf(0, gpa=PAGE, permissions="r")
    guest.second.leaf(PAGE, gpa=HOST, permissions="")
    assert guest.scene.walk(engine, guest.source(), write(0)) == fault(R.SM_WRITE_DENIED, write(0), at, 1)


def test_execute_with_ssee_needs_x_of_the_result(engine: Engine) -> None:
    guest = Guest()
    at = guest.second.entry(PAGE, 1)
    source = guest.source(ss_execute=True)
    assert guest.scene.walk(engine, source, execute(0)) == fault(R.EXECUTE_DENIED, execute(0), at, 1)
    for level in (1, 2, 3, 4):
        guest.second.change(PAGE, level, set=4)
    assert guest.scene.walk(engine, source, execute(0)) == Translation(HOST, 12, granted("rwxu"))


def test_the_interrupt_range_is_looked_for_in_the_result_only(engine: Engine) -> None:
    guest = Guest()
    guest.first.leaf(0, gpa=0xFEE0_0000)
    guest.second.leaf(0xFEE0_0000, gpa=HOST)
    assert guest.scene.walk(engine, guest.source(), read(0)).gpa == HOST
    at = guest.second.leaf(0xFEE0_0000, gpa=0xFEE0_0000)
    expected = fault(R.SM_OUTPUT_IN_INTERRUPT_RANGE, read(0), at, 1)
    assert guest.scene.walk(engine, guest.source(), read(0)) == expected


def test_the_page_that_must_not_meet_the_interrupt_range_is_the_smaller_one(engine: Engine) -> None:
    guest = Guest()
    guest.second.leaf(3 * GIB, gpa=3 * GIB, level=3)
    guest.first.leaf(0, gpa=3 * GIB)
    assert guest.scene.walk(engine, guest.source(), read(8)) == Translation(3 * GIB + 8, 12, granted("rwxu"))


# Accessed and dirty bits


def test_first_stage_bits_are_written_where_the_table_really_is(engine: Engine) -> None:
    guest = Guest()
    at = guest.first.change(0, 1, clear=A | D)
    guest.scene.walk(engine, guest.source(), write(0))
    assert guest.scene.qword(at) & (A | D) == A | D


def test_a_first_stage_bit_set_makes_the_second_stage_page_dirty(engine: Engine) -> None:
    guest = Guest()
    guest.first.change(0, 2, clear=A)
    guest.scene.walk(engine, guest.source(ss_accessed_dirty=True), read(0))
    dirty = {level: guest.scene.qword(guest.host_entry(level)) & (SS_A | SS_D) for level in (4, 3, 2, 1)}
    assert dirty == {4: SS_A, 3: SS_A, 2: SS_A | SS_D, 1: SS_A}
    assert guest.second.raw(PAGE) & (SS_A | SS_D) == SS_A


def test_a_write_makes_the_leafs_table_and_the_page_dirty(engine: Engine) -> None:
    guest = Guest()
    guest.first.change(0, 1, clear=D)
    guest.scene.walk(engine, guest.source(ss_accessed_dirty=True), write(0))
    assert guest.scene.qword(guest.host_entry(1)) & SS_D
    assert guest.second.raw(PAGE) & (SS_A | SS_D) == SS_A | SS_D


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("bit, changed", [(A, {}), (EA, {"extended_accessed": True})], ids=["A", "EA"])
def test_a_bit_to_set_in_a_table_that_the_second_stage_does_not_let_write(
    engine: Engine, level: int, bit: int, changed: dict[str, bool]
) -> None:
    guest = Guest()
    for one in (1, 2, 3, 4):
        guest.first.change(0, one, set=A | EA)
    guest.first.change(0, level, clear=bit)
    at = guest.second.change(guest.table(level), 1, clear=2)
    answer = guest.scene.walk(engine, guest.source(**changed), read(0))
    assert answer == fault(R.FS_UPDATE_DENIED, read(0), at, 1)


def test_a_dirty_bit_to_set_in_a_table_that_the_second_stage_does_not_let_write(engine: Engine) -> None:
    guest = Guest()
    guest.first.change(0, 1, clear=D)
    at = guest.second.change(guest.table(1), 1, clear=2)
    assert guest.scene.walk(engine, guest.source(), read(0)).gpa == HOST
    assert guest.scene.walk(engine, guest.source(), write(0)) == fault(R.FS_UPDATE_DENIED, write(0), at, 1)


def test_tables_with_bits_preset_may_be_read_only(engine: Engine) -> None:
    guest = Guest()
    for level in (1, 2, 3, 4):
        guest.second.change(guest.table(level), 1, clear=2)
    assert guest.scene.walk(engine, guest.source(), write(0)).gpa == HOST


def test_a_bit_to_set_by_a_walk_that_does_not_snoop_faults(engine: Engine) -> None:
    guest = Guest()
    at = guest.first.change(0, 3, clear=A)
    source = guest.source(walk_snoop=False)
    assert guest.scene.walk(engine, source, read(0)) == fault(R.FS_UPDATE_NOT_SNOOPED, read(0), at, 3)


def test_missing_write_permission_is_told_before_missing_snoop(engine: Engine) -> None:
    guest = Guest()
    guest.first.change(0, 3, clear=A)
    guest.second.change(guest.table(3), 1, clear=2)
    answer = guest.scene.walk(engine, guest.source(walk_snoop=False), read(0))
    assert answer.reason is R.FS_UPDATE_DENIED


def test_second_stage_bits_need_a_snooping_walk_too(engine: Engine) -> None:
    guest = Guest()
    source = guest.source(walk_snoop=False, ss_accessed_dirty=True)
    expected = fault(R.SS_UPDATE_NOT_SNOOPED, read(0), guest.second.root_page, 4)
    assert guest.scene.walk(engine, source, read(0)) == expected


def test_a_fault_of_a_nested_walk_reports_the_address_the_device_sent(engine: Engine) -> None:
    guest = Guest()
    request = read(5 * MIB)
    assert guest.scene.walk(engine, guest.source(), request).request is request


def test_fpd_silences_faults_of_both_stages(engine: Engine) -> None:
    guest = Guest()
    source = guest.source(fault_processing_disabled=True)
    assert not guest.scene.walk(engine, source, read(GIB)).recorded
    guest.second.leaf(PAGE, gpa=HOST, permissions="")
    assert not guest.scene.walk(engine, source, read(0)).recorded


class Refusing:
    """A memory that refuses to store one qword."""

    def __init__(self, scene: Scene, refused: int) -> None:
        self.memory, self.refused = scene.memory, refused
        self.load = scene.memory.load

    def store(self, address: int, value: int) -> bool:
        """False for the one."""
        return address != self.refused and self.memory.store(address, value)


def test_a_dirty_bit_of_the_second_stage_that_memory_refuses_is_its_fault() -> None:
    # Only the Python engine can be given such a memory.
    guest = Guest()
    source = guest.source(ss_accessed_dirty=True)
    guest.scene.walk(load_engine("python"), source, read(0))  # every A is set now
    guest.first.change(0, 2, clear=A)
    at = guest.host_entry(2)
    answer = walk(Refusing(guest.scene, at), source, read(0), guest.scene.capabilities, update=True).outcome
    assert answer == fault(R.SS_UPDATE_FAILED, read(0), at, 1)
