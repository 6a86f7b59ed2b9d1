"""A unit that does what its queue says and remembers it: what a driver's tests need, and no more.

It shares nothing with the emulated unit, nor with our layouts: offsets and bits are written out here.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

CAP, ECAP, GCMD, GSTS, RTADDR, FSTS = 0x08, 0x10, 0x18, 0x1C, 0x20, 0x34
IQH, IQT, IQA, IQERCD = 0x80, 0x88, 0x90, 0xB0
TE, SRTP, WBF, QIE = 1 << 31, 1 << 30, 1 << 27, 1 << 26

PSI, ESRTPS, CM, RWBF, DRAIN = 1 << 39, 1 << 63, 1 << 7, 1 << 4, 3 << 54
ND_16_BIT, SAGAW_ALL, MGAW_57, SSLPS_ALL, FS1GP, FS5LP = 6, 0b1110 << 8, 56 << 16, 3 << 34, 1 << 56, 1 << 60
QI, SMTS, FSTS_CAP, SSTS = 1 << 1, 1 << 43, 1 << 47, 1 << 46


class Descriptor(NamedTuple):
    """A fetched descriptor: its type and all of its bits."""

    type: int
    word: int

    def bits(self, hi: int, lo: int) -> int:
        """A field of the descriptor."""
        return self.word >> lo & (1 << hi - lo + 1) - 1


class FakeUnit:
    """Mmio over a few registers. `stuck` leaves the queue alone; `log` holds commands, `fetched` descriptors."""

    def __init__(self, memory, *, cap: int = 0, ecap: int = QI | SMTS | FSTS_CAP | SSTS, mamv: int = 18):
        shape = ND_16_BIT | SAGAW_ALL | MGAW_57 | SSLPS_ALL | FS1GP | FS5LP
        self.memory = memory
        self.cap = cap | shape | mamv << 48
        self.ecap = ecap
        self.registers = dict.fromkeys((GSTS, RTADDR, FSTS, IQH, IQT, IQA, IQERCD), 0)
        self.fetched: list[Descriptor] = []
        self.log: list[object] = []
        self.watch: list[int] = []  # addresses whose qword is noted when a descriptor runs
        self.seen: list[tuple[int, ...]] = []
        self.stuck = False

    def read32(self, offset: int) -> int:
        return self.registers[offset] & 0xFFFF_FFFF

    def read64(self, offset: int) -> int:
        return {CAP: self.cap, ECAP: self.ecap}.get(offset, self.registers.get(offset, 0))

    def write32(self, offset: int, value: int) -> None:
        assert offset == GCMD, hex(offset)
        changed = (value ^ self.registers[GSTS]) & (TE | QIE) | value & (SRTP | WBF)
        assert changed.bit_count() == 1, f"GCMD={value:#x} changes more than one bit"
        self.log.append({TE: "te", SRTP: "srtp", WBF: "wbf", QIE: "qie"}[changed])
        self.registers[GSTS] = value & (TE | QIE) | (self.registers[GSTS] | value) & SRTP

    def write64(self, offset: int, value: int) -> None:
        self.registers[offset] = int(value)
        if offset == IQT and self.registers[GSTS] & QIE and not self.stuck:
            self._run()

    def _run(self) -> None:
        queue = self.registers[IQA]
        size = 32 if queue & 1 << 11 else 16
        while self.registers[IQH] != self.registers[IQT]:
            at = (queue & ~0xFFF) + self.registers[IQH]
            word = int.from_bytes(self.memory.read(at, size), "little")
            self._execute(Descriptor(word & 0xF, word))
            self.registers[IQH] = (self.registers[IQH] + size) % 4096

    def _execute(self, descriptor: Descriptor) -> None:
        self.fetched.append(descriptor)
        self.log.append(descriptor.type)
        self.seen.append(tuple(self.memory.load(address) for address in self.watch))
        if descriptor.type == 5 and descriptor.bits(5, 5):
            self.memory.write(descriptor.bits(127, 66) << 2, struct.pack("<I", descriptor.bits(63, 32)))

    def of_type(self, kind: int) -> list[Descriptor]:
        """The descriptors of one type, in order."""
        return [descriptor for descriptor in self.fetched if descriptor.type == kind]
