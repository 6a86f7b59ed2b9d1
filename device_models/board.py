"""What a q35 machine has before any device is added: memory, its map, and where interrupt pins lead.

RAM ends at 2816 MiB, or at 2 GiB when there is more than that; the rest begins at 4 GiB. What is not RAM below that
belongs to PCI.
"""

from __future__ import annotations

from collections.abc import Callable

from device_models.local_apic import LocalApics
from device_models.memory_region import WHOLE_SPACE, MemoryRegion, Operations, Ram, Sizes
from pagetables.address import PAGE_SIZE
from pagetables.errors import InputError
from pagetables.memory import PhysicalMemory

__all__ = [
    "INTERRUPT_INPUTS",
    "PCI_PRIORITY",
    "apic_window",
    "interrupt_input",
    "ram_layout",
    "reset_port",
    "system_map",
]

FOUR_GIB = 1 << 32
_ALL_LOW, _SPLIT = 0xB000_0000, 0x8000_0000
PCI_PRIORITY = -1
INTERRUPT_INPUTS = 24
_FIRST_PCI_INPUT = 16
_APIC, _APIC_SIZE = 0xFEE0_0000, 1 << 20
_LEGACY_VIDEO, _LEGACY_ROM, _LEGACY_END = 0xA_0000, 0xC_0000, 0x10_0000
_RESET_BIT = 4


def ram_layout(size: int) -> list[tuple[int, int]]:
    """(start, size) of each stretch of RAM in a machine with `size` bytes of it; InputError unless whole pages."""
    if size <= 0 or size % PAGE_SIZE:
        raise InputError(f"memory of {size:#x} bytes: expected a multiple of {PAGE_SIZE:#x}")
    low = min(size, _ALL_LOW) if size <= _ALL_LOW else _SPLIT
    return [(0, low)] + ([(FOUR_GIB, size - low)] if size > low else [])


def system_map(memory: PhysicalMemory, pci: MemoryRegion) -> MemoryRegion:
    """The processor's memory: RAM over PCI, with PCI on top where PCs have video memory and ROMs."""
    system = MemoryRegion("system", WHOLE_SPACE)
    for start, size in memory.regions:
        name = "ram-above-4g" if start else "ram-below-4g"
        system.add(MemoryRegion(name, size, ram=Ram(memory, start)), start)
    system.add(pci, 0, PCI_PRIORITY)
    for name, start, end in (
        ("smram-region", _LEGACY_VIDEO, _LEGACY_ROM),
        ("pam-pci", _LEGACY_ROM, _LEGACY_END),
    ):
        system.add(MemoryRegion.of(pci, name, start, end - start), start, 1)
    return system


def apic_window(apics: LocalApics) -> MemoryRegion:
    """FEExxxxxh for the processor: a dword written there is an interrupt message; it reads as zero."""

    def write(offset: int, size: int, value: int) -> None:
        if size == 4:
            apics.write_message(_APIC + offset, value)

    return MemoryRegion("apic-msi", _APIC_SIZE, Operations(lambda offset, size: 0, write, Sizes(1, 4), Sizes(1, 4)))


def reset_port(reset: Callable[[], None]) -> MemoryRegion:
    """Port CF9h: writing bit 2 resets the machine."""
    stored = [0]

    def write(offset: int, size: int, value: int) -> None:
        stored[0] = value & ~_RESET_BIT & 0x0E
        if value & _RESET_BIT:
            reset()

    return MemoryRegion("lpc-reset-control", 1, Operations(lambda offset, size: stored[0], write))


def interrupt_input(slot: int, pin: int) -> int:
    """The I/O APIC input that a pin of a slot of the root bus leads to, as ICH9 routes them after reset.

    Slots below 25 rotate over inputs 20 to 23, the chipset's own devices over 16 to 19.
    """
    return _FIRST_PCI_INPUT + ((slot + pin) % 4 + 4 if slot < 25 else pin)
