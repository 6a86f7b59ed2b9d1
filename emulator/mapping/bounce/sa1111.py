"""sa1111-pcibuf: the first safe buffers, for a companion chip whose DMA reaches the low 1 MiB of a bank.

Source: arch/arm/mach-sa1100/sa1111-pcibuf.c, Linux 2.5 and early 2.6. Two pools for the whole system, small buffers of
1024 bytes and large ones of 4096; a larger buffer is refused, and the driver got the address 0 for it. A buffer is
bounced when any byte of it lies outside what the chip reaches.

Invariants: a buffer is in exactly one pool; what the device wrote is back before the room is free again.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.bounce.bouncer import Bouncer
from emulator.mapping.bounce.safe_buffers import SafeBuffers
from emulator.mapping.dma_pool import DmaPool
from emulator.mapping.options import number_options, takes
from emulator.mapping.pressure import Zone
from pagetables.errors import InputError

__all__ = ["DEFAULTS", "PciBuffers", "make"]

DEFAULTS = {"small": 1024, "large": 4096, "reach_kib": 1024, "bank_kib": 32768}


class PciBuffers(SafeBuffers):
    """Bounces what leaves the low `reach` bytes of a bank of `bank` bytes."""

    name = "sa1111"

    def __init__(self, pools: tuple[DmaPool, ...], reach: int, bank: int) -> None:
        super().__init__(pools)
        if not 0 < reach <= bank:
            raise InputError(f"bounce sa1111 reaches {reach} bytes of a bank of {bank}")
        self.reach, self.bank = reach, bank

    def reaches(self, gpa: int, size: int, mask: int) -> bool:
        """Whether both ends lie in the low part of one bank."""
        return gpa % self.bank + size <= self.reach


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> Bouncer:
    """An `sa1111` bouncer; options `small` and `large` (bytes of a block), `reach_kib` and `bank_kib`."""
    chosen = number_options("bounce", "sa1111", options, DEFAULTS)
    pools = (DmaPool("small", zone, chosen["small"]), DmaPool("large", zone, chosen["large"]))
    return PciBuffers(pools, chosen["reach_kib"] << 10, chosen["bank_kib"] << 10)
