"""Protected memory regions: what they block, when, and that nothing is logged."""

from __future__ import annotations

import dataclasses

import pytest

from emulator.bus import Bus
from emulator.engine import Engine
from emulator.profile import load_profile
from pagetables.fault import Fault
from pagetables.layouts.registers import Version
from tests.units import FRCD, FSTS, NIC, SRTP, Bench

PMEN, PLMBASE, PLMLIMIT, PHMBASE, PHMLIMIT = 0x64, 0x68, 0x6C, 0x70, 0x78
ENABLE = 1 << 31
MIB = 1 << 20
LOW, HIGH = 6 * MIB, 10 * MIB  # one granule each; the low one ends at 8 MiB


@pytest.fixture
def bench(engine: Engine) -> Bench:
    bench = Bench(engine)
    protect(bench)
    return bench


def protect(bench: Bench) -> None:
    bench.write(PLMBASE, LOW)
    bench.write(PLMLIMIT, LOW)  # its low bits count as ones
    bench.write(PHMBASE, HIGH, 8)
    bench.write(PHMLIMIT, HIGH, 8)
    bench.write(PMEN, ENABLE)


def translating(bench: Bench, gpa: int, level: int = 1) -> None:
    """The NIC's address 0 leads to `gpa`."""
    root = bench.table()
    bench.map(root, 0, gpa, level=level)
    bench.legacy((NIC, root, 5))


@pytest.mark.parametrize("start", [LOW, HIGH])
def test_untranslated_requests_to_a_region_are_blocked_up_to_its_last_byte(bench: Bench, start: int) -> None:
    assert bench.go(start - 1) == start - 1
    assert bench.go(start) < 0
    assert bench.go(start + 2 * MIB - 1, "w") < 0
    assert bench.go(start + 2 * MIB) == start + 2 * MIB


def test_nothing_is_blocked_before_protection_is_enabled_or_after_it_is_disabled(bench: Bench) -> None:
    assert bench.read(PMEN) == ENABLE | 1
    bench.write(PMEN, 0)
    assert bench.read(PMEN) == 0
    assert bench.go(LOW) == LOW


def test_a_bound_that_moves_while_protection_is_on_counts_at_once(bench: Bench) -> None:
    bench.write(PLMBASE, 2 * MIB)
    assert bench.go(2 * MIB) < 0
    bench.write(PLMLIMIT, 2 * MIB)
    assert bench.go(4 * MIB) == 4 * MIB


def test_a_base_above_its_limit_disables_the_region(bench: Bench) -> None:
    bench.write(PHMBASE, HIGH + 2 * MIB, 8)
    assert bench.go(HIGH) == HIGH
    assert bench.go(LOW) < 0


def test_a_blocked_request_leaves_no_record(bench: Bench) -> None:
    answer = bench.unit.translate(bench.request(LOW, "w"))
    assert isinstance(answer, Fault)
    assert not answer.recorded
    assert (bench.read(FSTS), bench.record()) == (0, (0, 0))
    assert bench.read(FRCD + 8, 8) == 0


def test_translated_requests_are_blocked_by_where_they_end(bench: Bench) -> None:
    translating(bench, gpa=LOW + 0x3000)
    assert bench.go(0) < 0
    assert bench.go(0) < 0  # from the IOTLB as well
    assert isinstance(bench.unit.translate_many([bench.request(0), bench.request(8)])[1], Fault)
    assert bench.read(FSTS) == 0


def test_an_older_unit_blocks_only_what_is_not_translated(engine: Engine) -> None:
    old = dataclasses.replace(load_profile("spec"), version=Version(0x10))
    bench = Bench(engine, old)
    protect(bench)
    assert bench.go(LOW) < 0
    translating(bench, gpa=LOW)
    assert bench.go(0) == LOW
    bench.legacy_context(NIC, 0, 5, levels=5, low=2 << 2)  # pass-through
    bench.command(SRTP)
    assert bench.go(LOW) < 0


def test_a_device_that_writes_across_the_border_of_a_region_stops_at_it(bench: Bench) -> None:
    port = Bus(bench.unit).port(NIC)
    assert isinstance(port.write(LOW - 4, b"abcdefgh"), Fault)
    assert bench.memory.read(LOW - 4, 8) == b"abcd\0\0\0\0"
    translating(bench, gpa=0, level=3)
    assert isinstance(port.write(HIGH - 4, b"abcdefgh"), Fault)
    assert bench.memory.read(HIGH - 4, 8) == b"abcd\0\0\0\0"


def test_the_unit_itself_reads_tables_in_a_region(bench: Bench) -> None:
    translating(bench, gpa=0x5000)
    bench.write(PLMBASE, 0)
    bench.write(PLMLIMIT, 0)
    bench.write(PHMBASE, 2 * MIB, 8)
    assert bench.go(0) < 0
    bench.write(PLMBASE, 4 * MIB)  # the tables lie from 2 MiB on
    assert bench.go(0) == 0x5000


def test_a_reset_ends_protection(bench: Bench) -> None:
    bench.unit.reset()
    assert (bench.read(PMEN), bench.go(LOW)) == (0, LOW)
