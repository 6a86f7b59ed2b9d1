"""Performance monitoring: enhanced commands, what is counted, filters, overflow and its message."""

from __future__ import annotations

import pytest

from emulator.engine import Engine
from emulator.unit.performance import Event
from pagetables.layouts.registers.performance import PerformanceCounter
from pagetables.request import AddressType
from tests.units import DISK, NIC, TE, Bench

STATUS, CONTROL, DATA, ADDRESS = 0x324, 0x328, 0x32C, 0x330
ECMD, ECRSP, FROZEN, OVERFLOW = 0x400, 0x410, 0x480, 0x488
CONFIG, REQUESTER, DOMAIN, PASID, COUNTER = 0x500, 0x508, 0x50C, 0x510, 0x800
ENABLE, DISABLE, FREEZE, UNFREEZE = 0xF0, 0xF1, 0xF4, 0xF5
FILTER = 1 << 31


@pytest.fixture
def bench(engine: Engine) -> Bench:
    """The NIC and the disk translate 1000h."""
    bench = Bench(engine)
    root = bench.table()
    bench.map(root, 0x1000, 0x5000)
    bench.legacy((NIC, root, 5), (DISK, root, 6))
    return bench


def command(bench: Bench, number: int, operand: int = 0) -> int:
    bench.write(ECMD, number | operand << 16, 8)
    return bench.read(ECRSP, 8)


def count(bench: Bench, group: int, events: int, counter: int = 0, interrupt: bool = False) -> None:
    bench.write(CONFIG + 0x100 * counter, group << 8 | events << 32 | interrupt << 1, 8)
    assert command(bench, ENABLE, counter) == 0


@pytest.mark.parametrize("number, operand", [(0, 0), (0xF2, 0), (0xFF, 0), (ENABLE, 2), (DISABLE, 1 << 40)])
def test_a_command_that_is_not_supported_answers_with_a_status(bench: Bench, number: int, operand: int) -> None:
    answer = command(bench, number, operand)
    assert answer & 1 == 0  # not in progress
    assert answer >> 1 & 0x7F != 0
    assert command(bench, UNFREEZE) == 0


def test_a_command_starts_with_the_half_that_holds_its_number(bench: Bench) -> None:
    bench.write(ECMD + 4, 0)
    assert bench.read(ECRSP) == 0
    bench.write(ECMD, 0xAB)
    assert bench.read(ECRSP) != 0


def test_only_enabled_counters_count_and_none_while_frozen(bench: Bench) -> None:
    bench.write(CONFIG, 2 << 32, 8)
    bench.go(0x1000)
    assert bench.read(COUNTER, 8) == 0
    count(bench, 0, 2)
    bench.go(0x1000)
    bench.go(0x9000)
    assert (bench.read(COUNTER, 8), bench.read(COUNTER + 0x400, 8)) == (2, 0)
    command(bench, FREEZE)
    assert bench.read(FROZEN, 8) == 3
    bench.go(0x1000)
    assert bench.read(COUNTER, 8) == 2
    command(bench, UNFREEZE)
    assert bench.read(FROZEN, 8) == 0
    bench.go(0x1000)
    assert bench.read(COUNTER, 8) == 3
    command(bench, DISABLE)
    bench.go(0x1000)
    assert bench.read(COUNTER, 8) == 3


@pytest.mark.parametrize(
    "group, events, expected",
    [(2, 1, 4), (2, 2, 3), (2, 3, 7), (2, 0xC, 0), (3, 1, 4), (3, 2, 2), (1, 0xF, 0), (4, 7, 0)],
)
def test_lookups_and_hits_are_counted(bench: Bench, group: int, events: int, expected: int) -> None:
    count(bench, group, events)
    bench.go(0x1000)  # misses both caches
    bench.go(0x1000)
    bench.unit.translate_many([bench.request(0x1000), bench.request(0x9000)])  # the second is not mapped
    assert bench.read(COUNTER, 8) == expected


def test_scalable_mode_looks_for_a_pasid_entry_each_time(engine: Engine) -> None:
    bench = Bench(engine)
    root = bench.table()
    bench.map(root, 0x1000, 0x5000)
    bench.scalable(NIC)
    bench.pasid_entry(0, 2, 5, root)
    count(bench, 2, 4)
    count(bench, 2, 8, counter=1)
    for _ in range(3):
        assert bench.go(0x1000) == 0x5000
    assert (bench.read(COUNTER, 8), bench.read(COUNTER + 0x400, 8)) == (3, 2)


@pytest.mark.parametrize(
    "register, value, expected",
    [(REQUESTER, NIC, 2), (REQUESTER, 0x77, 0), (DOMAIN, 6, 1), (PASID, 0, 0)],
)
def test_filters_let_only_their_requests_count(bench: Bench, register: int, value: int, expected: int) -> None:
    count(bench, 0, 2)
    bench.write(register, FILTER | value)
    for device in (NIC, NIC, DISK):
        bench.go(0x1000, sid=device)
    assert bench.read(COUNTER, 8) == expected
    bench.write(register, value)  # not enabled: everything counts
    bench.go(0x1000, sid=DISK)
    assert bench.read(COUNTER, 8) == expected + 1


def test_requests_count_while_translation_is_off(bench: Bench) -> None:
    bench.command(TE, on=False)
    count(bench, 0, 2)
    count(bench, 2, 1, counter=1)
    bench.go(0x1000)
    assert (bench.read(COUNTER, 8), bench.read(COUNTER + 0x400, 8)) == (1, 0)


@pytest.mark.parametrize("wanted", [False, True])
def test_an_overflow_wraps_sets_its_bit_and_interrupts_if_asked(bench: Bench, wanted: bool) -> None:
    bench.write(DATA, 0x41)
    bench.write(ADDRESS, 0xFEE0_1000)
    bench.write(CONTROL, 0)
    count(bench, 0, 2, counter=1, interrupt=wanted)
    bench.unit.perfcntr[1] = PerformanceCounter((1 << 48) - 1)
    bench.go(0x1000)
    bench.go(0x1000)
    assert bench.read(COUNTER + 0x400, 8) == 1
    assert bench.read(OVERFLOW, 8) == 2
    assert bench.read(STATUS) == int(wanted)
    assert [(m.address, m.data) for m in bench.unit.messages] == [(0xFEE0_1000, 0x41)] * wanted
    bench.write(OVERFLOW, 2, 8)
    assert bench.read(OVERFLOW, 8) == 0


def test_a_masked_message_waits_and_goes_when_unmasked_or_never_if_cleared_first(bench: Bench) -> None:
    count(bench, 0, 2, interrupt=True)
    for sent in (1, 0):
        bench.unit.messages.clear()
        bench.write(CONTROL, 1 << 31)
        bench.unit.perfcntr[0] = PerformanceCounter((1 << 48) - 1)
        bench.go(0x1000)
        assert bench.read(CONTROL) == 3 << 30
        if not sent:
            bench.write(STATUS, 1)
        bench.write(CONTROL, 0)
        assert len(bench.unit.messages) == sent
        bench.write(STATUS, 1)


def test_a_reset_stops_all_counters(bench: Bench) -> None:
    count(bench, 0, 2)
    bench.unit.reset()
    bench.go(0x1000)
    assert bench.read(COUNTER, 8) == 0
    assert not bench.unit.monitor.counting


def test_every_event_that_is_advertised_can_happen() -> None:
    groups = [0] * 5
    for event in Event:
        groups[event >> 32] |= event & 0xFFFF_FFFF
    assert groups == [2, 0x40, 0xF, 3, 7]


def test_a_translated_request_looks_for_a_context_entry_and_nothing_else(engine: Engine) -> None:
    bench = Bench(engine)
    bench.scalable(NIC)
    bench.scalable_context(NIC, 4)
    count(bench, 2, 0b1111)  # context and PASID lookups and hits
    count(bench, 3, 0b11, counter=1)
    assert bench.go(0x5000, address_type=AddressType.TRANSLATED) == 0x5000
    assert (bench.read(COUNTER, 8), bench.read(COUNTER + 0x400, 8)) == (1, 0)
    assert bench.go(0x5000, address_type=AddressType.TRANSLATED) == 0x5000
    assert (bench.read(COUNTER, 8), bench.read(COUNTER + 0x400, 8)) == (3, 0)
