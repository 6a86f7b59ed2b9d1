"""The same accesses to a real QEMU's devices and to ours: configuration space and registers of edu, the two ports."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from device_models.machine import SystemMachine
from tests.qemu import Qemu
from tests.required import need_qemu

SEED = int(os.environ.get("VTD_SEED", "20"))
SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}
EDU_CONFIG, ROOT_PORT_CONFIG = 0x8000_0800, 0x8000_2000
EDU_BAR = 0xE000_0000
KNOWN = (
    (EDU_CONFIG, 0x04),  # set up before
    (EDU_CONFIG, 0x10),
)
COMPUTES, RUNS = 0x08, 0x98  # take real time in QEMU


class Twins:
    """A QEMU and a machine of ours with edu at 01.0 and a root port at 04.0."""

    def __init__(self, qemu: Qemu) -> None:
        self.qemu = qemu
        self.machine = SystemMachine("qemu-7.2", memory_size=64 << 20, engine="python")
        self.machine.add_device("intel-iommu")
        self.machine.add_device("edu,addr=1,dma_mask=0xffffffffffffffff")
        self.machine.add_device("pcie-root-port,id=rp,addr=4,chassis=1")
        self.compare([f"outl 0xcf8 {EDU_CONFIG | 0x10:#x}", f"outl 0xcfc {EDU_BAR:#x}"])
        self.compare([f"outl 0xcf8 {EDU_CONFIG | 4:#x}", "outw 0xcfc 0x6"])

    def compare(self, lines: list[str]) -> None:
        """Send every line to both; each answer must be the same."""
        for line, theirs in zip(lines, self.qemu.ask_all(lines), strict=True):
            ours = self._answer(line)
            assert ours is None or int(theirs.split()[-1], 16) == ours, (
                f"seed {SEED}: {line}: QEMU {theirs}, ours {ours:#x}"
            )

    def _answer(self, line: str) -> int | None:
        name, *numbers = line.split()
        address, *values = (int(number, 16) for number in numbers)
        space = self.machine.ports if name.startswith(("in", "out")) else self.machine.space
        if not values:
            return space.read_number(address, SIZES[name[-1]])
        space.write_number(address, SIZES[name[-1]], values[0])
        return None


@pytest.fixture
def twins() -> Iterator[Twins]:
    with Qemu(more=["-device", "pcie-root-port,id=rp,addr=4,chassis=1"], binary=need_qemu("7.2")) as qemu:
        yield Twins(qemu)


def test_configuration_space_after_power_on_is_the_same(twins: Twins) -> None:
    for base in (EDU_CONFIG, ROOT_PORT_CONFIG):
        for offset in range(0, 0x100, 4):
            if (base, offset) not in KNOWN:
                twins.compare([f"outl 0xcf8 {base | offset:#x}", "inl 0xcfc"])


def test_random_accesses_to_configuration_space_are_answered_alike(twins: Twins) -> None:
    draw = random.Random(SEED)
    lines = []
    for _ in range(4000):
        size = draw.choice("bwl")
        value = draw.choice((0, (1 << 8 * SIZES[size]) - 1, draw.getrandbits(8 * SIZES[size])))
        lines.append(f"outl 0xcf8 {EDU_CONFIG | draw.randrange(0x100):#x}")
        lines.append(f"out{size} {0xCFC + draw.randrange(4):#x} {value:#x}")
        lines.append(f"in{draw.choice('bwl')} {0xCFC + draw.randrange(4):#x}")
        lines.append(f"readl {EDU_BAR:#x}")
    twins.compare(lines)


def test_random_accesses_to_the_registers_of_edu_are_answered_alike(twins: Twins) -> None:
    draw = random.Random(SEED)
    lines = []
    for _ in range(4000):
        offset = draw.choice((0, 4, 0x20, 0x24, 0x60, 0x64, 0x80, 0x88, 0x90, draw.randrange(0x100)))
        size = draw.choice("bwlq")
        if not any(place - 8 < offset < place + 8 for place in (COMPUTES, RUNS)):
            lines.append(f"write{size} {EDU_BAR + offset:#x} {draw.getrandbits(8 * SIZES[size]):#x}")
        lines.append(f"read{draw.choice('bwlq')} {EDU_BAR + offset:#x}")
    twins.compare(lines)
