"""Scenes: memory with tables written by struct, bit for bit as the manual's tables say, and never by our layouts.

scene = Scene()
tables = scene.second_stage(levels=4)
tables.leaf(0x1000, gpa=0x5000, permissions="rw")
scene.walk(engine, tables, read(0x1234))
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from emulator.engine import Engine
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault, FaultReason
from pagetables.layouts.registers import Capability, ExtendedCapability
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, AddressType, Permissions, Request, Translation
from pagetables.source import Source, TranslationType
from pagetables.walk import Walk, walk

SID = 0x0010  # 00:02.0
MIB = 1 << 20
GIB = 1 << 30

# Everything a unit can do (facts: revision 4.0): 3, 4 and 5 levels, 2 MiB and 1 GiB, scalable mode with all stages.
FULL_CAP = {"nd": 6, "sagaw": 0b1110, "mgaw": 56, "sslps": 3, "psi": 1, "mamv": 18, "fs1gp": 1, "fs5lp": 1, "fro": 0x22}
FULL_ECAP = {
    "c": 1,
    "qi": 1,
    "dt": 1,
    "ir": 1,
    "eim": 1,
    "pt": 1,
    "sc": 1,
    "mts": 1,
    "nest": 1,
    "prs": 1,
    "ers": 1,
    "srs": 1,
    "nwfs": 1,
    "eafs": 1,
    "pasid": 1,
    "dit": 1,
    "pds": 1,
    "smts": 1,
    "ssads": 1,
    "ssts": 1,
    "fsts": 1,
    "smpwcs": 1,
    "rps": 1,
    "adms": 1,
    "rprivs": 1,
    "pss": 19,
    "iro": 0xF,
    "mhmv": 0xF,
}


def capabilities(haw: int = 46, **changed: int) -> Capabilities:
    """A unit that can do everything, but for what is `changed` (field names of CAP and ECAP)."""
    cap = {**FULL_CAP, **{name: value for name, value in changed.items() if name in Capability.fields_by_name}}
    ecap = {
        **FULL_ECAP,
        **{name: value for name, value in changed.items() if name in ExtendedCapability.fields_by_name},
    }
    assert set(changed) <= set(Capability.fields_by_name) | set(ExtendedCapability.fields_by_name), changed
    return Capabilities(Capability.of(**cap), ExtendedCapability.of(**ecap), haw)


FULL = capabilities()


def read(iova: int, **more: Any) -> Request:
    """A read by SID."""
    return Request(SID, iova, Access.READ, **more)


def write(iova: int, **more: Any) -> Request:
    """A write by SID."""
    return Request(SID, iova, Access.WRITE, **more)


def atomic(iova: int, **more: Any) -> Request:
    """An AtomicOp by SID."""
    return Request(SID, iova, Access.ATOMIC, **more)


def execute(iova: int, **more: Any) -> Request:
    """An execute-requested read by SID."""
    return Request(SID, iova, Access.EXECUTE, **more)


def translation_request(iova: int, **more: Any) -> Request:
    """An ATS translation request by SID."""
    return Request(SID, iova, address_type=AddressType.TRANSLATION_REQUEST, **more)


def translated_request(iova: int, **more: Any) -> Request:
    """A translated request by SID."""
    return Request(SID, iova, address_type=AddressType.TRANSLATED, **more)


def fault(reason: FaultReason, request: Request, at: int | None = None, level: int = 0, **more: Any) -> Fault:
    """The fault expected."""
    return Fault(reason, request, at, level, **more)


def shift_of(level: int) -> int:
    """Lowest address bit of a level's index: 12, 21, 30, 39, 48."""
    return 12 + 9 * (level - 1)


class Tables:
    """Paging tables written into a scene. A first-stage table of a nested source lies at a guest address, `offset`
    above the memory that holds it."""

    def __init__(self, scene: Scene, levels: int, first: bool, offset: int = 0) -> None:
        self.scene = scene
        self.levels = levels
        self.first = first
        self.offset = offset
        self.root_page = scene.page()
        self.pages = {self.root_page}

    @property
    def root(self) -> int:
        """The root table's address as entries hold it."""
        return self.root_page + self.offset

    def entry(self, iova: int, level: int) -> int:
        """Where the entry of `level` for `iova` lies; tables above it are made where they are missing."""
        table = self.root_page
        for upper in range(self.levels, level, -1):
            at = table + 8 * (iova >> shift_of(upper) & 511)
            if not self.scene.qword(at):
                page = self.scene.page()
                self.pages.add(page)
                self.scene.store(at, page + self.offset | (0x27 if self.first else 0x3))
            table = (self.scene.qword(at) & 0xFFFFFFFFFF000) - self.offset
        return table + 8 * (iova >> shift_of(level) & 511)

    def leaf(self, iova: int, gpa: int, permissions: str = "rw", level: int = 1, extra: int = 0) -> int:
        """Map one page; where its entry lies. First stage: P, US and A preset, "w" adds RW and D, "s" takes US."""
        if self.first:
            bits = 0x25 | (0x42 if "w" in permissions else 0)
            bits &= ~0x4 if "s" in permissions else ~0
        else:
            bits = ("r" in permissions) * 1 | ("w" in permissions) * 2 | ("x" in permissions) * 4
        return self.put(iova, level, gpa | bits | (0x80 if level > 1 else 0) | extra)

    def put(self, iova: int, level: int, value: int) -> int:
        """Write a raw entry; where it lies."""
        at = self.entry(iova, level)
        self.scene.store(at, value)
        return at

    def change(self, iova: int, level: int, *, clear: int = 0, set: int = 0) -> int:  # noqa: A002
        """Clear and set bits of an entry that is there; where it lies."""
        at = self.entry(iova, level)
        self.scene.store(at, self.scene.qword(at) & ~clear | set)
        return at

    def raw(self, iova: int, level: int = 1) -> int:
        """The entry's qword."""
        return self.scene.qword(self.entry(iova, level))


class Scene:
    """Memory (64 MiB from 0 on) and what software wrote there: paging tables, context and PASID structures."""

    def __init__(self, caps: Capabilities = FULL, size: int = 64 * MIB, fixed: bool = False) -> None:
        self.capabilities = caps
        self.memory = PhysicalMemory([(0, size)], [(0, size)] if fixed else ())  # fixed: it refuses atomic updates
        self.size = size
        self._next = 0x100000

    def page(self, count: int = 1) -> int:
        """The address of fresh zero pages."""
        at = self._next
        self._next += 0x1000 * count
        return at

    def store(self, at: int, *qwords: int) -> None:
        """Write qwords, lowest first."""
        self.memory.write(at, struct.pack(f"<{len(qwords)}Q", *qwords))

    def qword(self, at: int) -> int:
        """The qword at `at`."""
        return struct.unpack("<Q", self.memory.read(at, 8))[0]

    def second_stage(self, levels: int = 4) -> Tables:
        """Empty second-stage tables."""
        return Tables(self, levels, first=False)

    def first_stage(self, levels: int = 4, offset: int = 0) -> Tables:
        """Empty first-stage tables."""
        return Tables(self, levels, first=True, offset=offset)

    def walk(self, engine: Engine, source: Source | Tables, request: Request) -> Translation | Fault:
        """What the engine's walk answers; tables alone stand for a legacy or a first-stage source of them."""
        return engine.walk(self.memory, source_of(source), request, self.capabilities)

    def steps(self, source: Source | Tables, request: Request) -> Walk:
        """The explaining walk, which writes nothing."""
        return walk(self.memory, source_of(source), request, self.capabilities)


def source_of(tables: Source | Tables, **changed: Any) -> Source:
    """A legacy source of second-stage tables, or a source of first-stage tables, with fields changed."""
    if isinstance(tables, Source):
        return replace(tables, **changed)
    if tables.first:
        plain = Source(
            TranslationType.FIRST_STAGE, 7, legacy=False, fs_table=tables.root, fs_levels=tables.levels, walk_snoop=True
        )
    else:
        plain = Source(TranslationType.SECOND_STAGE, 7, legacy=True, ss_table=tables.root, ss_levels=tables.levels)
    return replace(plain, **changed)


def scalable(tables: Tables, **changed: Any) -> Source:
    """A scalable-mode source of second-stage tables."""
    return source_of(tables, **{"legacy": False, "walk_snoop": True, **changed})


def nested(first: Tables, second: Tables, **changed: Any) -> Source:
    """A nested source."""
    plain = Source(
        TranslationType.NESTED,
        7,
        legacy=False,
        ss_table=second.root,
        ss_levels=second.levels,
        fs_table=first.root,
        fs_levels=first.levels,
        walk_snoop=True,
    )
    return replace(plain, **changed)


def granted(text: str) -> Permissions:
    """Permissions by letters: r, w, x, u (user)."""
    letters = {"r": Permissions.R, "w": Permissions.W, "x": Permissions.X, "u": Permissions.USER}
    total = Permissions.NONE
    for letter in text:
        total |= letters[letter]
    return total


class LegacyRoot:
    """Legacy root and context tables: a device's context entry is two qwords."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rtaddr = scene.page()

    def root_entry(self, sid: int) -> int:
        """Where the root entry of the device's bus lies."""
        return self.rtaddr + (sid >> 8) * 16

    def context_entry(self, sid: int) -> int:
        """Where the device's context entry lies; the context table is made if it is missing."""
        at = self.root_entry(sid)
        if not self.scene.qword(at):
            self.scene.store(at, self.scene.page() | 1, 0)
        return (self.scene.qword(at) & -0x1000) + (sid & 255) * 16

    def attach(self, sid: int, table: int, levels: int = 4, domain: int = 7, tt: int = 0, bits: int = 1) -> int:
        """Write a context entry; where it lies. `bits`: P (1), FPD (2)."""
        at = self.context_entry(sid)
        self.scene.store(at, table | tt << 2 | bits, domain << 8 | levels - 2)
        return at


class ScalableRoot:
    """Scalable root, context, PASID directory and PASID tables."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.root = scene.page()

    @property
    def rtaddr(self) -> int:
        """The register's value: TTM 01 in bits 11:10."""
        return self.root | 1 << 10

    def root_half(self, sid: int) -> int:
        """Where the qword of the root entry lies that is the device's."""
        return self.root + (sid >> 8) * 16 + (8 if sid & 0x80 else 0)

    def context_entry(self, sid: int) -> int:
        """Where the device's context entry lies; the context table is made if it is missing."""
        at = self.root_half(sid)
        if not self.scene.qword(at):
            self.scene.store(at, self.scene.page() | 1)
        return (self.scene.qword(at) & -0x1000) + (sid & 127) * 32

    def context(self, sid: int, pdts: int = 7, bits: int = 0, rid_pasid: int = 0, rid_priv: int = 0) -> int:
        """Write a context entry with a directory of its own; where it lies. `bits`: FPD 2, DTE 4, PASIDE 8, PRE 16."""
        at = self.context_entry(sid)
        directory = self.scene.page(max(1, 1 << (pdts + 7) >> 9))
        self.scene.store(at, directory | pdts << 9 | bits | 1, rid_pasid | rid_priv << 20, 0, 0)
        return at

    def directory_entry(self, sid: int, pasid: int) -> int:
        """Where the PASID directory entry lies."""
        return (self.scene.qword(self.context_entry(sid)) & -0x1000) + (pasid >> 6) * 8

    def pasid_entry(self, sid: int, pasid: int) -> int:
        """Where the PASID table entry lies; the PASID table is made if it is missing."""
        at = self.directory_entry(sid, pasid)
        if not self.scene.qword(at):
            self.scene.store(at, self.scene.page() | 1)
        return (self.scene.qword(at) & -0x1000) + (pasid & 63) * 64

    def attach(self, sid: int, pasid: int, *qwords: int) -> int:
        """Write a PASID table entry's qwords (the rest zero); where it lies."""
        at = self.pasid_entry(sid, pasid)
        self.scene.store(at, *qwords, *[0] * (8 - len(qwords)))
        return at


def second_stage_pasid(table: int, levels: int = 4, domain: int = 7, bits: int = 1) -> tuple[int, int]:
    """Qwords of a PASID table entry with PGTT 010."""
    return table | 2 << 6 | levels - 2 << 2 | bits, domain


def first_stage_pasid(table: int, levels: int = 4, domain: int = 7, bits: int = 1) -> tuple[int, int, int]:
    """Qwords of a PASID table entry with PGTT 001."""
    return 1 << 6 | bits, domain, table | levels - 4 << 2
