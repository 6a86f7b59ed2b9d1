"""What holds whatever software and devices do: seeded campaigns over one unit, held against a twin or an invariant."""

from __future__ import annotations

import random
import struct

import pytest

from emulator.engine import Engine
from emulator.profile import profile_names
from emulator.unit.page_requests import PageRequest
from pagetables.address import Iova, Pasid
from pagetables.request import AddressType
from tests.ats import DTE, PASIDE, PECTL, PQA, PQH, PQT, PRE, PRS, REQUESTS, AtsBench, device_tlb
from tests.units import (
    CCMD,
    CFI,
    FECTL,
    FRCD,
    FSTS,
    GCMD,
    GSTS,
    IECTL,
    IOTLB,
    IQA,
    IQH,
    IQT,
    IRE,
    IRTA,
    IVA,
    NIC,
    QIE,
    QUEUE,
    RTADDR,
    SIRTP,
    SRTP,
    STATUS,
    TE,
    Bench,
    context_global,
    iotlb_global,
    wait_flags,
    wait_status,
)

MEMORY = 4 << 20


class Event:
    """Twin of a control register: mask, pending, messages sent."""

    def __init__(self) -> None:
        self.masked, self.pending, self.sent = 1, 0, 0

    def rose(self) -> None:
        self.pending = 1
        self.mask(self.masked)

    def mask(self, masked: int) -> None:
        self.masked = masked
        if self.pending and not masked:
            self.pending, self.sent = 0, self.sent + 1

    def word(self) -> int:
        return self.masked << 31 | self.pending << 30


@pytest.mark.parametrize("seed", range(10))
def test_no_fault_is_lost_or_told_twice(engine: Engine, seed: int) -> None:
    rng, bench, event = random.Random(seed), Bench(engine), Event()
    bench.legacy((NIC, bench.table(), 5))
    records: list[list[int]] = [[0, 0] for _ in range(8)]  # page, F
    following = overflow = pending = first = 0
    for _ in range(200):
        action = rng.random()
        if action < 0.5:
            page = 0x1000 * rng.randrange(1, 1 << 20)
            assert bench.go(page) < 0
            if not overflow and records[following][1]:
                overflow = 1
            elif not overflow:
                records[following] = [page, 1]
                if not pending:
                    pending, first = 1, following
                    event.rose()
                following = (following + 1) % 8
        elif action < 0.8:
            index = rng.randrange(8)
            records[index][1] = 0
            bench.write(FRCD + 16 * index + 12, 1 << 31)
            pending = int(any(f for _, f in records))
        elif action < 0.9:
            bench.write(FSTS, 1)
            overflow = 0
        else:
            event.mask(rng.randrange(2))
            bench.write(FECTL, event.masked << 31)
        if not (pending or overflow):
            event.pending = 0
        status = bench.read(FSTS)
        assert (status & 3, bench.read(FECTL), len(bench.unit.messages)) == (
            overflow | pending << 1,
            event.word(),
            event.sent,
        )
        assert status >> 8 == first or not pending
        assert [[low, high >> 63] for low, high in map(bench.record, range(8))] == records


@pytest.mark.parametrize("seed", range(10))
def test_page_requests_come_in_order_and_every_group_is_answered(engine: Engine, seed: int) -> None:
    rng, bench, event = random.Random(seed), AtsBench(engine), Event()
    bench.ats_scalable(DTE | PASIDE | PRE)
    bench.start_page_requests()
    head = tail = requested = overflow = refused = number = 0
    for _ in range(500):
        action = rng.random()
        if action < 0.8:
            number, last = number + 1, rng.random() < 0.5
            bench.unit.page_request(PageRequest(NIC, Iova(number << 12), last=last, group=number & 511))
            quiet = not (requested or overflow)
            if overflow or (tail + 32) % 0x1000 == head:
                overflow, refused = 1, refused + last
            else:
                assert bench.qword(REQUESTS + tail + 8) >> 12 == number
                requested, tail = 1, (tail + 32) % 0x1000
            if quiet:
                event.rose()
        elif action < 0.85:
            head = (head + 32 * rng.randrange((tail - head) % 0x1000 // 32 + 1)) % 0x1000
            bench.write(PQH, head, 8)
        elif action < 0.93:
            cleared = rng.choice((1, 2, 3))
            bench.write(PRS, cleared)
            requested, overflow = requested & ~cleared, overflow & ~(cleared >> 1)
            if not (requested or overflow):
                event.pending = 0
        else:
            event.mask(rng.randrange(2))
            bench.write(PECTL, event.masked << 31)
        assert (bench.read(PQT, 8), bench.read(PRS)) == (tail, requested | overflow << 1)
        assert (bench.read(PECTL), len(bench.unit.messages), len(bench.responses)) == (
            event.word(),
            event.sent,
            refused,
        )


class Queue:
    """A queue that takes time, devices that answer late or never, and software that switches, resets and repairs."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.bench = bench = AtsBench(engine)
        bench.slot = rng.choice((16, 32))
        bench.unit.latency, bench.unit.timing.device_answer = rng.choice((0, 1, 10)), rng.choice((0, 20, 200))
        self.finished: list[int] = []
        self.number = 0
        bench.unit.attach_device_tlb(NIC, self)
        bench.start_queue()

    def invalidate(self, invalidation: object) -> bool:
        return self.rng.random() < 0.5

    def step(self) -> None:
        rng, bench = self.rng, self.bench
        self.keep_on()
        action = rng.random()
        if action < 0.5:
            free = (bench.read(IQH, 8) - bench.read(IQT, 8) - bench.slot) % 0x1000 // bench.slot
            bench.submit(*[self.descriptor() for _ in range(min(free, rng.randrange(1, 6)))])
        elif action < 0.75:
            bench.unit.clock.advance(rng.choice((1, 3, 10, 50)))
        elif action < 0.82:
            bench.unit.invalidation_completed(NIC)
        elif action < 0.94:
            self.repair()
        elif action < 0.97:
            bench.command(QIE, on=False)
            assert bench.read(IQH, 8) == 0
        else:
            bench.unit.reset()
            assert (bench.read(IQH, 8), bench.read(FSTS)) == (0, 0)

    def keep_on(self) -> None:
        if not self.bench.read(GSTS) & QIE:
            self.bench.start_queue()

    def descriptor(self) -> bytes:
        chosen = self.rng.random()
        if chosen < 0.4:
            self.number += 1
            return wait_status(STATUS, self.number, self.rng.choice((0, 0x10, 0x40)))
        if chosen < 0.65:
            return device_tlb(NIC, 0x1000, mip=self.rng.choice((0, 1, 2)))
        return bytes(16) if chosen < 0.7 else self.rng.choice((iotlb_global(), context_global()))

    def repair(self) -> None:
        bench = self.bench
        if bench.read(FSTS) & 0x10:
            bench.memory.write(QUEUE + bench.read(IQH, 8), wait_flags(0x40).ljust(bench.slot, b"\0"))
        bench.write(FSTS, 0x70)

    def look(self) -> None:
        now = struct.unpack("<I", self.bench.memory.read(STATUS, 4))[0]
        if now != (self.finished[-1] if self.finished else 0):
            self.finished.append(now)


@pytest.mark.parametrize("seed", range(40))
def test_waits_finish_once_and_in_order_and_the_queue_can_always_be_repaired(engine: Engine, seed: int) -> None:
    queue = Queue(engine, seed)
    for _ in range(100):
        queue.step()
        queue.look()
        head = queue.bench.read(IQH, 8)
        assert head in range(0, 0x1000, queue.bench.slot)
    queue.keep_on()
    for _ in range(130):
        queue.repair()
        queue.bench.unit.clock.advance(300)
        queue.look()
    assert queue.finished == sorted(set(queue.finished))
    assert queue.bench.read(IQH, 8) == queue.bench.read(IQT, 8)
    assert queue.bench.unit.clock.next_due is None


REGISTERS = (
    *(GCMD, RTADDR, CCMD, CCMD + 4, IQA, IQT, IRTA, FSTS, FECTL, IECTL, FRCD + 8, FRCD + 12, IVA, IOTLB, IOTLB + 4),
    *(PQH, PQT, PQA, PRS, PECTL),
    *(0x64, 0x68, 0x6C, 0x70, 0x78, 0x324, 0x328, 0x400, 0x408, 0x500),  # protected memory, performance monitoring
)


class Guest:
    """Software and a device without any sense, in memory full of words that are nearly tables."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.bench = bench = AtsBench(engine, rng.choice(profile_names()), size=MEMORY)
        bench.unit.latency, bench.unit.timing.device_answer = rng.choice((0, 0, 20)), rng.choice((0, 50))
        for _ in range(600):
            low = rng.choice((1, 3, 7, 0x27, 0x83, 0x67, 0xE7, 0x49, 0x89, 0xD1))
            bench.put(rng.randrange(MEMORY // 8) * 8, rng.choice((rng.getrandbits(64), self.page() | low)))

    def page(self) -> int:
        return self.rng.randrange(MEMORY >> 12) << 12

    def word(self) -> int:
        rng = self.rng
        return rng.choice(
            (
                rng.getrandbits(64),
                self.page() | rng.choice((0, 1 << 10, 1 << 11, 7)),
                1 << rng.randrange(64),
                (1 << 64) - 1,
            )
        )

    def pasid(self) -> Pasid | None:
        return self.rng.choice((None, None, Pasid(self.rng.randrange(4)), Pasid(self.rng.getrandbits(20))))

    def act(self) -> None:
        rng, unit = self.rng, self.bench.unit
        rng.choice((self.write, self.write, self.submit, self.translate, self.translate, self.ask, self.interrupt))()
        if rng.random() < 0.1:
            unit.clock.advance(rng.randrange(100))
        if rng.random() < 0.02:
            unit.reset(warm=rng.random() < 0.5)
        if rng.random() < 0.02:
            unit.invalidation_completed(NIC)

    def write(self) -> None:
        rng, unit = self.rng, self.bench.unit
        unit.write(rng.choice(REGISTERS), rng.choice((4, 8)), self.word())
        unit.write(rng.randrange(-8, 0x1010), rng.choice((1, 2, 4, 8, 16)), self.word())
        unit.read(rng.randrange(-8, 0x1010), rng.choice((1, 2, 4, 8, 16)))
        self.bench.command(rng.choice((TE, SRTP, QIE, IRE, SIRTP, CFI)), rng.random() < 0.7)

    def submit(self) -> None:
        address, tail = self.bench.read(IQA, 8), self.bench.read(IQT, 8)
        at = (address & ~0xFFF) + tail
        if self.bench.memory.contains(at, 32):
            self.bench.put(at, self.word() & ~0xE0F | self.rng.randrange(10), self.word(), 0, 0)
        self.bench.write(IQT, tail + (32 if address >> 11 & 1 else 16), 8)

    def translate(self) -> None:
        rng = self.rng
        self.bench.unit.translate(
            self.bench.request(
                rng.choice((self.word(), self.page(), 0xFEE0_0000)),
                rng.choice(("r", "w", "rw", "x")),
                rng.choice((NIC, rng.getrandbits(16))),
                self.pasid(),
                privileged=rng.random() < 0.2,
                address_type=AddressType(rng.choice((0, 0, 2))),
            )
        )

    def ask(self) -> None:
        rng = self.rng
        self.bench.ask(self.word(), rng.choice("rx"), self.pasid(), pages=rng.choice((1, 2, 5)))
        self.bench.page_request(self.word(), self.pasid(), read=rng.random() < 0.5, last=rng.random() < 0.5)

    def interrupt(self) -> None:
        request = self.bench.request(0xFEE0_0000 | self.rng.getrandbits(20), "w", self.rng.getrandbits(16))
        self.bench.unit.interrupt(request, self.rng.randbytes(self.rng.choice((4, 4, 2, 8))))


def test_nothing_that_a_guest_does_makes_the_unit_raise(engine: Engine) -> None:
    for seed in range(40):
        guest = Guest(engine, seed)
        for _ in range(100):
            guest.act()
        assert guest.bench.unit.register_page()
