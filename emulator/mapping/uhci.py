"""A UHCI host controller's memory: each request to a USB device needs transfer descriptors, atomically.

Source: drivers/usb/host/uhci-q.c and uhci-hcd.h. A descriptor (TD) moves one packet. It is 64 bytes, aligned to 16, on
a 64-bit machine, so that 64 of them fill a page, and comes from a dma_pool with GFP_ATOMIC. A request (URB) has

    control   setup, ceil(length / maxpacket) for the data, status
    bulk      ceil(length / maxpacket), and one more if it ends with an empty packet on purpose

so that 4 KiB of bulk data in packets of 64 bytes take a page of descriptors. If the k-th cannot be had, the k-1 before
it are freed, and the submission returns -ENOMEM. That is how writing to a USB disk fails under memory pressure.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass

from emulator.mapping.dma_pool import DmaPool
from emulator.mapping.watermarks import Gfp
from pagetables.address import Gpa
from pagetables.errors import InputError

__all__ = ["ENOMEM", "LONGEST_PACKET", "TD_ALIGN", "TD_SIZE", "Transfer", "Uhci", "UhciStatistics", "Urb"]

TD_SIZE, TD_ALIGN = 64, 16
ENOMEM = -12
LONGEST_PACKET = 1023  # bytes: isochronous at full speed


class Transfer(enum.Enum):
    """The kind of a request."""

    CONTROL = "control"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Urb:
    """One request: `length` bytes in packets of at most `maxpacket`; InputError for what no USB packet can be."""

    transfer: Transfer
    length: int
    maxpacket: int = 64
    zero_packet: bool = False

    def __post_init__(self) -> None:
        if self.length < 0 or not 1 <= self.maxpacket <= LONGEST_PACKET:
            raise InputError(f"a request of {self.length} bytes in packets of {self.maxpacket}: expected 1 to 1023")

    @property
    def descriptors(self) -> int:
        """Transfer descriptors that the request takes."""
        packets = -(-self.length // self.maxpacket)
        if self.transfer is Transfer.CONTROL:
            return 1 + packets + 1
        ends_full = self.zero_packet and self.length % self.maxpacket == 0
        return max(packets + (ends_full and self.length > 0), 1)


@dataclass(slots=True)
class UhciStatistics:
    """What became of the requests."""

    submitted: int = 0
    failed: int = 0  # with -ENOMEM
    undone: int = 0  # descriptors freed again because a later one could not be had
    live: int = 0  # descriptors in use
    live_highest: int = 0

    def as_dict(self) -> dict[str, int]:
        """The numbers by name, as a report prints them."""
        return asdict(self)


class Uhci:
    """Submits requests with descriptors from `pool`, asked for in class `gfp`."""

    def __init__(self, pool: DmaPool, gfp: Gfp = Gfp.ATOMIC) -> None:
        if pool.size < TD_SIZE or pool.align % TD_ALIGN:
            raise InputError(f"a descriptor takes {TD_SIZE} bytes aligned to {TD_ALIGN}: pool {pool.name} has less")
        self.pool, self.gfp = pool, gfp
        self.statistics = UhciStatistics()

    def submit(self, urb: Urb) -> tuple[Gpa, ...] | int:
        """The descriptors of the request, or -ENOMEM with none of them taken."""
        taken: list[Gpa] = []
        while len(taken) < urb.descriptors:
            block = self.pool.allocate(self.gfp)
            if block is None:
                return self._undo(taken)
            taken.append(block)
        statistics = self.statistics
        statistics.submitted += 1
        statistics.live += len(taken)
        statistics.live_highest = max(statistics.live_highest, statistics.live)
        return tuple(taken)

    def complete(self, descriptors: tuple[Gpa, ...]) -> None:
        """The request is done: its descriptors are free."""
        for block in descriptors:
            self.pool.free(block)
        self.statistics.live -= len(descriptors)

    def _undo(self, taken: list[Gpa]) -> int:
        self.statistics.failed += 1
        self.statistics.undone += len(taken)
        for block in reversed(taken):
            self.pool.free(block)
        return ENOMEM
