"""Workloads as traces: devices attached, coherent rings allocated, then the events of all queues in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from emulator.trace.columns import NO_PASID, NO_SOURCE, Columns
from emulator.trace.event import READ, WRITE, Kind
from emulator.trace.spaces import Space
from emulator.workloads.stream import KERNEL, Pieces, Queue, Stream
from pagetables.address import PAGE_SIZE, DomainId, SourceId, format_source_id
from pagetables.errors import InputError

__all__ = ["MOST_DEVICES", "Workload", "generate", "spaces_of"]

MOST_DEVICES = 64
_TOP = 1 << 32  # a driver's addresses begin below 4 GiB, where every device can reach
_WINDOW = 1 << 16  # events made at a time
_SETTLING_NS = 1_000_000  # attaching and allocating, before traffic begins
_FIRST_RAM = 0x1000_0000
_SHARE = 0x2000_0000  # of RAM, for each device
_HOLE = 0xB000_0000
_FOUR_GIB = 1 << 32
_ALL_PAGES = 7
_FIRST_BUS = 1


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload by name. `queues` tells those of one device at a rate: a factor on the usual one.

    `rings` are the coherent allocations of one device, in pages, alive to the end.
    """

    name: str
    about: str
    queues: Callable[[float], tuple[Queue, ...]]
    rings: tuple[int, ...]


def spaces_of(devices: int) -> tuple[Space, ...]:
    """The space of each device: functions 0 on buses from 1 on, domain-ids from 1 on."""
    if not 1 <= devices <= MOST_DEVICES:
        raise InputError(f"{devices} devices: expected 1 to {MOST_DEVICES}")
    sources = [SourceId(_FIRST_BUS + number << 8) for number in range(devices)]
    return tuple(
        Space(number, f"domain {number + 1} ({format_source_id(source)})", (source,), DomainId(number + 1))
        for number, source in enumerate(sources)
    )


def generate(workload: Workload, events: int, devices: int = 1, seed: int = 0, rate: float = 1.0) -> Iterator[Columns]:
    """`events` rows of `workload` in pieces of bounded size, the same for the same arguments. Times begin at 0."""
    if events < 1 or not 0.001 <= rate <= 1000:
        raise InputError(f"{events} events at {rate} times the rate: expected at least 1, and 0.001 to 1000 times")
    random = np.random.default_rng(seed)
    streams: list[Stream] = []
    first: list[dict[str, int]] = []
    for space in spaces_of(devices):
        top = _prologue(workload, space, first)
        _open(workload, space.index, top, rate, random, streams)
    numbered = _Numbering(events)
    yield from numbered.take(_columns(_rows(first)))
    if not streams:
        return
    window = max(int(_WINDOW / sum(2 / stream.queue.interval for stream in streams)), 1)
    now = window
    while numbered.left:
        parts = [stream.until(now) for stream in streams]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        order = np.argsort(joined["time_ns"], kind="stable")
        joined = {name: values[order] for name, values in joined.items()}
        joined["time_ns"] += np.uint64(_SETTLING_NS)
        yield from numbered.take(_columns(joined))
        now += window


def _prologue(workload: Workload, space: Space, rows: list[dict[str, int]]) -> int:
    # Attach, and rings from the top of the space down; where the queues may begin.
    source, top = int(space.devices[0]), _TOP
    ram = _ram(space.index) + _SHARE
    rows.append({"kind": Kind.ATTACH, "space": space.index, "source": source})
    for pages in workload.rings:
        size = pages * PAGE_SIZE
        top, ram = top - size & -(PAGE_SIZE << (pages - 1).bit_length()), ram - size
        where = {"space": space.index, "iova": top, "gpa": ram, "size": size}
        rows.append(where | {"kind": Kind.MAP, "access": READ | WRITE, "gfp": KERNEL})
    return top


def _ram(device: int) -> int:
    start = _FIRST_RAM + device * _SHARE
    return start if start + _SHARE <= _HOLE else start - _HOLE + _FOUR_GIB


def _open(
    workload: Workload, device: int, top: int, rate: float, random: np.random.Generator, streams: list[Stream]
) -> None:
    ram = _ram(device)
    for number, queue in enumerate(workload.queues(rate)):
        size = queue.stride * PAGE_SIZE
        top &= -size
        blocks = 2 * queue.slots
        pool = (np.uint64(ram) + random.permutation(blocks).astype(np.uint64) * np.uint64(size)).astype(np.uint64)
        streams.append(Stream(queue, device, number, top, pool, random))
        top, ram = top - queue.slots * size, ram + blocks * size
    if top < 0 or ram > _ram(device) + _SHARE:
        raise InputError(f"{workload.name}: its queues do not fit the addresses and the RAM of one device")


def _rows(rows: list[dict[str, int]]) -> Pieces:
    names = ("space", "iova", "gpa", "size", "access", "gfp", "kind", "source")
    pieces = {name: np.array([row.get(name, 0) for row in rows], np.uint64) for name in names}
    pieces["source"] = np.array([row.get("source", NO_SOURCE) for row in rows], np.uint32)
    zero = np.zeros(len(rows), np.uint64)
    return pieces | {"time_ns": np.arange(len(rows), dtype=np.uint64) * np.uint64(1000), "cpu": zero}


def _columns(values: Pieces) -> Columns:
    count = len(values["kind"])
    source = values.get("source", np.full(count, NO_SOURCE, np.uint32))
    narrow = {"kind": np.uint8, "space": np.uint32, "access": np.uint8, "gfp": np.uint8, "cpu": np.uint16}
    return Columns(
        event=np.zeros(count, np.uint64),
        pasid=np.full(count, NO_PASID, np.uint32),
        leaf_levels=np.full(count, _ALL_PAGES, np.uint8),
        file=np.zeros(count, np.uint16),
        line=np.zeros(count, np.uint32),
        source=source,
        **{name: values[name] for name in ("time_ns", "iova", "gpa", "size")},
        **{name: values[name].astype(kind) for name, kind in narrow.items()},
    )


class _Numbering:
    # Events are numbered from 1; the last piece is cut.
    def __init__(self, events: int) -> None:
        self.left = events
        self._next = 1

    def take(self, columns: Columns) -> Iterator[Columns]:
        cut = columns.take(slice(0, self.left))
        number = np.arange(self._next, self._next + len(cut))
        cut.event[:], cut.line[:] = number, number
        self._next += len(cut)
        self.left -= len(cut)
        if len(cut):
            yield cut
