"""kdump-compressed dumps written by hand, so that a test can lie in any field; and LZO and Snappy, unpacked but for
their framing."""

from __future__ import annotations

import struct
import zlib

import zstandard

PAGE = 4096

# What drgn wants to know of a kernel before it reads physical memory.
VMCOREINFO = b"""OSRELEASE=6.1.0
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffff82000000
SYMBOL(swapper_pg_dir)=ffffffff82600000
SYMBOL(_stext)=ffffffff81000000
SYMBOL(init_top_pgt)=ffffffff82600000
NUMBER(phys_base)=0
NUMBER(pgtable_l5_enabled)=0
NUMBER(KERNEL_IMAGE_SIZE)=1073741824
KERNELOFFSET=0
"""


def lzo(page: bytes) -> bytes:
    """An LZO1X stream of literals and an end mark."""
    size = len(page) - 3 - 15
    return bytes([0]) + bytes((size - 1) // 255) + bytes([(size - 1) % 255 + 1]) + page + b"\x11\0\0"


def snappy(page: bytes) -> bytes:
    """A Snappy stream of one literal."""
    return b"\x80\x20" + bytes([61 << 2]) + struct.pack("<H", len(page) - 1) + page


PACKERS = {
    "plain": (0, lambda page: page),
    "zlib": (1, zlib.compress),
    "lzo": (2, lzo),
    "snappy": (4, snappy),
    "zstd": (0x20, zstandard.ZstdCompressor().compress),
}


def kdump(
    pages: dict[int, bytes],
    packer: str = "zlib",
    *,
    ram: set[int] | None = None,
    frames: int | None = None,
    level: int = 31,
    version: int = 6,
    split: int = 0,
    block_size: int = PAGE,
    bitmap_blocks: int | None = None,
    one_bitmap: bool = False,
) -> bytes:
    """A dump of `pages` (frame to contents); `ram` are the frames of the first bitmap."""
    count = max(pages) + 1 if frames is None else frames
    blocks = -(-count // (8 * PAGE))
    claimed = (1 if one_bitmap else 2) * blocks if bitmap_blocks is None else bitmap_blocks
    flag, pack = PACKERS[packer]
    names = [b"Linux", b"host", b"6.1.0", b"#1", b"x86_64", b"(none)"]
    head = b"KDUMP   " + struct.pack("<i", version) + b"".join(name.ljust(65, b"\0") for name in names)
    head = head.ljust(424, b"\0")
    head += struct.pack("<IiiIIIIIii", flag, block_size, 1, claimed, min(count, (1 << 32) - 1), 0, 0, 0, 0, 1)
    note = struct.pack("<III11sx", 11, len(VMCOREINFO), 0, b"VMCOREINFO") + VMCOREINFO
    note += bytes(-len(note) % 4)
    sub = struct.pack("<Qii", 0, level, split) + bytes(32 - 16)
    sub += struct.pack("<QQQQ", PAGE + 536, len(VMCOREINFO), PAGE + 512, len(note)) + bytes(32)
    sub += struct.pack("<Q", count)
    sub = (sub.ljust(512, b"\0") + note).ljust(PAGE, b"\0")
    first, second = bytearray(blocks * PAGE), bytearray(blocks * PAGE)
    for bitmap, wanted in ((first, set(pages) | (ram or set())), (second, set(pages))):
        for frame in wanted:
            bitmap[frame >> 3] |= 1 << (frame & 7)
    bitmaps = bytes(second) if one_bitmap else bytes(first + second)
    offset = 2 * PAGE + len(bitmaps) + 24 * len(pages)
    descriptors, data = b"", b""
    for _, page in sorted(pages.items()):
        packed = pack(page)
        descriptors += struct.pack("<QIIQ", offset + len(data), len(packed), flag, 0)
        data += packed
    return head.ljust(PAGE, b"\0") + sub + bitmaps + descriptors + data


def flatten(dump: bytes, size: int = 1000) -> bytes:
    """`dump` as makedumpfile -F writes it, the parts of `size` bytes in reverse, the head at last and twice."""
    records = [(at, dump[at : at + size]) for at in range(0, len(dump), size)][::-1]
    head = struct.pack(">16sqq", b"makedumpfile", 1, 1).ljust(PAGE, b"\0")
    body = b"".join(struct.pack(">qq", at, len(part)) + part for at, part in [(0, b"x" * 700), *records])
    return head + body + struct.pack(">qq", -1, -1)
