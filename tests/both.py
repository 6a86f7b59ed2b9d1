"""A real QEMU and our unit, in step: everything is done twice, and whatever is read must be equal."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from emulator.bus import Bus
from emulator.engine import Engine
from emulator.profile import Profile
from emulator.unit import RemappingUnit
from pagetables.address import SourceId
from pagetables.fault import Fault
from pagetables.memory import PhysicalMemory
from tests.qemu import EDU_SOURCE, Qemu
from tests.required import need_qemu
from tests.units import (
    CONTEXT,
    FRCD,
    FSTS,
    GCMD,
    GSTS,
    IQA,
    IQH,
    IQT,
    QIE,
    QUEUE,
    ROOT,
    RTADDR,
    SRTP,
    STATUS,
    TABLES,
    TE,
    R,
    W,
)

MEGABYTES = 64
PAGES = 0x80_0000  # data pages start here


class Both:
    """QEMU and our unit, in step."""

    def __init__(self, qemu: Qemu, profile: Profile, engine: Engine) -> None:
        self.qemu = qemu
        self.memory = PhysicalMemory([(0, MEGABYTES << 20)])
        self.unit = RemappingUnit(self.memory, profile, engine)
        self.port = Bus(self.unit).port(SourceId(EDU_SOURCE))
        self.buffer = bytes(4096)
        self.tail = 0
        self.next_table = TABLES

    # -- registers and memory

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Write a register of both."""
        self.qemu.write(offset, size, value)
        self.unit.write(offset, size, value)

    def read(self, offset: int, size: int = 4, ignore: int = 0) -> int:
        """A register, equal in both but for the bits to ignore."""
        theirs, ours = self.qemu.read(offset, size) & ~ignore, self.unit.read(offset, size) & ~ignore
        assert ours == theirs, f"register {offset:#x}: ours {ours:#x}, QEMU's {theirs:#x}"
        return ours

    def put(self, address: int, *qwords: int) -> None:
        """Qwords into both memories."""
        self.fill(address, struct.pack(f"<{len(qwords)}Q", *qwords))

    def fill(self, address: int, data: bytes) -> None:
        """Bytes into both memories."""
        self.qemu.write_memory(address, data)
        self.memory.write(address, data)

    def same(self, address: int, size: int) -> bytes:
        """Bytes that are equal in both memories."""
        ours = self.memory.read(address, size)
        assert ours == self.qemu.read_memory(address, size), f"memory at {address:#x} differs"
        return ours

    def status(self) -> int:
        """FSTS and the fault record, equal in both; the status."""
        self.read(FRCD, 8)
        self.read(FRCD + 8, 8)
        return self.read(FSTS)

    def reason(self) -> int:
        """The reason of the pending fault, 0 if there is none; cleared afterwards."""
        self.status()
        high = self.read(FRCD + 8, 8)
        self.write(FRCD + 12, 1 << 31)
        self.write(FSTS, 1)
        self.status()
        return high >> 32 & 0xFF if high >> 63 else 0

    def command(self, bit: int, on: bool = True) -> int:
        """One bit of GCMD changed; the status, equal in both."""
        kept = self.read(GSTS) & 0x96FF_FFFF
        self.write(GCMD, kept | bit if on else kept & ~bit)
        return self.read(GSTS)

    # -- tables

    def table(self) -> int:
        """A zeroed page for a table."""
        page, self.next_table = self.next_table, self.next_table + 0x1000
        self.fill(page, bytes(0x1000))
        return page

    def map(
        self, root: int, levels: int, iova: int, gpa: int, permissions: int = R | W, level: int = 1, link: int = 3
    ) -> int:
        """A leaf, with the tables on its way; returns where it lies."""
        table = root
        for upper in range(levels, level, -1):
            at = table + 8 * (iova >> (12 + 9 * (upper - 1)) & 511)
            entry = self.memory.load(at)
            if not entry:
                entry = self.table() | link
                self.put(at, entry)
            table = entry & ~0xFFF
        at = table + 8 * (iova >> (12 + 9 * (level - 1)) & 511)
        self.put(at, gpa | permissions | (1 << 7 if level > 1 else 0))
        return at

    def context(self, low: int, high: int) -> None:
        """Root and context entry of the device."""
        self.put(ROOT, CONTEXT | 1, 0)
        self.put(CONTEXT + 16 * EDU_SOURCE, low, high)

    def enable(self) -> None:
        """Root table and translation."""
        self.write(RTADDR, ROOT, 8)
        self.command(SRTP)
        self.command(TE)

    def space(self, levels: int) -> int:
        """Tables for the device in domain 5, in force; returns their root."""
        root = self.table()
        self.context(root | 1, 5 << 8 | levels - 2)
        self.enable()
        return root

    # -- the queue

    def start_queue(self) -> None:
        """One page of 128-bit slots."""
        self.fill(QUEUE, bytes(0x1000))
        self.write(IQT, 0, 8)
        self.write(IQA, QUEUE, 8)
        self.command(QIE)
        self.tail = 0

    def submit(self, *descriptors: bytes) -> int:
        """Descriptors at the tail; the head afterwards."""
        for descriptor in descriptors:
            self.fill(QUEUE + self.tail, descriptor)
            self.tail = (self.tail + 16) % 0x1000
        self.write(IQT, self.tail, 8)
        self.same(STATUS, 8)
        self.read(FSTS)
        return self.read(IQH, 8)

    # -- the device

    def load(self, data: bytes) -> None:
        """Put `data` into the device's buffer: by DMA, with translation as it is; so do it before enabling."""
        self.fill(PAGES, data)
        assert self.pull(PAGES, len(data)) == 0

    def pull(self, iova: int, size: int = 8) -> int:
        """The device reads into its buffer; the fault reason, 0 if none. A read that faults yields zeros here."""
        self.qemu.pull(iova, size)
        answer = self.port.read(iova, size)
        self.buffer = (bytes(size) if isinstance(answer, Fault) else answer) + self.buffer[size:]
        return self.reason()

    def push(self, iova: int, size: int = 8) -> int:
        """The device writes its buffer; the fault reason, 0 if none."""
        self.qemu.push(iova, size)
        self.port.write(iova, self.buffer[:size])
        return self.reason()


def running(engine: Engine, options: str, profile: Profile) -> Iterator[Both]:
    """QEMU and our unit, or a loud skip."""
    with Qemu(options, MEGABYTES, binary=need_qemu("7.2")) as qemu:
        yield Both(qemu, profile, engine)
