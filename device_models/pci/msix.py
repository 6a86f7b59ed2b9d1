"""The MSI-X capability: a table of messages, each with its own address, data and mask, in a BAR of the function."""

from __future__ import annotations

from collections.abc import Callable

from device_models.memory_region import MemoryRegion, Operations, Sizes
from device_models.pci.config_space import ConfigSpace
from pagetables.errors import InputError

__all__ = ["MSI_X", "MsiX"]

MSI_X = 0x11
ENTRY = 16
_ENABLE, _MASK_ALL = 0x8000, 0x4000
_ADDRESS, _DATA, _CONTROL = 0, 8, 12
_MASKED = 1
_VALID, _DWORDS = Sizes(4, 8), Sizes(4, 4)


class MsiX:
    """`vectors` entries at `table_offset` of the region of BAR `bar`, the pending bits at `pending_offset` of it."""

    def __init__(
        self,
        config: ConfigSpace,
        send: Callable[[int, int], None],
        region: MemoryRegion,
        bar: int,
        vectors: int,
        table_offset: int = 0,
        pending_offset: int | None = None,
        offset: int = 0,
    ) -> None:
        if not 1 <= vectors <= 2048:
            raise InputError(f"MSI-X has 1 to 2048 vectors, not {vectors}")
        pending_offset = table_offset + -(-vectors * ENTRY // 8) * 8 if pending_offset is None else pending_offset
        if pending_offset + self._pending_size(vectors) > region.size:
            raise InputError(f"MSI-X table of {vectors} vectors does not fit BAR {bar} of {region.size:#x} bytes")
        self.config = config
        self.vectors = vectors
        self._send = send
        self.table = bytearray(vectors * ENTRY)
        self.pending = bytearray(self._pending_size(vectors))
        self.offset = config.add_capability(MSI_X, 12, offset)
        config.set(self.offset + 2, 2, vectors - 1)
        config.allow(self.offset + 2, 2, _ENABLE | _MASK_ALL)
        config.set(self.offset + 4, 4, table_offset | bar)
        config.set(self.offset + 8, 4, pending_offset | bar)
        self._place(region, table_offset, pending_offset)
        self.reset()

    @staticmethod
    def _pending_size(vectors: int) -> int:
        return -(-vectors // 64) * 8

    def _place(self, region: MemoryRegion, table_offset: int, pending_offset: int) -> None:
        table = Operations(self._read_table, self._write_table, _VALID, _DWORDS)
        bits = Operations(self._read_pending, lambda offset, size, value: None, _VALID, _DWORDS)
        region.add(MemoryRegion("msix-table", len(self.table), table), table_offset)
        region.add(MemoryRegion("msix-pba", len(self.pending), bits), pending_offset)

    @property
    def enabled(self) -> bool:
        """True while messages take the place of the interrupt pin."""
        return bool(self.config.get(self.offset + 2, 2) & _ENABLE)

    def masked(self, vector: int) -> bool:
        """True if software holds `vector`, or all of them, back."""
        everything = self.config.get(self.offset + 2, 2) & _MASK_ALL
        return bool(everything or self._field(vector, _CONTROL) & _MASKED)

    def notify(self, vector: int) -> None:
        """Send `vector`'s message; while it is masked it becomes pending, while MSI-X is off nothing happens."""
        if not self.enabled or not 0 <= vector < self.vectors:
            return
        if self.masked(vector):
            self.pending[vector // 8] |= 1 << vector % 8
        else:
            address = self._field(vector, _ADDRESS) & ~3 | self._field(vector, _ADDRESS + 4) << 32
            self._send(address, self._field(vector, _DATA))

    def written(self) -> None:
        """Software wrote the capability or the table: what is pending and no longer masked goes out."""
        for vector in range(self.vectors):
            bit = 1 << vector % 8
            if self.pending[vector // 8] & bit and self.enabled and not self.masked(vector):
                self.pending[vector // 8] &= ~bit
                self.notify(vector)

    def reset(self) -> None:
        """Every entry zero but masked, nothing pending."""
        self.table[:] = bytes(len(self.table))
        self.pending[:] = bytes(len(self.pending))
        for vector in range(self.vectors):
            self.table[vector * ENTRY + _CONTROL] = _MASKED

    def _field(self, vector: int, offset: int) -> int:
        at = vector * ENTRY + offset
        return int.from_bytes(self.table[at : at + 4], "little")

    def _read_table(self, offset: int, size: int) -> int:
        return int.from_bytes(self.table[offset : offset + size], "little")

    def _write_table(self, offset: int, size: int, value: int) -> None:
        self.table[offset : offset + size] = value.to_bytes(size, "little")
        self.written()

    def _read_pending(self, offset: int, size: int) -> int:
        return int.from_bytes(self.pending[offset : offset + size], "little")
