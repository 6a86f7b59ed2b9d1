"""Who a request is from, behind ports and bridges: the source-id that a real QEMU's unit records, and ours."""

from __future__ import annotations

from collections.abc import Iterator

from device_models.fronts.qtest import QtestServer
from device_models.machine import SystemMachine
from tests.qemu import Qemu
from tests.required import need_qemu

BRIDGES = (
    "pcie-root-port,id=link,addr=4,chassis=1",
    "pcie-root-port,id=upper,addr=5,chassis=2",
    "pcie-pci-bridge,id=old,bus=upper,addr=0",
    "pci-bridge,id=older,bus=old,addr=7,chassis_nr=3",
    "pci-bridge,id=direct,addr=6,chassis_nr=4",
)
DEVICES = {"link": "00", "old": "03", "older": "01", "direct": "02"}  # the bus that edu is on, and its slot
NUMBERS = {  # of each bridge: where its configuration is, and its primary, secondary and last bus
    "link": (0x8000_2000, 0, 1, 1),
    "upper": (0x8000_2800, 0, 2, 4),
    "old": (0x8002_0000, 2, 3, 4),
    "older": (0x8003_3800, 3, 4, 4),
    "direct": (0x8000_3000, 0, 5, 5),
}
WINDOWS = {"link": (0, 0), "upper": (1, 2), "old": (1, 2), "older": (2, 2), "direct": (3, 3)}  # first and last MiB
EXPECTED = {"link": 0x0100, "old": 0x0300, "older": 0x0300, "direct": 0x0030}
FIRST_BAR, MIB = 0xE000_0000, 1 << 20
UNIT, ROOT = 0xFED9_0000, 0x10_0000


def set_up() -> Iterator[str]:
    """Software numbers buses, opens windows, places BARs, and lets everybody send requests."""
    for name, (config, *numbers) in NUMBERS.items():
        first, last = WINDOWS[name]
        base, limit = (FIRST_BAR + MIB * first) >> 16, (FIRST_BAR + MIB * last) >> 16
        yield from configured(config | 0x18, int.from_bytes(bytes(numbers), "little"))
        yield from configured(config | 0x20, limit << 16 | base)
        yield from configured(config | 4, 7)
    for number, (bus, slot) in enumerate(DEVICES.items()):
        config = 0x8000_0000 | NUMBERS[bus][2] << 16 | int(slot, 16) << 11
        yield from configured(config | 0x10, FIRST_BAR + MIB * number)
        yield from configured(config | 4, 6)
    yield from (f"writeq {UNIT + 0x20:#x} {ROOT:#x}", f"writel {UNIT + 0x18:#x} 0x40000000")
    yield f"writel {UNIT + 0x18:#x} 0x80000000"


def configured(register: int, value: int) -> Iterator[str]:
    yield from (f"outl 0xcf8 {register:#x}", f"outl 0xcfc {value:#x}")


def doorbell(number: int) -> Iterator[str]:
    """The edu with that number reads four bytes at 5000h."""
    bar = FIRST_BAR + MIB * number
    for offset, value in ((0x80, 0x5000), (0x88, 0x4_0000), (0x90, 4), (0x98, 1)):
        yield f"writeq {bar + offset:#x} {value:#x}"


class Ours:
    def __init__(self) -> None:
        machine = SystemMachine("qemu-7.2", memory_size=64 << 20, engine="python")
        for device in ("intel-iommu", "edu,addr=1", *BRIDGES, *edus()):
            machine.add_device(device)
        self.server = QtestServer(machine)

    def ask(self, line: str) -> int:
        answer = self.server.ask(line)
        assert answer.startswith("OK"), (line, answer)
        return int(answer.split()[1], 16) if len(answer) > 2 else 0

    def settle(self) -> None:
        self.ask("clock_step 200000000")


class Theirs:
    def __init__(self, qemu: Qemu) -> None:
        self.qemu = qemu

    def ask(self, line: str) -> int:
        (answer,) = self.qemu.ask_all([line])
        return int(answer, 16) if answer else 0

    def settle(self) -> None:
        for number in range(len(DEVICES)):
            while self.ask(f"readl {FIRST_BAR + MIB * number + 0x98:#x}") & 1:
                pass


def edus() -> list[str]:
    return [f"edu,bus={bus},addr={slot},dma_mask=0xffffffffffffffff" for bus, slot in DEVICES.items()]


def recorded(side: Ours | Theirs) -> dict[str, tuple[int, int]]:
    """For the edu on each bus: the source-id and the reason in the fault record that its read leaves."""
    for line in set_up():
        side.ask(line)
    found = {}
    for number, bus in enumerate(DEVICES):
        for line in doorbell(number):
            side.ask(line)
        side.settle()
        high = side.ask(f"readq {UNIT + 0x228:#x}")
        found[bus] = high & 0xFFFF, high >> 32 & 0xFF
        side.ask(f"writel {UNIT + 0x22C:#x} 0x80000000")
    return found


def test_bridges_own_the_requests_of_what_is_behind_them() -> None:
    assert recorded(Ours()) == {bus: (source_id, 1) for bus, source_id in EXPECTED.items()}


def test_a_real_qemu_records_the_same_source_ids() -> None:
    binary = need_qemu("7.2")
    more = [part for device in (*BRIDGES, *edus()) for part in ("-device", device)]
    with Qemu(more=more, binary=binary) as qemu:
        theirs = recorded(Theirs(qemu))
    assert theirs == recorded(Ours())
