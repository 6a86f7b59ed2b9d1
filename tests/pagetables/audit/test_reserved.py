"""Whose reserved memory it is: which unit serves a device, as the DMAR table says."""

from __future__ import annotations

from dataclasses import replace

from pagetables.audit.reserved import memory_of, reserved_memory
from pagetables.layouts.dmar import DeviceScope, DmarTable, Drhd, Rmrr
from tests.pagetables.audit.machines import BASE, DISK, GPU, NIC, Machine, rmrr

ONE = rmrr(0x1000, 0x1000, GPU)
TWO = rmrr(0x8000, 0x2000, NIC, DISK)


def scope(sid: int) -> DeviceScope:
    return DeviceScope(1, 0, ((sid >> 3, sid & 7),))


def table(*structures: Drhd | Rmrr) -> DmarTable:
    return DmarTable(46, structures)


def test_a_unit_serves_what_it_names_and_the_rest_if_it_says_so() -> None:
    found = table(Drhd(BASE, scopes=(scope(GPU),)), Drhd(BASE + 0x1000, flags=1), ONE, TWO)
    assert reserved_memory(found, [BASE, BASE + 0x1000]) == {(0, GPU): [ONE], (1, NIC): [TWO], (1, DISK): [TWO]}


def test_a_unit_that_names_nothing_serves_nothing() -> None:
    assert reserved_memory(table(Drhd(BASE, scopes=(scope(GPU),)), TWO), [BASE]) == {}


def test_another_segment_is_another_unit() -> None:
    assert reserved_memory(table(Drhd(BASE, flags=1), replace(ONE, segment=1)), [BASE]) == {}
    named = table(Drhd(BASE, flags=1), Drhd(BASE + 0x1000, segment=1, scopes=(scope(GPU),)), ONE)
    assert reserved_memory(named, [BASE]) == {(0, GPU): [ONE]}


def test_a_unit_without_a_base_is_the_only_one() -> None:
    assert reserved_memory(table(Drhd(BASE, flags=1), ONE), [None]) == {(0, GPU): [ONE]}
    assert reserved_memory(table(Drhd(BASE), Drhd(BASE + 0x1000, flags=1), ONE), [None]) == {}


def test_a_unit_that_the_table_does_not_know_serves_nothing() -> None:
    assert reserved_memory(table(Drhd(BASE, flags=1), ONE), [BASE + 0x1000]) == {}
    assert reserved_memory(None, [BASE]) == {}


def test_what_cannot_be_placed_or_reserves_nothing_is_left_out() -> None:
    behind = Rmrr(0x1000, 0x1FFF, scopes=(DeviceScope(1, 0, ((0x1C, 0), (0, 0))),))
    nowhere = Rmrr(0x1000, 0x1FFF, scopes=(DeviceScope(1, 0, ((0x20, 9),)),))
    empty = replace(ONE, limit=0xFFF)
    endless = replace(ONE, limit=(1 << 64) - 1)
    assert reserved_memory(table(Drhd(BASE, flags=1), behind, nowhere, empty, endless), [BASE]) == {}


def test_reserved_memory_is_added_up() -> None:
    assert list(memory_of([ONE, TWO, rmrr(0x2000, 0x1000)])) == [(0x1000, 0x2000), (0x8000, 0x2000)]


def test_an_odd_table_is_no_obstacle_to_an_audit() -> None:
    machine = Machine()
    machine.attach(NIC, machine.tables(), 1)
    machine.firmware(
        replace(ONE, limit=(1 << 64) - 1), units=(Drhd(BASE, flags=1, scopes=(DeviceScope(9, 255, ((255, 255),)),)),)
    )
    assert machine.audit().worst is None
