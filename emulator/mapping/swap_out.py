"""Swapping to a USB disk: freeing pages takes descriptors and a DMA map, and those take pages.

Source: the seeds' fear ("swapping could even deadlock this way", Richter, January 2003); the chain of a write is that
of usb-storage over UHCI: the buffer is mapped for DMA, then a command (31 bytes), the data (at most 240 sectors) and a
status (13 bytes) are submitted, one write at a time. A write that cannot be submitted is tried again after 3 ms, as
SCSI does it, and again whenever pages come back. A write takes what its bytes take at the disk's speed; these speeds
are knobs.

A circle is closed, and named, when the last attempt failed, no write is under way and nothing clean is left to drop:
then memory waits for a write, and the write for memory. Only somebody outside can open it by giving pages back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from emulator.clock import MILLISECOND, SECOND, Clock, Timer
from emulator.mapping.pressure import Zone
from emulator.mapping.uhci import Transfer, Uhci, Urb
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.errors import InputError
from pagetables.wording import count

__all__ = ["Deadlock", "MapForDma", "SwapOut", "SwapStatistics"]

COMMAND, STATUS = 31, 13  # bytes of the wrappers around each USB storage command
BATCH = 30  # pages in 240 sectors
RETRY = 3 * MILLISECOND
RETRIES = 5  # by the clock, for each write

MapForDma = Callable[[int], Callable[[], None] | None]
"""Maps so many pages for DMA: what unmaps them again, or None if that is not possible now."""


@dataclass(frozen=True, slots=True)
class Deadlock:
    """A circle of waits: each of `chain` waits for the next, the last for the first. Times in ns."""

    since_ns: int
    chain: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.chain)

    def as_dict(self) -> dict[str, object]:
        """The circle as a report prints it."""
        return {"since_ns": self.since_ns, "chain": list(self.chain)}


@dataclass(slots=True)
class SwapStatistics:
    """What swapping came to."""

    writes: int = 0
    pages: int = 0
    failed_maps: int = 0
    failed_submissions: int = 0
    retries: int = 0
    stalls: int = 0  # times nothing was under way and the next write could not begin
    longest_stall_ns: int = 0

    def as_dict(self) -> dict[str, int]:
        """The numbers by name, as a report prints them."""
        return asdict(self)


class SwapOut:
    """Writes dirty and anonymous pages of `zone` to a disk behind `host`. It makes itself the zone's `write_out`."""

    def __init__(
        self,
        zone: Zone,
        clock: Clock,
        host: Uhci,
        map_for_dma: MapForDma,
        batch: int = BATCH,
        maxpacket: int = 64,
        bytes_per_s: int = 1_000_000,
    ) -> None:
        if batch < 1 or bytes_per_s < 1:
            raise InputError(f"a disk writes a page or more at a time, not {batch}, at {bytes_per_s} bytes a second")
        self.host = host
        self.statistics = SwapStatistics()
        self._zone, self._clock, self._map = zone, clock, map_for_dma
        self._batch, self._maxpacket, self._bytes_per_s = batch, maxpacket, bytes_per_s
        self._under_way = 0
        self._refusal: str | None = None
        self._stalled_at: int | None = None
        self._retry: Timer | None = None
        self._retries = 0
        zone.write_out = self.write
        zone.on_available.append(self._try_again)

    def write(self, wanted: int) -> int:
        """Begin to write up to `wanted` pages; how many are on their way because of this call."""
        pages = min(wanted, self._batch, self._zone.writable)
        if self._under_way or pages < 1:
            return 0
        return pages if self._begin(pages) else 0

    def deadlock(self) -> Deadlock | None:
        """The circle of waits that stands now, if there is one."""
        zone = self._zone
        if self._refusal is None or self._stalled_at is None or self._under_way or zone.clean or not zone.writable:
            return None
        holders = ", ".join(name for name, kinds in zone.holders().items() if {"dirty", "anonymous"} & set(kinds))
        first = (
            f"memory ({zone.free} pages free, min {zone.marks.min}, none clean) waits for swap-out: {holders} "
            f"holds {count(zone.writable, 'page')} that must be written first"
        )
        return Deadlock(self._stalled_at, (first, f"swap-out waits for {self._refusal}"))

    def _begin(self, pages: int) -> bool:
        unmap = self._map(pages)
        if unmap is None:
            self.statistics.failed_maps += 1
            return self._fail(f"a DMA map of {count(pages, 'page')}, which takes table pages")
        taken = self._submit(pages)
        if taken is None:
            unmap()
            self.statistics.failed_submissions += 1
            return self._fail(self._what_is_missing(pages))
        self._end_stall()
        self._under_way = pages
        duration = pages * PAGE_SIZE * SECOND // self._bytes_per_s
        self._clock.after(duration, lambda: self._done(pages, taken, unmap))
        return True

    def _urbs(self, pages: int) -> tuple[Urb, ...]:
        lengths = (COMMAND, pages * PAGE_SIZE, STATUS)
        return tuple(Urb(Transfer.BULK, length, self._maxpacket) for length in lengths)

    def _submit(self, pages: int) -> list[tuple[Gpa, ...]] | None:
        taken: list[tuple[Gpa, ...]] = []
        for urb in self._urbs(pages):
            outcome = self.host.submit(urb)
            if isinstance(outcome, int):
                for descriptors in taken:
                    self.host.complete(descriptors)
                return None
            taken.append(outcome)
        return taken

    def _what_is_missing(self, pages: int) -> str:
        host, zone = self.host, self._zone
        wanted = sum(urb.descriptors for urb in self._urbs(pages))
        floor = zone.marks.floor(host.gfp)
        return (
            f"{count(wanted, 'descriptor')} of pool {host.pool.name}, which has {host.pool.blocks} and asks for pages "
            f"in class {host.gfp.value}: {zone.free} are free, {floor} must stay"
        )

    def _done(self, pages: int, taken: list[tuple[Gpa, ...]], unmap: Callable[[], None]) -> None:
        for descriptors in taken:
            self.host.complete(descriptors)
        unmap()
        self._under_way = 0
        self.statistics.writes += 1
        self.statistics.pages += self._zone.written(pages)

    def _fail(self, missing: str) -> bool:
        self._refusal = missing
        if self._stalled_at is None:
            self._stalled_at = self._clock.now
            self.statistics.stalls += 1
            self._retries = 0
        if self._retry is None and self._retries < RETRIES:
            self._retry = self._clock.after(RETRY, self._retry_now)
        return False

    def _end_stall(self) -> None:
        if self._stalled_at is not None:
            stalled = self._clock.now - self._stalled_at
            self.statistics.longest_stall_ns = max(self.statistics.longest_stall_ns, stalled)
        self._refusal = self._stalled_at = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _retry_now(self) -> None:
        self._retry = None
        self._retries += 1
        self._try_again()

    def _try_again(self) -> None:
        if self._refusal is None or self._under_way:
            return
        if self._zone.free >= self._zone.marks.high:
            self._end_stall()  # nobody needs what the write would free
        else:
            self.statistics.retries += 1
            self.write(self._batch)
