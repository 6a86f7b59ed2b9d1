"""One queue of one device as columns: when buffers are mapped and unmapped, where, and by whom.

A buffer takes the next slot of its ring and has the address of that slot, from the top of the space downwards and
aligned to its size, as Linux hands addresses out to a driver that starts. A slot is taken again only after its buffer
was unmapped: a full ring completes its oldest buffer first. Pages come from a pool in turns, so they are reused too.
(Linux's per-CPU caches give the address freed last; slots come round in order here.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.trace.event import GFP_CLASSES, Kind
from pagetables.address import PAGE_SIZE

__all__ = ["ATOMIC", "KERNEL", "NEVER_EARLY", "NOIO", "Pieces", "Queue", "Stream"]

ATOMIC, KERNEL, NOIO = (GFP_CLASSES.index(name) for name in ("atomic", "kernel", "noio"))
NEVER_EARLY = 1 << 60
"""A lifetime in ns that only the ring ends: buffers leave it in the order in which they came."""

_AHEAD = 1 << 13
_PREFILL_NS = 200
_REFILL = 64  # buffers that are mapped together while a ring fills

Words = npt.NDArray[Any]
Pieces = dict[str, Words]


@dataclass(frozen=True, slots=True)
class Queue:
    """What one queue does. Times in ns; `interval` is between two buffers on average.

    `pages` are the lengths of buffers, chosen by `weights`; `life` the range of their lifetimes, rounded up to a
    completion each `tick`. `batch` buffers are mapped together. `prefill`: the ring is full before the first interval.
    `surge`: in the part `surge[1]` of each period of `surge[0]` ns lifetimes are `surge[2]` times as long.
    """

    slots: int
    pages: tuple[int, ...]
    weights: tuple[float, ...]
    access: int
    gfp: int
    interval: float
    life: tuple[int, int]
    batch: int = 1
    tick: int = 1
    prefill: bool = False
    surge: tuple[float, float, float] | None = None

    @property
    def stride(self) -> int:
        """Pages from one slot's address to the next: a power of two, as a kernel aligns them."""
        return 1 << (max(self.pages) - 1).bit_length()


class Stream:
    """A queue as it runs: `until` gives its events up to a time, each once."""

    def __init__(self, queue: Queue, space: int, cpu: int, top: int, pool: Words, random: np.random.Generator) -> None:
        self.queue, self._space, self._cpu = queue, space, cpu
        self._top, self._pool, self._random = top, pool, random
        self._done = 0  # buffers whose unmap time is settled
        self._start = np.zeros(0, np.int64)  # of buffers that are not settled yet
        self._made = 0
        self._clock = 0.0
        self._waiting: list[Pieces] = []
        self._ahead = max(_AHEAD, 2 * queue.slots)

    def until(self, time: int) -> Pieces:
        """The events before `time` that were not given yet, in no order."""
        while not len(self._start) or self._start[0] <= time:
            self._more()
        whole = {name: np.concatenate([part[name] for part in self._waiting]) for name in self._waiting[0]}
        now = whole["time_ns"] < time
        self._waiting = [{name: values[~now] for name, values in whole.items()}]
        return {name: values[now] for name, values in whole.items()}

    def _more(self) -> None:
        # Starting times of the next buffers.
        queue, count = self.queue, self._ahead
        gaps = np.zeros(count)
        heads = np.flatnonzero((np.arange(self._made, self._made + count) % queue.batch) == 0)
        gaps[heads] = self._random.exponential(queue.interval * queue.batch, len(heads))
        gaps += 20.0  # one after the other
        filling = np.arange(self._made, self._made + count) < (queue.slots if queue.prefill else 0)
        gaps[filling] = np.where(np.flatnonzero(filling) % _REFILL, 20.0, _PREFILL_NS)
        start = self._clock + np.cumsum(gaps)
        self._clock = float(start[-1])
        self._made += count
        self._start = np.concatenate([self._start, start.astype(np.int64)])
        self._settle()

    def _settle(self) -> None:
        # Buffers whose successor in the slot is known get their unmap.
        queue = self.queue
        count = len(self._start) - queue.slots
        start, limit = self._start[:count], self._start[queue.slots :] - 1
        end = np.minimum(self._ends(start), limit)
        number = np.arange(self._done, self._done + count)
        pages = self._random.choice(queue.pages, count, p=np.array(queue.weights) / sum(queue.weights)).astype(
            np.uint64
        )
        slot = (number % queue.slots).astype(np.uint64)
        common = {
            "iova": np.uint64(self._top) - (slot + np.uint64(1)) * np.uint64(queue.stride * PAGE_SIZE),
            "size": pages * np.uint64(PAGE_SIZE),
        }
        gpa = self._pool[number % len(self._pool)]
        self._waiting.append(self._events(Kind.MAP, start, gpa, queue.access, queue.gfp, common))
        self._waiting.append(self._events(Kind.UNMAP, end, np.zeros_like(gpa), 0, 0, common))
        self._start, self._done = self._start[count:], self._done + count

    def _ends(self, start: Words) -> Words:
        queue = self.queue
        low, high = queue.life
        if low >= NEVER_EARLY:
            return np.full(len(start), NEVER_EARLY, np.int64)
        life = self._random.uniform(low, high, len(start))
        if queue.surge is not None:
            period, part, factor = queue.surge
            life = np.where(start % period < part * period, life * factor, life)
        return -(-(start + life.astype(np.int64)) // queue.tick) * queue.tick

    def _events(self, kind: Kind, time: Words, gpa: Words, access: int, gfp: int, common: Pieces) -> Pieces:
        count = len(time)
        return common | {
            "time_ns": time.astype(np.uint64),
            "kind": np.full(count, int(kind), np.uint8),
            "space": np.full(count, self._space, np.uint32),
            "gpa": gpa,
            "access": np.full(count, access, np.uint8),
            "gfp": np.full(count, gfp, np.uint8),
            "cpu": np.full(count, self._cpu, np.uint16),
        }
