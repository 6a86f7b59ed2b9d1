"""Every bit of every queue descriptor, against masks written by hand, and queues of every size."""

from __future__ import annotations

import struct

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from tests.ats import AtsBench, device_tlb, group_response, pasid_device_tlb
from tests.profiles import changed
from tests.units import (
    FSTS,
    IQERCD,
    IQH,
    NIC,
    QUEUE,
    STATUS,
    Bench,
    context_device,
    iotlb_pages,
    pasid_cache,
    pasid_iotlb,
    wait_status,
)

ANSWERED = changed(load_profile("spec"), behaviours=frozenset({"missing_devices_complete"}))
IQE = 0x10
ALL = (1 << 64) - 1
TYPE = 0xE0F  # bits 11:9 and 3:0

# A good descriptor; the reserved bits of its qwords; and the bits whose other values may mean nothing: granularities,
# address masks, status address bits above the width.
NARROW = {
    "context-cache": (context_device(3, NIC), (0xFFFC_0000_0000_F1C0 & ~TYPE, ALL), (0x30, 0)),
    "iotlb": (iotlb_pages(3, 0x5000, 1), (0xFFFF_FFFF_0000_F100 & ~TYPE, 0xF80), (0x30, 0x3F)),
    "device-tlb": (device_tlb(NIC, 0x1000), (0x000F_0000_FFE0_01F0, 0xFFE), (0, 0)),
    "interrupt-entry": (struct.pack("<QQ", 0x14 | 2 << 27, 0), (0xFFFF_0000_07FF_F1E0 & ~TYPE, ALL), (0xF800_0000, 0)),
    "wait": (wait_status(STATUS, 1), (0xFFFF_F100 & ~TYPE, 3), (0, 0xFFF0_0000_0000_0000)),
}
WIDE = {
    "pasid-iotlb": (pasid_iotlb(3, 3, 7, 0x5000), (0xFFF0_0000_0000_F1C0 & ~TYPE, 0xF80), (0x30, 0)),
    "pasid-cache": (pasid_cache(1, 3, 7), (0xFFF0_0000_0000_F1C0 & ~TYPE, ALL), (0x30, 0)),
    "pasid-device-tlb": (pasid_device_tlb(NIC, 7, 0x1000), (0, 0x7FE), (0, 0)),
    "response": (group_response(NIC, 5, pasid=7), (0x0000_0000_0000_01E0 | 0xFFF << 52, 0xFFFF_FFFF_FFFF_F007), (0, 0)),
}


def errors_of(bench: Bench, descriptor: bytes) -> int:
    """0 if the queue takes a descriptor, else IQEI; the queue goes on in any case."""
    head = bench.read(IQH, 8)
    bench.submit(descriptor)
    if not bench.read(FSTS) & IQE:
        assert bench.read(IQH, 8) != head
        return 0
    error = bench.read(IQERCD, 8) & 0xF
    bench.memory.write(QUEUE + head, wait_status(STATUS + 8, 1).ljust(bench.slot, b"\0"))
    bench.write(FSTS, IQE)
    return error


def check(bench: Bench, descriptor: bytes, reserved: tuple[int, ...], open_: tuple[int, ...]) -> None:
    qwords = list(struct.unpack(f"<{len(descriptor) // 8}Q", descriptor))
    qwords += [0] * (bench.slot // 8 - len(qwords))
    reserved += (ALL,) * (len(qwords) - 2)
    assert errors_of(bench, descriptor) == 0
    for bit in range(64 * len(qwords)):
        index, mask = bit // 64, 1 << bit % 64
        if (index == 0 and mask & TYPE) or (index < 2 and mask & open_[index]):
            continue
        changed = struct.pack(f"<{len(qwords)}Q", *(q ^ mask if n == index else q for n, q in enumerate(qwords)))
        expected = 4 if reserved[index] & mask else 0
        assert errors_of(bench, changed) == expected, f"bit {bit}"


@pytest.mark.parametrize("name", NARROW)
def test_exactly_the_reserved_bits_stop_a_128_bit_queue(engine: Engine, name: str) -> None:
    bench = AtsBench(engine, ANSWERED)
    bench.start_queue()
    check(bench, *NARROW[name])


@pytest.mark.parametrize("name", [*NARROW, *WIDE])
def test_exactly_the_reserved_bits_stop_a_256_bit_queue(engine: Engine, name: str) -> None:
    bench = AtsBench(engine, ANSWERED)
    bench.slot = 32
    bench.start_queue()
    check(bench, *(NARROW | WIDE)[name])


@pytest.mark.parametrize("slot", [16, 32])
def test_only_assigned_types_are_known(engine: Engine, slot: int) -> None:
    bench = AtsBench(engine, ANSWERED)
    bench.slot = slot
    bench.start_queue()
    good = {1: 0x10, 2: 0x10, 3: 0, 4: 0, 5: 0x20} | ({6: 0x20, 7: 0x30, 8: 0, 9: 0} if slot == 32 else {})
    for kind in range(128):
        low = kind & 0xF | (kind & 0x70) << 5 | good.get(kind, 0)
        high = STATUS if kind == 5 else 0
        expected = 0 if kind in good else 3
        assert errors_of(bench, struct.pack("<QQ", low, high)) == expected, f"type {kind:#x}"


@pytest.mark.parametrize("slot", [16, 32])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 5, 7])
def test_queues_of_every_size_are_worked_to_their_last_slot(engine: Engine, order: int, slot: int) -> None:
    bench = Bench(engine)
    bench.slot = slot
    size = 0x1000 << order
    bench.memory.write(QUEUE, iotlb_pages(1, 0).ljust(slot, b"\0") * (size // slot))
    bench.start_queue(order)
    bench.write(0x88, size - slot, 8)
    assert bench.read(IQH, 8) == size - slot
    bench.memory.write(QUEUE + size - slot, wait_status(0x10_0000, 9).ljust(slot, b"\0"))
    bench.write(0x88, 0, 8)
    assert (bench.read(IQH, 8), bench.read(FSTS), bench.qword(0x10_0000)) == (0, 0, 9)
    if order < 7:
        bench.write(0x88, size, 8)
        assert bench.read(IQERCD, 8) & 0xF == 1
