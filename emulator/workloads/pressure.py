"""Pressure in phases: steady sending from an interrupt, and a device that stalls a quarter of the time.

While it stalls, what was sent stays mapped twenty times as long, so that rings run full and page tables grow at once;
then everything is unmapped together. A second queue maps for callers that may sleep. The phases are ours.
"""

from __future__ import annotations

from emulator.trace.event import READ, WRITE
from emulator.workloads.stream import ATOMIC, KERNEL, Queue
from emulator.workloads.workload import Workload

__all__ = ["WORKLOADS"]

_PHASE_NS = 20e6


def _queues(rate: float) -> tuple[Queue, ...]:
    surge = (_PHASE_NS, 0.25, 20.0)
    sent = Queue(1024, (1, 2, 4), (0.7, 0.2, 0.1), READ, ATOMIC, 4000 / rate, (50_000, 200_000), 8, 16_000, surge=surge)
    file = Queue(256, (1, 32), (0.5, 0.5), WRITE, KERNEL, 40_000 / rate, (500_000, 2_000_000), surge=surge)
    return sent, sent, file


WORKLOADS = (Workload("pressure", "bursts that stay mapped while the device stalls", _queues, (16,) * 4),)
