"""Ports: a device sees a memory; pages, faults and the interrupt range are the port's work."""

from __future__ import annotations

import dataclasses

import pytest

from emulator.bus import Bus, DmaPort
from emulator.engine import Engine
from emulator.profile import load_profile
from pagetables.fault import Fault, FaultReason
from tests.units import DISK, FSTS, NIC, Bench, R, W


class Scene:
    """Two pages that follow each other for the device and lie apart in memory, then one that is read-only."""

    def __init__(self, engine: Engine) -> None:
        self.bench = bench = Bench(engine)
        self.table = bench.table()
        bench.map(self.table, 0x1000, 0x50_0000)
        bench.map(self.table, 0x2000, 0x40_0000)
        bench.map(self.table, 0x3000, 0x60_0000, R)
        bench.map(self.table, 0x4000, 0x70_0000, W)
        bench.legacy((NIC, self.table, 5))
        self.bus = Bus(bench.unit)
        self.port = self.bus.port(NIC)


@pytest.fixture
def scene(engine: Engine) -> Scene:
    return Scene(engine)


def reason(answer) -> FaultReason:
    assert isinstance(answer, Fault), answer
    return answer.reason


def test_what_is_written_is_read_back_across_pages(scene: Scene) -> None:
    data = bytes(range(256)) * 20
    assert scene.port.write(0x1800, data) is None
    assert scene.bench.memory.read(0x50_0800, 0x800) == data[:0x800]
    assert scene.bench.memory.read(0x40_0000, 0xC00) == data[0x800:]
    assert scene.port.read(0x1800, len(data)) == data


def test_single_bytes_and_odd_places_are_fine(scene: Scene) -> None:
    assert scene.port.write(0x1FFF, b"ab") is None
    assert scene.port.read(0x1FFF, 1) == b"a"
    assert scene.port.read(0x2000, 1) == b"b"
    assert scene.port.read(0x1000, 0) == b""
    assert scene.port.write(0x1000, b"") is None


def test_a_write_that_runs_into_a_read_only_page_stops_there(scene: Scene) -> None:
    answer = scene.port.write(0x2FFE, b"abcd")
    assert reason(answer) is FaultReason.WRITE_DENIED
    assert answer.request.iova == 0x3000
    assert scene.bench.memory.read(0x40_0FFE, 2) == b"ab"
    assert scene.bench.memory.read(0x60_0000, 2) == bytes(2)


def test_a_read_that_runs_into_a_hole_yields_the_fault_and_no_bytes(scene: Scene) -> None:
    answer = scene.port.read(0x3FF0, 0x20)
    assert reason(answer) is FaultReason.READ_DENIED
    assert answer.request.iova == 0x4000
    assert scene.bench.read(FSTS) & 2


def test_another_device_does_not_see_this_memory(scene: Scene) -> None:
    assert reason(scene.bus.read(DISK, 0x1000, 4)) is FaultReason.CONTEXT_NOT_PRESENT


def test_a_large_page_is_one_piece(scene: Scene) -> None:
    scene.bench.map(scene.table, 0x20_0000, 0x80_0000, level=2)
    data = bytes([7]) * 0x5000
    assert scene.port.write(0x20_0800, data) is None
    assert scene.bench.memory.read(0x80_0800, 0x5000) == data


def test_where_no_memory_is_reads_yield_ones_and_writes_are_lost(scene: Scene) -> None:
    scene.bench.map(scene.table, 0x5000, 0x8000_0000)
    assert scene.port.read(0x5000, 4) == b"\xff\xff\xff\xff"
    assert scene.port.write(0x5000, b"abcd") is None
    assert scene.bench.read(FSTS) == 0


def test_with_translation_off_a_port_is_memory_itself(engine: Engine) -> None:
    bench = Bench(engine)
    port = DmaPort(Bus(bench.unit), NIC)
    assert port.write(0x12_3456, b"hello") is None
    assert bench.memory.read(0x12_3456, 5) == b"hello"


def test_addresses_wrap_at_64_bits(engine: Engine) -> None:
    bench = Bench(engine)
    bench.memory.write(0, b"zero")
    assert Bus(bench.unit).read(NIC, (1 << 64) - 2, 4) == b"\xff\xffze"


def test_a_dword_to_the_interrupt_range_is_an_interrupt(scene: Scene) -> None:
    assert scene.port.write(0xFEE0_1004, b"\x31\x40\0\0") is None
    [interrupt] = scene.bench.unit.interrupts
    assert (interrupt.source_id, interrupt.message()) == (NIC, (0xFEE0_1004, 0x4031))
    assert not interrupt.remapped
    assert scene.bench.read(FSTS) == 0


@pytest.mark.parametrize("address, data", [(0xFEE0_0000, b"12"), (0xFEE0_0000, b"12345678"), (0xFEE0_0002, b"1234")])
def test_other_writes_to_the_interrupt_range_are_blocked(scene: Scene, address: int, data: bytes) -> None:
    assert reason(scene.port.write(address, data)) is FaultReason.IR_NOT_AN_INTERRUPT
    assert scene.bench.unit.interrupts == []
    assert scene.bench.record()[1] >> 32 & 0xFF == 0x29


def test_a_write_that_leaves_the_interrupt_range_is_dma_from_there_on(scene: Scene) -> None:
    answer = scene.port.write(0xFEEF_FFFC, b"12345")
    assert reason(answer) is FaultReason.WRITE_DENIED
    assert answer.request.iova == 0xFEF0_0000
    assert [interrupt.vector for interrupt in scene.bench.unit.interrupts] == [ord("1")]


def test_interrupts_go_to_the_sink_that_was_set(engine: Engine) -> None:
    bench = Bench(engine)
    seen = []
    bench.unit.interrupt_sink = seen.append
    assert Bus(bench.unit).write(NIC, 0xFEE0_3000, b"abcd") is None
    assert [(interrupt.destination, interrupt.vector) for interrupt in seen] == [(3, ord("a"))]


@pytest.mark.parametrize("behaviours, answer", [((), FaultReason.IR_NOT_AN_INTERRUPT), (("read_interrupt_range",), 0)])
def test_reads_of_the_interrupt_range_are_blocked_or_yield_zeros(
    engine: Engine, behaviours: tuple[str, ...], answer: int
) -> None:
    profile = dataclasses.replace(load_profile("spec"), behaviours=frozenset(behaviours))
    found = Bus(Bench(engine, profile).unit).read(NIC, 0xFEE0_0000, 8)
    assert found == bytes(8) if answer == 0 else reason(found) is answer


def test_a_port_with_a_pasid_sends_it_with_every_request(engine: Engine) -> None:
    bench = Bench(engine)
    bench.scalable(NIC)
    table = bench.table()
    bench.map_first(table, 0x1000, 0x5000)
    bench.pasid_entry(9, 1, 1, table)
    bench.memory.write(0x5010, b"data")
    bus = Bus(bench.unit)
    assert bus.port(NIC, pasid=9).read(0x1010, 4) == b"data"
    assert reason(bus.port(NIC).read(0x1010, 4)) is FaultReason.PASID_ENTRY_NOT_PRESENT
    assert bench.record()[1] >> 32 & 0xFF == 0x59
