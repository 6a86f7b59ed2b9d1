"""A bench whose device has ATS, PASID and PRI: what it asks and is answered, in raw words."""

from __future__ import annotations

import struct

from emulator.unit.ats import TranslationCompletion
from emulator.unit.device_tlb import DeviceTlb, DeviceTlbInvalidation
from emulator.unit.page_requests import PageGroupResponse, PageRequest, PageRequestOutcome
from pagetables.address import Iova, Pasid, SourceId
from pagetables.request import AddressType
from tests.units import NIC, ROOT, RTADDR, SRTP, TE, Bench

PQH, PQT, PQA, PRS, PECTL, PEDATA, PEADDR, PEUADDR = 0xC0, 0xC8, 0xD0, 0xDC, 0xE0, 0xE4, 0xE8, 0xEC
PPR, PRO = 1, 2
ICE, ITE = 0x20, 0x40
REQUESTS = 0x11_8000  # the page request queue
DTE, PASIDE, PRE = 4, 8, 16
EVERYTHING = 0x7FFF_FFFF_FFFF_F000


def device_tlb(sid: int, address: int, s: int = 0, mip: int = 0, pfsid: int = 0) -> bytes:
    """Descriptor 3."""
    low = 0x3 | mip << 16 | sid << 32 | (pfsid & 0xF) << 12 | pfsid >> 4 << 52
    return struct.pack("<QQ", low, address | s)


def pasid_device_tlb(sid: int, pasid: int, address: int, s: int = 0, g: int = 0, mip: int = 0, pfsid: int = 0) -> bytes:
    """Descriptor 8."""
    low = 0x8 | mip << 4 | sid << 16 | pasid << 32 | (pfsid & 0xF) << 12 | pfsid >> 4 << 52
    return struct.pack("<QQQQ", low, address | s << 11 | g, 0, 0)


def group_response(sid: int, group: int, code: int = 0, pasid: int | None = None) -> bytes:
    """Descriptor 9."""
    present = 0 if pasid is None else 0x10 | pasid << 32
    return struct.pack("<QQQQ", 0x9 | code << 12 | sid << 16 | present, group << 3, 0, 0)


class Recorder(DeviceTlb):
    """A device-TLB that remembers what it was asked to forget."""

    def __init__(self, capacity: int = 64) -> None:
        super().__init__(capacity)
        self.asked: list[DeviceTlbInvalidation] = []

    def invalidate(self, invalidation: DeviceTlbInvalidation) -> bool:
        self.asked.append(invalidation)
        return super().invalidate(invalidation)


class AtsBench(Bench):
    """A bench with one device at NIC: its device-TLB, and the responses it got."""

    def __init__(self, *args, **more) -> None:
        super().__init__(*args, **more)
        self.device = Recorder()
        self.responses: list[PageGroupResponse] = []
        self.unit.attach_device_tlb(NIC, self.device)
        self.unit.on_page_response(NIC, self.responses.append)

    def ats_legacy(self, table: int, did: int = 5, low: int = 4) -> int:
        """Legacy mode with TT=01 (or what `low` says); returns where the context entry lies."""
        at = self.legacy_context(NIC, table, did, self._levels[table], low)
        self.write(RTADDR, ROOT, 8)
        self.command(SRTP)
        self.command(TE)
        return at

    def ats_scalable(self, low: int = DTE | PASIDE | PRE) -> int:
        """Scalable mode, 256-bit queue; returns where the context entry lies."""
        at = self.scalable_context(NIC, low)
        self.slot = 32
        self.start_queue()
        self.write(RTADDR, ROOT | 1 << 10, 8)
        self.command(SRTP)
        self.command(TE)
        return at

    def ask(self, iova: int, access: str = "r", pasid: int | None = None, **more) -> TranslationCompletion:
        """The completion of a translation request."""
        options = {name: more.pop(name) for name in ("no_write", "pages") if name in more}
        return self.unit.translation_request(self.request(iova, access, pasid=pasid, **more), **options)

    def words(self, iova: int, access: str = "r", pasid: int | None = None, **more) -> list[int]:
        """The completion's entries as numbers; it must be a success."""
        completion = self.ask(iova, access, pasid, **more)
        assert completion.succeeded, completion
        return [int(entry) for entry in completion.entries]

    def translated(self, gpa: int, access: str = "r", **more) -> int:
        """A translated request: the address, or minus the fault reason."""
        return self.go(gpa, access, address_type=AddressType.TRANSLATED, **more)

    def start_page_requests(self, order: int = 0) -> None:
        """The page request queue, 2**order pages."""
        self.memory.write(REQUESTS, bytes(0x1000 << order))
        self.write(PQH, 0, 8)
        self.write(PQT, 0, 8)
        self.write(PQA, REQUESTS | order, 8)

    def page_request(self, iova: int = 0x7000, pasid: int | None = 0x12345, **more) -> PageRequestOutcome:
        """A page request by the device."""
        wanted = None if pasid is None else Pasid(pasid)
        return self.unit.page_request(PageRequest(SourceId(more.pop("sid", NIC)), Iova(iova), pasid=wanted, **more))

    def queued(self, index: int) -> tuple[int, ...]:
        """A page request descriptor as software finds it."""
        return struct.unpack("<4Q", self.memory.read(REQUESTS + 32 * index, 32))
