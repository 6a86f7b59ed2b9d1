"""Random tables, good and bad, and DMA through them."""

from __future__ import annotations

from tests.differential.scene import Scene
from tests.differential.writer import DATA, DATA_PAGES, LARGE, NOWHERE, Writer, permissions
from tests.units import CCMD, IOTLB, TE

ROUNDS = 20
DOMAIN = 5


def scene(version: str, options: str, seed: int | str, rounds: int = ROUNDS) -> Scene:
    """`rounds` sets of tables, each with its requests."""
    writer = Writer(version, options, seed, "tables")
    for _ in range(rounds):
        draw = writer.draw
        if writer.scalable and draw.random() < 0.75:
            _scalable(writer)
        else:
            _legacy(writer)
    writer.same()
    return writer.scene


def _levels(writer: Writer) -> int:
    narrow = "aw-bits=39" in writer.scene.options or (
        writer.scene.version == "7.2" and "aw-bits" not in writer.scene.options
    )
    return 3 if narrow else writer.draw.choice((3, 4, 4))


def _legacy(writer: Writer) -> None:
    draw = writer.draw
    levels, tables = _levels(writer), writer.page()
    kind = draw.choice((0, 0, 0, 0, 0, 0, 1, 2, 2, 3))
    low, high = tables | kind << 2 | 1, DOMAIN << 8 | levels - 2
    low |= 2 if draw.random() < 0.1 else 0
    if draw.random() < 0.1:
        low ^= 1 << draw.randrange(64)
    if draw.random() < 0.1:
        high ^= 1 << draw.randrange(64)
    if draw.random() < 0.05:
        high = high & ~7 | draw.randrange(8)
    root = writer.context(low, high)
    if draw.random() < 0.05:
        writer.put(root + draw.choice((0, 8)), writer.words[root] ^ 1 << draw.randrange(64))
    writer.latch(NOWHERE if draw.random() < 0.03 else root, draw.choice((0, 0, 0, 2)) if not writer.scalable else 0)
    _requests(writer, tables, levels, second_entry)


def _scalable(writer: Writer) -> None:
    draw = writer.draw
    levels, tables = _levels(writer), writer.page()
    first = writer.first_stage
    levels = 4 if first else levels
    pgtt = draw.choice((1, 1, 1, 1, 4, 2) if first else (2, 2, 2, 2, 4, 1))
    root, directory = writer.scalable_context(2 if draw.random() < 0.05 else 0, draw.choice((0, 0, 0, 0, 3)))
    entries = writer.page()
    writer.put(directory, entries | (0 if draw.random() < 0.03 else 1) | (2 if draw.random() < 0.05 else 0))
    words = [1 | pgtt << 6 | levels - 2 << 2, DOMAIN, 0, 0, 0, 0, 0, 0]
    words[2 if first else 0] |= tables
    if draw.random() < 0.1:
        words[0] ^= 1 << draw.randrange(12)
    if draw.random() < 0.1:
        words[draw.randrange(8)] ^= 1 << draw.randrange(64)
    writer.put(entries, *words)
    if draw.random() < 0.3:
        writer.put(entries + 3 * 64, *words)
    for at, chance in ((root, 0.04), (directory, 0.05)):
        if draw.random() < chance:
            writer.put(at, writer.words[at] ^ 1 << draw.randrange(64))
    writer.latch(root, draw.choice((1, 1, 1, 3)))
    _requests(writer, tables, levels, first_entry if first else second_entry)


def second_entry(writer: Writer, address: int, leaf: bool, level: int) -> int:
    """A second-stage entry, seldom a bad one."""
    draw = writer.draw
    entry = address | (permissions(draw) if draw.random() < (0.6 if leaf else 0.2) else 3)
    entry |= 1 << 7 if leaf and level > 1 else 0
    return _spoiled(writer, entry)


def first_entry(writer: Writer, address: int, leaf: bool, level: int) -> int:
    """A first-stage entry, seldom a bad one."""
    draw = writer.draw
    entry = address | (draw.choice((7, 7, 7, 5, 3, 6, 0x67)) if draw.random() < (0.6 if leaf else 0.2) else 7)
    entry |= 1 << 7 if leaf and level > 1 else 0
    return _spoiled(writer, entry)


def _spoiled(writer: Writer, entry: int) -> int:
    draw = writer.draw
    if draw.random() < 0.08:
        entry ^= 1 << draw.randrange(64)
    return (1 << 64) - 1 if draw.random() < 0.02 else entry


def _requests(writer: Writer, tables: int, levels: int, entry_of) -> None:
    draw = writer.draw
    mapped = [_leaf(writer, tables, levels, entry_of) for _ in range(draw.randrange(1, 5))]
    for _ in range(draw.randrange(2, 7)):
        iova, inside = draw.choice(mapped)
        size = draw.choice((8, 8, 8, 16, 200))
        offset = draw.choice((inside, inside + 0x18, inside + 0x1000 - 4, inside + draw.randrange(0, 0xE00, 8)))
        where = draw.random()
        if where < 0.04:
            iova, offset = draw.choice((1 << 38, 1 << 39, 1 << 47, 1 << 48, (1 << 64) - (1 << 47), 1 << 57)), 0x100
        elif where < 0.1:
            iova ^= 1 << draw.randrange(12, 48)
        if 0xFED0_0000 <= iova + offset & 0xFFFF_FFFF < 0xFF00_0000:
            continue
        writer.access(iova + offset, size, clear=draw.random() < 0.8)
        if draw.random() < 0.15:
            _leaf(writer, tables, levels, entry_of)
        if draw.random() < 0.1:
            writer.write(IOTLB, 1 << 63 | 1 << 60, 8)
        if draw.random() < 0.04:
            writer.write(CCMD, 1 << 63 | 1 << 61, 8)
            writer.read(CCMD, size=8)
        if draw.random() < 0.02:
            writer.gcmd(TE, on=False)
            writer.gcmd(TE)
    writer.faults()


def _leaf(writer: Writer, tables: int, levels: int, entry_of) -> tuple[int, int]:
    # Its input address, and an offset at which memory is.
    draw = writer.draw
    level = draw.choice((1, 1, 1, 2, 2, 3))
    width = 12 + 9 * levels - (1 if entry_of is first_entry else 0)
    iova = draw.choice((0x1000, 0x7FFF_F000, draw.getrandbits(width)))
    iova = iova & (1 << width) - 1
    iova = iova >> 12 + 9 * (level - 1) << 12 + 9 * (level - 1)
    gpa, inside = {
        1: (DATA + (draw.randrange(DATA_PAGES) << 12), 0),
        2: (LARGE + (draw.randrange(3) << 21), draw.randrange(512) << 12),
        3: (0, DATA + (draw.randrange(DATA_PAGES) << 12)),
    }[level]
    if draw.random() < 0.04:
        gpa, inside = {1: (0xFEE0_0000, 0), 2: (0xFEE0_0000, 0), 3: (0xC000_0000, 0)}[level]
    table = tables
    for upper in range(levels, level, -1):
        at = table + 8 * (iova >> (12 + 9 * (upper - 1)) & 511)
        if at not in writer.words:
            below = writer.page()
            writer.put(at, entry_of(writer, NOWHERE if draw.random() < 0.02 else below, False, upper))
        table = writer.words[at] & 0x7F_FFFF_F000
        if not 0x20_0000 <= table < 0x80_0000:
            return iova, inside
    at = table + 8 * (iova >> (12 + 9 * (level - 1)) & 511)
    writer.put(at, entry_of(writer, gpa, True, level))
    return iova, inside
