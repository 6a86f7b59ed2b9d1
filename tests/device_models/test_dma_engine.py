"""The DMA engine: descriptors, records, interrupts, registers, timing; and PASIDs that reach the unit."""

from __future__ import annotations

import random
import struct

import pytest

from device_models import dma_engine
from device_models.dma_engine_words import REGISTERS, Descriptor
from device_models.options import OptionError
from emulator.engine import Engine
from tests.device_models.dma_scene import (
    ATS,
    BAD_DESCRIPTOR,
    BAR,
    BLOCKED,
    CAPABILITY,
    COMPARE,
    CONTROL,
    COPY,
    COUNTERS,
    DIFFERENT,
    ENGINE_STATUS,
    EXE,
    FILL,
    HALTED,
    HEAD,
    LOST,
    NIC,
    NOT_ENABLED,
    NOTHING,
    NOTHING_THERE,
    NOTIFY,
    PASID,
    PM,
    PRI,
    RECORD,
    RECORDS,
    RING,
    RING_BASE,
    RING_SPACE,
    RUNNING,
    SUCCESS,
    TAIL,
    WHERE,
    EngineBench,
    Record,
    descriptor,
)

DATA = bytes(range(1, 251))


@pytest.fixture
def plain() -> EngineBench:
    """Nothing is translated."""
    bench = EngineBench()
    bench.start()
    return bench


@pytest.fixture
def wide(engine: Engine) -> EngineBench:
    """Scalable mode with PASIDs, ATS off."""
    bench = EngineBench(engine)
    bench.ats_scalable()
    bench.start()
    own = bench.table()
    bench.identity(own, RING)
    bench.pasid_entry(0, 2, 9, own)
    return bench


# -- descriptors


def test_copies_across_pages(plain: EngineBench) -> None:
    plain.memory.write(0x5F80, DATA)
    assert plain.run(descriptor(COPY, 0x5F80, 0x8FF0, 250)) == (SUCCESS, 0)
    assert plain.memory.read(0x8FEF, 252) == b"\0" + DATA + b"\0"


def test_fills_with_a_pattern_of_eight_bytes(plain: EngineBench) -> None:
    plain.run(descriptor(FILL, 0x0807060504030201, 0x6FFD, 0x1006))
    assert plain.memory.read(0x6FFC, 0x1008) == b"\0" + (bytes(range(1, 9)) * 0x201)[:0x1006] + b"\0"


def test_compares_and_says_where_two_ranges_differ(plain: EngineBench) -> None:
    plain.memory.write(0x5F80, DATA)
    plain.memory.write(0x9FC0, DATA)
    same = descriptor(COMPARE, 0x5F80, 0x9FC0, 250, RECORD, record=RECORDS)
    assert plain.run(same) == (SUCCESS, 0)
    assert plain.record().done == 250
    plain.memory.write(0x9FC0 + 200, b"\0")
    assert plain.run(same) == (DIFFERENT, 0)
    assert plain.record()[:5] == (DIFFERENT, 0, 1, 200, 0x9FC0 + 200)
    assert plain.get(WHERE) == 0x9FC0 + 200


def test_nothing_is_done_with_success(plain: EngineBench) -> None:
    assert plain.run(descriptor(NOTHING, 0x5000, 1 << 50, 100, RECORD, record=RECORDS)) == (SUCCESS, 0)
    assert plain.record() == Record(SUCCESS, 0, 0, 0, 0, 1000)


@pytest.mark.parametrize(
    "wrong",
    [
        descriptor(4),
        descriptor(0xFF),
        descriptor(COPY, flags=1 << 15),
        descriptor(COPY, flags=1 << 24),
        descriptor(COPY, flags=PM),
        descriptor(COPY)[:63] + b"\1",
    ],
    ids=["opcode 4", "opcode 255", "bit 15", "bit 24", "privileged without PASID", "last bit"],
)
def test_a_descriptor_that_makes_no_sense_ends_alone(plain: EngineBench, wrong: bytes) -> None:
    plain.run(wrong)
    assert plain.outcome() == (BAD_DESCRIPTOR, 0)
    assert plain.run(descriptor(FILL, 1, 0x5000, 8)) == (SUCCESS, 0)


def test_a_ring_wraps(plain: EngineBench) -> None:
    plain.start(order=1)
    for number in range(5):
        plain.push(descriptor(FILL, number, 0x5000 + 8 * number, 8), order=1)
        plain.settle()
    assert struct.unpack("<5Q", plain.memory.read(0x5000, 40)) == (0, 1, 2, 3, 4)
    assert plain.get(HEAD) == 1


def test_memory_that_is_not_there_is_told(plain: EngineBench) -> None:
    plain.memory.write(0x5000, DATA)
    outcome = plain.run(descriptor(COPY, 0x5000, (64 << 20) - 100, 250, RECORD, record=RECORDS))
    assert outcome == (NOTHING_THERE, 0)
    assert plain.record()[2:5] == (0, 100, 64 << 20)


def test_without_bus_mastering_the_ring_cannot_be_read(plain: EngineBench) -> None:
    plain.config(4, 2)
    plain.push(descriptor(FILL, 1, 0x5000, 8))
    plain.settle()
    assert plain.outcome() == (NOTHING_THERE, 0)
    assert plain.get(ENGINE_STATUS) & HALTED
    assert (plain.get(WHERE), plain.get(HEAD)) == (RING, 0)
    plain.config(4, 6)
    plain.set(ENGINE_STATUS, HALTED)
    plain.settle()
    assert (plain.outcome()[0], plain.get(HEAD)) == (SUCCESS, 1)


def test_a_record_that_cannot_be_written_is_lost_and_told(plain: EngineBench) -> None:
    assert plain.run(descriptor(FILL, 1, 0x5000, 8, RECORD, record=1 << 40)) == (SUCCESS, 0)
    assert plain.get(ENGINE_STATUS) & LOST
    plain.set(ENGINE_STATUS, LOST)
    assert not plain.get(ENGINE_STATUS) & LOST


# -- time


def test_each_descriptor_takes_its_latency() -> None:
    bench = EngineBench(options=",latency=500")
    bench.start()
    records = [descriptor(NOTHING, flags=RECORD, record=RECORDS + 32 * number) for number in range(3)]
    bench.push(*records)
    assert bench.get(ENGINE_STATUS) & RUNNING
    bench.settle(499)
    assert bench.get(HEAD) == 0
    bench.settle(1)
    assert bench.get(HEAD) == 1
    bench.settle(1000)
    assert [bench.record(RECORDS + 32 * number).time for number in range(3)] == [500, 1000, 1500]
    assert not bench.get(ENGINE_STATUS) & RUNNING


def test_each_page_takes_its_time_too() -> None:
    bench = EngineBench(options=",latency=500,page-latency=70")
    bench.start()
    bench.push(descriptor(FILL, 1, 0x5FF8, 0x1010, RECORD, record=RECORDS))
    bench.settle(500 + 69)
    assert bench.memory.read(0x5FF8, 16) == (1).to_bytes(8, "little") + bytes(8)
    bench.settle(1)
    assert bench.qword(0x6FF8) == 1
    bench.settle(10_000)
    assert bench.record().time == 500 + 3 * 70


def test_a_reset_ends_what_is_under_way(plain: EngineBench) -> None:
    plain.push(descriptor(FILL, 1, 0x5000, 8))
    plain.set(CONTROL, 2)
    plain.settle()
    assert plain.memory.read(0x5000, 8) == bytes(8)
    assert [plain.get(offset) for offset in (CONTROL, ENGINE_STATUS, RING_BASE, TAIL, HEAD)] == [0] * 5
    plain.start()
    assert plain.run(descriptor(FILL, 1, 0x5000, 8)) == (SUCCESS, 0)


def test_a_ring_that_moves_ends_what_is_under_way(plain: EngineBench) -> None:
    plain.push(descriptor(FILL, 1, 0x5000, 8))
    plain.start(RING + 0x1000)
    plain.settle()
    assert (plain.memory.read(0x5000, 8), plain.get(TAIL)) == (bytes(8), 0)


def test_a_device_that_is_removed_does_nothing_more() -> None:
    bench = EngineBench()
    bench.start()
    bench.push(descriptor(FILL, 1, 0x5000, 8))
    bench.machine.remove_device(bench.dma)
    bench.machine.clock_step(100_000)
    assert bench.memory.read(0x5000, 8) == bytes(8)


@pytest.mark.parametrize("kind", ["dma-engine", "attacker"])
def test_a_slot_that_is_taken_leaves_nothing_behind(kind: str) -> None:
    bench = EngineBench()
    before = len(bench.machine.devices)
    with pytest.raises(OptionError, match="slot 2 function 0 not available"):
        bench.machine.add_device(f"{kind},addr=2")
    assert len(bench.machine.devices) == before


# -- registers


def test_registers_are_reached_whole_and_by_halves(plain: EngineBench) -> None:
    plain.set(RING_SPACE, 0xFFFF_FFFF_FFFF_FFFF)
    assert plain.get(RING_SPACE) == 0x7F_FFFF
    plain.set(RING_BASE, 0x1234_5678_9ABC_DFF3)
    assert plain.get(RING_BASE) == 0x1234_5678_9ABC_D003
    plain.set(RING_BASE + 4, 0x55, 4)
    assert plain.get(RING_BASE) == 0x55_9ABC_D003
    assert plain.get(RING_BASE + 4, 4) == 0x55
    assert plain.get(CAPABILITY) == 0x0F_0801
    plain.set(CAPABILITY, 0)
    assert plain.get(CAPABILITY) == 0x0F_0801
    assert plain.machine.space.read_number(BAR + CAPABILITY, 2) == 0
    assert plain.get(0x48) == 0
    plain.set(0x48, 1)


def test_the_docstring_names_every_register_and_no_other() -> None:
    lines = [line.split() for line in (dma_engine.__doc__ or "").splitlines() if "h  " in line[:9]]
    assert {int(line[0][:-1], 16): line[1] for line in lines} == {at: kind.__name__ for at, kind in REGISTERS.items()}
    assert [kind.width for kind in REGISTERS.values()] == [64] * 9
    assert Descriptor.width == 512


def test_software_finds_the_capabilities_and_they_can_be_left_out() -> None:
    bench = EngineBench()
    assert all(bench.capability(identity) for identity in (ATS, PASID, PRI))
    assert bench.dma.config.get(bench.capability(PASID) + 4, 2) == 0x1406
    bare = EngineBench(options=",ats=off,pasid-bits=0")
    assert [bare.capability(identity) for identity in (ATS, PASID, PRI)] == [0, 0, 0]
    bare.start()
    assert bare.run(descriptor(COPY, 0x5000, 0x6000, 8, pasid=1)) == (NOT_ENABLED, 0)
    with pytest.raises(OptionError, match="does not accept value 'maybe'"):
        bare.machine.add_device("dma-engine,invalidations=maybe")


def test_nothing_that_a_program_writes_breaks_the_engine(engine: Engine) -> None:
    for seed in range(8):
        chance = random.Random(seed)
        bench = EngineBench(engine)
        table = bench.table()
        bench.identity(table, RING, 4)
        bench.ats_legacy(table)
        bench.switch_on(pasid=True, pages=4)
        bench.memory.write(RING, chance.randbytes(0x1000))
        for slot in range(0, 64, 2):
            bench.memory.write(RING + 64 * slot, bytes([chance.randrange(4)]) + chance.randbytes(1) + bytes(6))
        for _ in range(200):
            offset, size = 4 * chance.randrange(20), chance.choice((4, 8))
            bench.set(offset, chance.getrandbits(8 * size) & chance.choice((0xF, -1)), size)
            if chance.random() < 0.5:
                bench.set(RING_BASE, RING | chance.randrange(7))
                bench.set(TAIL, chance.randrange(128))
                bench.set(CONTROL, 1)
            if chance.random() < 0.1:
                bench.config(chance.randrange(0x100, 0x140), chance.getrandbits(16), 2)
            bench.settle(chance.randrange(5000))
        bench.set(CONTROL, 2)
        assert bench.get(ENGINE_STATUS) == 0


# -- interrupts


def test_msi_x_sends_the_descriptors_vector(plain: EngineBench) -> None:
    plain.config(plain.dma.msix.offset + 2, 0x8000, 2)
    for at, value in ((0, 0xFEE0_0000), (4, 0), (8, 0x61), (12, 0)):
        plain.machine.space.write_number(BAR + 0x1000 + 16 * 3 + at, 4, value)
    plain.run(descriptor(NOTHING, flags=NOTIFY, vector=3))
    assert plain.machine.apics.vectors() == [0x61]
    plain.run(descriptor(NOTHING, flags=NOTIFY, vector=200))
    assert plain.machine.apics.vectors() == [0x61]


def test_msi_sends_it_too(plain: EngineBench) -> None:
    at = plain.dma.msi.offset
    for offset, value, size in ((4, 0xFEE0_0000, 4), (8, 0, 4), (12, 0x50, 2), (2, 0x31, 2)):
        plain.config(at + offset, value, size)
    plain.run(descriptor(NOTHING, flags=NOTIFY, vector=5))
    assert plain.machine.apics.vectors() == [0x55]


# -- the unit, untranslated requests


def test_each_pasid_is_a_memory_of_its_own(wide: EngineBench) -> None:
    wide.switch_on(ats=False, pasid=True)
    for pasid, gpa in ((5, 0x40_0000), (70, 0x50_0000)):
        table = wide.table()
        wide.map(table, 0x7000, gpa)
        wide.pasid_entry(pasid, 2, pasid, table)
    wide.run(descriptor(FILL, 0x55, 0x7000, 8, pasid=5), descriptor(FILL, 0x70, 0x7000, 8, pasid=70))
    assert (wide.qword(0x40_0000), wide.qword(0x50_0000)) == (0x55, 0x70)
    assert wide.run(descriptor(FILL, 1, 0x7000, 8, pasid=6)) == (BLOCKED, 0x59)
    assert wide.record_of_unit() == (0x59, NIC, 6)


def test_a_pasid_needs_software_to_have_enabled_it(wide: EngineBench) -> None:
    assert wide.run(descriptor(FILL, 1, 0x7000, 8, pasid=5)) == (NOT_ENABLED, 0)
    wide.config(wide.capability(PASID) + 6, 1, 2)
    for flags in (PM, EXE):
        assert wide.run(descriptor(COPY, 0x7000, 0x7000, 8, flags, pasid=5)) == (NOT_ENABLED, 0)
    assert wide.record_of_unit() is None


def test_a_pasid_has_to_fit_what_the_engine_can_send() -> None:
    bench = EngineBench(options=",pasid-bits=8")
    bench.start()
    bench.switch_on(ats=False, pasid=True)
    assert bench.run(descriptor(FILL, 1, 0x5000, 8, pasid=256)) == (BAD_DESCRIPTOR, 0)


def test_supervisors_reach_supervisor_pages_and_users_do_not(wide: EngineBench) -> None:
    wide.switch_on(ats=False, pasid=True)
    table = wide.table()
    wide.map_first(table, 0x7000, 0x40_0000, 0x63)
    wide.pasid_entry(5, 1, 5, table, more=1)
    assert wide.run(descriptor(FILL, 7, 0x7000, 8, pasid=5)) == (BLOCKED, 0x81)
    assert wide.run(descriptor(FILL, 7, 0x7000, 8, PM, pasid=5)) == (SUCCESS, 0)
    assert wide.qword(0x40_0000) == 7


def test_what_may_not_be_executed_may_be_read(wide: EngineBench) -> None:
    wide.switch_on(ats=False, pasid=True)
    table = wide.table()
    wide.map_first(table, 0x7000, 0x40_0000, 1 << 63 | 0x67)
    wide.map_first(table, 0x8000, 0x40_1000)
    wide.pasid_entry(5, 1, 5, table, more=1 << 1 | 1 << 5)  # ERE, NXE
    assert wide.run(descriptor(COPY, 0x7000, 0x8000, 8, pasid=5)) == (SUCCESS, 0)
    assert wide.run(descriptor(COPY, 0x7000, 0x8000, 8, EXE, pasid=5)) == (BLOCKED, 0x82)
    assert wide.run(descriptor(COPY, 0x8000, 0x8000, 8, EXE, pasid=5)) == (SUCCESS, 0)


def test_nested_translation_goes_through_both_stages(wide: EngineBench) -> None:
    wide.switch_on(ats=False, pasid=True)
    first, second = wide.table(), wide.table()
    wide.map_first(first, 0x7000, 0x9000)
    wide.identity(second, 0x20_0000, 32)
    wide.map(second, 0x9000, 0x40_0000)
    wide.pasid_entry(5, 3, 5, first, second)
    assert wide.run(descriptor(FILL, 9, 0x7000, 8, pasid=5)) == (SUCCESS, 0)
    assert wide.qword(0x40_0000) == 9


def test_a_ring_may_lie_in_a_process(wide: EngineBench) -> None:
    wide.switch_on(ats=False, pasid=True)
    table = wide.table()
    wide.map(table, 0x12_3000, RING)
    wide.map(table, 0x7000, 0x40_0000)
    wide.pasid_entry(5, 2, 5, table)
    wide.start(0x12_3000, flags=1 << 22 | 1 << 20 | 5)
    assert wide.run(descriptor(FILL, 3, 0x7000, 8, RECORD, pasid=5, record=0x7020)) == (SUCCESS, 0)
    assert wide.record(0x40_0020).outcome == SUCCESS


def test_without_ats_nothing_is_asked_for(wide: EngineBench) -> None:
    wide.run(descriptor(COPY, RING, RING + 0x800, 8))
    assert wide.counters() == (0, 0, 0, 0)
    assert wide.get(COUNTERS) == 0
