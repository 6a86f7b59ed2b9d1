"""A unit and software for it, in the tests' own words and packing: no layout of ours is used here.

`Bench` owns memory and a unit; it programs the unit through MMIO with raw offsets and writes root, context and PASID
structures, second-stage and first-stage tables, and queue descriptors as plain numbers.
"""

from __future__ import annotations

import struct

from emulator.engine import Engine
from emulator.profile import Profile, load_profile
from emulator.unit import RemappingUnit
from pagetables.address import Iova, Pasid, SourceId
from pagetables.fault import Fault
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, Request, Translation

VER, CAP, ECAP, GCMD, GSTS, RTADDR, CCMD = 0x00, 0x08, 0x10, 0x18, 0x1C, 0x20, 0x28
FSTS, FECTL, FEDATA, FEADDR, FEUADDR = 0x34, 0x38, 0x3C, 0x40, 0x44
IQH, IQT, IQA, ICS, IECTL, IEDATA, IEADDR, IEUADDR, IQERCD = 0x80, 0x88, 0x90, 0x9C, 0xA0, 0xA4, 0xA8, 0xAC, 0xB0
IRTA, IVA, IOTLB, FRCD = 0xB8, 0xF0, 0xF8, 0x220

TE, SRTP, WBF, QIE, IRE, SIRTP, CFI = 1 << 31, 1 << 30, 1 << 27, 1 << 26, 1 << 25, 1 << 24, 1 << 23
R, W = 1, 2

ROOT, CONTEXT, QUEUE, STATUS = 0x10_0000, 0x10_1000, 0x10_2000, 0x10_8000
UPPER_CONTEXT = 0x10_9000  # devices 16 to 31 of a bus, in scalable mode
PASID_DIRECTORY, PASID_TABLE = 0x11_0000, 0x12_0000
TABLES = 0x20_0000

NIC = SourceId(0x0010)  # 00:02.0
DISK = SourceId(0x00F8)  # 00:1f.0


def iotlb_global() -> bytes:
    """Descriptor 2, everything."""
    return struct.pack("<QQ", 0x12, 0)


def iotlb_domain(did: int) -> bytes:
    """Descriptor 2, a domain."""
    return struct.pack("<QQ", 0x22 | did << 16, 0)


def iotlb_pages(did: int, address: int, am: int = 0) -> bytes:
    """Descriptor 2, 2**am pages."""
    return struct.pack("<QQ", 0x32 | did << 16, address | am)


def context_global() -> bytes:
    """Descriptor 1, everything."""
    return struct.pack("<QQ", 0x11, 0)


def context_domain(did: int) -> bytes:
    """Descriptor 1, a domain."""
    return struct.pack("<QQ", 0x21 | did << 16, 0)


def context_device(did: int, sid: int, fm: int = 0) -> bytes:
    """Descriptor 1, a device."""
    return struct.pack("<QQ", 0x31 | did << 16 | sid << 32 | fm << 48, 0)


def wait_status(address: int, data: int, flags: int = 0) -> bytes:
    """Descriptor 5 with a status write, and further flags (10h interrupt, 40h fence, 80h page request drain)."""
    return struct.pack("<QQ", 0x25 | flags | data << 32, address)


def wait_flags(flags: int) -> bytes:
    """Descriptor 5 without a status write."""
    return struct.pack("<QQ", 0x5 | flags, 0)


def pasid_iotlb(granularity: int, did: int, pasid: int, address: int = 0, am: int = 0) -> bytes:
    """Descriptor 6."""
    return struct.pack("<QQQQ", 0x6 | granularity << 4 | did << 16 | pasid << 32, address | am, 0, 0)


def pasid_cache(granularity: int, did: int, pasid: int) -> bytes:
    """Descriptor 7."""
    return struct.pack("<QQQQ", 0x7 | granularity << 4 | did << 16 | pasid << 32, 0, 0, 0)


class Bench:
    """Memory, a unit, and someone who programs it."""

    def __init__(self, engine: Engine, profile: str | Profile = "spec", size: int = 64 << 20) -> None:
        self.memory = PhysicalMemory([(0, size)])
        self.unit = RemappingUnit(self.memory, load_profile(profile) if isinstance(profile, str) else profile, engine)
        self.slot = 16
        self.status = 0
        self._next_table = TABLES
        self._levels: dict[int, int] = {}

    # -- bytes and registers

    def put(self, address: int, *qwords: int) -> None:
        """Qwords into memory."""
        self.memory.write(address, struct.pack(f"<{len(qwords)}Q", *qwords))

    def qword(self, address: int) -> int:
        """A qword of memory."""
        return struct.unpack("<Q", self.memory.read(address, 8))[0]

    def read(self, offset: int, size: int = 4) -> int:
        """A register."""
        return self.unit.read(offset, size)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Write a register."""
        self.unit.write(offset, size, value)

    def command(self, bit: int, on: bool = True) -> None:
        """Write GCMD as drivers do: the persistent bits as they are, one changed."""
        kept = self.read(GSTS) & 0x96FF_FFFF
        self.write(GCMD, kept | bit if on else kept & ~bit)

    # -- tables

    def page(self) -> int:
        """A zeroed page for a table."""
        page, self._next_table = self._next_table, self._next_table + 0x1000
        self.memory.write(page, bytes(0x1000))
        return page

    def table(self, levels: int = 4) -> int:
        """An empty set of second- or first-stage tables."""
        root = self.page()
        self._levels[root] = levels
        return root

    def entry_at(self, root: int, iova: int, level: int = 1, link: int = 3) -> int:
        """Where the entry of `level` for `iova` lies; missing tables are made, linked with the low bits `link`."""
        table = root
        for upper in range(self._levels[root], level, -1):
            at = table + 8 * (iova >> (12 + 9 * (upper - 1)) & 511)
            if not self.qword(at):
                self.put(at, self.page() | link)
            table = self.qword(at) & 0xF_FFFF_FFFF_F000
        return table + 8 * (iova >> (12 + 9 * (level - 1)) & 511)

    def map(self, root: int, iova: int, gpa: int, permissions: int = R | W, level: int = 1) -> int:
        """A second-stage leaf; returns where it lies."""
        at = self.entry_at(root, iova, level)
        self.put(at, gpa | permissions | (1 << 7 if level > 1 else 0))
        return at

    def map_first(self, root: int, iova: int, gpa: int, bits: int = 0x67) -> int:
        """A first-stage leaf of 4 KiB (present, writable, user, accessed, dirty by default); returns where it lies."""
        at = self.entry_at(root, iova, 1, link=0x27)
        self.put(at, gpa | bits)
        return at

    # -- legacy mode

    def legacy_context(self, sid: int, table: int, did: int, levels: int = 4, low: int = 0) -> int:
        """Root and context entry of a device (TT and FPD in `low`); returns where the context entry lies."""
        self.put(ROOT + 16 * (sid >> 8), CONTEXT | 1, 0)
        at = CONTEXT + 16 * (sid & 0xFF)
        self.put(at, table | low | 1, did << 8 | levels - 2)
        return at

    def legacy(self, *spaces: tuple[int, int, int]) -> None:
        """Legacy mode on, with (source-id, tables, domain-id) attached."""
        for sid, table, did in spaces:
            self.legacy_context(sid, table, did, self._levels[table])
        self.write(RTADDR, ROOT, 8)
        self.command(SRTP)
        self.command(TE)

    # -- scalable mode

    def scalable_context(self, sid: int, low: int = 0x8, rid_pasid: int = 0) -> int:
        """Root and context entry of a device (PASIDE by default); returns where the context entry lies."""
        self.put(ROOT + 16 * (sid >> 8), CONTEXT | 1, UPPER_CONTEXT | 1)
        at = (UPPER_CONTEXT if sid >> 7 & 1 else CONTEXT) + 32 * (sid & 0x7F)
        self.put(at, PASID_DIRECTORY | 7 << 9 | low | 1, rid_pasid, 0, 0)
        return at

    def pasid_entry(self, pasid: int, pgtt: int, did: int, table: int = 0, second: int = 0, more: int = 0) -> int:
        """Directory and table entry of a PASID; returns where the table entry lies. `more` is or-ed into qword 2."""
        page = PASID_TABLE + 0x1000 * (pasid >> 6)
        self.put(PASID_DIRECTORY + 8 * (pasid >> 6), page | 1)
        at = page + 64 * (pasid & 63)
        levels = self._levels.get(second or table, 4)
        low = 1 | pgtt << 6 | (levels - 2) << 2
        if pgtt in (2, 3):
            low |= second or table
        first = table | (4 if self._levels.get(table) == 5 else 0) if pgtt in (1, 3) else 0
        self.put(at, low, did | 1 << 23, first | more, 0, 0, 0, 0, 0)
        return at

    def scalable(self, *sids: int) -> None:
        """Scalable mode on, with a 256-bit queue, for these devices."""
        for sid in sids:
            self.scalable_context(sid)
        self.slot = 32
        self.start_queue()
        self.write(RTADDR, ROOT | 1 << 10, 8)
        self.command(SRTP)
        self.command(TE)

    # -- the queue

    def start_queue(self, order: int = 0) -> None:
        """Queue on, 2**order pages, slots as `slot` says."""
        self.write(IQT, 0, 8)
        self.write(IQA, QUEUE | (1 << 11 if self.slot == 32 else 0) | order, 8)
        self.command(QIE)

    def submit(self, *descriptors: bytes) -> None:
        """Write descriptors at the tail and move it."""
        size = 0x1000 << (self.read(IQA, 8) & 7)
        tail = self.read(IQT, 8)
        for descriptor in descriptors:
            self.memory.write(QUEUE + tail, descriptor.ljust(self.slot, b"\0"))
            tail = (tail + self.slot) % size
        self.write(IQT, tail, 8)

    def invalidate(self, *descriptors: bytes) -> None:
        """Submit and wait for the status word, which must come."""
        self.status += 1
        self.submit(*descriptors, wait_status(STATUS, self.status))
        assert struct.unpack("<I", self.memory.read(STATUS, 4))[0] == self.status, "the wait did not complete"

    # -- requests

    def request(self, iova: int, access: str = "r", sid: int = NIC, pasid: int | None = None, **more) -> Request:
        """A request."""
        wanted = None if pasid is None else Pasid(pasid)
        return Request(SourceId(sid), Iova(iova), Access(access), wanted, **more)

    def go(self, iova: int, access: str = "r", sid: int = NIC, pasid: int | None = None, **more) -> int:
        """Translate: the GPA, or minus the fault reason."""
        answer = self.unit.translate(self.request(iova, access, sid, pasid, **more))
        assert isinstance(answer, (Translation, Fault))
        return answer.gpa if isinstance(answer, Translation) else -int(answer.reason)

    def record(self, index: int = 0) -> tuple[int, int]:
        """A fault record, both qwords."""
        return self.read(FRCD + 16 * index, 8), self.read(FRCD + 16 * index + 8, 8)
