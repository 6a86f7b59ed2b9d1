"""The same bytes in memory and the same register writes, to a real QEMU and to our unit: what differs is a finding.

`Both` does everything twice and compares whatever is read. What QEMU is known to do otherwise stands beside the case
that leaves it out.
"""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Iterator

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault
from pagetables.layouts.registers import ExtendedCapability
from tests.both import PAGES, Both, running
from tests.profiles import changed
from tests.qemu import EDU_SOURCE
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

NARROW = load_profile("qemu-7.2")
SCALABLE_ECAP = 0x0000_4800_80F0_0F4A
WIDE = changed(NARROW, {"sagaw": 0b110, "mgaw": 47}, haw=48)


@pytest.fixture
def narrow(engine: Engine) -> Iterator[Both]:
    """39-bit addresses: 3 levels."""
    yield from running(engine, "aw-bits=39", NARROW)


@pytest.fixture
def both(engine: Engine) -> Iterator[Both]:
    """48-bit addresses: 3 and 4 levels."""
    yield from running(engine, "aw-bits=48", WIDE)


@pytest.fixture
def scalable(engine: Engine) -> Iterator[Both]:
    """48-bit addresses and scalable mode, without PASIDs."""
    profile = dataclasses.replace(
        WIDE, capabilities=Capabilities(WIDE.capabilities.cap, ExtendedCapability(SCALABLE_ECAP), 48)
    )
    yield from running(engine, "aw-bits=48,x-scalable-mode=on", profile)


# -- registers


def test_every_register_has_the_same_value_after_reset(both: Both) -> None:
    for offset in range(0, 0x300, 4):
        both.read(offset)
    for offset in range(0, 0x300, 8):
        both.read(offset, 8)


def test_every_register_of_a_narrow_unit_has_the_same_value_after_reset(narrow: Both) -> None:
    for offset in range(0, 0x300, 4):
        narrow.read(offset)


# Offset and size.
WRITABLE = [
    (RTADDR, 8),
    (FSTS, 4),
    (FECTL, 4),
    (0x3C, 4),
    (0x40, 4),
    (0x44, 4),
    (0x58, 8),
    (0x64, 4),
    (0x68, 4),
    (0x70, 8),
    (IQH, 8),
    (IQT, 8),
    (IQA, 8),
    (ICS, 4),
    (IECTL, 4),
    (0xA4, 4),
    (0xA8, 4),
    (0xAC, 4),
    (IRTA, 8),
    (IVA, 8),
    (0x100, 8),
    (0x108, 8),
    (FRCD, 8),
    (FRCD + 8, 8),
]


@pytest.mark.parametrize("seed", range(4))
def test_random_register_writes_read_back_the_same(both: Both, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(300):
        offset, size = draw.choice(WRITABLE)
        value = draw.choice([0, (1 << 64) - 1, draw.getrandbits(64)])
        if size == 8 and draw.random() < 0.5:
            half = draw.choice([0, 4])
            both.write(offset + half, value & 0xFFFF_FFFF)
        else:
            both.write(offset, value & (1 << 8 * size) - 1, size)
        assert both.read(offset, size) == both.read(offset, 4) | (both.read(offset + 4) << 32 if size == 8 else 0)


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


@pytest.mark.parametrize("seed", range(4))
def test_random_tables_and_invalidations_end_alike(both: Both, seed: int) -> None:
    # Leaves are RW or absent: an IOTLB hit without the right permission is blocked in silence by QEMU. A large page
    # never changes: QEMU 7.2 drops such entries together with small pages elsewhere, which is legal.
    draw = random.Random(seed)
    both.load(DATA)
    levels = draw.choice([3, 4])
    root = both.space(levels)
    both.map(root, levels, 0x60_0000, PAGES + 0x20_0000, level=2)
    both.start_queue()
    for _ in range(100):
        iova = draw.choice([page << 12 for page in range(8)])
        match draw.randrange(6):
            case 0:
                both.map(root, levels, iova, PAGES + (draw.randrange(1, 8) << 12))
            case 1:
                both.put(both.map(root, levels, iova, 0, 0), 0)
            case 2:
                mask = draw.choice([0, 0, 1, 2, 3, 9])
                wide = [iotlb_global(), iotlb_domain(5), iotlb_domain(6), context_global()]
                descriptor = draw.choice([*wide, *[iotlb_pages(5, iova >> 12 + mask << 12 + mask, mask)] * 6])
                both.submit(descriptor, wait_status(STATUS, draw.getrandbits(32)))
            case _:
                where = draw.choice([iova, iova, iova, 0x60_0000]) + 8 * draw.randrange(500)
                if both.push(where, 8) == 0 and draw.random() < 0.3:
                    assert both.pull(where, 8) == 0
    both.same(0x10_0000, 0x10_0000)
    both.same(TABLES, both.next_table - TABLES)
    both.same(PAGES, 0x80_0000)


@pytest.mark.parametrize("seed", range(4))
def test_random_permissions_fault_alike(both: Both, seed: int) -> None:
    # A fresh space for each access, so that nothing is cached.
    draw = random.Random(seed)
    both.load(DATA)
    both.start_queue()
    for _ in range(20):
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
    both.same(PAGES, 0x80_0000)


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
    both.read(CCMD, 8)
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


# -- scalable mode (fault codes are not compared: QEMU 7.2 has those of legacy mode there)


def scalable_space(both: Both, pgtt: int, table: int = 0) -> None:
    """Context, PASID directory and PASID entry 0 for the device, in force with a 256-bit queue."""
    directory, entries = both.table(), both.table()
    both.put(ROOT, CONTEXT | 1, 0)
    both.put(CONTEXT + 32 * EDU_SOURCE, directory | 1, 0, 0, 0)
    both.put(directory, entries | 1)
    both.put(entries, table | pgtt << 6 | 2 << 2 | 1, 5, 0, 0, 0, 0, 0, 0)
    both.write(RTADDR, ROOT | 1 << 10, 8)
    both.command(SRTP)
    both.write(IQA, QUEUE | 1 << 11, 8)
    both.command(QIE)
    both.command(TE)


def test_the_registers_of_a_scalable_unit_have_the_same_values_after_reset(scalable: Both) -> None:
    for offset in range(0, 0xC0, 4):
        scalable.read(offset)


@pytest.mark.parametrize("level", [1, 2])
def test_a_scalable_second_stage_leads_to_the_same_place(scalable: Both, level: int) -> None:
    scalable.load(DATA)
    root = scalable.table()
    leaf = scalable.map(root, 4, 0x1234_5660_0000, PAGES + 0x20_0000, level=level)
    scalable_space(scalable, 2, root)
    assert scalable.push(0x1234_5660_0010, len(DATA)) == 0
    assert scalable.same(PAGES + 0x20_0010, len(DATA)) == DATA
    scalable.put(leaf, 0)
    assert scalable.push(0x1234_5660_0800, len(DATA)) == 0  # stale
    assert scalable.same(PAGES + 0x20_0800, len(DATA)) == DATA
    scalable.fill(QUEUE, iotlb_domain(5).ljust(32, b"\0") + wait_status(STATUS, 7).ljust(32, b"\0"))
    scalable.write(IQT, 64, 8)
    assert scalable.read(IQH, 8) == 64
    assert scalable.same(STATUS, 4) == b"\x07\0\0\0"
    scalable.qemu.push(0x1234_5660_0000, 8)
    assert isinstance(scalable.port.write(0x1234_5660_0000, DATA[:8]), Fault)
    assert scalable.read(FSTS) == 2


def test_scalable_pass_through_uses_the_address_as_it_is(scalable: Both) -> None:
    scalable.load(DATA)
    scalable_space(scalable, 4)
    assert scalable.push(PAGES + 0x6000, len(DATA)) == 0
    assert scalable.same(PAGES + 0x6000, len(DATA)) == DATA
