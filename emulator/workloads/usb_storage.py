"""A USB disk: transfers of 120 KiB, one after the other, and now and then a command and a status of a page.

At most 32 transfers are under way; the driver may not start I/O to get memory (GFP_NOIO), since a swap file may be on
this disk. Sources: drivers/usb/storage (240 sectors a transfer), drivers/usb/host/xhci (rings of a page).
"""

from __future__ import annotations

from emulator.trace.event import READ, WRITE
from emulator.workloads.stream import NOIO, Queue
from emulator.workloads.workload import Workload

__all__ = ["WORKLOADS"]

_TRANSFER_NS = 3e6  # 40 MB/s


def _queues(rate: float) -> tuple[Queue, ...]:
    interval, life = _TRANSFER_NS / rate, (2_000_000, 4_000_000)
    data = Queue(32, (30, 8, 1), (0.7, 0.2, 0.1), WRITE, NOIO, interval, life)
    back = Queue(32, (30, 8, 1), (0.7, 0.2, 0.1), READ, NOIO, interval * 2, life)
    control = Queue(32, (1,), (1.0,), READ | WRITE, NOIO, interval / 2, (100_000, 300_000))
    return data, back, control


WORKLOADS = (Workload("usb-storage", "transfers of 120 KiB to and from a USB disk", _queues, (1, 1, 1, 2)),)
