"""The same interrupt remapping entries and the same messages, to a real QEMU and to our unit.

QEMU's own trace says what left its remapping, and its local APICs what arrived. 7.2 records no faults of interrupts, so
a newer one (VTD_NEWER_QEMU) is asked for those too.
"""

from __future__ import annotations

import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.bus import Bus
from emulator.engine import Engine
from emulator.profile import load_profile
from emulator.unit import RemappingUnit
from pagetables.address import SourceId
from pagetables.memory import PhysicalMemory
from tests.differential.counts import COUNTS
from tests.qemu import EDU_SOURCE, Qemu
from tests.required import need_newer_qemu, need_qemu
from tests.units import FRCD, FSTS, GCMD, GSTS, IRE, IRTA, SIRTP

TABLE = 0x10_0000
MEGABYTES = 64
MESSAGES = 1500
_REMAPPED = re.compile(r"vtd_ir_remap_msi \(addr \w+, data \w+\) -> \(addr (\w+), data (\w+)\)")
_DESTINATION, _HINTS, _DATA = 0xFF << 12 | 0xFEE << 20, 0b1100, 0xC7FF


class Both:
    """QEMU and our unit, in step; two processors. `reasons` counts the faults that both recorded."""

    def __init__(self, engine: Engine, folder: Path, binary: str, profile: str) -> None:
        self.memory = PhysicalMemory([(0, MEGABYTES << 20)])
        self.unit = RemappingUnit(self.memory, load_profile(profile), engine)
        self.port = Bus(self.unit).port(SourceId(EDU_SOURCE))
        self.reasons: Counter[int] = Counter()
        self.log = (folder / "log").open("w+")
        monitor = str(folder / "monitor")
        more = ["-smp", "2", "-trace", "vtd_ir_remap_msi", "-D", self.log.name]
        more += ["-monitor", f"unix:{monitor},server=on,wait=off"]
        self.qemu = Qemu("intremap=on,aw-bits=39", MEGABYTES, more, binary)
        self.monitor = socket.socket(socket.AF_UNIX)
        self.monitor.connect(monitor)
        self.log.read()

    def close(self) -> None:
        self.monitor.close()
        self.qemu.close()
        self.log.close()

    def command(self, *bits: int) -> None:
        for bit in bits:
            self.qemu.write(GCMD, 4, self.qemu.read(GSTS, 4) & 0x96FF_FFFF | bit)
            self.unit.write32(GCMD, self.unit.read32(GSTS) & 0x96FF_FFFF | bit)
        assert self.qemu.read(GSTS, 4) == self.unit.read32(GSTS)

    def latch(self, low: int) -> None:
        """IRTA in force, which remaps from now on."""
        self.qemu.write(IRTA, 8, TABLE | low)
        self.unit.write64(IRTA, TABLE | low)
        assert self.qemu.read(IRTA, 8) == self.unit.read64(IRTA)
        self.command(SIRTP, IRE)

    def put(self, index: int, low: int, high: int) -> None:
        data = struct.pack("<QQ", low, high)
        self.qemu.write_memory(TABLE + 16 * index, data)
        self.memory.write(TABLE + 16 * index, data)

    def send(self, address: int, data: int) -> tuple[int, int] | None:
        """The message that left the remapping of both, None if both blocked it."""
        self.qemu.send(address, data)
        self.unit.interrupts.clear()
        self.port.write(address, struct.pack("<I", data))
        ours = self.unit.interrupts[0] if self.unit.interrupts else None
        theirs = self._logged()
        if ours is not None and theirs is not None and not ours.remapped:
            # It is passed on whole, with bits that mean nothing.
            theirs = (theirs[0] & (_DESTINATION | _HINTS), theirs[1] & _DATA)
        message = None if ours is None else ours.message()
        assert message == theirs, f"{address:#x} {data:#x}: ours {message}, QEMU's {theirs}"
        self.settle()
        return theirs

    def settle(self) -> None:
        """The fault records are equal, and cleared."""
        status, low, high = self.qemu.read(FSTS, 4), self.qemu.read(FRCD, 8), self.qemu.read(FRCD + 8, 8)
        assert (self.unit.read32(FSTS), self.unit.read64(FRCD), self.unit.read64(FRCD + 8)) == (status, low, high)
        if high >> 63:
            self.reasons[high >> 32 & 0xFF] += 1
            self.qemu.write(FRCD + 12, 4, 1 << 31)
            self.unit.write32(FRCD + 12, 1 << 31)

    def _logged(self) -> tuple[int, int] | None:
        found = [(int(address, 16), int(data, 16)) for address, data in _REMAPPED.findall(self.log.read())]
        assert len(found) < 2
        return found[0] if found else None

    def pending(self, processor: int) -> list[int]:
        """The vectors in a local APIC's request register."""
        self.monitor.sendall(b"info lapic %d\n" % processor)
        text, deadline = "", time.monotonic() + 10
        while not re.search(r"PPR \w+\s+\(qemu\) $", text):
            assert time.monotonic() < deadline, text
            text += self.monitor.recv(1 << 16).decode()
        [found] = re.findall(r"IRR\s+(.*)", text)
        return [int(vector) for vector in re.findall(r"\d+", found)]


@pytest.fixture(params=["qemu-7.2", "qemu-10.0"])
def both(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[Both]:
    binary = need_qemu("7.2") if request.param == "qemu-7.2" else need_newer_qemu("10.0")
    both = Both(engine, tmp_path, binary, request.param)
    yield both
    both.close()


def handle(index: int, shv: int = 0) -> int:
    return 0xFEE0_0010 | (index & 0x7FFF) << 5 | index >> 15 << 2 | shv << 3


def test_remapped_interrupts_arrive_at_the_processor_that_the_entry_names(both: Both) -> None:
    both.put(5, 0x0000_0100_0021_0001, EDU_SOURCE | 1 << 18)
    both.put(6, 0x0000_0000_0042_0001, EDU_SOURCE | 1 << 18)
    both.put(7, 0x0000_0100_0063_0001, EDU_SOURCE ^ 0x10 | 1 << 18)
    both.latch(7)
    assert both.send(handle(5), 0x99) == (0xFEE0_1000, 0x4021)
    assert both.send(handle(6), 0) == (0xFEE0_0000, 0x4042)
    assert both.send(handle(7), 0) is None
    assert both.send(handle(4, shv=1), 1) == (0xFEE0_1000, 0x4021)
    assert (both.pending(0), both.pending(1)) == ([0x42], [0x21])


def test_before_remapping_is_enabled_messages_pass_as_they_are(both: Both) -> None:
    assert both.send(0xFEE0_1000, 0x31) == (0xFEE0_1000, 0x31)
    both.put(0, 0x0000_0100_0021_0001, 0)
    assert both.send(handle(0), 0x32) == (0xFEE0_0000, 0x32)
    both.latch(7)
    assert both.send(0xFEE0_1000, 0x33) == (0xFEE0_1000, 0x33)  # QEMU knows no CFI
    assert both.send(handle(0), 0x34) == (0xFEE0_1000, 0x4021)
    assert (both.pending(0), both.pending(1)) == ([0x32], [0x21, 0x31, 0x33])


def test_an_entry_is_read_again_for_every_interrupt(both: Both) -> None:
    both.latch(7)
    for vector in (0x40, 0x41):
        both.put(0, 0x0000_0100_0000_0001 | vector << 16, 0)
        assert both.send(handle(0), 0) == (0xFEE0_1000, 0x4000 | vector)


def test_a_read_of_the_interrupt_range_yields_zeros_and_no_fault(both: Both) -> None:
    both.qemu.write_memory(0x20_0000, b"ABCDEFGH")
    both.qemu.pull(0x20_0000, 8)
    both.qemu.pull(0xFEE0_0000, 8)
    both.qemu.push(0x20_0000, 8)
    assert both.port.read(0xFEE0_0000, 8) == both.qemu.read_memory(0x20_0000, 8) == bytes(8)
    both.settle()
    assert not both.reasons


def random_entry(draw: random.Random) -> tuple[int, int]:
    # Destinations at which no processor is: an NMI or INIT would run code.
    low = 1 | draw.choice((0, 2, 4, 8, 16, 0xF00, 0x8000)) | draw.randrange(8) << 5 | draw.getrandbits(8) << 16
    low |= draw.randrange(0x10, 0xFF) << 40
    sid = draw.choice((0x0008, 0x0008, 0x0008, 0x0009, 0x000C, 0x000E, 0x000F, 0x0010, 0x0108, 0x0001, 0x0100, 0x0101))
    high = sid | draw.randrange(4) << 16 | draw.choice((0, 0, 1, 1, 2, 2, 3)) << 18
    for _ in range(draw.choice((0, 0, 0, 0, 1, 2))):
        bit = draw.randrange(128)
        low, high = (low ^ 1 << bit, high) if bit < 64 else (low, high ^ 1 << bit - 64)
    if low >> 40 & 0xFF in (0, 1, 0xFF):
        low ^= 0x20 << 40
    return low, high


def random_message(draw: random.Random) -> tuple[int, int]:
    if draw.random() < 0.1:
        return 0xFEE0_0000 | draw.randrange(0x10, 0xFF) << 12 | draw.getrandbits(12) & ~0x10, draw.getrandbits(16)
    index = draw.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 0x8000, 0xFFFF))
    data = draw.choice((0, 1, 2, 3, 0x8000, 0xFFFF, draw.getrandbits(16)))  # edu's data register has 16 bits
    return handle(index, draw.randrange(2)) | draw.choice((0, 0, 0, 3)), data


@pytest.mark.qemu
@pytest.mark.parametrize("seed", range(2))
def test_random_entries_and_messages_come_out_the_same(both: Both, seed: int) -> None:
    draw = random.Random(seed)
    passed = blocked = 0
    for number in range(MESSAGES):
        if number % 50 == 0:
            both.latch(draw.choice((0, 2, 7, 15)) | draw.choice((0, 1 << 11)))
        if number % 3 == 0:
            both.put(draw.choice((0, 1, 2, 3, 4, 5, 6, 7)), *random_entry(draw))
        address, data = random_message(draw)
        if both.send(address & ~3, data) is None:
            blocked += 1
        else:
            passed += 1
    faults = {0x21, 0x22, 0x24, 0x26} if both.unit.profile.name != "qemu-7.2" else set()
    assert set(both.reasons) == faults
    COUNTS["interrupts"] += MESSAGES
    assert passed > MESSAGES // 5
    assert blocked > MESSAGES // 5
