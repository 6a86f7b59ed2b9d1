"""Writes scenes: registers, structures and requests in plain numbers, in a fresh machine whose memory is zero."""

from __future__ import annotations

import random
import struct

from tests.differential.scene import BUFFER, Scene
from tests.qemu import EDU_SOURCE
from tests.units import (
    FECTL,
    FRCD,
    FSTS,
    GCMD,
    IQA,
    IQH,
    IQT,
    QIE,
    RTADDR,
    SRTP,
    TE,
    R,
    W,
)

STRUCTURES, TABLES, DATA, LARGE, TOP = 0x10_0000, 0x20_0000, 0x80_0000, 0xA0_0000, 0x400_0000
QUEUE, STATUS = 0x3C0_0000, 0x3C8_0000
NOWHERE = 0x7000_0000  # no memory is there
DATA_PAGES = 8


class Writer:
    """The operations of a scene as they are written, and what lies in memory after them."""

    def __init__(self, version: str, options: str, seed: int | str, what: str) -> None:
        self.scene = Scene(version, options, what=what)
        self.draw = random.Random(f"{what} {version} {options} {seed}")
        self.scalable = "scalable-mode=on" in options
        self.first_stage = "flts=on" in options
        self.words: dict[int, int] = {}
        self._next = TABLES
        self.command = 0
        self.tail = 0
        self.slot = 16

    def op(self, *op: object) -> None:
        """Any operation."""
        self.scene.ops.append(list(op))

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """A register."""
        self.op("write", offset, size, value)

    def read(self, *offsets: int, size: int = 4) -> None:
        """Registers."""
        for offset in offsets:
            self.op("read", offset, size)

    def put(self, address: int, *qwords: int) -> None:
        """Qwords into memory."""
        for number, qword in enumerate(qwords):
            self.words[address + 8 * number] = qword
        self.op("fill", address, struct.pack(f"<{len(qwords)}Q", *qwords).hex())

    def page(self) -> int:
        """A zeroed page for tables."""
        self._next += 0x1000
        return self._next - 0x1000

    def same(self) -> None:
        """Tables and data are the same."""
        self.op("same", TABLES, self._next - TABLES)
        self.op("same", DATA, DATA_PAGES * 0x1000)

    def gcmd(self, bit: int, on: bool = True) -> None:
        """One bit of GCMD, the persistent ones as they were."""
        if bit == SRTP:
            self.write(GCMD, self.command | bit)
        else:
            self.command = self.command | bit if on else self.command & ~bit
            self.write(GCMD, self.command)

    def latch(self, root: int, mode: int) -> None:
        """A root table in force, and translation."""
        self.write(RTADDR, root | mode << 10, 8)
        self.gcmd(SRTP)
        self.gcmd(TE)

    # -- structures

    def link(self, root: int, levels: int, iova: int, level: int, low: int) -> int:
        """Where the entry of `level` for `iova` lies; the tables above it are made, linked with `low`."""
        table = root
        for upper in range(levels, level, -1):
            at = table + 8 * (iova >> (12 + 9 * (upper - 1)) & 511)
            if at not in self.words:
                self.put(at, self.page() | low)
            table = self.words[at] & 0x7F_FFFF_F000
            if table >= TOP:
                return 0
        return table + 8 * (iova >> (12 + 9 * (level - 1)) & 511)

    def context(self, low: int, high: int) -> int:
        """Legacy root and context table with the device's entry; returns the root."""
        root, context = self.page(), self.page()
        self.put(root, context | 1, 0)
        self.put(context + 16 * EDU_SOURCE, low, high)
        return root

    def scalable_context(self, low: int = 0, rid_pasid: int = 0) -> tuple[int, int]:
        """Scalable root and context table with the device's entry and a PASID directory; returns root and directory."""
        root, context, directory = self.page(), self.page(), self.page()
        self.put(root, context | 1, 0)
        self.put(context + 32 * EDU_SOURCE, directory | 1 | low, rid_pasid, 0, 0)
        return root, directory

    # -- the queue

    def queue(self) -> None:
        """One page; slots of 32 bytes in scalable mode."""
        self.slot = 32 if self.scalable else 16
        self.write(IQT, 0, 8)
        self.write(IQA, QUEUE | (1 << 11 if self.scalable else 0), 8)
        self.gcmd(QIE)

    def submit(self, *descriptors: bytes) -> None:
        """Descriptors at the tail, and what the queue shows afterwards."""
        for descriptor in descriptors:
            self.op("fill", QUEUE + self.tail, descriptor.ljust(self.slot, b"\0").hex())
            self.tail = (self.tail + self.slot) % 0x1000
        self.write(IQT, self.tail, 8)
        self.read(FSTS)
        self.read(IQH, size=8)

    # -- the device

    def push(self, iova: int, size: int = 8) -> None:
        """The device writes bytes that are never the same twice in a row."""
        self.op("push", iova, size, self.draw.randrange(0, BUFFER - size, 8))

    def faults(self, clear: bool = True) -> None:
        """Fault status, record and event; cleared."""
        self.read(FSTS, FECTL)
        self.read(FRCD, FRCD + 8, size=8)
        if clear:
            self.write(FRCD + 12, 1 << 31)
            self.read(FSTS, FECTL)
            self.write(FSTS, 1)
            self.read(FSTS, FECTL)

    def access(self, iova: int, size: int = 8, clear: bool = True) -> None:
        """The device reads or writes, and what became of it."""
        if self.draw.random() < 0.6:
            self.push(iova, size)
        else:
            self.op("pull", iova, size)
        self.faults(clear)


def permissions(draw: random.Random) -> int:
    """R, W, both or none."""
    return draw.choice((R | W, R | W, R | W, R, W, 0))
