"""Safe buffers: a record for each bounced buffer, kept in a list and found by looking through it.

What sa1111-pcibuf and dmabounce share: small and large buffers from two pools, the data copied in when the device reads
and out when it wrote, records in a linear list, and a size or a direction at unmap that differs from the map's is a bug
of the driver (the kernel stops there; here NotBounced is raised).
"""

from __future__ import annotations

from dataclasses import dataclass

from emulator.mapping.bounce.bouncer import NO_MASK, Bounced, NoBounceBuffer
from emulator.mapping.bounce.copying import READS, WRITES, Copier, NotBounced
from emulator.mapping.dma_pool import DmaPool
from emulator.mapping.watermarks import Gfp
from pagetables.address import Gpa

__all__ = ["SafeBuffer", "SafeBuffers"]


@dataclass(frozen=True, slots=True)
class SafeBuffer:
    """One bounced buffer: where the driver has it, where the device finds it, and which pool gave the room (None: the
    system)."""

    original: int
    safe: Gpa
    size: int
    access: int
    pool: DmaPool | None


class SafeBuffers(Copier):
    """Bounces what `reaches` says the device does not reach."""

    name = ""

    def __init__(self, pools: tuple[DmaPool, ...]) -> None:
        super().__init__()
        self.pools = pools
        self.buffers: list[SafeBuffer] = []

    def prepare(self, gpa: int, size: int, access: int, mask: int = NO_MASK, cpu: int = 0) -> Bounced | None:
        """Where the device finds the buffer; None where it reaches it as it is; NoBounceBuffer if there is no room."""
        self.statistics.maps += 1
        if self.reaches(gpa, size, mask):
            return None
        try:
            buffer = self._take(gpa, size, access, mask)
        except NoBounceBuffer:
            self.statistics.failed += 1
            raise
        self.buffers.insert(0, buffer)
        self.statistics.bounced += 1
        self.occupy(size)
        if access & READS:
            self.copy(gpa, buffer.safe, size)
        return Bounced(buffer.safe, size)

    def finish(self, bounced: Bounced, access: int | None = None) -> None:
        """The device is done with a buffer. `access`, where it is given, must be the map's."""
        buffer = self.find(bounced.gpa)
        if buffer.size != bounced.size or access not in (None, buffer.access):
            raise NotBounced(
                f"{bounced.gpa:#x}: mapped {buffer.size} bytes, access {buffer.access}; "
                f"unmapped {bounced.size} bytes, access {buffer.access if access is None else access}"
            )
        if buffer.access & WRITES:
            self.copy(buffer.safe, buffer.original, buffer.size)
        self.buffers.remove(buffer)
        self.vacate(buffer.size)
        self.give_back(buffer)

    def sync(self, bounced: Bounced, to_device: bool) -> None:
        """Copy the first `bounced.size` bytes of a live buffer, to the device or back."""
        buffer = self.find(bounced.gpa)
        if bounced.size > buffer.size:
            raise NotBounced(f"{bounced.gpa:#x}: {buffer.size} bytes are mapped, {bounced.size} are synchronised")
        if to_device and buffer.access & READS:
            self.copy(buffer.original, buffer.safe, bounced.size)
        elif not to_device and buffer.access & WRITES:
            self.copy(buffer.safe, buffer.original, bounced.size)

    def find(self, safe: int) -> SafeBuffer:
        """The record of the buffer at `safe`: each one on the way is looked at; NotBounced if there is none."""
        for looked_at, buffer in enumerate(self.buffers, 1):
            if buffer.safe == safe:
                self.meter.spend("bounce.lookup", looked_at)
                return buffer
        raise NotBounced(f"no bounced buffer is at {safe:#x}")

    def reaches(self, gpa: int, size: int, mask: int) -> bool:
        """Whether the device reaches the whole of [gpa, gpa + size)."""
        raise NotImplementedError

    def room(self, size: int) -> tuple[Gpa | None, DmaPool | None]:
        """Room for `size` bytes, and the pool that gave it: the first whose blocks are large enough."""
        for pool in self.pools:
            if size <= pool.size:
                return pool.allocate(Gfp.ATOMIC), pool
        return None, None

    def give_back(self, buffer: SafeBuffer) -> None:
        """The room of a finished buffer is free."""
        if buffer.pool is not None:
            buffer.pool.free(buffer.safe)

    def _take(self, gpa: int, size: int, access: int, mask: int) -> SafeBuffer:
        self.meter.spend("bounce.record")
        safe, pool = self.room(size)
        if safe is None:
            largest = max((pool.size for pool in self.pools), default=0)
            raise NoBounceBuffer(f"no safe buffer of {size} bytes: the pools have blocks of up to {largest} bytes")
        self.count(pool.name if pool is not None else "other")
        return SafeBuffer(gpa, safe, size, access, pool)
