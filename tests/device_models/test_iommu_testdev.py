"""iommu-testdev: its registers and results, and the five scenes that QEMU tests its own VT-d with."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from device_models.machine import SystemMachine
from emulator.engine import Engine

UNIT, BAR = 0xFED9_0000, 0xE000_0000
GCMD, GSTS, RTADDR, FSTS, FRCD, IQT, IQA = 0x18, 0x1C, 0x20, 0x34, 0x220, 0x88, 0x90
TE, SRTP, QIE = 1 << 31, 1 << 30, 1 << 26
TRIGGER, LOW, HIGH, LENGTH, RESULT, DOORBELL, ATTRIBUTES, GPA_LOW, GPA_HIGH = range(0, 0x24, 4)
BASE = 0x1000_0000
ROOT, CONTEXT, TABLES, QUEUE = BASE, BASE + 0x1000, BASE + 0x1_0000, BASE + 0x2_0000
DIRECTORY, PASIDS = BASE + 0x3_0000, BASE + 0x3_1000
IOVA, PAGE = 0x1020_0567, BASE + 0x10_0000
IDLE, ARMED = 0xFFFF_FFFF, 0xFFFF_FFFE
BAD_LENGTH, WRITE_FAILED, READ_FAILED, MISMATCH, NOT_ARMED, BAD_ATTRIBUTES = range(0xDEAD_0001, 0xDEAD_0007)


class Rig:
    """A machine with the device, found by its id as software finds it, its BAR placed and nothing but memory on."""

    def __init__(self, engine: Engine | str = "python", unit: str | None = None, profile: str = "qemu-11.1") -> None:
        self.machine = SystemMachine(profile, memory_size=512 << 20, engine=engine)
        if unit is not None:
            self.machine.add_device(unit)
        self.machine.add_device("iommu-testdev")
        self.space = self.machine.space
        (self.source,) = (devfn for devfn in range(256) if self.config(devfn, 0) == 0x0005_1B36)
        self.config(self.source, 0x10, BAR)
        self.config(self.source, 4, 2)

    def config(self, devfn: int, offset: int, value: int | None = None) -> int:
        self.machine.ports.write_number(0xCF8, 4, 1 << 31 | devfn << 8 | offset)
        if value is not None:
            self.machine.ports.write_number(0xCFC, 4, value)
        return self.machine.ports.read_number(0xCFC, 4)

    def get(self, offset: int) -> int:
        return self.space.read_number(BAR + offset, 4)

    def set(self, offset: int, value: int) -> None:
        self.space.write_number(BAR + offset, 4, value)

    def prepare(self, iova: int, gpa: int, length: int = 4, attributes: int = 2) -> None:
        for offset, value in ((LOW, iova), (GPA_LOW, gpa)):
            self.set(offset, value & 0xFFFF_FFFF)
            self.set(HIGH if offset == LOW else GPA_HIGH, value >> 32)
        self.set(LENGTH, length)
        self.set(ATTRIBUTES, attributes)

    def go(self, iova: int, gpa: int, length: int = 4, attributes: int = 2) -> int:
        self.prepare(iova, gpa, length, attributes)
        self.set(DOORBELL, 1)
        assert self.get(RESULT) == ARMED
        assert self.get(TRIGGER) == 0
        return self.get(RESULT)

    def put(self, address: int, *words: int) -> None:
        self.space.write(address, struct.pack(f"<{len(words)}Q", *words))

    def table(self, bits: int) -> None:
        """Four levels of tables that lead IOVA to PAGE, every entry with these bits."""
        for level in range(4):
            at = TABLES + 0x1000 * level + 8 * (IOVA >> 39 - 9 * level & 511)
            self.put(at, (TABLES + 0x1000 * (level + 1) if level < 3 else PAGE) | bits)

    def legacy(self, low: int) -> None:
        self.put(ROOT, CONTEXT | 1, 0)
        self.put(CONTEXT + 16 * self.source, low, 2)
        self.enable(ROOT)

    def scalable(self, low: int, first: int = 0) -> None:
        self.put(ROOT, CONTEXT | 1, CONTEXT + 0x1000 | 1)
        self.put(CONTEXT + 32 * self.source, DIRECTORY | 1, 0, 0, 0)
        self.put(DIRECTORY, PASIDS | 1)
        self.put(PASIDS, low, 1, first, 0, 0, 0, 0, 0)
        self.enable(ROOT | 1 << 10)

    def enable(self, root: int) -> None:
        self.space.write_number(UNIT + RTADDR, 8, root)
        self.space.write_number(UNIT + IQA, 8, QUEUE)
        done = 0
        for bit in (SRTP, QIE, TE):
            done |= bit
            self.space.write_number(UNIT + GCMD, 4, done & ~SRTP | bit)
            assert self.space.read_number(UNIT + GSTS, 4) & done == done

    def fault(self) -> tuple[int, int, int]:
        low, high = (self.space.read_number(UNIT + FRCD + at, 8) for at in (0, 8))
        return high >> 32 & 0xFF, high & 0xFFFF, low


# -- the five scenes: pass-through and translation, in legacy and scalable mode


def legacy_pt(rig: Rig) -> int:
    rig.legacy(2 << 2 | 1)
    return IOVA


def legacy_trans(rig: Rig) -> int:
    rig.table(3)
    rig.legacy(TABLES | 1)
    return PAGE | IOVA & 0xFFF


def scalable_pt(rig: Rig) -> int:
    rig.scalable(1 | 4 << 6 | 2 << 2)
    return IOVA


def scalable_slt(rig: Rig) -> int:
    rig.table(3)
    rig.scalable(TABLES | 1 | 2 << 6 | 2 << 2)
    return PAGE | IOVA & 0xFFF


def scalable_flt(rig: Rig) -> int:
    rig.table(7)
    rig.scalable(1 | 1 << 6, TABLES)  # the address width that QEMU's own scene leaves 0 is enough for this address
    return PAGE | IOVA & 0xFFF


SCENES = [
    (legacy_pt, "intel-iommu"),
    (legacy_trans, "intel-iommu"),
    (scalable_pt, "intel-iommu,scalable-mode=on"),
    (scalable_slt, "intel-iommu,scalable-mode=on"),
    (scalable_flt, "intel-iommu,scalable-mode=on,fsts=on"),
]


@pytest.mark.parametrize("scene, unit", SCENES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_the_device_writes_arrives_where_the_tables_say(
    engine: Engine, scene: Callable[[Rig], int], unit: str
) -> None:
    rig = Rig(engine, unit)
    gpa = scene(rig)
    assert rig.space.read(gpa, 4) == bytes(4)
    assert rig.go(IOVA, gpa) == 0
    assert rig.space.read(gpa, 5) == b"\x78\x56\x34\x12\0"
    assert rig.space.read_number(UNIT + FSTS, 4) == 0


@pytest.mark.parametrize("scene, unit", SCENES[1:2] + SCENES[3:], ids=lambda value: getattr(value, "__name__", ""))
def test_a_blocked_write_fails_and_is_recorded(engine: Engine, scene: Callable[[Rig], int], unit: str) -> None:
    rig = Rig(engine, unit)
    scene(rig)
    assert rig.go(IOVA + 0x1000, PAGE) == WRITE_FAILED
    reason, source, page = rig.fault()
    assert (source, page) == (rig.source, 0x1020_1000)
    assert reason == (0x71 if scene is scalable_flt else 0x05)


# -- results


def test_without_a_unit_addresses_are_memory() -> None:
    rig = Rig()
    assert rig.go(0x5000, 0x5000, 7) == 0
    assert rig.space.read(0x5000, 8) == b"\x78\x56\x34\x12\x78\x56\x34\0"


def test_bus_mastering_is_not_asked_for() -> None:
    rig = Rig()
    assert not rig.config(rig.source, 4) & 4
    assert rig.go(0x5000, 0x5000) == 0


@pytest.mark.parametrize(
    "iova, gpa, length, attributes, result",
    [
        (0x5000, 0x5000, 0, 2, BAD_LENGTH),
        (0x5000, 0x6000, 4, 2, MISMATCH),
        (0x5000, 0x4FFF, 4, 2, MISMATCH),
        (0x5000, 1 << 40, 4, 2, READ_FAILED),
        (0x5000, 0x2000_0000 - 4, 8, 2, READ_FAILED),
        (1 << 40, 0x5000, 4, 2, WRITE_FAILED),
        (0x5000, 0x5000, 4, 0b1000, BAD_ATTRIBUTES),
        (0x5000, 0x5000, 4, 0b1001, 0),
        (0x5000, 0x5000, 4, 0b1010, 0),
        (0x5000, 0x5000, 4, 0b1011, BAD_ATTRIBUTES),
        (0x5000, 0x5000, 4, 0b1100, 0),
        (0x5000, 0x5000, 4, 0b1111, 0),
        (0x5000, 0x5000, 4, 0b0011, 0),
        (0x5000, 0x5000, 0, 0b1011, BAD_LENGTH),
    ],
)
def test_every_result_has_its_cause(iova: int, gpa: int, length: int, attributes: int, result: int) -> None:
    rig = Rig()
    assert rig.go(iova, gpa, length, attributes) == result


def test_a_length_beyond_one_piece_is_written_and_compared_whole() -> None:
    rig = Rig()
    assert rig.go(0x10_0000, 0x10_0000, (1 << 20) + 6) == 0
    assert rig.space.read(0x20_0000, 8) == b"\x78\x56\x34\x12\x78\x56\0\0"
    rig.set(DOORBELL, 1)
    rig.set(GPA_LOW, 0x10_0004)
    assert (rig.get(TRIGGER), rig.get(RESULT)) == (0, MISMATCH)


# -- registers


def test_a_trigger_uses_up_what_is_armed() -> None:
    rig = Rig()
    assert rig.get(RESULT) == IDLE
    assert (rig.get(TRIGGER), rig.get(RESULT)) == (0, NOT_ARMED)
    assert rig.go(0x5000, 0x5000) == 0
    assert (rig.get(TRIGGER), rig.get(RESULT)) == (0, NOT_ARMED)


def test_zero_to_the_doorbell_disarms() -> None:
    rig = Rig()
    rig.prepare(0x5000, 0x5000)
    rig.set(DOORBELL, 1)
    rig.set(DOORBELL, 2)
    assert (rig.get(RESULT), rig.get(DOORBELL)) == (IDLE, 0)
    assert (rig.get(TRIGGER), rig.get(RESULT)) == (0, NOT_ARMED)
    assert rig.space.read(0x5000, 4) == bytes(4)


def test_what_was_written_reads_back_and_a_reset_forgets_it() -> None:
    rig = Rig()
    rig.prepare(0x1234_5678_9ABC_DEF0, 0x0FED_CBA9_8765_4321, 0xFFFF_FFFF, 0xFFFF_FFFF)
    rig.set(RESULT, 0x55)
    values = [0x9ABC_DEF0, 0x1234_5678, 0xFFFF_FFFF, 0x55, 0, 0xFFFF_FFFF, 0x8765_4321, 0x0FED_CBA9]
    assert [rig.get(offset) for offset in range(LOW, 0x24, 4)] == values
    rig.set(DOORBELL, 1)
    rig.machine.reset()
    rig.config(rig.source, 0x10, BAR)
    rig.config(rig.source, 4, 2)
    assert [rig.get(offset) for offset in range(LOW, 0x24, 4)] == [0, 0, 0, IDLE, 0, 2, 0, 0]
    assert (rig.get(TRIGGER), rig.get(RESULT)) == (0, NOT_ARMED)


def test_only_dwords_are_answered() -> None:
    rig = Rig()
    rig.set(LENGTH, 0x1122_3344)
    for size in (1, 2):
        assert rig.space.read_number(BAR + LENGTH, size) == 0
        rig.space.write_number(BAR + LENGTH, size, 0xFF)
    assert rig.get(LENGTH) == 0x1122_3344
    assert rig.space.read_number(BAR + LENGTH, 8) == IDLE << 32 | 0x1122_3344
    assert rig.get(0x24) == 0
