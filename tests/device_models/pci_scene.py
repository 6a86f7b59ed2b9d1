"""Scenes for PCI: a machine, software that reaches it through ports only, and a device that does nothing."""

from __future__ import annotations

from device_models.device import Device
from device_models.machine import SystemMachine
from device_models.memory_region import MemoryRegion, Operations
from device_models.pci.bars import BarKind
from device_models.pci.function import PciFunction

BAR_0, COMMAND, STATUS = 0x10, 4, 6
IO, MEMORY, MASTER, INTX_DISABLE = 1, 2, 4, 0x400


class Plain(PciFunction):
    """BAR 0: 4 KiB of 32-bit memory, BAR 1: 16 ports, BAR 2: 64 KiB of 64-bit prefetchable memory."""

    TYPE = "plain"
    VENDOR, DEVICE, PIN = 0x1234, 0x5678, 1

    def realize(self) -> None:
        super().realize()
        for number, size, kind in (
            (0, 0x1000, BarKind()),
            (1, 0x10, BarKind(io=True)),
            (2, 0x10000, BarKind(wide=True, prefetchable=True)),
        ):
            answer = Operations(lambda offset, size, number=number: 0xA0 + number, lambda offset, size, value: None)
            self.add_bar(number, MemoryRegion(f"plain-{number}", size, answer), kind)


class Software:
    """What a driver does: CF8h and CFCh, memory, ports."""

    def __init__(self, machine: SystemMachine) -> None:
        self.machine = machine

    def _select(self, bus: int, devfn: int, offset: int) -> int:
        self.machine.ports.write_number(0xCF8, 4, 1 << 31 | bus << 16 | devfn << 8 | offset & 0xFC)
        return 0xCFC + (offset & 3)

    def read(self, devfn: int, offset: int, size: int = 4, bus: int = 0) -> int:
        return self.machine.ports.read_number(self._select(bus, devfn, offset), size)

    def write(self, devfn: int, offset: int, value: int, size: int = 4, bus: int = 0) -> None:
        self.machine.ports.write_number(self._select(bus, devfn, offset), size, value)


def scene(kind: type[Device] = Plain, options: str = "addr=2") -> tuple[SystemMachine, PciFunction, Software]:
    """A machine with one device of a class of the test's own."""
    machine = SystemMachine("spec", engine="python")
    return machine, plug(machine, kind, options), Software(machine)


def plug(machine: SystemMachine, kind: type[Device], options: str = "", bus: str = "pcie.0") -> PciFunction:
    """Put a device of a class that no registry knows into the machine."""
    device = kind(machine)
    assert isinstance(device, PciFunction)
    device.bus = machine.buses[bus]
    for part in filter(None, options.split(",")):
        device.set_property(*part.split("="))
    device.realize()
    device.realized = True
    machine.devices.append(device)
    device.reset()
    return device
