"""A unit that takes virtual time: what software and devices see before an invalidation is done."""

from __future__ import annotations

import struct

import pytest

from emulator.engine import Engine
from emulator.machine import Machine
from emulator.mapping.driver import Mode
from emulator.profile import load_profile, parse_profile
from emulator.settings import Settings
from pagetables.address import Gpa, Iova
from pagetables.errors import InputError
from pagetables.fault import Fault
from pagetables.layouts import IotlbInvalidate
from pagetables.request import Permissions, Request
from tests.ats import AtsBench, device_tlb
from tests.profiles import changed
from tests.units import (
    CCMD,
    FSTS,
    ICS,
    IECTL,
    IOTLB,
    IQERCD,
    IQH,
    IQT,
    IVA,
    NIC,
    QIE,
    QUEUE,
    STATUS,
    Bench,
    iotlb_domain,
    iotlb_global,
    wait_flags,
    wait_status,
)

SPEC = load_profile("spec")
ICC = 1 << 63
TIME = 100
EVERYTHING = IotlbInvalidate.of(type_lo=2, g=1)


@pytest.fixture
def bench(engine: Engine) -> Bench:
    """NIC in domain 5 with a page at 1000h that is cached and gone; a running queue that takes 100 ns a descriptor."""
    bench = Bench(engine)
    table = bench.table()
    leaf = bench.map(table, 0x1000, 0x5000)
    bench.legacy((NIC, table, 5))
    bench.unit.latency = TIME
    assert bench.go(0x1000) == 0x5000
    bench.put(leaf, 0)
    return bench


def status(bench: Bench) -> int:
    return struct.unpack("<I", bench.memory.read(STATUS, 4))[0]


def test_the_head_advances_one_by_one(bench: Bench) -> None:
    bench.start_queue()
    bench.submit(iotlb_domain(4), iotlb_domain(5), wait_status(STATUS, 1))
    seen = []
    for _ in range(8):
        seen.append((bench.read(IQH, 8) // 16, status(bench)))
        bench.unit.clock.advance(TIME // 2)
    assert seen == [(0, 0), (0, 0), (1, 0), (1, 0), (2, 0), (2, 0), (3, 1), (3, 1)]
    assert bench.unit.clock.next_due is None


def test_a_device_uses_the_old_translation_until_the_invalidation_is_done(bench: Bench) -> None:
    bench.start_queue()
    bench.submit(iotlb_domain(5), wait_status(STATUS, 1))
    bench.unit.clock.advance(TIME - 1)
    assert bench.go(0x1000) == 0x5000
    bench.unit.clock.advance(1)
    assert (bench.go(0x1000), status(bench)) == (-0x06, 0)
    bench.unit.clock.advance(TIME)
    assert status(bench) == 1


def test_a_descriptor_is_what_it_was_when_it_was_fetched(bench: Bench) -> None:
    bench.start_queue()
    bench.submit(wait_status(STATUS, 1), wait_status(STATUS + 4, 1))
    bench.memory.write(QUEUE, wait_status(STATUS, 7))
    bench.memory.write(QUEUE + 16, wait_status(STATUS + 4, 7))
    bench.unit.clock.advance(2 * TIME)
    assert bench.qword(STATUS) == 7 << 32 | 1


def test_the_tail_may_move_while_a_descriptor_is_done(bench: Bench) -> None:
    bench.start_queue()
    bench.submit(wait_status(STATUS, 1))
    bench.unit.clock.advance(TIME // 2)
    bench.submit(wait_status(STATUS, 2))
    bench.unit.clock.advance(TIME)
    assert status(bench) == 1
    bench.unit.clock.advance(TIME)
    assert status(bench) == 2


def test_the_event_of_a_wait_comes_with_its_end(bench: Bench) -> None:
    bench.start_queue()
    bench.submit(wait_flags(0x10))
    assert bench.read(ICS) == 0
    bench.unit.clock.advance(TIME)
    assert bench.read(ICS) == 1


def test_a_bad_descriptor_stops_a_slow_queue_and_it_goes_on(bench: Bench) -> None:
    bench.start_queue()
    bench.submit(iotlb_global(), bytes(16), wait_status(STATUS, 1))
    bench.unit.clock.advance(TIME)
    assert (bench.read(FSTS), bench.read(IQERCD, 8), bench.read(IQH, 8)) == (0x10, 3, 16)
    bench.memory.write(QUEUE + 16, wait_flags(0x40))
    bench.write(FSTS, 0x10)
    bench.unit.clock.advance(2 * TIME)
    assert (status(bench), bench.read(IQH, 8)) == (1, 48)


def test_switching_the_queue_off_finishes_what_was_fetched(bench: Bench) -> None:
    bench.start_queue()
    bench.submit(iotlb_domain(5), wait_status(STATUS, 1))
    bench.command(QIE, on=False)
    assert (bench.go(0x1000), status(bench), bench.read(IQH, 8)) == (-0x06, 0, 0)
    bench.unit.clock.advance(10 * TIME)
    assert (status(bench), bench.read(IQH, 8)) == (0, 0)


def test_what_switching_off_finished_is_not_done_again_in_the_next_queue(bench: Bench) -> None:
    bench.start_queue()
    bench.submit(wait_status(STATUS, 1))
    bench.unit.clock.advance(TIME // 2)
    bench.command(QIE, on=False)
    assert (status(bench), bench.unit.clock.next_due) == (1, None)
    bench.memory.write(STATUS, bytes(4))
    bench.start_queue()
    bench.submit(wait_status(STATUS + 4, 9))
    bench.unit.clock.advance(TIME - 1)  # past the end of what was under way before
    assert (bench.qword(STATUS), bench.read(IQH, 8)) == (0, 0)
    bench.unit.clock.advance(1)
    assert (bench.qword(STATUS), bench.read(IQH, 8)) == (9 << 32, 16)


def test_a_handler_that_moves_the_tail_starts_nothing_in_a_queue_that_is_being_switched_off(bench: Bench) -> None:
    bench.unit.message_sink = lambda message: bench.submit(wait_status(STATUS, 7))
    bench.write(IECTL, 0)
    bench.start_queue()
    bench.submit(wait_flags(0x10))
    bench.command(QIE, on=False)
    bench.unit.clock.advance(10 * TIME)
    assert (bench.read(ICS), status(bench), bench.read(IQH, 8)) == (1, 0, 0)


def test_a_reset_forgets_what_was_under_way(bench: Bench) -> None:
    bench.write(CCMD, ICC | 1 << 61, 8)
    bench.start_queue()
    bench.submit(wait_status(STATUS, 1))
    bench.unit.reset()
    bench.unit.clock.advance(10 * TIME)
    assert (status(bench), bench.read(CCMD, 8), bench.read(IQT, 8)) == (0, 0, 0)


def test_a_wait_after_a_slow_device_finishes_when_the_device_answers(engine: Engine) -> None:
    bench = AtsBench(engine)
    bench.ats_legacy(bench.table())
    bench.unit.latency, bench.unit.timing.device_answer = TIME, 10 * TIME
    bench.device.answers = False
    bench.start_queue()
    bench.submit(device_tlb(NIC, 0x1000), wait_status(STATUS, 1))
    bench.unit.clock.advance(5 * TIME)
    assert (bench.read(IQH, 8), status(bench)) == (32, 0)
    bench.unit.invalidation_completed(NIC)
    assert (status(bench), bench.read(FSTS)) == (1, 0)


# -- registers


def test_a_context_command_stays_set_until_it_is_done(bench: Bench) -> None:
    command = ICC | 1 << 61  # global
    bench.write(CCMD, command, 8)
    assert bench.read(CCMD, 8) == command
    bench.write(CCMD, ICC | 2 << 61 | 5, 8)  # read-only by now
    bench.write(CCMD, 0xFFFF)
    assert bench.read(CCMD, 8) == command
    bench.unit.clock.advance(TIME)
    assert bench.read(CCMD, 8) == 1 << 61 | 1 << 59
    bench.write(CCMD, 5)
    assert bench.read(CCMD, 8) == 1 << 61 | 1 << 59 | 5


def test_an_iotlb_command_stays_set_until_it_is_done(bench: Bench) -> None:
    command = ICC | 3 << 60 | 5 << 32
    bench.write(IVA, 0x1000, 8)
    bench.write(IOTLB, command, 8)
    assert (bench.read(IOTLB, 8), bench.go(0x1000)) == (command, 0x5000)
    bench.write(IOTLB, 0, 8)
    assert bench.read(IOTLB, 8) == command
    bench.unit.clock.advance(TIME)
    assert (bench.read(IOTLB, 8), bench.go(0x1000)) == (3 << 60 | 3 << 57 | 5 << 32, -0x06)


def test_an_iotlb_command_is_for_the_page_that_iva_named_when_it_was_given(bench: Bench) -> None:
    bench.write(IVA, 0x1000, 8)
    bench.write(IOTLB, ICC | 3 << 60 | 5 << 32, 8)
    bench.write(IVA, 0x2000, 8)
    bench.unit.clock.advance(TIME)
    assert bench.go(0x1000) == -0x06


def test_both_commands_run_side_by_side(bench: Bench) -> None:
    bench.write(CCMD, ICC | 1 << 61, 8)
    bench.unit.clock.advance(TIME // 2)
    bench.write(IOTLB, ICC | 1 << 60, 8)
    bench.unit.clock.advance(TIME // 2)
    assert (bench.read(CCMD, 8) >> 63, bench.read(IOTLB, 8) >> 63) == (0, 1)
    bench.unit.clock.advance(TIME // 2)
    assert bench.read(IOTLB, 8) >> 63 == 0


# -- where it is set


def test_without_latency_everything_is_done_when_the_write_returns(engine: Engine) -> None:
    bench = Bench(engine)
    assert bench.unit.latency == 0
    bench.start_queue()
    bench.submit(iotlb_global(), wait_status(STATUS, 1))
    assert (status(bench), bench.unit.clock.next_due) == (1, None)


def test_native_code_gets_a_queue_that_is_instant_and_no_other(engine: Engine) -> None:
    bench = Bench(engine)
    assert bench.unit.queue_state is None
    bench.start_queue()
    assert bench.unit.queue_state is not None
    bench.unit.latency = 1
    assert bench.unit.queue_state is None


def test_a_profile_may_have_a_latency(engine: Engine) -> None:
    bench = Bench(engine, changed(SPEC, latency=TIME))
    bench.start_queue()
    bench.submit(wait_status(STATUS, 1))
    assert status(bench) == 0
    bench.unit.clock.advance(TIME)
    assert status(bench) == 1


@pytest.mark.parametrize("value", ["-1", "1_000_000_001", "fast"])
def test_a_latency_that_is_no_time_is_refused(value: str) -> None:
    text = "name: x\nexplains: x\nsource: x\nversion: 0x10\ncap: 0x206\necap: 0\nhaw: 39\n"
    assert parse_profile(f"{text}latency: 5\n", "x").latency == 5
    with pytest.raises(InputError, match="latency"):
        parse_profile(f"{text}latency: {value}\n", "x")


@pytest.mark.parametrize("mode", list(Mode))
def test_the_driver_waits_for_a_slow_unit_in_virtual_time(engine: Engine, mode: Mode) -> None:
    machine = Machine(Settings(engine=engine.name, mode=mode, latency=TIME))
    before = machine.clock.now
    machine.driver.queue.submit([EVERYTHING])
    assert machine.clock.now == before + 2 * TIME
    fast = Machine(Settings(engine=engine.name, mode=mode))
    fast.driver.queue.submit([EVERYTHING])
    assert (fast.clock.now, fast.unit.latency) == (0, 0)


def test_an_unmap_takes_the_time_of_its_invalidation_and_a_wait(engine: Engine) -> None:
    machine = Machine(Settings.of({"engine": engine.name, "latency": str(TIME)}), ram=((0, 1 << 30),))
    layer = machine.layer
    domain = layer.create_domain()
    layer.attach(domain, NIC)
    layer.map(domain, Iova(0x1000), Gpa(0x5000), 0x1000, Permissions.R | Permissions.W)
    before = machine.clock.now
    layer.unmap(domain, Iova(0x1000), 0x1000)
    assert machine.clock.now == before + 2 * TIME
    assert isinstance(machine.unit.translate(Request(NIC, Iova(0x1000))), Fault)
