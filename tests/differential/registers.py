"""Registers: every offset at every width after reset, then random writes, read back one by one and all together."""

from __future__ import annotations

from tests.differential.scene import Scene
from tests.differential.writer import Writer
from tests.units import (
    CCMD,
    FEADDR,
    FECTL,
    FEDATA,
    FEUADDR,
    FRCD,
    FSTS,
    GCMD,
    ICS,
    IEADDR,
    IECTL,
    IEDATA,
    IEUADDR,
    IOTLB,
    IQA,
    IQERCD,
    IQH,
    IQT,
    IRTA,
    IVA,
    RTADDR,
)

END = 0x240  # beyond the last register
WRITES = 400
ENDS_QEMU = (0x38, 0xA0, 0xA8, 0xE0, 0xE8)  # 8-byte writes to these offsets
NOT_HANDLED = (0x30, 0x98)  # nor does it do what a write of FSTS or ICS does if 8 bytes are written to these
LOW = 0x7FFF_FFFF
WIDE = 1 << 11
KNOWN = (RTADDR, CCMD, FSTS, FECTL, FEDATA, FEADDR, FEUADDR, 0x64, 0x68, IQH, IQT, IQA, ICS, IECTL, IEDATA, IEADDR)
KNOWN += (IEUADDR, IQERCD, IRTA, 0xC0, 0xC8, 0xD0, 0xDC, 0xE0, 0xE4, 0xE8, IVA, IOTLB, FRCD, FRCD + 8, GCMD, GCMD)


def scene(version: str, options: str, seed: int | str) -> Scene:
    """All reset values, and `WRITES` writes."""
    writer = Writer(version, options, seed, "registers")
    wide = writer.draw.choice((0, WIDE))
    for size in (1, 2, 4, 8):
        writer.read(*range(END), size=size)
    writer.write(IQA, wide, 8)
    for number in range(WRITES):
        offset, size = _place(writer)
        limit = (1 << 8 * size) - 1
        values = (0, limit, writer.draw.getrandbits(8 * size), 1 << writer.draw.randrange(8 * size))
        value = writer.draw.choice(values)
        if (offset, size) == (IQA, 4):
            value &= LOW  # above it QEMU has devices and a firmware, whose bytes would be descriptors
        if offset == IQA:
            value = value & ~WIDE | wide  # QEMU takes another width at once, also in a queue that is enabled
        writer.write(offset, value, size)
        writer.read(offset, size=size)
        if number % 20 == 0:
            writer.read(*range(0, END, 8), size=8)
    return writer.scene


def _place(writer: Writer) -> tuple[int, int]:
    draw = writer.draw
    while True:
        size = draw.choice((1, 2, 4, 4, 4, 8, 8))
        offset = draw.choice(KNOWN) + draw.choice((0, 0, 4)) if draw.random() < 0.7 else draw.randrange(END)
        if size == 8:
            offset &= ~7
            if offset in ENDS_QEMU + NOT_HANDLED:
                continue
        return offset, size
