"""All 4096 bytes of QEMU's bridges and of ours, as software finds them and as it can change them; DMA over a reset."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from device_models.machine import SystemMachine
from tests.qemu import EDU_BAR, EDU_BUFFER, EDU_SOURCE, Qemu
from tests.required import need_newer_qemu, need_qemu

WINDOW = 0xB000_0000
BRIDGES = (
    "pcie-root-port,id=rp,addr=4,chassis=1",
    "pcie-pci-bridge,id=pb,addr=5",
    "pci-bridge,id=br,addr=6,chassis_nr=3",
    "pcie-root-port,id=rq,addr=7,chassis=2",
    "pcie-root-port,addr=8,chassis=4,disable-acs=on",
    "pci-bridge,addr=9,chassis_nr=5,shpc=off",
    "pci-bridge,addr=a,chassis_nr=6,msi=off",
)
BEHIND = ("edu,bus=pb,addr=3", "edu,bus=br,addr=2", "edu,bus=rq")
PORT, TO_PCI, CONVENTIONAL, USED_PORT = 0x20, 0x28, 0x30, 0x38
WITHOUT_ACS, WITHOUT_HOT_PLUG, WITHOUT_MSI = 0x40, 0x48, 0x50
HOT_PLUG_BAR = 0xE100_0000
TARGET = 0x3000
VERSIONS = ("7.2", "10.0")
BINARIES = {"7.2": need_qemu, "10.0": need_newer_qemu}


def machine_of(version: str) -> SystemMachine:
    machine = SystemMachine(f"qemu-{version}", memory_size=64 << 20, engine="python")
    for device in ("intel-iommu", "edu,addr=1,dma_mask=0xffffffffffffffff", *BRIDGES, *BEHIND):
        machine.add_device(device)
    return machine


class Pair:
    """A QEMU and a machine of ours with the same bridges, asked the same."""

    def __init__(self, qemu: Qemu, version: str) -> None:
        self.qemu = qemu
        self.machine = machine_of(version)
        self.qemu._ask("outl 0xcf8 0x80000060")  # PCIEXBAR: configuration space in memory
        self.qemu._ask(f"outl 0xcfc {WINDOW | 1:#x}")
        self.machine.ports.write_number(0xCF8, 4, 0x8000_0060)
        self.machine.ports.write_number(0xCFC, 4, WINDOW | 1)

    def write(self, address: int, value: int) -> None:
        self.qemu._ask(f"writel {address:#x} {value:#x}")
        self.machine.space.write_number(address, 4, value)

    def differences(self, start: int, size: int) -> list[tuple[int, int, int]]:
        """Offset, QEMU's dword and ours, of those that differ."""
        lines = [f"readl {start + at:#x}" for at in range(0, size, 4)]
        theirs = [int(answer, 16) for answer in self.qemu.ask_all(lines)]
        ours = [self.machine.space.read_number(start + at, 4) for at in range(0, size, 4)]
        return [(4 * at, a, b) for at, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]


def pair_of(version: str) -> Pair:
    more = [word for device in (*BRIDGES, *BEHIND) for word in ("-device", device)]
    return Pair(Qemu(more=more, binary=BINARIES[version](version)), version)


@pytest.mark.qemu
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("devfn", [PORT, TO_PCI, CONVENTIONAL, USED_PORT, WITHOUT_ACS, WITHOUT_HOT_PLUG, WITHOUT_MSI])
def test_every_byte_of_a_bridge_reads_and_changes_as_in_qemu(version: str, devfn: int) -> None:
    pair, start = pair_of(version), WINDOW + (devfn << 12)
    with pair.qemu:
        assert pair.differences(start, 0x1000) == []
        for value in (0xFFFF_FFFF, 0, 0x5555_5555, 0xAAAA_AAAA):
            for at in range(0, 0x1000, 4):
                pair.write(start + at, value)
            assert pair.differences(start, 0x1000) == [], f"after {value:#x}"


@pytest.mark.qemu
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("devfn", [TO_PCI, CONVENTIONAL])
def test_the_hot_plug_controller_shows_the_slots_as_in_qemu(version: str, devfn: int) -> None:
    pair, start = pair_of(version), WINDOW + (devfn << 12)
    with pair.qemu:
        pair.write(start + 0x10, HOT_PLUG_BAR)
        pair.write(start + 4, 6)
        assert pair.differences(HOT_PLUG_BAR, 0x100) == []
        assert pair.machine.space.read_number(HOT_PLUG_BAR + 4, 4) == 31
        for number in (*range(12), 39, 40, 63):
            pair.write(start + 0x40, number << 16)
            assert pair.differences(start + 0x40, 8) == [], number


def start_dma(write: Callable[[int, int], None]) -> None:
    for register, value in ((0x80, EDU_BUFFER), (0x88, TARGET), (0x90, 8), (0x98, 3)):
        write(EDU_BAR + register, value)


@pytest.mark.parametrize("again", [False, True])
def test_dma_under_way_at_a_reset_is_refused_until_software_makes_the_function_a_master_again(again: bool) -> None:
    machine = machine_of("7.2")
    machine.memory.write(TARGET, b"not yet!")
    for offset, value in ((0x10, EDU_BAR), (4, 6)):
        machine.root_bus.functions[EDU_SOURCE].config_write(offset, 4, value)
    start_dma(lambda at, value: machine.space.write_number(at, 8, value))
    machine.reset()
    if again:
        machine.root_bus.functions[EDU_SOURCE].config_write(4, 2, 4)
    machine.clock_step(200_000_000)
    assert machine.memory.read(TARGET, 8) == (bytes(8) if again else b"not yet!")


@pytest.mark.qemu
@pytest.mark.parametrize("version", VERSIONS)
def test_dma_under_way_at_a_reset_is_done_by_qemu(version: str) -> None:
    with Qemu(more=["-icount", "shift=0,sleep=on"], binary=BINARIES[version](version)) as qemu:
        qemu.write_memory(TARGET, b"not yet!")
        start_dma(lambda at, value: qemu._ask(f"writeq {at:#x} {value:#x}"))
        qemu._ask("outb 0xcf9 6")
        deadline = time.monotonic() + 30
        while qemu.read_memory(TARGET, 8) == b"not yet!" and time.monotonic() < deadline:
            pass
        assert qemu.read_memory(TARGET, 8) == bytes(8)
        assert qemu._config(4) & 0xFFFF == 0  # it is no master, then
