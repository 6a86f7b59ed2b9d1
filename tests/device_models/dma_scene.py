"""A machine with a unit and a DMA engine at 00:02.0, and software for both: raw offsets and words of the tests' own."""

from __future__ import annotations

import struct
from typing import NamedTuple

from device_models.dma_engine import DmaEngine
from device_models.machine import SystemMachine
from emulator.engine import Engine
from tests.ats import AtsBench
from tests.units import NIC

BAR, RING, RECORDS = 0xE000_0000, 0x30_0000, 0x31_0000
CAPABILITY, CONTROL, ENGINE_STATUS, RING_BASE, RING_SPACE, TAIL, HEAD, WHERE, COUNTERS = range(0, 0x48, 8)
NOTHING, COPY, FILL, COMPARE = range(4)
NOTIFY, RECORD, PP, PM, EXE, UNTRANSLATED, NO_PAGES = (1 << bit for bit in range(8, 15))
SUCCESS, DIFFERENT, BAD_DESCRIPTOR, NOT_ENABLED, BLOCKED, NO_TRANSLATION = range(1, 7)
NO_RIGHT, PAGE_REFUSED, PAGE_FAILED, PAGE_TIMEOUT, STILL_NO_RIGHT, NOTHING_THERE = range(7, 13)
RUNNING, HALTED, LOST = 1, 2, 4
ATS, PASID, PRI = 0x0F, 0x1B, 0x13
MICROSECOND = 1000


class Record(NamedTuple):
    """A completion record."""

    outcome: int
    reason: int
    index: int
    done: int
    address: int
    time: int


def descriptor(
    opcode: int, source: int = 0, to: int = 0, size: int = 0, flags: int = 0, pasid: int | None = None, **more
):
    """64 bytes for the ring."""
    low = opcode | flags | more.get("vector", 0) << 16 | (0 if pasid is None else PP | pasid << 32)
    record = more.get("record", 0)
    return struct.pack("<8Q", low, source, to, size, record, 0, 0, 0)


class MachineBench(AtsBench):
    """A bench whose unit and memory are a machine's, with one function at 00:02.0."""

    def __init__(
        self,
        device: str,
        engine: Engine | str = "python",
        profile: str = "spec",
        options: str = "",
        unit: str = "",
        root_port: str = "",
    ) -> None:
        self.machine = SystemMachine(profile, memory_size=64 << 20, engine=engine)
        self.unit = self.machine.add_device(f"intel-iommu{unit}").unit
        self.memory = self.machine.memory
        self.slot, self.status, self._next_table, self._levels = 16, 0, 0x20_0000, {}
        if root_port:
            port = self.machine.add_device(f"pcie-root-port,id={root_port},addr=4")
            for offset, value in ((0x18, 0x02_0200), (0x20, 0xEFF0_E000), (4, 6)):
                port.config_write(offset, 4, value)
        self.function = self.machine.add_device(
            f"{device},bus={root_port}{options}" if root_port else f"{device},addr=2{options}"
        )
        self.config(0x10, BAR)
        self.config(4, 6)

    def config(self, offset: int, value: int, size: int = 4) -> None:
        """As software writes it; extended space has no ports."""
        self.function.config_write(offset, size, value)

    def capability(self, identity: int) -> int:
        """Where an extended capability is, 0 for nowhere."""
        return self.function.config.find_extended_capability(identity)

    def switch_on(self, ats: bool = True, pasid: bool = False, pages: int = 0) -> None:
        """ATS, PASID with everything, and PRI with that many requests."""
        if ats:
            self.config(self.capability(ATS) + 6, 0x8000, 2)
        if pasid:
            self.config(self.capability(PASID) + 6, 7, 2)
        if pages:
            self.config(self.capability(PRI) + 12, pages)
            self.config(self.capability(PRI) + 4, 1, 2)

    def record_of_unit(self, index: int = 0) -> tuple[int, int, int] | None:
        """Reason, source-id and PASID of a fault record of the unit, None while it is empty."""
        at = 16 * (self.unit.capabilities.cap.fro + index)
        high = self.read(at + 8, 8)
        return (high >> 32 & 0xFF, high & 0xFFFF, high >> 40 & 0xFFFFF) if high >> 63 else None

    def identity(self, root: int, start: int, pages: int = 1) -> None:
        """Pages mapped to themselves in a second stage."""
        for number in range(pages):
            self.map(root, start + 0x1000 * number, start + 0x1000 * number)


class EngineBench(MachineBench):
    """The function is a DMA engine, with software that drives it."""

    def __init__(
        self, engine: Engine | str = "python", profile: str = "spec", options: str = "", unit: str = "", **more
    ) -> None:
        super().__init__("dma-engine", engine, profile, options, unit, **more)
        assert isinstance(self.function, DmaEngine)
        self.dma = self.function
        self.ring = 0

    def get(self, offset: int, size: int = 8) -> int:
        return self.machine.space.read_number(BAR + offset, size)

    def set(self, offset: int, value: int, size: int = 8) -> None:
        self.machine.space.write_number(BAR + offset, size, value)

    def start(self, ring: int = RING, order: int = 4, flags: int = 1 << 22) -> None:
        """The ring at an address, read untranslated unless `flags` say otherwise."""
        self.set(RING_BASE, ring | order)
        self.set(RING_SPACE, flags)
        self.set(CONTROL, 1)
        self.ring = 0

    def push(self, *descriptors: bytes, at: int = RING, order: int = 4) -> None:
        """Descriptors into the ring, and the doorbell."""
        for one in descriptors:
            self.memory.write(at + 64 * self.ring, one)
            self.ring = (self.ring + 1) % (1 << order)
        self.set(TAIL, self.ring)

    def settle(self, nanoseconds: int = 100 * MICROSECOND) -> None:
        self.machine.clock_step(nanoseconds)

    def run(self, *descriptors: bytes) -> tuple[int, int]:
        """Do descriptors; outcome and reason of the last."""
        self.push(*descriptors)
        self.settle()
        assert self.get(HEAD) == self.ring, "the engine did not get there"
        return self.outcome()

    def outcome(self) -> tuple[int, int]:
        status = self.get(ENGINE_STATUS)
        return status >> 8 & 0xFF, status >> 16 & 0xFF

    def record(self, address: int = RECORDS) -> Record:
        return Record(*struct.unpack("<BBHIQQ8x", self.memory.read(address, 32)))

    def counters(self) -> tuple[int, ...]:
        """Translation requests, hits, page requests, invalidations."""
        value = self.get(COUNTERS)
        return tuple(value >> shift & 0xFFFF for shift in (0, 16, 32, 48))


__all__ = ["NIC", "EngineBench", "MachineBench", "Record", "descriptor"]
