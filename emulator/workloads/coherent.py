"""Coherent memory: rings for the driver's life, and small allocations that come and go, as when queues are resized.

Sources: kernel/dma (GFP_KERNEL while a driver starts), mlx5, nvme and xhci for the sizes of rings.
"""

from __future__ import annotations

from emulator.trace.event import READ, WRITE
from emulator.workloads.stream import KERNEL, Queue
from emulator.workloads.workload import Workload

__all__ = ["WORKLOADS"]


def _queues(rate: float) -> tuple[Queue, ...]:
    interval, life = 1e6 / rate, (10_000_000, 500_000_000)
    return (Queue(512, (1, 4, 16), (0.5, 0.3, 0.2), READ | WRITE, KERNEL, interval, life),)


WORKLOADS = (Workload("coherent", "rings for a driver's life, and allocations that come and go", _queues, (16,) * 32),)
