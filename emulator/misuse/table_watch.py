"""Tables watched while software writes them: whether a unit could have read an entry that was half old and half new.

Entries of more than one word (context entries, PASID entries, interrupt entries) must not be changed in several stores
while they are present: clear P, tell the unit, change the rest, set P last; or change all of it in one store. A unit
reads 16 bytes at a time, and so much is one store at most (cmpxchg16b): a longer write counts as several, in order.

Put a `WatchedTables` between a driver and both its memory and its registers. It finds the entries that hang on RTADDR
(while translation is on) and on IRTA (while interrupts are remapped), and takes note of

    torn-entry        a store into an entry that stays present from an earlier store into another part of it, with no
                      invalidation in between: a unit that reads it between the two sees a mixture
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from emulator.misuse.register_watch import RegisterFinding
from emulator.mmio import Mmio
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.layouts import ScalableContextEntry
from pagetables.layouts.registers import (
    ContextCommand,
    GlobalStatus,
    InterruptRemappingTableAddress,
    InvalidationQueueTail,
    RootTableAddress,
)
from pagetables.memory import WritableMemory

__all__ = ["WatchedTables"]

_STORE = 16  # bytes that a processor writes, and a unit reads, as one
_TELLS = (InvalidationQueueTail.mmio_offset, ContextCommand.mmio_offset)
_LEGACY, _SCALABLE = 0, 1
_NAMES = {"context entry": 16, "scalable-mode context entry": 32, "PASID entry": 64, "interrupt entry": 16}


class WatchedTables:
    """`memory` and the registers of `unit`, watched. `findings` grows; its `access` counts stores."""

    def __init__(self, memory: WritableMemory, unit: Mmio) -> None:
        self.findings: list[RegisterFinding] = []
        self.stores = 0
        self._memory, self._unit = memory, unit
        self._changed: dict[int, set[int]] = {}  # parts of a present entry that changed since the unit was told

    def load(self, address: int) -> int | None:
        """The qword at `address`, or None where there is no memory."""
        return self._memory.load(address)

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        return self._memory.read(Gpa(address), size)

    def store(self, address: int, value: int) -> bool:
        """Write the qword `value` at `address`; False where there is no memory."""
        if self._memory.load(address) is None:
            return False
        self.write(address, struct.pack("<Q", value))
        return True

    def write(self, address: int, data: bytes) -> None:
        """Write `data` at `address`: stores of 16 bytes at most, aligned, in order."""
        at = 0
        while at < len(data):
            size = min(_STORE - (address + at) % _STORE, len(data) - at)
            self._one_store(address + at, data[at : at + size])
            at += size

    def read32(self, offset: int) -> int:
        """The 32-bit register at `offset`."""
        return self._unit.read32(offset)

    def read64(self, offset: int) -> int:
        """The 64-bit register at `offset`."""
        return self._unit.read64(offset)

    def write32(self, offset: int, value: int) -> None:
        """Write 32 bits at `offset`."""
        self._told(offset)
        self._unit.write32(offset, value)

    def write64(self, offset: int, value: int) -> None:
        """Write 64 bits at `offset`."""
        self._told(offset)
        self._unit.write64(offset, value)

    def _told(self, offset: int) -> None:
        if offset & ~4 in _TELLS:
            self._changed.clear()

    def _one_store(self, address: int, data: bytes) -> None:
        self.stores += 1
        if self._memory.read(Gpa(address), len(data)) == data:
            return
        what = next((name for page, name in self._entries() if page == address & -PAGE_SIZE), None)
        entry = 0 if what is None else address - address % _NAMES[what]
        was_present = what is not None and self._is_present(entry)
        self._memory.write(Gpa(address), data)
        if what is None:
            return
        others = self._changed.get(entry, set()) - {address}
        if was_present and others:
            first = min(others)
            says = f"{what} at {entry:#x}: present, and changed at {first:#x}, then at {address:#x}, in two stores"
            self.findings.append(RegisterFinding("torn-entry", self.stores, says))
        if self._is_present(entry):
            self._changed.setdefault(entry, set()).add(address)
        else:
            self._changed.pop(entry, None)

    def _is_present(self, entry: int) -> bool:
        return bool((self._memory.load(entry) or 0) & 1)

    def _entries(self) -> Iterator[tuple[int, str]]:
        # Pages and what their entries are. Entries of one word (root halves, directories, paging) come whole.
        status = GlobalStatus(self._unit.read32(GlobalStatus.mmio_offset))
        if status.ires:
            interrupts = InterruptRemappingTableAddress(self._unit.read64(InterruptRemappingTableAddress.mmio_offset))
            pages = -(-(32 << interrupts.s) // PAGE_SIZE)
            yield from ((interrupts.irta + page << 12, "interrupt entry") for page in range(pages))
        root = RootTableAddress(self._unit.read64(RootTableAddress.mmio_offset))
        if status.tes and root.ttm == _LEGACY:
            yield from ((page, "context entry") for page in self._pointers(root.rta << 12, PAGE_SIZE, 16))
        elif status.tes and root.ttm == _SCALABLE:
            for contexts in self._pointers(root.rta << 12, PAGE_SIZE, 8):
                yield contexts, "scalable-mode context entry"
                for at in range(contexts, contexts + PAGE_SIZE, 32):
                    yield from ((page, "PASID entry") for page in self._pasid_tables(at))

    def _pasid_tables(self, context: int) -> Iterator[int]:
        entry = ScalableContextEntry(self._memory.load(context) or 0)
        if entry.p:
            yield from self._pointers(entry.pasiddirptr << 12, 8 << entry.pdts + 7, 8)

    def _pointers(self, start: int, size: int, step: int) -> Iterator[int]:
        # The pages that present words lead to.
        for at in range(start, start + size, step):
            word = self._memory.load(at) or 0
            if word & 1:
                yield word & -PAGE_SIZE
