"""dmabounce: the safe buffers of any device that reaches only some addresses.

Source: arch/arm/common/dmabounce.c, Linux 2.6. Two pools with the sizes given when the device is registered, both asked
with GFP_ATOMIC; what fits neither is a coherent allocation of its own, GFP_ATOMIC too. A buffer is bounced when a bit
of its first or last address lies outside the device's mask, or where the platform says so: here, beyond `reach_mib`, as
on ixp4xx whose PCI window is 64 MiB. A range larger than what is reached is refused, since no buffer could hold it.

When there was no buffer the kernel returned 0, an address that drivers of the time took for a good one.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.clock import Clock
from emulator.mapping.bounce.bouncer import Bouncer, NoBounceBuffer
from emulator.mapping.bounce.safe_buffers import SafeBuffer, SafeBuffers
from emulator.mapping.dma_pool import DmaPool
from emulator.mapping.options import number_options, takes
from emulator.mapping.pressure import Zone
from emulator.mapping.watermarks import Gfp
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa

__all__ = ["DEFAULTS", "DmaBounce", "make"]

DEFAULTS = {"small": 2048, "large": 4096, "reach_mib": 64}


class DmaBounce(SafeBuffers):
    """Bounces what lies beyond the first `reach` bytes, or the device's mask."""

    name = "dmabounce"

    def __init__(self, zone: Zone, pools: tuple[DmaPool, ...], reach: int) -> None:
        super().__init__(pools)
        self.reach = reach
        self._zone = zone

    def reaches(self, gpa: int, size: int, mask: int) -> bool:
        """Whether both ends are inside the device's mask and the platform's window."""
        end = gpa + size - 1
        return not (gpa | end) & ~self._mask(mask)

    def _mask(self, mask: int) -> int:
        return min(mask, self.reach - 1) if self.reach else mask

    def room(self, size: int) -> tuple[Gpa | None, DmaPool | None]:
        """A block of the small pool, of the large one, or pages of its own."""
        if any(size <= pool.size for pool in self.pools):
            return super().room(size)
        pages = -(-size // PAGE_SIZE)
        self.meter.spend(f"page.{Gfp.ATOMIC.value}", pages)
        return self._zone.take_run(Gfp.ATOMIC, pages), None

    def give_back(self, buffer: SafeBuffer) -> None:
        """The block goes back to its pool, pages of its own to the system."""
        super().give_back(buffer)
        if buffer.pool is None:
            pages = -(-buffer.size // PAGE_SIZE)
            self.meter.spend("page.free", pages)
            self._zone.give_back(Gpa(buffer.safe + (page << PAGE_SHIFT)) for page in range(pages))

    def _take(self, gpa: int, size: int, access: int, mask: int) -> SafeBuffer:
        if size - 1 > self._mask(mask):
            raise NoBounceBuffer(f"{size} bytes are more than a device with mask {self._mask(mask):#x} reaches")
        return super()._take(gpa, size, access, mask)


@takes(DEFAULTS)
def make(zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> Bouncer:
    """A `dmabounce` bouncer; options `small` and `large` (bytes of a block), `reach_mib` (0: the mask alone)."""
    chosen = number_options("bounce", "dmabounce", options, DEFAULTS)
    pools = (DmaPool("small", zone, chosen["small"]), DmaPool("large", zone, chosen["large"]))
    return DmaBounce(zone, pools, chosen["reach_mib"] << 20)
