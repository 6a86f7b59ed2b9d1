"""The invalidation queue: its size, width, tails, errors and how it goes on after them."""

from __future__ import annotations

from tests.differential.scene import Scene
from tests.differential.sweeps import DESCRIPTORS
from tests.differential.writer import QUEUE, STATUS, Writer
from tests.units import FECTL, FSTS, IQA, IQH, IQT, QIE, RTADDR, SRTP, wait_flags, wait_status

STEPS = 60


def scene(version: str, options: str, seed: int | str) -> Scene:
    """A queue of some size and width, with good and bad descriptors."""
    writer = Writer(version, options, seed, "queues")
    draw = writer.draw
    wide = draw.randrange(2) if writer.scalable else int(draw.random() < 0.1)
    _start(writer, wide)
    for _ in range(STEPS):
        match draw.randrange(10):
            case 0 if draw.random() < 0.3:
                writer.write(RTADDR, 0x20_0000 | draw.randrange(4) << 10, 8)
                writer.gcmd(SRTP)
            case 1 if draw.random() < 0.3:
                writer.gcmd(QIE, on=False)
                writer.read(0x1C)
                _start(writer, wide)  # while a queue is enabled its width is not software's to change
            case 2:
                tail = draw.choice((writer.tail, draw.randrange(0, 0x1000, 16), draw.randrange(1 << 19)))
                writer.write(IQT, tail, draw.choice((4, 8)))
            case 3:
                writer.write(FSTS, draw.choice((0x10, 0x10, 0xFF)))
                writer.write(IQT, writer.tail, 8)
            case 4:
                writer.write(FECTL, draw.choice((0, 1 << 31)))
            case _:
                writer.submit(*[_descriptor(writer) for _ in range(draw.randrange(1, 4))])
        writer.read(FSTS, FECTL, 0x9C, 0xA0)
        writer.read(IQH, IQT, IQA, 0xB0, size=8)
        writer.write(0x9C, draw.randrange(2))
    writer.op("same", STATUS, 64)
    return writer.scene


def _start(writer: Writer, wide: int) -> None:
    draw = writer.draw
    writer.slot = 32 if wide and writer.scalable else 16
    writer.tail = 0
    writer.write(IQT, 0, 8)
    writer.write(IQA, QUEUE | wide << 11 | draw.choice((0, 0, 0, 1, 3)), 8)
    writer.gcmd(QIE)


def _descriptor(writer: Writer) -> bytes:
    draw = writer.draw
    good = [wait_status(STATUS + 4 * draw.randrange(8), draw.getrandbits(32)), wait_flags(0x10)]
    good += [word for words in DESCRIPTORS.values() for word in words if len(word) <= writer.slot and any(word)]
    word = int.from_bytes(draw.choice(good), "little")
    if draw.random() < 0.1:
        word ^= 1 << draw.randrange(8 * writer.slot)
    if word & 0x3F == 0x35:  # a wait with SW and IF ends older versions
        word ^= 0x10
    return word.to_bytes(writer.slot, "little")
