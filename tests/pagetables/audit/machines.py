"""Machines to audit: memory, tables and registers written by struct, one thing wrong or nothing."""

from __future__ import annotations

import struct

from pagetables.address import Gpa
from pagetables.audit import Hints, Report, audit
from pagetables.images.registers import RegisterPage
from pagetables.layouts.dmar import DeviceScope, DmarTable, Drhd, Rmrr
from tests.builders import FULL, Scene, Tables

NIC, DISK, GPU = 0x0018, 0x0020, 0x0010  # 00:03.0, 00:04.0, 00:02.0
BASE = 0xFED9_0000
OFFSETS = {
    "VER": (0x0, 4),
    "CAP": (0x8, 8),
    "ECAP": (0x10, 8),
    "GSTS": (0x1C, 4),
    "RTADDR": (0x20, 8),
    "FSTS": (0x34, 4),
    "FECTL": (0x38, 4),
    "PMEN": (0x64, 4),
    "IQA": (0x90, 8),
    "IRTA": (0xB8, 8),
    "PQA": (0xD0, 8),
    "FRCD": (0x220, 8),
    "FRCD_HI": (0x228, 8),
}
TES, RTPS, QIES, IRES, IRTPS, CFIS = 1 << 31, 1 << 30, 1 << 26, 1 << 25, 1 << 24, 1 << 23
PASS_THROUGH = 2


class Machine:
    """A unit that translates and remaps interrupts, and what software wrote into its memory."""

    def __init__(self, scalable: bool = False, base: int = BASE) -> None:
        self.scene = Scene()
        self.scalable = scalable
        self.root = self.scene.page()
        self.base = base
        irt, queue = self.scene.page(), self.scene.page()
        self.irt = irt
        self.registers = {
            "VER": 0x10,
            "CAP": int(FULL.cap),
            "ECAP": int(FULL.ecap),
            "GSTS": TES | RTPS | QIES | IRES | IRTPS,
            "RTADDR": self.root | (1 << 10 if scalable else 0),
            "IRTA": irt | 7,  # 256 entries
            "IQA": queue,
        }
        self.queue = queue
        self.dmar: DmarTable | None = None
        self.hints = Hints()

    # -- Tables

    def tables(self, **leaves: int) -> Tables:
        """Second-stage tables of four levels."""
        return self.scene.second_stage(4)

    def mapped(self, gpa: int, iova: int = 0x10_0000, pages: int = 1, permissions: str = "rw") -> Tables:
        """Tables with `pages` pages at `gpa`."""
        tables = self.tables()
        for page in range(pages):
            tables.leaf(iova + page * 0x1000, gpa=gpa + page * 0x1000, permissions=permissions)
        return tables

    def _page_behind(self, at: int) -> int:
        if not self.scene.qword(at):
            self.scene.store(at, self.scene.page() | 1)
        return self.scene.qword(at) & ~0xFFF

    def attach(self, sid: int, tables: Tables, did: int, *, tt: int = 0, aw: int | None = None, low: int = 1) -> int:
        """A legacy context entry; where it lies."""
        context = self._page_behind(self.root + (sid >> 8) * 16)
        at = context + (sid & 0xFF) * 16
        width = tables.levels - 2 if aw is None else aw
        self.scene.store(at, (0 if tt == PASS_THROUGH else tables.root) | tt << 2 | low, width | did << 8)
        return at

    def pass_through(self, sid: int, did: int) -> int:
        """A legacy context entry that lets everything pass; where it lies."""
        return self.attach(sid, self.tables(), did, tt=PASS_THROUGH, aw=3)

    def directory(self, sid: int, *, low: int = 0, rid_pasid: int = 0) -> int:
        """The PASID directory of a device, made if there is none."""
        half = self.root + (sid >> 8) * 16 + (8 if sid & 0x80 else 0)
        at = self._page_behind(half) + (sid & 0x7F) * 32
        if not self.scene.qword(at):
            self.scene.store(at, self.scene.page() | low | 1, rid_pasid)
        return self.scene.qword(at) & ~0xFFF

    def attach_pasid(
        self,
        sid: int,
        pasid: int,
        did: int,
        *,
        first: Tables | None = None,
        second: Tables | None = None,
        low: int = 0,
        flags: int = 0,
        context: int = 0,
    ) -> int:
        """A PASID table entry: nested if both stages are given; where it lies."""
        table = self._page_behind(self.directory(sid, low=context) + (pasid >> 6) * 8)
        at = table + (pasid & 63) * 64
        pgtt = (1 if first else 0) + (2 if second else 0) or 4
        aw = second.levels - 2 if second else 0
        self.scene.store(
            at,
            (second.root if second else 0) | pgtt << 6 | aw << 2 | low | 1,
            did | 1 << 23,  # PWSNP
            (first.root if first else 0) | (first.levels - 4 if first else 0) << 2 | flags,
        )
        return at

    # -- Interrupts

    def interrupt(self, index: int, sid: int = NIC, *, svt: int = 1, dlm: int = 0, low: int = 0, high: int = 0) -> int:
        """A present entry of the interrupt remapping table; where it lies."""
        at = self.irt + index * 16
        self.scene.store(at, 1 | dlm << 5 | 0x30 << 16 | low, sid | svt << 18 | high)
        return at

    # -- The platform

    def firmware(self, *rmrrs: Rmrr, units: tuple[Drhd, ...] | None = None) -> None:
        """A DMAR table: one unit that serves everything, and reserved memory."""
        self.dmar = DmarTable(46, (*(units or (Drhd(self.base, flags=1),)), *rmrrs))

    def page(self, known: frozenset[int] | None = None) -> RegisterPage:
        """The register page."""
        data = bytearray(0x1000)
        for name, value in self.registers.items():
            offset, size = OFFSETS[name]
            data[offset : offset + size] = value.to_bytes(size, "little")
        return RegisterPage(self.base, bytes(data), known)

    def audit(self, **more: object) -> Report:
        """What the audit says."""
        return audit(self.scene.memory, (self.page(),), dmar=self.dmar, hints=self.hints, **more)


def rmrr(start: int, size: int, *devices: int) -> Rmrr:
    """Reserved memory of devices on bus 0."""
    scopes = tuple(DeviceScope(1, sid >> 8, ((sid >> 3 & 31, sid & 7),)) for sid in devices)
    return Rmrr(Gpa(start), start + size - 1, scopes=scopes)


def qwords(machine: Machine, at: int) -> tuple[int, ...]:
    """A page as numbers."""
    return struct.unpack("<512Q", machine.scene.memory.read(at, 4096))
