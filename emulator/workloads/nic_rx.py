"""Receiving at 100 Gb/s in frames of 1500 bytes: 8.13 million packets a second on 4 queues of 1024 buffers.

`nic-rx` is a driver with a page_pool, as mlx5: rings are filled in bursts of 64 pages, then pages are recycled with
their address, and 1 % of the packets need a page mapped. `nic-rx-old` maps and unmaps a buffer for each packet, first
in, first out, as drivers did before. Sources: mlx5 en.h and params.c, net/core/page_pool.c; the rate is arithmetic.
"""

from __future__ import annotations

from emulator.trace.event import WRITE
from emulator.workloads.stream import ATOMIC, NEVER_EARLY, Queue
from emulator.workloads.workload import Workload

__all__ = ["WORKLOADS"]

_QUEUES = 4
_PACKET_NS = 1e9 / 8.13e6
_REMAPPED = 0.01
_OLD_REFILL = 16  # buffers that ice writes back to its ring together


def _queue(interval: float, batch: int) -> Queue:
    return Queue(1024, (1,), (1.0,), WRITE, ATOMIC, interval, (NEVER_EARLY, NEVER_EARLY), batch, prefill=True)


def _page_pool(rate: float) -> tuple[Queue, ...]:
    return (_queue(_PACKET_NS * _QUEUES / _REMAPPED / rate, 64),) * _QUEUES


def _each_packet(rate: float) -> tuple[Queue, ...]:
    return (_queue(_PACKET_NS * _QUEUES / rate, _OLD_REFILL),) * _QUEUES


WORKLOADS = (
    Workload("nic-rx", "100 Gb/s received, pages recycled by a page_pool", _page_pool, (16,) * 8),
    Workload("nic-rx-old", "100 Gb/s received, each buffer mapped and unmapped, in order", _each_packet, (16,) * 8),
)
