"""The MSI capability: up to 32 messages that share one address, 32 or 64 bits of it, with or without mask bits."""

from __future__ import annotations

from collections.abc import Callable

from device_models.pci.config_space import ConfigSpace
from pagetables.errors import InputError

__all__ = ["MSI", "Msi"]

MSI = 0x05
_ENABLE, _WIDE, _MASKABLE = 0x01, 0x80, 0x100
_QUEUE_SIZE = 0x70
_DATA = 0xFFFF


class Msi:
    """A function's MSI: `send(address, data)` is how a message leaves it."""

    def __init__(
        self,
        config: ConfigSpace,
        send: Callable[[int, int], None],
        vectors: int = 1,
        wide: bool = True,
        maskable: bool = False,
        offset: int = 0,
    ) -> None:
        if vectors not in (1, 2, 4, 8, 16, 32):
            raise InputError(f"MSI has 1, 2, 4, 8, 16 or 32 vectors, not {vectors}")
        self.config = config
        self.vectors = vectors
        self._send = send
        self._wide = wide
        self._maskable = maskable
        self._data = 12 if wide else 8
        self._mask = self._data + 4
        size = self._mask + 8 if maskable else self._data + 2
        self.offset = config.add_capability(MSI, size, offset)
        self._declare()

    def _declare(self) -> None:
        config, at = self.config, self.offset
        most = (self.vectors.bit_length() - 1) << 1
        config.set(at + 2, 2, most | (_WIDE if self._wide else 0) | (_MASKABLE if self._maskable else 0))
        config.allow(at + 2, 2, _ENABLE | _QUEUE_SIZE)
        config.allow(at + 4, 4, 0xFFFF_FFFC)
        if self._wide:
            config.allow(at + 8, 4, 0xFFFF_FFFF)
        config.allow(at + self._data, 2, _DATA)
        if self._maskable:
            config.allow(at + self._mask, 4, (1 << self.vectors) - 1)

    @property
    def enabled(self) -> bool:
        """True while messages take the place of the interrupt pin."""
        return bool(self.config.get(self.offset + 2, 2) & _ENABLE)

    @property
    def allocated(self) -> int:
        """How many vectors software lets the function use."""
        return 1 << (self.config.get(self.offset + 2, 2) & _QUEUE_SIZE) // 0x10

    @property
    def address(self) -> int:
        """Where messages are written."""
        return self.config.get(self.offset + 4, 8 if self._wide else 4)

    def masked(self, vector: int) -> bool:
        """True if software holds `vector` back."""
        return self._maskable and bool(self.config.get(self.offset + self._mask, 4) >> vector & 1)

    def notify(self, vector: int = 0) -> None:
        """Send `vector`'s message; while it is masked it becomes pending, while MSI is off nothing happens."""
        if not self.enabled:
            return
        if self.masked(vector):
            self._pend(vector, 1)
            return
        data = self.config.get(self.offset + self._data, 2)
        self._send(self.address, data & -self.allocated | vector if self.allocated > 1 else data)

    def written(self) -> None:
        """Software wrote the capability. Once MSI is on, more vectors than there are become as many as there are, and
        what is pending and no longer masked goes out."""
        if not self.enabled:
            return
        if self.allocated > self.vectors:
            self.config.change(self.offset + 2, 2, _QUEUE_SIZE, (self.vectors.bit_length() - 1) << 4)
        if not self._maskable:
            return
        for vector in range(self.allocated):
            if self._pending >> vector & 1 and not self.masked(vector):
                self._pend(vector, 0)
                self.notify(vector)

    @property
    def _pending(self) -> int:
        return self.config.get(self.offset + self._mask + 4, 4)

    def _pend(self, vector: int, value: int) -> None:
        self.config.change(self.offset + self._mask + 4, 4, 1 << vector, value << vector)
