"""The same bytes in memory and the same register writes, to a real QEMU and to our unit: what differs is a finding.

`Both` does everything twice and compares whatever is read. What QEMU is known to do otherwise stands beside the case
that leaves it out: faults put 0xffff into the PASID field of the record, which is masked here.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from emulator.bus import Bus
from emulator.engine import Engine
from emulator.profile import Profile, load_profile
from emulator.unit import RemappingUnit
from pagetables.address import SourceId
from pagetables.fault import Fault
from pagetables.memory import PhysicalMemory
from tests.conftest import REQUIRED
from tests.profiles import changed
from tests.qemu import EDU_SOURCE, Qemu, find_qemu, qemu_version
from tests.units import (
    CCMD,
    CONTEXT,
    FECTL,
    FRCD,
    FSTS,
    GCMD,
    GSTS,
    ICS,
    IECTL,
    IOTLB,
    IQA,
    IQH,
    IQT,
    IRE,
    IRTA,
    IVA,
    QIE,
    QUEUE,
    ROOT,
    RTADDR,
    SIRTP,
    SRTP,
    STATUS,
    TABLES,
    TE,
    R,
    W,
    context_device,
    context_global,
    iotlb_domain,
    iotlb_global,
    iotlb_pages,
    wait_flags,
    wait_status,
)

MEGABYTES = 64
PAGES = 0x80_0000  # data pages start here
PASID_FIELDS = 0xFFFFF << 40 | 0b111 << 29
NARROW = load_profile("qemu-7.2")
WIDE = changed(NARROW, {"sagaw": 0b110, "mgaw": 47}, haw=48)


class Both:
    """QEMU and our unit, in step."""

    def __init__(self, qemu: Qemu, profile: Profile, engine: Engine) -> None:
        self.qemu = qemu
        self.memory = PhysicalMemory([(0, MEGABYTES << 20)])
        self.unit = RemappingUnit(self.memory, profile, engine)
        self.port = Bus(self.unit).port(SourceId(EDU_SOURCE))
        self.buffer = bytes(4096)
        self.tail = 0
        self.next_table = TABLES

    # -- registers and memory

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Write a register of both."""
        self.qemu.write(offset, size, value)
        self.unit.write(offset, size, value)

    def read(self, offset: int, size: int = 4, ignore: int = 0) -> int:
        """A register, equal in both but for the bits to ignore."""
        theirs, ours = self.qemu.read(offset, size) & ~ignore, self.unit.read(offset, size) & ~ignore
        assert ours == theirs, f"register {offset:#x}: ours {ours:#x}, QEMU's {theirs:#x}"
        return ours

    def put(self, address: int, *qwords: int) -> None:
        """Qwords into both memories."""
        self.fill(address, struct.pack(f"<{len(qwords)}Q", *qwords))

    def fill(self, address: int, data: bytes) -> None:
        """Bytes into both memories."""
        self.qemu.write_memory(address, data)
        self.memory.write(address, data)

    def same(self, address: int, size: int) -> bytes:
        """Bytes that are equal in both memories."""
        ours = self.memory.read(address, size)
        assert ours == self.qemu.read_memory(address, size), f"memory at {address:#x} differs"
        return ours

    def status(self) -> int:
        """FSTS and the fault record, equal in both; the status."""
        self.read(FRCD, 8, ignore=0xFFFF << 48)  # QEMU records address bits above the width
        self.read(FRCD + 8, 8, ignore=PASID_FIELDS)
        return self.read(FSTS)

    def reason(self) -> int:
        """The reason of the pending fault, 0 if there is none; cleared afterwards."""
        self.status()
        high = self.read(FRCD + 8, 8, ignore=PASID_FIELDS)
        self.write(FRCD + 12, 1 << 31)
        self.write(FSTS, 1)
        self.status()
        return high >> 32 & 0xFF if high >> 63 else 0

    def command(self, bit: int, on: bool = True) -> int:
        """One bit of GCMD changed; the status, equal in both."""
        kept = self.read(GSTS) & 0x96FF_FFFF
        self.write(GCMD, kept | bit if on else kept & ~bit)
        return self.read(GSTS)

    # -- tables

    def table(self) -> int:
        """A zeroed page for a table."""
        page, self.next_table = self.next_table, self.next_table + 0x1000
        self.fill(page, bytes(0x1000))
        return page

    def map(
        self, root: int, levels: int, iova: int, gpa: int, permissions: int = R | W, level: int = 1, link: int = 3
    ) -> int:
        """A leaf, with the tables on its way; returns where it lies."""
        table = root
        for upper in range(levels, level, -1):
            at = table + 8 * (iova >> (12 + 9 * (upper - 1)) & 511)
            entry = self.memory.load(at)
            if not entry:
                entry = self.table() | link
                self.put(at, entry)
            table = entry & ~0xFFF
        at = table + 8 * (iova >> (12 + 9 * (level - 1)) & 511)
        self.put(at, gpa | permissions | (1 << 7 if level > 1 else 0))
        return at

    def context(self, low: int, high: int) -> None:
        """Root and context entry of the device."""
        self.put(ROOT, CONTEXT | 1, 0)
        self.put(CONTEXT + 16 * EDU_SOURCE, low, high)

    def enable(self) -> None:
        """Root table and translation."""
        self.write(RTADDR, ROOT, 8)
        self.command(SRTP)
        self.command(TE)

    def space(self, levels: int) -> int:
        """Tables for the device in domain 5, in force; returns their root."""
        root = self.table()
        self.context(root | 1, 5 << 8 | levels - 2)
        self.enable()
        return root

    # -- the queue

    def start_queue(self) -> None:
        """One page of 128-bit slots."""
        self.fill(QUEUE, bytes(0x1000))
        self.write(IQT, 0, 8)
        self.write(IQA, QUEUE, 8)
        self.command(QIE)
        self.tail = 0

    def submit(self, *descriptors: bytes) -> int:
        """Descriptors at the tail; the head afterwards."""
        for descriptor in descriptors:
            self.fill(QUEUE + self.tail, descriptor)
            self.tail = (self.tail + 16) % 0x1000
        self.write(IQT, self.tail, 8)
        self.same(STATUS, 8)
        self.read(FSTS)
        return self.read(IQH, 8)

    # -- the device

    def load(self, data: bytes) -> None:
        """Put `data` into the device's buffer: by DMA, with translation as it is; so do it before enabling."""
        self.fill(PAGES, data)
        assert self.pull(PAGES, len(data)) == 0

    def pull(self, iova: int, size: int = 8) -> int:
        """The device reads into its buffer; the fault reason, 0 if none. A read that faults yields zeros here."""
        self.qemu.pull(iova, size)
        answer = self.port.read(iova, size)
        self.buffer = (bytes(size) if isinstance(answer, Fault) else answer) + self.buffer[size:]
        return self.reason()

    def push(self, iova: int, size: int = 8) -> int:
        """The device writes its buffer; the fault reason, 0 if none."""
        self.qemu.push(iova, size)
        self.port.write(iova, self.buffer[:size])
        return self.reason()


def running(engine: Engine, options: str, profile: Profile) -> Iterator[Both]:
    """QEMU and our unit, or a loud skip."""
    if find_qemu() is None:
        if "qemu" in REQUIRED:
            pytest.fail("VTD_REQUIRE names qemu, but qemu-system-x86_64 is not installed")
        pytest.skip("NOT RUN: install qemu-system-x86 (Debian) to compare with QEMU")
    if not qemu_version().startswith("7.2."):
        pytest.skip(f"NOT RUN: the profile is that of QEMU 7.2, found {qemu_version()}")
    with Qemu(options, MEGABYTES) as qemu:
        yield Both(qemu, profile, engine)


@pytest.fixture
def narrow(engine: Engine) -> Iterator[Both]:
    """39-bit addresses: 3 levels."""
    yield from running(engine, "aw-bits=39", NARROW)


@pytest.fixture
def both(engine: Engine) -> Iterator[Both]:
    """48-bit addresses: 3 and 4 levels."""
    yield from running(engine, "aw-bits=48", WIDE)


# -- registers


def test_every_register_has_the_same_value_after_reset(both: Both) -> None:
    for offset in range(0, 0x300, 4):
        both.read(offset)
    for offset in range(0, 0x300, 8):
        both.read(offset, 8)


def test_every_register_of_a_narrow_unit_has_the_same_value_after_reset(narrow: Both) -> None:
    for offset in range(0, 0x300, 4):
        narrow.read(offset)


# Offset, size, and the bits in which QEMU differs on purpose or by omission.
WRITABLE = [
    (RTADDR, 8, 0xFFFF << 48),  # QEMU keeps address bits above the width
    (FSTS, 4, 0),
    (FECTL, 4, 0),
    (0x3C, 4, 0),
    (0x40, 4, 0),
    (0x44, 4, 0),
    (0x58, 8, 0),
    (0x64, 4, 0),
    (0x68, 4, 0),
    (0x70, 8, 0),
    (IQH, 8, 0),
    (IQT, 8, 0),
    (IQA, 8, ~0x7),  # QEMU reads back the latched address, and no DW bit without scalable mode
    (ICS, 4, 0),
    (IECTL, 4, 0),
    (0xA4, 4, 0xFFFF << 16),  # QEMU lets all 32 bits of IEDATA be written
    (0xA8, 4, 0),
    (0xAC, 4, 0),
    (IRTA, 8, 0xFFFF << 48 | 1 << 11),  # QEMU has EIME without ECAP.EIM
    (IVA, 8, 0),
    (0x100, 8, 0),
    (0x108, 8, 0),
    (FRCD, 8, 0),
    (FRCD + 8, 8, 0),
]


@pytest.mark.parametrize("seed", range(4))
def test_random_register_writes_read_back_the_same(both: Both, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(300):
        offset, size, ignore = draw.choice(WRITABLE)
        value = draw.choice([0, (1 << 64) - 1, draw.getrandbits(64)])
        if size == 8 and draw.random() < 0.5:
            half = draw.choice([0, 4])
            both.write(offset + half, value & 0xFFFF_FFFF)
        else:
            both.write(offset, value & (1 << 8 * size) - 1, size)
        assert both.read(offset, size, ignore) == both.read(offset, 4, ignore & 0xFFFF_FFFF) | (
            both.read(offset + 4, 4, ignore >> 32) << 32 if size == 8 else 0
        )


@pytest.mark.parametrize("offset", [0x0, 0x8, GSTS, RTADDR, FECTL, IQA])
def test_bytes_and_words_read_0_and_are_not_written(both: Both, offset: int) -> None:
    for size in (1, 2):
        both.write(offset, 0xFF, size)
        assert both.read(offset, size) == 0
    both.read(offset)


def test_fault_event_address_takes_a_qword(both: Both) -> None:
    both.write(0x40, 0xFEE0_1000, 8)
    both.read(0x40)
    both.read(0x44)


# -- commands


def test_each_command_shows_the_same_status(both: Both) -> None:
    both.write(RTADDR, ROOT, 8)
    both.write(IQA, QUEUE, 8)
    both.write(IRTA, 0x40_0007, 8)
    for bit, on in (
        (SRTP, True),
        (TE, True),
        (QIE, True),
        (SIRTP, True),
        (IRE, True),
        (TE, False),
        (IRE, False),
        (SRTP, True),
    ):
        both.command(bit, on)


def test_several_bits_in_one_write_are_all_done(both: Both) -> None:
    both.write(RTADDR, ROOT, 8)
    both.write(IQA, QUEUE, 8)
    both.write(GCMD, TE | SRTP | QIE | SIRTP | IRE)
    assert both.read(GSTS) == TE | SRTP | QIE | SIRTP | IRE
    both.write(GCMD, IRE | QIE)  # QEMU does not disable a queue whose last descriptor was no wait
    assert both.read(GSTS) == SRTP | QIE | SIRTP | IRE


def test_translation_without_a_root_table_is_accepted(both: Both) -> None:
    assert both.command(TE) == TE


def test_a_tail_written_before_the_queue_is_enabled_is_held(both: Both) -> None:
    both.fill(QUEUE, iotlb_global() + wait_status(STATUS, 9))
    both.fill(STATUS, bytes(8))
    both.write(IQA, QUEUE, 8)
    both.write(IQT, 32, 8)
    assert both.read(IQH, 8) == 0
    both.command(QIE)
    assert both.read(IQH, 8) == 32
    assert both.same(STATUS, 4) == b"\x09\0\0\0"


def test_disabling_the_queue_resets_the_head_only(both: Both) -> None:
    both.start_queue()
    both.submit(iotlb_global(), wait_status(STATUS, 1))
    both.command(QIE, on=False)
    assert (both.read(IQH, 8), both.read(IQT, 8)) == (0, 32)


# -- translation


DATA = bytes(range(1, 201))


@pytest.mark.parametrize(
    "levels, level, iova, gpa",
    [
        (3, 1, 0x12_3456_7000, PAGES + 0x1000),
        (4, 1, 0x1234_5678_9000, PAGES + 0x2000),
        (3, 2, 0x12_3460_0000, PAGES + 0x20_0000),
        (4, 2, 0x1234_5660_0000, PAGES + 0x20_0000),
        (4, 3, 0x1234_4000_0000, 0),
        (3, 3, 0x12_4000_0000, 0),
    ],
    ids=["3-4K", "4-4K", "3-2M", "4-2M", "4-1G", "3-1G"],
)
def test_a_device_writes_where_the_tables_say(both: Both, levels: int, level: int, iova: int, gpa: int) -> None:
    both.load(DATA)
    both.map(both.space(levels), levels, iova, gpa, level=level)
    inside = PAGES + 0x30_0234 if level == 3 else 0x234
    assert both.push(iova + inside, len(DATA)) == 0
    assert both.same(gpa + inside, len(DATA)) == DATA
    both.fill(gpa + inside, DATA[::-1])
    assert both.pull(iova + inside, len(DATA)) == 0
    assert both.push(iova + inside + 0x200, len(DATA)) == 0
    assert both.same(gpa + inside + 0x200, len(DATA)) == DATA[::-1]


def test_a_transfer_that_crosses_pages_is_split(both: Both) -> None:
    both.load(DATA)
    root = both.space(4)
    both.map(root, 4, 0x1000, PAGES + 0x5000)
    both.map(root, 4, 0x2000, PAGES + 0x3000)
    assert both.push(0x1F80, len(DATA)) == 0
    assert both.same(PAGES + 0x5F80, 0x80) == DATA[:0x80]
    assert both.same(PAGES + 0x3000, len(DATA) - 0x80) == DATA[0x80:]


def test_pass_through_uses_the_address_as_it_is(both: Both) -> None:
    both.load(DATA)
    both.context(1 | 2 << 2, 5 << 8 | 2)
    both.enable()
    assert both.push(PAGES + 0x6000, len(DATA)) == 0
    assert both.same(PAGES + 0x6000, len(DATA)) == DATA


def test_with_translation_off_addresses_pass(both: Both) -> None:
    both.load(DATA)
    assert both.push(PAGES + 0x7000, len(DATA)) == 0
    assert both.same(PAGES + 0x7000, len(DATA)) == DATA


# -- faults


def test_faults_of_root_and_context_entries(both: Both) -> None:
    both.put(ROOT, 0, 0)
    both.put(CONTEXT + 16 * EDU_SOURCE, 0, 0)
    both.enable()
    assert both.pull(0x1000) == 0x1
    both.put(ROOT, CONTEXT | 1, 0)
    assert both.pull(0x1000) == 0x2
    both.put(ROOT, CONTEXT | 1 | 1 << 5, 0)
    assert both.push(0x1000) == 0xA
    both.put(ROOT, CONTEXT | 1, 1 << 20)
    assert both.push(0x1000) == 0xA
    both.put(ROOT, 0x7000_0000 | 1, 0)
    assert both.push(0x1000) == 0x9
    both.put(ROOT, CONTEXT | 1, 0)
    both.put(CONTEXT + 16 * EDU_SOURCE, 0x30_0000 | 1 | 1 << 5, 5 << 8 | 2)
    assert both.push(0x1000) == 0xB
    both.put(CONTEXT + 16 * EDU_SOURCE, 0x30_0000 | 1, 5 << 8 | 2 | 1 << 7)
    assert both.push(0x1000) == 0xB
    both.put(CONTEXT + 16 * EDU_SOURCE, 0x30_0000 | 1, 5 << 8 | 3)  # 5 levels
    assert both.push(0x1000) == 0x3
    both.put(CONTEXT + 16 * EDU_SOURCE, 0x30_0000 | 1 | 3 << 2, 5 << 8 | 2)
    assert both.push(0x1000) == 0x3
    both.put(CONTEXT + 16 * EDU_SOURCE, 0x30_0000 | 1 | 1 << 2, 5 << 8 | 2)  # needs device-TLBs
    assert both.push(0x1000) == 0x3


def test_a_root_table_outside_memory_is_an_access_error(both: Both) -> None:
    both.write(RTADDR, 0x7000_0000, 8)
    both.command(SRTP)
    both.command(TE)
    assert both.pull(0x1000) == 0x8


def test_faults_of_paging_entries(both: Both) -> None:
    root = both.space(4)
    both.map(root, 4, 0x1000, PAGES, R)
    both.map(root, 4, 0x2000, PAGES, W)
    assert both.pull(0x5000) == 0x6
    assert both.push(0x5000) == 0x5
    assert both.push(0x1000) == 0x5
    assert both.pull(0x2000) == 0x6
    assert both.pull(1 << 48) == 0x4
    both.put(root + 8, 0x7000_0000 | 3)  # a table outside memory
    assert both.pull(1 << 39) == 0x7
    both.put(root + 16, TABLES | 3 | 1 << 7)  # a large page at level 4
    assert both.pull(2 << 39) == 0xC


def test_a_first_table_outside_memory_is_a_bad_context_entry(both: Both) -> None:
    both.context(0x7000_0000 | 1, 5 << 8 | 2)
    both.enable()
    theirs = both.qemu
    theirs.pull(0x1000, 8)
    both.port.read(0x1000, 8)
    assert both.reason() == 0x3


def test_the_address_beyond_a_narrow_space(both: Both) -> None:
    both.space(3)
    assert both.pull(1 << 39) == 0x4
    assert both.push((1 << 39) - 8) == 0x5


def test_fault_processing_disable_silences(both: Both) -> None:
    both.context(both.table() | 3, 5 << 8 | 2)
    both.enable()
    assert both.pull(0x1000) == 0
    both.put(CONTEXT + 16 * EDU_SOURCE, 2, 0)
    assert both.pull(0x1000) == 0


def test_a_second_fault_of_the_same_device_is_compressed(both: Both) -> None:
    both.space(4)
    for iova in (0x1000, 0x2000):
        both.qemu.pull(iova, 8)
        both.port.read(iova, 8)
    assert both.status() == 2
    assert both.read(FRCD, 8) == 0x1000


def test_a_masked_event_is_pending_until_the_status_is_cleared(both: Both) -> None:
    both.space(4)
    both.qemu.pull(0x1000, 8)
    both.port.read(0x1000, 8)
    assert both.read(FECTL) == 0xC000_0000
    both.write(FRCD + 12, 1 << 31)
    both.read(FSTS)
    both.write(FSTS, 1)
    assert both.read(FECTL) == 0x8000_0000


def test_clearing_the_mask_sends_the_event(both: Both) -> None:
    both.space(4)
    both.write(0x3C, 0x4051)
    both.write(0x40, 0xFEE0_0000)
    both.qemu.pull(0x1000, 8)
    both.port.read(0x1000, 8)
    both.write(FECTL, 0)
    assert both.read(FECTL) == 0
    assert [message.data for message in both.unit.messages] == [0x4051]


# -- caches


def test_a_translation_is_stale_until_its_page_is_invalidated(both: Both) -> None:
    both.load(DATA)
    root = both.space(4)
    leaf = both.map(root, 4, 0x1000, PAGES + 0x1000)
    both.start_queue()
    assert both.push(0x1000) == 0
    both.put(leaf, PAGES + 0x2000 | R | W)
    assert both.push(0x1100) == 0
    assert both.same(PAGES + 0x1100, 8) == DATA[:8]
    both.submit(iotlb_pages(5, 0x2000), wait_status(STATUS, 1))
    both.submit(iotlb_pages(6, 0x1000), wait_status(STATUS, 2))
    both.submit(iotlb_domain(6), wait_status(STATUS, 3))
    assert both.push(0x1200) == 0
    assert both.same(PAGES + 0x1200, 8) == DATA[:8]
    both.submit(iotlb_pages(5, 0x1000), wait_status(STATUS, 4))
    assert both.push(0x1300) == 0
    assert both.same(PAGES + 0x2300, 8) == DATA[:8]
    both.put(leaf, 0)
    both.submit(iotlb_domain(5), wait_status(STATUS, 5))
    assert both.push(0x1000) == 0x5


def test_not_present_becomes_present_without_an_invalidation(both: Both) -> None:
    root = both.space(4)
    assert both.push(0x1000) == 0x5
    both.map(root, 4, 0x1000, PAGES + 0x1000)
    assert both.push(0x1000) == 0


def test_a_context_entry_is_stale_until_it_is_invalidated(both: Both) -> None:
    both.load(DATA)
    root = both.space(4)
    both.map(root, 4, 0x1000, PAGES + 0x1000)
    both.map(root, 4, 0x2000, PAGES + 0x2000)
    both.start_queue()
    assert both.push(0x1000) == 0
    both.put(CONTEXT + 16 * EDU_SOURCE, 0, 0)
    assert both.push(0x2000) == 0
    both.submit(context_device(5, EDU_SOURCE), iotlb_global(), wait_status(STATUS, 1))
    assert both.push(0x2000) == 0x2


@pytest.mark.parametrize("seed", range(6))
def test_random_tables_and_invalidations_end_alike(both: Both, seed: int) -> None:
    # Leaves are RW or absent: an IOTLB hit without the right permission is blocked in silence by QEMU. Ranges are
    # aligned: where they are not, QEMU drops large pages outside of them too.
    draw = random.Random(seed)
    both.load(DATA)
    levels = draw.choice([3, 4])
    root = both.space(levels)
    both.start_queue()
    places = [(1, page << 12) for page in range(8)] + [(2, (n + 1) << 21) for n in range(3)]
    for _ in range(120):
        level, iova = draw.choice(places)
        match draw.randrange(6):
            case 0:
                span = 0x1000 if level == 1 else 0x20_0000
                both.map(root, levels, iova, PAGES + draw.randrange(1, 8) * span, level=level)
            case 1:
                both.put(both.map(root, levels, iova, 0, 0, level), 0)
            case 2:
                mask = draw.choice([0, 0, 1, 3, 9])
                pages = iotlb_pages(5, iova + (draw.randrange(4) << 12) >> 12 + mask << 12 + mask, mask)
                wide = [iotlb_global(), iotlb_domain(5), iotlb_domain(6), context_global()]
                both.submit(draw.choice([*wide, *[pages] * 6]), wait_status(STATUS, draw.getrandbits(32)))
            case _:
                where = iova + 8 * draw.randrange(500)
                if both.push(where, 8) == 0 and draw.random() < 0.3:
                    assert both.pull(where, 8) == 0
    both.same(0x10_0000, 0x10_0000)
    both.same(TABLES, both.next_table - TABLES)
    both.same(PAGES, 0x100_0000)


@pytest.mark.parametrize("seed", range(6))
def test_random_permissions_fault_alike(both: Both, seed: int) -> None:
    # A fresh space for each access, so that nothing is cached.
    draw = random.Random(seed)
    both.load(DATA)
    both.start_queue()
    for _ in range(25):
        levels = draw.choice([3, 4])
        both.next_table = TABLES
        root = both.space(levels)
        level = draw.choice([1, 1, 2, 3])
        iova = draw.getrandbits(39) >> 12 << 12
        gpa = 0 if level == 3 else PAGES + (draw.randrange(1, 4) << (12 if level == 1 else 21))
        both.map(
            root, levels, iova, gpa, draw.choice([0, R, W, R | W, R | W]), level, link=draw.choice([R, W, 3, 3, 3])
        )
        low = iova >> 12 + 9 * (level - 1) << 12 + 9 * (level - 1)
        inside = PAGES + 0x4000 if level == 3 else 0x100
        both.submit(context_global(), iotlb_global(), wait_status(STATUS, 1))
        both.push(low + inside)
        both.submit(iotlb_global(), wait_status(STATUS, 2))
        both.pull(low + inside)
    both.same(PAGES, 0x100_0000)


# -- the queue


def test_waits_and_wrapping(both: Both) -> None:
    both.start_queue()
    for round_ in range(5):
        head = both.submit(*[iotlb_domain(1)] * 100, wait_status(STATUS + 4 * (round_ & 1), 0x1000 + round_))
    assert head == 505 % 256 * 16


def test_an_interrupt_wait_sets_iwc_and_pends(both: Both) -> None:
    both.start_queue()
    both.submit(wait_flags(0x10))
    assert both.read(ICS) == 1
    assert both.read(IECTL) == 0xC000_0000
    both.write(ICS, 1)
    assert both.read(ICS) == 0
    assert both.read(IECTL) == 0x8000_0000


@pytest.mark.parametrize(
    "low, high",
    [
        (0x0, 0),
        (0xA, 0),
        (0xF, 0),
        (0x02, 0),
        (0x01, 0),
        (0x11 | 1 << 6, 0),
        (0x11, 1),
        (0x12 | 1 << 32, 0),
        (0x32, 19),
        (0x32, 1 << 7),
        (0x25 | 1 << 12, STATUS),
        (0x25, STATUS | 1),
        (0x25 | 0x80, STATUS),
    ],
)
def test_a_bad_descriptor_stops_both_at_the_same_place(both: Both, low: int, high: int) -> None:
    both.start_queue()
    head = both.submit(wait_status(STATUS, 1), struct.pack("<QQ", low, high), wait_status(STATUS, 2))
    assert head == 16
    assert both.read(FSTS) == 0x10
    assert both.read(FECTL) == 0xC000_0000


def test_a_tail_beyond_the_queue_is_an_error_in_both(both: Both) -> None:
    both.start_queue()
    both.write(IQT, 0x1000, 8)
    assert both.read(FSTS) == 0x10


# -- register-based invalidation


@pytest.mark.parametrize("granularity", [1, 2, 3])
def test_register_based_invalidation_is_granted_alike(both: Both, granularity: int) -> None:
    both.space(4)
    both.write(CCMD, 1 << 63 | granularity << 61 | EDU_SOURCE << 16 | 5, 8)
    both.read(CCMD, 8, ignore=3 << 59 if granularity == 2 else 0)  # QEMU does global for domain
    both.write(IVA, 0x1000, 8)
    both.write(IOTLB, 1 << 63 | granularity << 60 | 5 << 32, 8)
    both.read(IOTLB, 8)


def test_a_stale_translation_goes_by_register_too(both: Both) -> None:
    root = both.space(4)
    leaf = both.map(root, 4, 0x1000, PAGES + 0x1000)
    assert both.push(0x1000) == 0
    both.put(leaf, 0)
    both.write(IVA, 0x2000, 8)
    both.write(IOTLB, 1 << 63 | 3 << 60 | 5 << 32, 8)
    assert both.push(0x1000) == 0
    both.write(IVA, 0x1000, 8)
    both.write(IOTLB, 1 << 63 | 3 << 60 | 5 << 32, 8)
    assert both.push(0x1000) == 0x5
