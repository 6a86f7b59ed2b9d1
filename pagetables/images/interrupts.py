"""The interrupt remapping table of an image: every entry that is present."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa
from pagetables.errors import NoMemory
from pagetables.interrupt import ENTRY_SIZE
from pagetables.interrupt_entry import interrupt_entry, reserved_bits
from pagetables.layouts.interrupt import PostedInterruptDescriptor, PostedInterruptEntry, RemappedInterruptEntry
from pagetables.layouts.registers import InterruptRemappingTableAddress
from pagetables.memory import Memory

__all__ = ["Interrupt", "interrupts", "missing_pages"]

_NOTHING = bytes(PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A present entry of the interrupt remapping table.

    `extended` says how wide its destination is (IRTA.EIME). `descriptor` is what a posted entry points to, None where
    the image does not hold it, and for other entries.
    """

    index: int
    at: Gpa
    entry: RemappedInterruptEntry | PostedInterruptEntry
    extended: bool
    descriptor: PostedInterruptDescriptor | None = None

    @property
    def vector(self) -> int:
        """The vector that is delivered, or, of a posted interrupt, recorded in its descriptor."""
        return self.entry.vv if isinstance(self.entry, PostedInterruptEntry) else self.entry.v

    @property
    def destination(self) -> int | None:
        """The APIC id, or the logical destination, that gets the interrupt (or its notification); None if unknown."""
        if isinstance(self.entry, RemappedInterruptEntry):
            field = self.entry.dst
        elif self.descriptor is not None:
            field = self.descriptor.ndst
        else:
            return None
        return field if self.extended else field >> 8 & 0xFF  # EIME=0: 8 bits, 15:8 of the field

    @property
    def descriptor_address(self) -> Gpa | None:
        """Where the descriptor of a posted interrupt is; None for other entries."""
        if not isinstance(self.entry, PostedInterruptEntry):
            return None
        return Gpa(self.entry.pdah << 32 | self.entry.pdal << 6)

    @property
    def reserved_bits(self) -> int:
        """Reserved bits that are set: the unit would refuse the entry."""
        return reserved_bits(self.entry, self.extended)


def interrupts(memory: Memory, irta: InterruptRemappingTableAddress) -> Iterator[Interrupt]:
    """Every present entry of the table at `irta`, by index. Pages that the memory lacks are passed over."""
    for at, page in _pages(memory, irta):
        if page is None or page == _NOTHING:
            continue
        for offset in range(0, min(PAGE_SIZE, _table_size(irta)), ENTRY_SIZE):
            raw = int.from_bytes(page[offset : offset + ENTRY_SIZE], "little")
            if raw & RemappedInterruptEntry.p.mask:
                index = (at + offset - (irta.irta << PAGE_SHIFT)) // ENTRY_SIZE
                yield _interrupt(memory, irta, index, at + offset, raw)


def missing_pages(memory: Memory, irta: InterruptRemappingTableAddress) -> list[int]:
    """The pages of the table at `irta` that the memory lacks."""
    return [at for at, page in _pages(memory, irta) if page is None]


def _table_size(irta: InterruptRemappingTableAddress) -> int:
    return ENTRY_SIZE << irta.s + 1  # S: the table has 2^(S+1) entries


def _pages(memory: Memory, irta: InterruptRemappingTableAddress) -> Iterator[tuple[int, bytes | None]]:
    start = irta.irta << PAGE_SHIFT
    for at in range(start, start + _table_size(irta), PAGE_SIZE):
        try:
            yield at, memory.read(at, min(PAGE_SIZE, _table_size(irta)))
        except NoMemory:
            yield at, None


def _interrupt(memory: Memory, irta: InterruptRemappingTableAddress, index: int, at: int, raw: int) -> Interrupt:
    extended = bool(irta.eime)
    entry = interrupt_entry(raw)
    if isinstance(entry, RemappedInterruptEntry):
        return Interrupt(index, Gpa(at), entry, extended)
    try:
        data = memory.read(entry.pdah << 32 | entry.pdal << 6, PostedInterruptDescriptor.width // 8)
    except NoMemory:
        return Interrupt(index, Gpa(at), entry, extended)
    return Interrupt(index, Gpa(at), entry, extended, PostedInterruptDescriptor.from_bytes(data))
