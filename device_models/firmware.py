"""What a PC's firmware does before an operating system starts, as far as devices and remapping units need it.

Buses get numbers, BARs addresses and bridges windows, depth first; memory and I/O are switched on, and bridges may
forward requests. Bus mastering of devices is left to their drivers. The ACPI tables lie where `find_dmar` looks: the
RSDP in the extended BIOS data area, all others at the top of RAM below 4 GiB. No processor code runs for this.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from device_models.board import FOUR_GIB
from device_models.dmar import build_dmar
from device_models.machine import SystemMachine
from device_models.pci.bus import PciBus
from device_models.pci.config_space import Command, Offset
from device_models.pci.function import PciFunction
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.errors import InputError

__all__ = ["boot", "enumerate_buses", "place_tables"]

_FIRST_MEMORY, _LAST_MEMORY = 0xE000_0000, 0xFEBF_FFFF
_FIRST_PORT, _LAST_PORT = 0xC000, 0xFFFF
_MEMORY_WINDOW, _PORT_WINDOW = 1 << 20, 1 << 12
_EBDA_SEGMENT_AT, _EBDA = 0x40E, 0x9FC00
_PORTS = 16  # a BAR begins at a multiple of
_TABLES = 64 << 10
_OEM = b"VTD   EMULATOR" + struct.pack("<I4sI", 1, b"VTD ", 1)


@dataclass(slots=True)
class _Room:
    """The next free address, and the last there is."""

    next: int
    last: int
    what: str

    def take(self, size: int, alignment: int) -> int:
        start = self.align(alignment)
        self.next = start + size
        if self.next > self.last + 1:
            raise InputError(f"the devices need more {self.what} than there are below {self.last + 1:#x}")
        return start

    def align(self, alignment: int) -> int:
        self.next = -(-self.next // alignment) * alignment
        return self.next


def boot(machine: SystemMachine) -> None:
    """Do all of it, now and after each reset of the machine."""

    def again() -> None:
        enumerate_buses(machine)
        if machine.units:
            place_tables(machine)

    again()
    machine.on_reset.append(again)


def enumerate_buses(machine: SystemMachine) -> None:
    """Number buses, place BARs and open windows; InputError where they do not fit."""
    memory = _Room(_FIRST_MEMORY, _LAST_MEMORY, "addresses")
    ports = _Room(_FIRST_PORT, _LAST_PORT, "ports")
    _enumerate(machine.root_bus, 0, memory, ports)


def _enumerate(bus: PciBus, number: int, memory: _Room, ports: _Room) -> int:
    last = number
    _place_bars(bus, memory, ports)
    for _, function in sorted(bus.functions.items()):
        if function.secondary is None:
            _enable(function, Command.IO | Command.MEMORY)
            continue
        function.config_write(Offset.PRIMARY_BUS, 1, number)
        function.config_write(Offset.SECONDARY_BUS, 1, last + 1)
        function.config_write(Offset.SUBORDINATE_BUS, 1, 0xFF)
        starts = memory.align(_MEMORY_WINDOW), ports.align(_PORT_WINDOW)
        last = _enumerate(function.secondary, last + 1, memory, ports)
        function.config_write(Offset.SUBORDINATE_BUS, 1, last)
        _open_windows(function, starts, (memory.align(_MEMORY_WINDOW), ports.align(_PORT_WINDOW)))
        _enable(function, Command.IO | Command.MEMORY | Command.MASTER)
    return last


def _place_bars(bus: PciBus, memory: _Room, ports: _Room) -> None:
    # Large ones first: nothing is lost between them.
    bars = [(function, bar) for _, function in sorted(bus.functions.items()) for bar in function.bars.values()]
    for function, bar in sorted(bars, key=lambda pair: -pair[1].region.size):
        size = bar.region.size
        address = (ports if bar.kind.io else memory).take(size, max(size, _PORTS if bar.kind.io else PAGE_SIZE))
        function.config_write(bar.offset, 4, address & 0xFFFF_FFFF)
        if bar.kind.wide:
            function.config_write(bar.offset + 4, 4, address >> 32)


def _open_windows(bridge: PciFunction, starts: tuple[int, int], ends: tuple[int, int]) -> None:
    # A window whose limit lies below its base is closed: so are those that hold nothing, and the prefetchable one.
    (memory, port), (memory_end, port_end) = starts, ends
    base, limit = (memory >> 16, memory_end - 1 >> 16) if memory_end > memory else (0xFFF0, 0)
    bridge.config_write(Offset.MEMORY_BASE, 2, base & 0xFFF0)
    bridge.config_write(Offset.MEMORY_LIMIT, 2, limit & 0xFFF0)
    low, high = (port >> 8, port_end - 1 >> 8) if port_end > port else (0xF0, 0)
    bridge.config_write(Offset.IO_BASE, 1, low & 0xF0)
    bridge.config_write(Offset.IO_LIMIT, 1, high & 0xF0)
    bridge.config_write(Offset.PREFETCH_BASE, 2, 0xFFF0)
    bridge.config_write(Offset.PREFETCH_LIMIT, 2, 0)


def _enable(function: PciFunction, bits: int) -> None:
    function.config_write(Offset.COMMAND, 2, function.config_read(Offset.COMMAND, 2) | bits)


def place_tables(machine: SystemMachine) -> Gpa:
    """Write RSDP, XSDT and DMAR into the machine's memory; returns where the DMAR table is."""
    memory = machine.memory
    start, size = next((start, size) for start, size in memory.regions if start < FOUR_GIB)
    if size < 2 * _EBDA:
        raise InputError(f"firmware needs more than {size:#x} bytes of memory to put its tables into")
    root = start + size - _TABLES
    dmar_at = root + PAGE_SIZE
    memory.write(dmar_at, build_dmar(machine))
    memory.write(root, _checked(b"XSDT" + struct.pack("<IBB", 44, 1, 0) + _OEM + struct.pack("<Q", dmar_at), 9))
    memory.write(_EBDA, _root_pointer(root))
    memory.write(_EBDA_SEGMENT_AT, struct.pack("<H", _EBDA >> 4))
    return Gpa(dmar_at)


def _root_pointer(root: int) -> bytes:
    # Revision 2: a checksum over the first 20 bytes, and one over all 36 (ACPI, "Root System Description Pointer").
    first = _checked(b"RSD PTR \0" + _OEM[:6] + b"\2" + bytes(4), 8)
    return _checked(first + struct.pack("<IQ4x", 36, root), 32)


def _checked(data: bytes, at: int) -> bytes:
    whole = bytearray(data)
    whole[at] = -sum(whole) & 0xFF
    return bytes(whole)
