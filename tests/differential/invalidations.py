"""Sequences of changed entries, invalidations and DMA: what is stale and what is not."""

from __future__ import annotations

from tests.differential.scene import Scene
from tests.differential.writer import DATA, DATA_PAGES, LARGE, STATUS, Writer
from tests.qemu import EDU_SOURCE
from tests.units import (
    CCMD,
    IOTLB,
    IVA,
    TE,
    context_device,
    context_domain,
    context_global,
    iotlb_domain,
    iotlb_global,
    iotlb_pages,
    pasid_cache,
    pasid_iotlb,
    wait_status,
)

SEQUENCES = 10
DOMAIN = 5


class _Space:
    """A set of tables with a few pages, and the context entry that leads to it."""

    def __init__(self, writer: Writer, levels: int, first: bool) -> None:
        self.writer, self.levels, self.first = writer, levels, first
        draw = writer.draw
        self.tables = writer.page()
        base = draw.getrandbits(12 + 9 * levels - 1) >> 21 << 21
        self.small = [base + (page << 12) for page in (0, 1, 2, 3, 0x100, 0x101)]
        self.large = [base ^ 1 << 22, base ^ 1 << 23]
        for iova in self.small:
            self.change(iova, 1)
        for iova in self.large:
            self.change(iova, 2)

    def change(self, iova: int, level: int) -> None:
        """Another entry for a page."""
        draw, writer = self.writer.draw, self.writer
        at = writer.link(self.tables, self.levels, iova, level, 0x7 if self.first else 3)
        gpa = DATA + (draw.randrange(DATA_PAGES) << 12) if level == 1 else LARGE + (draw.randrange(3) << 21)
        entry = draw.choice((0, 1, 3, 3, 3)) if not self.first else draw.choice((0, 5, 7, 7, 0x67))
        writer.put(at, gpa | entry | (0x80 if level == 2 else 0) if entry else 0)


def scene(version: str, options: str, seed: int | str, sequences: int = SEQUENCES) -> Scene:
    """`sequences` of some 20 steps each."""
    writer = Writer(version, options, seed, "invalidations")
    draw = writer.draw
    queued = draw.random() < 0.8
    if queued:
        writer.queue()
    for _ in range(sequences):
        _sequence(writer, queued)
    writer.same()
    return writer.scene


def _sequence(writer: Writer, queued: bool) -> None:
    draw = writer.draw
    narrow = "aw-bits=39" in writer.scene.options or (
        writer.scene.version == "7.2" and "aw-bits" not in writer.scene.options
    )
    scalable = writer.scalable
    first = scalable and writer.first_stage
    levels = 4 if first else 3 if narrow else draw.choice((3, 4))
    spaces = [_Space(writer, levels, first) for _ in range(2)]
    entry = _attached(writer, spaces, scalable, first)
    for _ in range(draw.randrange(15, 30)):
        space = draw.choice(spaces)
        match draw.randrange(12):
            case 0 | 1:
                space.change(draw.choice(space.small), 1)
            case 2:
                space.change(draw.choice(space.large), 2)
            case 3 | 4 | 5:
                _invalidate(writer, space, queued)
            case 6:
                if draw.random() < 0.3:
                    writer.put(*entry(draw.choice(spaces), draw.choice((DOMAIN, DOMAIN + 1))))
            case _:
                iova = draw.choice(spaces[0].small * 2 + spaces[0].large + spaces[1].small)
                writer.access(iova + 8 * draw.randrange(500), clear=True)
    if draw.random() < 0.2:
        writer.gcmd(TE, on=False)
        writer.gcmd(TE)


def _attached(writer: Writer, spaces: list[_Space], scalable: bool, first: bool):
    if scalable:
        root, directory = writer.scalable_context()
        entries = writer.page()
        writer.put(directory, entries | 1)

        def entry(space: _Space, domain: int) -> tuple[int, ...]:
            low = 1 | (1 if first else 2) << 6 | space.levels - 2 << 2 | (0 if first else space.tables)
            return (entries, low, domain, space.tables if first else 0)

    else:
        root = writer.context(0, 0)
        at = (writer.words[root] & ~0xFFF) + 16 * EDU_SOURCE

        def entry(space: _Space, domain: int) -> tuple[int, ...]:
            return (at, space.tables | 1, domain << 8 | space.levels - 2)

    writer.put(*entry(spaces[0], DOMAIN))
    writer.latch(root, int(scalable))
    return entry


def _invalidate(writer: Writer, space: _Space, queued: bool) -> None:
    draw = writer.draw
    domain = draw.choice((DOMAIN, DOMAIN, DOMAIN, DOMAIN + 1))
    mask = draw.choice((0, 0, 0, 1, 2, 8, 9, 10))
    address = draw.choice(space.small * 2 + space.large) >> 12 + mask << 12 + mask
    if not queued or draw.random() < 0.05:
        _by_register(writer, domain, address, mask)
        return
    descriptors = [
        *[iotlb_pages(domain, address, mask)] * 6,
        iotlb_domain(domain),
        iotlb_global(),
        context_global(),
        context_domain(domain),
        context_device(domain, EDU_SOURCE ^ draw.choice((0, 0, 1, 7)), draw.randrange(4)),
    ]
    if writer.scalable:
        pasid = draw.choice((0, 0, 0, 3))
        descriptors += [
            *[pasid_iotlb(3, domain, pasid, address, mask)] * 3,
            pasid_iotlb(2, domain, pasid),
            pasid_cache(draw.choice((0, 1, 3)), domain, pasid),
        ]
    writer.submit(draw.choice(descriptors), wait_status(STATUS, draw.getrandbits(32)))
    writer.op("same", STATUS, 8)


def _by_register(writer: Writer, domain: int, address: int, mask: int) -> None:
    draw = writer.draw
    granularity = draw.choice((1, 2, 3, 3))
    if draw.random() < 0.3:
        writer.write(CCMD, 1 << 63 | granularity << 61 | draw.randrange(4) << 32 | EDU_SOURCE << 16 | domain, 8)
        writer.read(CCMD, size=8)
        return
    writer.write(IVA, address | mask, 8)
    writer.write(IOTLB, 1 << 63 | granularity << 60 | domain << 32, 8)
    writer.read(IOTLB, size=8)
