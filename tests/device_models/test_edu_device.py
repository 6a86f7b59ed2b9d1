"""edu: its registers and its timing as QEMU's, and its DMA and messages through a unit."""

from __future__ import annotations

import struct

import pytest

from device_models.edu import Edu
from device_models.machine import SystemMachine
from emulator.engine import Engine

BASE, BAR, BUFFER = 0xFED9_0000, 0xE000_0000, 0x40000
GCMD, GSTS, RTADDR, FSTS, FECTL, FEDATA, FEADDR, IRTA, FRCD = 0x18, 0x1C, 0x20, 0x34, 0x38, 0x3C, 0x40, 0xB8, 0x220
TE, SRTP, IRE, SIRTP = 1 << 31, 1 << 30, 1 << 25, 1 << 24
SOURCE, DESTINATION, COUNT, COMMAND, RESULT, WHERE = 0x80, 0x88, 0x90, 0x98, 0xA0, 0xA8
EDU = 0x0008  # 00:01.0
ROOT, CONTEXT, TABLES, INTERRUPTS = 0x10_0000, 0x10_1000, 0x11_0000, 0x18_0000
PAGE_IN, PAGE_OUT = 0x20_0000, 0x20_1000
IOVA_IN, IOVA_OUT, IOVA_BAD = 0x12_3456_7000, 0x12_3456_8000, 0x12_3456_9000
PATTERN = bytes((7 * n + 3) & 0xFF for n in range(256))
LATENCY = 100_000_000


class Rig:
    """A machine with a unit and edu, and software that drives both through memory and ports."""

    def __init__(
        self, engine: Engine | str = "python", unit: str | None = "", edu: str = "", profile: str = "qemu-11.1"
    ):
        self.machine = SystemMachine(profile, memory_size=64 << 20, engine=engine)
        if unit is not None:
            self.machine.add_device(f"intel-iommu,{unit}" if unit else "intel-iommu")
        self.edu = self.machine.add_device(f"edu,addr=1,dma_mask=0xffffffffffffffff{edu}")
        self.space = self.machine.space
        self.next_table = TABLES
        self.config(0x10, BAR)
        self.config(4, 6)

    def config(self, offset: int, value: int) -> None:
        self.machine.ports.write_number(0xCF8, 4, 1 << 31 | EDU << 8 | offset)
        self.machine.ports.write_number(0xCFC, 4, value)

    def get(self, offset: int, size: int = 4) -> int:
        return self.space.read_number(BAR + offset, size)

    def set(self, offset: int, value: int, size: int = 4) -> None:
        self.space.write_number(BAR + offset, size, value)

    def unit(self, offset: int, size: int = 4) -> int:
        return self.space.read_number(BASE + offset, size)

    def command(self, bit: int) -> None:
        self.space.write_number(BASE + GCMD, 4, self.unit(GSTS) & 0x96FF_FFFF | bit)
        assert self.unit(GSTS) & bit

    def put(self, address: int, *words: int) -> None:
        self.space.write(address, struct.pack(f"<{len(words)}Q", *words))

    def map(self, top: int, levels: int, iova: int, address: int, bits: int, leaf: int = 1) -> None:
        table = top
        for level in range(levels, leaf, -1):
            at = table + 8 * (iova >> (12 + 9 * (level - 1)) & 511)
            if not self.space.read_number(at, 8):
                self.put(at, self.table() | 3)
            table = self.space.read_number(at, 8) & ~0xFFF
        self.put(table + 8 * (iova >> (12 + 9 * (leaf - 1)) & 511), address | bits | (0x80 if leaf > 1 else 0))

    def table(self) -> int:
        self.next_table += 0x1000
        return self.next_table - 0x1000

    def translate(self, low: int, high: int) -> None:
        """Legacy mode on, with this context entry for edu."""
        self.put(ROOT, CONTEXT | 1, 0)
        self.put(CONTEXT + 16 * EDU, low, high)
        self.space.write_number(BASE + RTADDR, 8, ROOT)
        self.command(SRTP)
        self.command(TE)

    def dma(self, source: int, destination: int, count: int, command: int) -> None:
        for offset, value in ((SOURCE, source), (DESTINATION, destination), (COUNT, count), (COMMAND, command)):
            self.set(offset, value, 8)
        assert self.get(COMMAND, 8) & 1
        self.machine.clock_step(LATENCY - 1)
        assert self.get(COMMAND, 8) & 1
        self.machine.clock_step(1)
        assert not self.get(COMMAND, 8) & 1

    def pull(self, iova: int, count: int = 256) -> None:
        self.dma(iova, BUFFER, count, 1)

    def push(self, iova: int, count: int = 256) -> None:
        self.dma(BUFFER, iova, count, 3)

    def round_trip(self, source: int, destination: int, at: int = PAGE_IN, to: int = PAGE_OUT) -> None:
        self.space.write(at, PATTERN)
        self.pull(source)
        self.push(destination)
        assert self.space.read(to, 256) == PATTERN
        assert self.unit(FSTS) == 0

    def faults(self) -> tuple[int, int, int]:
        """Reason, source-id and page of the record, which is cleared."""
        low, high = self.unit(FRCD, 8), self.unit(FRCD + 8, 8)
        assert high >> 63
        self.space.write_number(BASE + FRCD + 8, 8, 1 << 63)
        return high >> 32 & 0xFF, high & 0xFFFF, low

    def message(self, address: int, data: int) -> None:
        """Program edu's MSI, raise and acknowledge."""
        for offset, value in ((0x44, address), (0x48, 0), (0x4C, data), (0x40, 1 << 16)):
            self.config(offset, value)
        self.set(0x60, 1)
        self.set(0x64, 1)


class TestRegisters:
    def test_identification_inverter_and_factorial(self) -> None:
        rig = Rig()
        assert rig.get(0) == 0x010000ED
        rig.set(4, 0x1234_5678)
        assert rig.get(4) == 0xEDCB_A987
        for number, result in (
            (0, 1),
            (1, 1),
            (10, 3628800),
            (13, 1932053504),
            (33, 2147483648),
            (34, 0),
            (1 << 31, 0),
        ):
            rig.set(8, number)
            assert rig.get(8) == result

    def test_sizes_that_registers_do_not_take(self) -> None:
        # The values that qemu-system-x86_64 7.2.22 gives.
        rig = Rig()
        assert [rig.get(0, size) for size in (1, 2, 8)] == [0, 0, (1 << 64) - 1]
        assert rig.get(0x10) == rig.get(0x84) == rig.get(BUFFER) == 0xFFFF_FFFF
        assert rig.get(0x82) == 0
        rig.set(0x20, 0x80, 8)
        assert rig.get(0x20) == 0

    def test_a_finished_factorial_interrupts_only_if_asked_to(self) -> None:
        rig = Rig()
        rig.set(8, 5)
        assert rig.get(0x24) == 0
        rig.set(0x20, 0xFF)
        assert rig.get(0x20) == 0x80
        rig.set(8, 5)
        assert rig.get(0x24) == 1
        rig.set(0x20, 0)
        assert rig.get(0x20) == 0

    def test_interrupts_stay_until_each_is_acknowledged(self) -> None:
        rig = Rig()
        rig.set(0x60, 0)
        assert sum(rig.machine.inputs.levels) == 0
        rig.set(0x60, 5)
        assert (rig.get(0x24), rig.machine.inputs.levels[21]) == (5, 1)
        rig.set(0x64, 1)
        assert (rig.get(0x24), rig.machine.inputs.levels[21]) == (4, 1)
        rig.set(0x64, 4)
        assert (rig.get(0x24), rig.machine.inputs.levels[21]) == (0, 0)

    def test_dma_registers_read_back_and_hold_still_while_dma_runs(self) -> None:
        rig = Rig()
        rig.set(SOURCE, 0x1_2345_6789, 8)
        assert (rig.get(SOURCE, 8), rig.get(SOURCE)) == (0x1_2345_6789, 0x2345_6789)
        rig.set(COMMAND, 2)
        assert rig.get(COMMAND) == 0
        rig.set(COMMAND, 1)
        rig.set(SOURCE, 0)
        rig.set(COMMAND, 5)
        assert (rig.get(SOURCE, 8), rig.get(COMMAND)) == (0x1_2345_6789, 1)

    def test_a_reset_leaves_the_registers_and_takes_the_bar_away(self) -> None:
        rig = Rig()
        rig.set(4, 1)
        rig.machine.reset()
        assert rig.get(4) == 0
        rig.config(0x10, BAR)
        rig.config(4, 6)
        assert rig.get(4) == 0xFFFF_FFFE

    def test_removing_the_device_ends_its_dma(self) -> None:
        rig = Rig()
        rig.set(COUNT, 16)
        rig.set(DESTINATION, BUFFER)
        rig.set(COMMAND, 1)
        rig.machine.remove_device(rig.edu)
        rig.machine.clock_step(LATENCY)
        assert rig.machine.clock.next_due is None


class TestDma:
    def test_without_a_unit_addresses_are_memory(self) -> None:
        rig = Rig(unit=None)
        rig.space.write(PAGE_IN, PATTERN)
        rig.pull(PAGE_IN)
        rig.push(PAGE_OUT)
        assert rig.space.read(PAGE_OUT, 256) == PATTERN

    def test_the_end_interrupts_if_asked_to(self) -> None:
        rig = Rig()
        rig.dma(PAGE_IN, BUFFER, 16, 5)
        assert rig.get(0x24) == 0x100

    def test_addresses_are_cut_by_the_mask(self) -> None:
        rig = Rig()
        rig.edu.set_property("dma_mask", "0xfffffff")
        rig.round_trip(0xF000_0000 | PAGE_IN, 0xF000_0000 | PAGE_OUT)

    @pytest.mark.parametrize("place", [BUFFER - 1, BUFFER + 4096 - 255, 0])
    def test_a_range_outside_the_buffer_moves_nothing(self, place: int) -> None:
        rig = Rig()
        rig.space.write(PAGE_IN, PATTERN)
        rig.pull(PAGE_IN)
        rig.dma(PAGE_OUT, place, 256, 1)
        rig.dma(place, PAGE_OUT, 256, 3)
        assert rig.space.read(PAGE_OUT, 256) == bytes(256)
        rig.push(PAGE_OUT)
        assert rig.space.read(PAGE_OUT, 256) == PATTERN

    def test_translation_off_passes(self, engine: Engine) -> None:
        Rig(engine).round_trip(PAGE_IN, PAGE_OUT)

    def test_four_levels_of_4_kib_pages(self, engine: Engine) -> None:
        rig = Rig(engine)
        top = rig.table()
        rig.map(top, 4, IOVA_IN, PAGE_IN, 1)
        rig.map(top, 4, IOVA_OUT, PAGE_OUT, 2)
        rig.translate(top | 1, 7 << 8 | 2)
        rig.round_trip(IOVA_IN, IOVA_OUT)

    def test_three_levels(self, engine: Engine) -> None:
        rig = Rig(engine, "aw-bits=39")
        top = rig.table()
        low = (1 << 39) - 1
        rig.map(top, 3, IOVA_IN & low, PAGE_IN, 1)
        rig.map(top, 3, IOVA_OUT & low, PAGE_OUT, 2)
        rig.translate(top | 1, 7 << 8 | 1)
        rig.round_trip(IOVA_IN & low, IOVA_OUT & low)

    def test_a_page_of_2_mib(self, engine: Engine) -> None:
        rig = Rig(engine)
        top = rig.table()
        rig.map(top, 4, 0x12_3440_0000, 0x40_0000, 3, leaf=2)
        rig.translate(top | 1, 7 << 8 | 2)
        rig.round_trip(0x12_3440_3000, 0x12_3450_0000, 0x40_3000, 0x50_0000)

    def test_pass_through(self, engine: Engine) -> None:
        rig = Rig(engine)
        rig.translate(2 << 2 | 1, 7 << 8 | 2)
        rig.round_trip(PAGE_IN, PAGE_OUT)

    def test_a_missing_page_and_a_read_only_one_fault(self, engine: Engine) -> None:
        rig = Rig(engine, edu=",dma-status=on")
        top = rig.table()
        rig.map(top, 4, IOVA_IN, PAGE_IN, 1)
        rig.map(top, 4, IOVA_OUT, PAGE_IN, 1)  # not cached when it is written: QEMU tells of no fault on a hit
        rig.translate(top | 1, 7 << 8 | 2)
        rig.space.write(PAGE_IN, PATTERN)
        rig.pull(IOVA_IN)
        assert rig.get(RESULT) == 0
        rig.pull(IOVA_BAD)
        assert rig.faults() == (6, EDU, IOVA_BAD)
        assert (rig.get(RESULT), rig.get(WHERE, 8)) == (0x8000_0006, IOVA_BAD)
        rig.push(IOVA_OUT)
        assert rig.faults() == (5, EDU, IOVA_OUT)
        assert rig.space.read(PAGE_IN, 256) == PATTERN

    def test_a_blocked_read_leaves_zeros_as_in_qemu(self) -> None:
        # As measured on qemu-system-x86_64 7.2.22, for faults, for nothing at the address, and for no bus master.
        rig = Rig(edu=",dma-status=on")
        rig.space.write(PAGE_IN, PATTERN)
        rig.pull(PAGE_IN)
        rig.pull(0xD000_0000, 128)
        assert rig.get(RESULT) == 0xFFFF_FFFF
        rig.push(PAGE_OUT)
        assert rig.space.read(PAGE_OUT, 256) == bytes(128) + PATTERN[128:]
        rig.config(4, 2)
        rig.pull(PAGE_IN)
        assert rig.get(RESULT) == 0xFFFF_FFFF
        rig.config(4, 6)
        rig.push(PAGE_OUT)
        assert rig.space.read(PAGE_OUT, 256) == bytes(256)

    def test_what_lies_behind_a_blocked_page_is_written(self) -> None:
        rig = Rig()
        top = rig.table()
        rig.map(top, 4, IOVA_IN, PAGE_IN, 3)
        rig.map(top, 4, IOVA_OUT, PAGE_OUT, 1)
        rig.map(top, 4, IOVA_BAD, 0x20_3000, 3)
        rig.translate(top | 1, 7 << 8 | 2)
        rig.space.write(PAGE_IN, PATTERN * 16)
        rig.pull(IOVA_IN, 4096)
        rig.space.write(PAGE_IN, bytes(4096))
        rig.push(IOVA_OUT - 0x10, 0x1000)
        rig.push(IOVA_OUT + 0xFF0, 0x20)
        assert rig.space.read(PAGE_IN + 0xFF0, 16) == PATTERN[:16]
        assert rig.space.read(PAGE_OUT, 4096) == bytes(4096)
        assert rig.space.read(0x20_3000, 0x10) == PATTERN[0x10:0x20]
        assert rig.faults() == (5, EDU, IOVA_OUT)

    @pytest.mark.parametrize("low, reason", [(None, 1), (0, 2)])
    def test_a_missing_root_or_context_entry_faults(self, engine: Engine, low: int | None, reason: int) -> None:
        rig = Rig(engine)
        if low is None:
            rig.space.write_number(BASE + RTADDR, 8, ROOT)
            rig.command(SRTP)
            rig.command(TE)
        else:
            rig.translate(low, 0)
        rig.pull(IOVA_BAD)
        assert rig.faults() == (reason, EDU, IOVA_BAD)


class TestMessages:
    def test_an_unremapped_message_arrives(self) -> None:
        for unit in (None, ""):
            rig = Rig(unit=unit)
            rig.message(0xFEE0_0000, 0x43)
            assert rig.machine.apics.vectors() == [0x43]

    def test_a_remapped_message_has_the_vector_of_its_entry(self, engine: Engine) -> None:
        rig = Rig(engine, "intremap=on")
        rig.put(INTERRUPTS + 16 * 5, 1 | 0x41 << 16, EDU | 1 << 18)
        rig.put(INTERRUPTS + 16 * 6, 1 | 0x42 << 16, EDU ^ 0x10 | 1 << 18)
        rig.space.write_number(BASE + IRTA, 8, INTERRUPTS | 7)
        rig.command(SIRTP)
        rig.command(IRE)
        rig.message(0xFEE0_0010 | 5 << 5, 0)
        assert rig.machine.apics.vectors() == [0x41]
        rig.message(0xFEE0_0010 | 6 << 5, 0)
        assert rig.faults()[:2] == (0x26, EDU)
        rig.message(0xFEE0_0010 | 9 << 5, 0)
        assert rig.faults()[:2] == (0x22, EDU)
        assert rig.machine.apics.vectors() == [0x41]

    def test_the_fault_event_arrives_unremapped(self, engine: Engine) -> None:
        rig = Rig(engine)
        rig.translate(0, 0)
        for offset, value in ((FEADDR, 0xFEE0_0000), (FEDATA, 0x51), (FECTL, 0)):
            rig.space.write_number(BASE + offset, 4, value)
        rig.pull(IOVA_BAD)
        assert rig.machine.apics.vectors() == [0x51]
        assert not rig.machine.apics.events[-1].from_device
        assert rig.machine.apics.events[-1].time == LATENCY

    def test_with_messages_on_the_pin_is_quiet(self) -> None:
        rig = Rig()
        rig.message(0xFEE0_0000, 0x43)
        assert sum(rig.machine.inputs.levels) == 0


def test_the_type_is_what_the_registry_gives() -> None:
    assert isinstance(Rig().edu, Edu)
