"""Every bit of every table entry and of every queue descriptor, flipped one at a time in what would else be good."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.differential.scene import Scene
from tests.differential.writer import DATA, LARGE, QUEUE, STATUS, Writer
from tests.qemu import EDU_SOURCE
from tests.units import (
    FSTS,
    IQH,
    IQT,
    QIE,
    context_device,
    context_domain,
    context_global,
    iotlb_domain,
    iotlb_global,
    iotlb_pages,
    pasid_cache,
    pasid_iotlb,
    wait_flags,
    wait_status,
)

IOVA = 0x40_2000_1000
INSIDE = 0x40
DOMAIN = 5
AT_ONCE = 128  # bits in one scene, with a set of tables each
DESCRIPTORS = {
    "context": (context_global(), context_domain(3), context_device(3, EDU_SOURCE, 3)),
    "iotlb": (iotlb_global(), iotlb_domain(3), iotlb_pages(3, 0x5000, 2)),
    "device-tlb": (struct.pack("<QQ", 0x3 | EDU_SOURCE << 32, 0x1000), struct.pack("<QQ", 0x3, 0x7FFF_FFFF_FFFF_F001)),
    "interrupt-entry": (struct.pack("<QQ", 0x4, 0), struct.pack("<QQ", 0x14 | 5 << 32, 0)),
    "wait": (wait_status(STATUS, 7), wait_flags(0x10), wait_flags(0x40), wait_status(STATUS, 8, 0x40)),
    "pasid-iotlb": (pasid_iotlb(2, 3, 0), pasid_iotlb(3, 3, 0, 0x5000, 2)),
    "pasid-cache": (pasid_cache(0, 3, 0), pasid_cache(1, 3, 2), pasid_cache(3, 0, 0)),
    "pasid-device-tlb": (struct.pack("<QQQQ", 0x8 | EDU_SOURCE << 16, 0x1000, 0, 0),),
    "page-response": (struct.pack("<QQQQ", 0x9 | EDU_SOURCE << 16, 0, 0, 0),),
    "nothing": (bytes(16), bytes(32)),
}


def entries(version: str, options: str) -> Iterator[Scene]:
    """A scene for each structure and 128 of its bits: a read and a write with each bit flipped."""
    probe = Writer(version, options, 0, "sweep")
    for kind in _kinds(probe):
        for start in range(0, _bits(kind), AT_ONCE):
            writer = Writer(version, options, 0, f"sweep {kind} {start}")
            for bit in range(start, min(start + AT_ONCE, _bits(kind))):
                for level in _levels(kind):
                    _flip(writer, kind, bit, level)
            writer.same()
            yield writer.scene


def _kinds(writer: Writer) -> list[str]:
    legacy = ["root", "context", "second-4", "second-3", "second-2", "second-1", "second-large-2", "second-large-3"]
    if not writer.scalable:
        return legacy
    stage = "first" if writer.first_stage else "second"
    paging = [f"{stage}-{which}" for which in ("4", "3", "2", "1", "large-2", "large-3")]
    return ["root", "scalable-root", "scalable-context", "directory", "pasid", *[f"scalable-{one}" for one in paging]]


def _bits(kind: str) -> int:
    return {"root": 128, "context": 128, "scalable-root": 128, "scalable-context": 256, "pasid": 512}.get(kind, 64)


def _levels(kind: str) -> tuple[int, ...]:
    return (0,)


def _flip(writer: Writer, kind: str, bit: int, _: int) -> None:
    structures = _build(writer, kind)
    at = structures[kind.removeprefix("scalable-") if "large" in kind or kind.count("-") > 1 else kind] + bit // 64 * 8
    writer.put(at, writer.words.get(at, 0) ^ 1 << bit % 64)
    writer.latch(structures["RTADDR"], int(kind in _SCALABLE or kind.startswith("scalable")))
    iova = IOVA + INSIDE
    writer.op("pull", iova, 8)
    writer.faults()
    writer.write(0xF8, 1 << 63 | 1 << 60, 8)
    writer.push(iova)
    writer.faults()


_SCALABLE = ("directory", "pasid")


def _build(writer: Writer, kind: str) -> dict[str, int]:
    scalable = kind in _SCALABLE or kind.startswith("scalable")
    first = scalable and writer.first_stage
    large = int(kind[-1]) if "large" in kind else 0
    narrow = "aw-bits=39" in writer.scene.options or (
        writer.scene.version == "7.2" and "aw-bits" not in writer.scene.options
    )
    levels = 3 if narrow and not first else 4
    iova = IOVA & (1 << 12 + 9 * levels) - 1
    found = _paging(writer, iova, levels, large or 1, first)
    if scalable:
        root, directory = writer.scalable_context()
        context = writer.words[root] & ~0xFFF
        table = writer.page()
        writer.put(directory, table | 1)
        low = 1 | (1 if first else 2) << 6 | levels - 2 << 2 | (0 if first else found["tables"])
        writer.put(table, low, DOMAIN, found["tables"] if first else 0, 0, 0, 0, 0, 0)
        found |= {"scalable-root": root, "scalable-context": context + 32 * EDU_SOURCE, "directory": directory}
        found |= {"pasid": table, "RTADDR": root}
    else:
        root = writer.context(found["tables"] | 1, DOMAIN << 8 | levels - 2)
        found |= {"root": root, "context": (writer.words[root] & ~0xFFF) + 16 * EDU_SOURCE, "RTADDR": root}
    return found


def _paging(writer: Writer, iova: int, levels: int, leaf: int, first: bool) -> dict[str, int]:
    # Where the entry of each level lies; with three levels the fourth is the third.
    stage, low = ("first", 0x7) if first else ("second", 3)
    tables = writer.page()
    found = {"tables": tables}
    gpa = {1: DATA, 2: LARGE, 3: 0}[leaf]
    for level in range(4, 0, -1):
        if level < leaf:
            found[f"{stage}-{level}"] = found[f"{stage}-{leaf}"]
            continue
        at = writer.link(tables, levels, iova, min(level, levels), low)
        found[f"{stage}-{level}"] = at
        if level == leaf:
            writer.put(at, gpa | low | (0x80 if level > 1 else 0))
    if leaf > 1:
        found[f"{stage}-large-{leaf}"] = found[f"{stage}-{leaf}"]
    return found


def descriptors(version: str, options: str) -> Iterator[Scene]:
    """A scene for each descriptor and width of the queue, with each of its bits flipped."""
    scalable = "scalable-mode=on" in options
    for wide in (0, 1) if scalable else (0,):
        for kind, words in DESCRIPTORS.items():
            for number, word in enumerate(words):
                if len(word) > 16 and not wide:
                    continue
                yield _descriptor_scene(version, options, wide, f"descriptor {kind} {number}", word)


def _descriptor_scene(version: str, options: str, wide: int, what: str, word: bytes) -> Scene:
    writer = Writer(version, options, wide, f"{what} {16 + 16 * wide}")
    writer.slot = 32 if wide else 16
    writer.write(0x90, QUEUE | wide << 11, 8)
    writer.gcmd(QIE)
    value = int.from_bytes(word, "little")
    for bit in (None, *range(8 * writer.slot)):
        flipped = value if bit is None else value ^ 1 << bit
        if flipped & 0x7F & ~0x40 == 0x35 and version in ("7.2", "10.0"):
            continue  # a wait with SW and IF ends these versions
        _descriptor(writer, flipped.to_bytes(writer.slot, "little"))
    return writer.scene


def _descriptor(writer: Writer, descriptor: bytes) -> None:
    # What follows a descriptor that stops the queue: it is replaced, IQE cleared, the tail written again.
    writer.submit(descriptor)
    writer.read(0x9C, 0xA0, 0x38)
    at = (writer.tail - writer.slot) % 0x1000
    writer.op("fill", QUEUE + at, wait_status(STATUS + 8, 1).ljust(writer.slot, b"\0").hex())
    writer.write(FSTS, 0x10)
    writer.read(IQH, size=8)
    writer.write(IQT, writer.tail, 8)
    writer.read(FSTS)
    writer.read(IQH, size=8)
    writer.write(0x9C, 1)
    writer.read(0xA0)
    writer.op("same", STATUS, 16)
