"""The invalidation queue's errors, to a real QEMU and to our unit with QEMU's profile: what differs is a finding.

What QEMU does otherwise than the specification says is a behaviour of its profile; each is shown here to be QEMU's.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from tests.ats import EVERYTHING, device_tlb
from tests.both import Both, running
from tests.profiles import changed
from tests.qemu import EDU_SOURCE
from tests.units import (
    CCMD,
    FSTS,
    IOTLB,
    IQERCD,
    IQH,
    IQT,
    QIE,
    QUEUE,
    STATUS,
    context_device,
    context_domain,
    context_global,
    iotlb_domain,
    iotlb_global,
    iotlb_pages,
    wait_flags,
    wait_status,
)

NARROW = load_profile("qemu-7.2")
WIDE = changed(NARROW, {"sagaw": 0b110, "mgaw": 47}, haw=48)
IQE = 0x10
GOOD = (
    iotlb_global(),
    iotlb_domain(3),
    iotlb_pages(3, 0x5000, 2),
    context_global(),
    context_domain(3),
    context_device(3, EDU_SOURCE, 3),
    struct.pack("<QQ", 0x4, 0),
    device_tlb(EDU_SOURCE, 0x1000),
    wait_flags(0x10),
    wait_status(STATUS + 4, 0x77),
)


@pytest.fixture
def both(engine: Engine) -> Iterator[Both]:
    """48-bit addresses, without device-TLBs; the queue runs."""
    for pair in running(engine, "aw-bits=48", WIDE):
        pair.start_queue()
        yield pair


@pytest.fixture
def with_device_tlbs(engine: Engine) -> Iterator[Both]:
    """A unit with device-TLB support; the device has none."""
    for pair in running(engine, "aw-bits=48,device-iotlb=on", changed(WIDE, ecap={"dt": 1})):
        pair.start_queue()
        yield pair


def refused(both: Both, descriptor: bytes) -> bool:
    """Whether a descriptor stops the queue; if so it is replaced and the queue goes on."""
    head = both.submit(descriptor)
    if not both.read(FSTS) & IQE:
        return False
    both.fill(QUEUE + head, wait_status(STATUS, 1))
    both.write(FSTS, IQE)
    both.submit(wait_status(STATUS, 2))
    return True


def test_a_wait_without_a_flag_stops_the_queue(both: Both) -> None:
    assert refused(both, wait_flags(0))
    assert not refused(both, wait_flags(0x10))


def test_the_reason_of_an_error_is_not_told(both: Both) -> None:
    both.submit(bytes(16))
    assert both.read(FSTS) & IQE
    assert both.read(IQERCD, 8) == 0


def test_a_status_where_no_memory_is_stops_the_queue(both: Both) -> None:
    assert refused(both, wait_status(0x7000_0000, 1))


def test_a_fence_alone_stops_the_queue(both: Both) -> None:
    assert refused(both, wait_flags(0x40))


@pytest.mark.parametrize("kind", [6, 7])
def test_pasid_descriptors_are_taken_in_a_128_bit_queue(both: Both, kind: int) -> None:
    assert not refused(both, struct.pack("<QQ", kind | 0x10, 0xFFFF))


def test_clearing_an_error_does_not_resume_the_queue(both: Both) -> None:
    both.submit(bytes(16), wait_status(STATUS, 5))
    both.fill(QUEUE, iotlb_global())
    both.write(FSTS, IQE)
    assert both.read(IQH, 8) == 0
    both.write(IQT, 32, 8)
    assert both.read(IQH, 8) == 32
    assert both.same(STATUS, 4) == b"\x05\0\0\0"


def test_a_queue_whose_last_descriptor_was_no_wait_stays_enabled(both: Both) -> None:
    both.submit(iotlb_global())
    assert both.command(QIE, on=False) & QIE
    both.submit(wait_status(STATUS, 1))
    assert not both.command(QIE, on=False) & QIE


def test_register_commands_hang_while_the_queue_is_enabled(both: Both) -> None:
    both.write(CCMD, 1 << 63 | 1 << 61, 8)
    both.write(IOTLB, 1 << 63 | 1 << 60, 8)
    assert (both.read(CCMD, 8) >> 63, both.read(IOTLB, 8) >> 63) == (1, 1)


def test_device_tlb_invalidations_are_accepted_without_support(both: Both) -> None:
    assert not refused(both, device_tlb(EDU_SOURCE, EVERYTHING, s=1))


def test_device_tlb_invalidations_of_a_device_without_one_complete(with_device_tlbs: Both) -> None:
    for sid in (EDU_SOURCE, 0x1234):
        assert not refused(with_device_tlbs, device_tlb(sid, 0x1000, mip=1))


def test_a_pfsid_is_refused(with_device_tlbs: Both) -> None:
    assert refused(with_device_tlbs, device_tlb(EDU_SOURCE, 0x1000, pfsid=1))
    assert refused(with_device_tlbs, device_tlb(EDU_SOURCE, 0x1000, pfsid=0x10))


def test_each_bit_of_each_descriptor_is_looked_at_alike(with_device_tlbs: Both) -> None:
    both = with_device_tlbs
    for descriptor in GOOD:
        word = int.from_bytes(descriptor, "little")
        for bit in range(128):
            if (word ^ 1 << bit) & 0x3F != 0x35:  # a wait with SW and IF aborts QEMU 7.2
                refused(both, (word ^ 1 << bit).to_bytes(16, "little"))


@pytest.mark.parametrize("seed", range(3))
def test_random_descriptors_are_looked_at_alike(with_device_tlbs: Both, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(100):
        word = int.from_bytes(draw.choice(GOOD), "little")
        for _ in range(draw.randrange(1, 4)):
            word ^= 1 << draw.randrange(128)
        if word & 0x3F != 0x35:
            refused(with_device_tlbs, word.to_bytes(16, "little"))
