"""Requests that take transfer descriptors besides their mapping: USB storage behind UHCI, under memory pressure.

Each buffer that is mapped and unmapped again is one bulk request, submitted once its buffer is mapped. Its descriptors
come from a dma_pool, asked with GFP_ATOMIC (drivers/usb/host/uhci-q.c). If one cannot be had, the submission fails with
-ENOMEM and the buffer is unmapped again; nobody tells the driver when to try again. What is never unmapped is a ring of
the driver and no request.
"""

from __future__ import annotations

from typing import Any

from emulator.mapping.costs import Meter
from emulator.mapping.dma_pool import DmaPool
from emulator.mapping.pressure import Zone
from emulator.mapping.uhci import TD_ALIGN, TD_SIZE, Transfer, Uhci, Urb
from emulator.mapping.watermarks import Gfp
from pagetables.address import Gpa
from pagetables.errors import InputError

__all__ = ["Requests"]


class Requests:
    """The requests of a run, by the number of their buffer, in packets of `packet` bytes. `reserve` descriptors are had
    from the start; more are asked for in class `gfp`."""

    def __init__(self, zone: Zone, meter: Meter, packet: int, reserve: int, gfp: Gfp) -> None:
        pool = DmaPool("uhci_td", zone, TD_SIZE, TD_ALIGN)
        if not pool.preallocate(reserve):
            raise InputError(f"memory does not hold {reserve} descriptors in reserve")
        pool.meter = meter
        self.host = Uhci(pool, gfp)
        self._packet = packet
        self._live: dict[int, list[tuple[Gpa, ...]]] = {}

    def submit(self, buffer: int, size: int) -> bool:
        """Begin a request of `size` bytes; False if descriptors are missing, and then none is taken."""
        taken = self.host.submit(Urb(Transfer.BULK, size, self._packet))
        if isinstance(taken, int):
            return False
        self._live.setdefault(buffer, []).append(taken)
        return True

    def complete(self, buffer: int) -> None:
        """The requests of the buffer are done: their descriptors are free."""
        for descriptors in self._live.pop(buffer, ()):
            self.host.complete(descriptors)

    def as_dict(self) -> dict[str, Any]:
        """What became of the requests, and pages that the pool took for descriptors."""
        return {**self.host.statistics.as_dict(), "descriptors": self.host.pool.blocks, "pages": self.host.pool.pages}
