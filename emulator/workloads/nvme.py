"""An NVMe disk under random reads of 4 KiB, deep queues, with some of 128 KiB: 500 000 a second on 4 queues.

Requests live 60 to 500 us, in no order; transfers up to 8 KiB need no list. Source: drivers/nvme/host/pci.c (queue
depth 1024, transfers up to 128 KiB, the largest that address caches serve); shares are ours.
"""

from __future__ import annotations

from emulator.trace.event import READ, WRITE
from emulator.workloads.stream import ATOMIC, Queue
from emulator.workloads.workload import Workload

__all__ = ["WORKLOADS"]

_QUEUES = 4
_REQUEST_NS = 1e9 / 500_000
_READS, _WRITES = 0.8, 0.2


def _queues(rate: float) -> tuple[Queue, ...]:
    interval, life = _REQUEST_NS * _QUEUES / rate, (60_000, 500_000)
    reads = Queue(256, (1, 2, 32), (0.9, 0.06, 0.04), WRITE, ATOMIC, interval / _READS, life)
    writes = Queue(64, (1, 2), (0.9, 0.1), READ, ATOMIC, interval / _WRITES, life)
    return (reads,) * _QUEUES + (writes,) * _QUEUES


WORKLOADS = (Workload("nvme", "random reads and writes, deep queues, short lives", _queues, (16, 4) * 4),)
