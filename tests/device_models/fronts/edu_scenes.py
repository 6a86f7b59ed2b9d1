"""Scenes of DMA through a unit, in qtest words only: tables by hand, registers by offset, edu as the device.

They ask what a driver of edu behind QEMU's intel-iommu would ask, and what each of its versions answers stands beside
them (read from QEMU 7.2.22, 10.0.2 and 11.1.3).
"""

from __future__ import annotations

import struct

from tests.device_models.fronts.driven import Words

UNIT, BAR, BUFFER = 0xFED9_0000, 0xE000_0000, 0x4_0000
EDU = 0x11E8_1234
GCMD, GSTS, RTADDR, FSTS, FECTL, FEDATA, FEADDR = 0x18, 0x1C, 0x20, 0x34, 0x38, 0x3C, 0x40
IQH, IQT, IQA, IRTA, FRCD = 0x80, 0x88, 0x90, 0xB8, 0x220
ROOT, CONTEXT, DIRECTORY, PASIDS, QUEUE, STATUS = 0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000, 0x10_4000, 0x10_5000
ENTRIES, TABLES = 0x10_6000, 0x11_0000
SOURCE, TARGET, NOWHERE = 0x12_3456_7000, 0x12_3456_8000, 0x12_3456_9000
PAGE_A, PAGE_B = 0x20_0000, 0x20_1000
PATTERN = bytes(5 * n + 1 & 0xFF for n in range(256))
READ, WRITE = 1, 2
DONE = 0xD0E


class Rig:
    """A machine with a unit and edu, reached by `words`."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.devfn = words.find(EDU)
        words.enable(self.devfn, BAR)
        self.next_table, self.tail = TABLES, 0

    def register(self, offset: int, size: int = 4) -> int:
        return self.words.get("readq" if size == 8 else "readl", UNIT + offset)

    def set_register(self, offset: int, value: int, size: int = 4) -> None:
        self.words.put("writeq" if size == 8 else "writel", UNIT + offset, value)

    def switch_on(self, bit: int) -> None:
        self.set_register(GCMD, self.register(GSTS) & 0x96FF_FFFF | 1 << bit)
        assert self.register(GSTS) & 1 << bit

    def table(self) -> int:
        self.next_table += 0x1000
        return self.next_table - 0x1000

    def map(self, top: int, levels: int, iova: int, leaf: int, branch: int = 3, last: int = 1) -> None:
        """One leaf, a whole entry, at level `last`."""
        table = top
        for level in range(levels, last, -1):
            at = table + 8 * (iova >> 9 * level + 3 & 511)
            entry = self.words.get("readq", at)
            if not entry:
                entry = self.table() | branch
                self.words.put("writeq", at, entry)
            table = entry & ~0xFFF
        self.words.put("writeq", table + 8 * (iova >> 9 * last + 3 & 511), leaf)

    def legacy(self, low: int, high: int) -> None:
        self.words.write(ROOT, struct.pack("<QQ", CONTEXT | 1, 0))
        self.words.write(CONTEXT + 16 * self.devfn, struct.pack("<QQ", low, high))

    def scalable(self, *entry: int) -> None:
        self.words.write(ROOT, struct.pack("<QQ", CONTEXT | 1, 0))
        self.words.write(CONTEXT + 32 * self.devfn, struct.pack("<4Q", DIRECTORY | 1, 0, 0, 0))
        self.words.put("writeq", DIRECTORY, PASIDS | 1)
        self.words.write(PASIDS, struct.pack(f"<{len(entry)}Q", *entry))

    def enable(self, scalable: bool = False) -> None:
        """Root table, queue, everything invalidated, translation."""
        self.set_register(RTADDR, ROOT | (1 << 10 if scalable else 0), 8)
        self.switch_on(30)
        self.set_register(IQA, QUEUE | (1 << 11 if scalable else 0), 8)
        self.set_register(IQT, 0, 8)
        self.switch_on(26)
        width = 32 if scalable else 16
        descriptors = [(0x11, 0), *([(0x37, 0)] if scalable else []), (0x12, 0), (0x25 | DONE << 32, STATUS)]
        for low, high in descriptors:
            self.words.write(QUEUE + self.tail, struct.pack("<4Q", low, high, 0, 0)[:width])
            self.tail += width
        self.set_register(IQT, self.tail, 8)
        assert self.register(IQH, 8) == self.tail
        assert self.words.get("readl", STATUS) == DONE
        self.switch_on(31)

    def dma(self, source: int, target: int, command: int) -> None:
        for offset, value in ((0x80, source), (0x88, target), (0x90, 256), (0x98, command)):
            self.words.put("writeq", BAR + offset, value)
        assert self.words.get("readq", BAR + 0x98) & 1
        self.words.ok("clock_step 150000000")
        assert not self.words.get("readq", BAR + 0x98) & 1

    def pull(self, iova: int) -> None:
        self.dma(iova, BUFFER, 1)

    def push(self, iova: int) -> None:
        self.dma(BUFFER, iova, 3)

    def copies(self, source: int, target: int, page_a: int = PAGE_A, page_b: int = PAGE_B) -> bool:
        """True if the pattern goes from one page through the device into the other, and nothing is wrong."""
        self.words.write(page_a, PATTERN)
        self.pull(source)
        self.push(target)
        return self.words.read(page_b, 256) == PATTERN and self.register(FSTS) == 0

    def fault(self) -> tuple[int, int]:
        """The first fault record, which is cleared."""
        low, high = self.register(FRCD, 8), self.register(FRCD + 8, 8)
        self.set_register(FRCD + 8, 1 << 63, 8)
        return low, high

    def send(self, address: int, data: int) -> None:
        """edu's interrupt as a message."""
        for offset, value in ((0x44, address), (0x48, 0), (0x4C, data)):
            self.words.set_config(self.devfn, offset, value)
        self.words.set_config(self.devfn, 0x40, self.words.config(self.devfn, 0x40) | 1 << 16)
        self.words.put("writel", BAR + 0x60, 1)
        self.words.put("writel", BAR + 0x64, 1)
