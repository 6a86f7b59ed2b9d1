"""The queues in an image: which descriptors, how wide a slot is, where head and tail stand."""

from __future__ import annotations

import struct

import pytest

from pagetables.images.inspection import inspect_unit
from pagetables.images.opening import open_image
from pagetables.images.queues import invalidation_queue, page_request_queue
from pagetables.images.registers import RegisterPage
from pagetables.memory import PhysicalMemory
from tests.conftest import FIXTURES

QI, SMTS, PRS = 1 << 1, 1 << 43, 1 << 29
QUEUE, REQUESTS = 0x4000, 0x8000
WAIT = (0x25 | 7 << 32, 0x9000)
IOTLB = (0x32 | 5 << 16, 0x1234_5000)


def unit(iqa=QUEUE, head=0, tail=0, ecap=QI, qies=True, prq=()):
    """A register page by hand."""
    page = bytearray(4096)
    struct.pack_into("<I4xQQII", page, 0, 0x10, 0, ecap, 0, qies << 26)
    struct.pack_into("<QQQ", page, 0x80, head, tail, iqa)
    struct.pack_into("<QQQII", page, 0xC0, *(prq or (0, 0, 0)), 0, 0)
    return RegisterPage(0xFED9_0000, bytes(page))


@pytest.fixture
def memory():
    """64 KiB of memory."""
    return PhysicalMemory([(0, 0x10000)])


def write(memory, at, step, *descriptors):
    for number, (low, high) in enumerate(descriptors):
        memory.write(at + number * step, struct.pack("<QQ", low, high))


def test_descriptors_are_named_and_their_fields_read(memory):
    write(memory, QUEUE, 16, IOTLB, WAIT)
    queue = invalidation_queue(memory, unit(head=16, tail=32))
    assert (queue.slot_size, queue.length, queue.head, queue.tail, queue.pending) == (16, 256, 1, 2, 1)
    assert [(slot.index, slot.name, slot.is_pending) for slot in queue.slots] == [
        (0, "inv-iotlb", False),
        (1, "inv-wait", True),
    ]
    assert (queue.slots[0].word.did, queue.slots[0].word.addr) == (5, 0x12345)
    assert (queue.slots[1].word.stdata, queue.slots[1].at) == (7, QUEUE + 16)


def test_waiting_descriptors_go_on_behind_the_end(memory):
    write(memory, QUEUE + 4096 - 16, 16, IOTLB)
    write(memory, QUEUE, 16, WAIT)
    queue = invalidation_queue(memory, unit(head=4096 - 16, tail=16))
    assert queue.pending == 2
    assert [slot.index for slot in queue.slots if slot.is_pending] == [0, 255]


def test_width_is_what_dw_says_where_it_is_set(memory):
    write(memory, QUEUE, 32, IOTLB, WAIT)
    queue = invalidation_queue(memory, unit(iqa=QUEUE | 1 << 11, ecap=QI | SMTS, tail=64))
    assert (queue.slot_size, queue.tail, queue.note) == (32, 2, "")


def test_width_is_told_by_the_descriptors_where_dw_reads_zero(memory):
    write(memory, QUEUE, 32, IOTLB, WAIT, IOTLB, WAIT)
    queue = invalidation_queue(memory, unit(ecap=QI | SMTS, head=128, tail=128))
    assert (queue.slot_size, queue.head) == (32, 4)
    assert "IQA.DW reads 0" in queue.note


@pytest.mark.parametrize(
    ("ecap", "step", "count", "tail"),
    [
        pytest.param(QI, 32, 4, 128, id="without scalable mode there are no wide slots"),
        pytest.param(QI | SMTS, 16, 4, 64, id="descriptors in odd places"),
        pytest.param(QI | SMTS, 32, 1, 32, id="one descriptor tells nothing"),
        pytest.param(QI | SMTS, 32, 4, 16, id="a tail between wide slots"),
    ],
)
def test_width_stays_as_dw_says_otherwise(memory, ecap, step, count, tail):
    write(memory, QUEUE, step, *[IOTLB] * count)
    queue = invalidation_queue(memory, unit(ecap=ecap, tail=tail))
    assert (queue.slot_size, queue.note) == (16, "")


def test_wide_descriptors_need_wide_slots(memory):
    write(memory, QUEUE, 16, (6 | 3 << 4, 0))
    assert invalidation_queue(memory, unit(tail=16)).slots[0].word is None
    queue = invalidation_queue(memory, unit(iqa=QUEUE | 1 << 11, ecap=QI | SMTS, tail=32))
    assert queue.slots[0].name == "inv-pasid-iotlb"


def test_a_waiting_descriptor_that_stops_the_queue_is_a_finding(memory):
    write(memory, QUEUE, 16, (0xE, 0), (0x25 | 1 << 20, 0x9000), IOTLB)
    findings = [one for one in inspect_unit(memory, unit(tail=48)).findings if one.kind == "bad-descriptor"]
    assert [finding.at for finding in findings] == [QUEUE, QUEUE + 16]
    assert "unknown type 0xe" in findings[0].message
    assert "reserved bits set: 0x100000" in findings[1].message


def test_what_was_read_is_no_finding(memory):
    write(memory, QUEUE, 16, (0xE, 0))
    assert inspect_unit(memory, unit(head=16, tail=16)).findings == ()


def test_a_queue_outside_memory_is_a_finding(memory):
    report = inspect_unit(memory, unit(iqa=0xF000 | 1))
    (finding,) = report.findings
    assert (finding.kind, finding.at, report.queue.missing) == ("missing-table", 0x10000, (0x10000,))


def test_a_unit_without_queues_has_none(memory):
    assert invalidation_queue(memory, unit(ecap=0)) is None
    assert invalidation_queue(memory, unit(iqa=0, qies=False)) is None
    assert page_request_queue(memory, unit(ecap=QI)) is None
    assert page_request_queue(memory, unit(ecap=QI | PRS)) is None


def test_page_requests_are_read(memory):
    memory.write(REQUESTS + 32, struct.pack("<QQ", 1 | 0x18 << 16 | 1 << 8 | 9 << 32, 0xABC_D000 | 3 | 2 << 3))
    queue = page_request_queue(memory, unit(ecap=QI | PRS, prq=(32, 64, REQUESTS)))
    (slot,) = queue.slots
    assert (queue.length, queue.pending, slot.index, slot.is_pending) == (128, 1, 1, True)
    assert (slot.word.rid, slot.word.pasid, slot.word.addr, slot.word.prgi) == (0x18, 9, 0xABCD, 2)


@pytest.mark.parametrize(
    ("variant", "size", "head", "names"),
    [
        ("a-legacy-strict", 16, 198, {"inv-iotlb", "inv-wait"}),
        ("c-scalable", 32, 184, {"inv-iotlb", "inv-iec", "inv-wait"}),
        ("i-firststage-k72", 32, 148, {"inv-pasid-iotlb", "inv-wait"}),
    ],
)
def test_queues_of_recordings_are_read_whole(variant, size, head, names):
    with open_image(FIXTURES / "images" / variant / "image.elf.gz") as image:
        (page,) = RegisterPage.from_notes(image.notes)
        queue = invalidation_queue(image, page)
    assert (queue.slot_size, queue.length, queue.head, queue.pending) == (size, 256, head, 0)
    assert {slot.name for slot in queue.slots} == names
    assert not any(slot.reserved_bits for slot in queue.slots)
    # QEMU 7.2 (c) does not read DW back; QEMU 11.1 (i) does.
    assert bool(queue.note) == (variant == "c-scalable")
