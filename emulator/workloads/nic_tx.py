"""Sending at 40 Gb/s: each packet a linear part within a page, and fragments of up to 64 KiB (TSO), on 4 queues.

Buffers live for tens of microseconds and are completed in groups, each 16 us or 32 packets. Rings hold 1024
descriptors. Sources: mlx5 (rings, moderation), drivers/net core (MAX_SKB_FRAGS 17); the mix of lengths is ours.
"""

from __future__ import annotations

from emulator.trace.event import READ
from emulator.workloads.stream import ATOMIC, Queue
from emulator.workloads.workload import Workload

__all__ = ["WORKLOADS"]

_QUEUES = 4
_BUFFER_NS = 1e9 / 2.0e6
_MODERATION_NS = 16_000


def _queues(rate: float) -> tuple[Queue, ...]:
    # Half of the buffers are headers; the others are fragments, mostly a page and now and then compound pages.
    pages, weights = (1, 2, 4, 8), (0.8, 0.1, 0.06, 0.04)
    interval = _BUFFER_NS * _QUEUES / rate
    return (Queue(512, pages, weights, READ, ATOMIC, interval, (20_000, 80_000), 8, _MODERATION_NS),) * _QUEUES


WORKLOADS = (Workload("nic-tx", "packets sent in fragments, completed in groups", _queues, (16,) * 8),)
