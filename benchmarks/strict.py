"""Strict replay of a prepared trace: columns in memory, as many maps as unmaps, rings as drivers have them."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Job, Work
from benchmarks.scene import PAGE, READ_WRITE, Scene, Words
from emulator.machine import Machine
from emulator.native_replay import EventColumns, NativeReplay, Stop
from emulator.settings import Settings
from pagetables.address import SourceId
from pagetables.errors import VtdError

__all__ = ["replay"]

SPACES = 2
EVENTS = 1 << 16
RING = 256  # mappings live at a time, for each device
SLOTS = 1024  # addresses a device's mappings use, at the top of 4 GiB


def _trace(scene: Scene) -> dict[str, Words]:
    """Receive rings: each device unmaps its oldest page and maps another, at an address it used before."""
    rng = scene.random
    half = EVENTS // 2
    space = rng.permutation(np.arange(half) % SPACES)  # as many events each: every turn ends as it began
    turn = np.zeros(half, dtype=np.int64)
    for number in range(SPACES):
        mine = space == number
        turn[mine] = np.arange(int(mine.sum()))
    iova = np.empty((half, 2), dtype=np.uint64)
    iova[:, 0] = (1 << 32) - (turn % SLOTS + 1) * PAGE  # unmapped
    iova[:, 1] = (1 << 32) - ((turn + RING) % SLOTS + 1) * PAGE  # mapped
    return {
        "kind": np.tile(np.array([2, 1], dtype=np.uint8), half),
        "space": np.repeat(space, 2).astype(np.uint32),
        "iova": iova.reshape(-1),
        "gpa": rng.integers(0, 1 << 18, EVENTS, dtype=np.uint64) * np.uint64(PAGE),
        "size": np.full(EVENTS, PAGE, dtype=np.uint64),
        "access": np.full(EVENTS, 3, dtype=np.uint8),
        "leaf_levels": np.zeros(EVENTS, dtype=np.uint8),
        "time": np.arange(EVENTS, dtype=np.uint64),
    }


def _slots(count: int) -> Words:
    return (1 << 32) - np.arange(1, count + 1, dtype=np.uint64) * np.uint64(PAGE)


class _Strict:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.machine = Machine(Settings(), ram=((0, 1 << 30),), engine=scene.engine)
        self.trace = _trace(scene)
        layer, queue = self.machine.layer, self.machine.unit.queue_state
        if queue is None:
            raise VtdError("the unit's queue is off")
        self.domains = [layer.create_domain() for _ in range(SPACES)]
        self.loop = NativeReplay(scene.engine, self.machine.driver, queue, SPACES)
        for number, domain in enumerate(self.domains):
            layer.attach(domain, SourceId(0x100 + number))
            mapper = scene.engine.mapper(self.machine.memory, domain.table, layer.pages)
            self.loop.serve(number, mapper, domain.domain_id, domain.iova_limit, domain.gpa_limit)
            mapper.map_many(_slots(SLOTS), _slots(SLOTS), READ_WRITE)
            mapper.unmap_many(_slots(SLOTS)[RING:].copy())
        self.columns = EventColumns(scene.engine, **self.trace)

    def ours(self) -> None:
        """The whole trace."""
        self.loop.position = 0
        if self.loop.run(self.columns) is not Stop.END:
            raise VtdError(f"benchmark replay: event {self.loop.position} was left")

    def limit(self) -> Work:
        """The bare loop over the same columns, on the same tables and queue, with registers of its own."""
        ffi, machine, trace = self.scene.limit_ffi, self.machine, self.trace
        roots = np.array([domain.table.root for domain in self.domains], dtype=np.uint64)
        held = [
            ffi.from_buffer(kind, values)
            for kind, values in (
                ("uint8_t[]", machine.memory.buffer),
                ("uint8_t[]", bytearray(PAGE)),
                ("uint64_t[]", roots),
                ("uint8_t[]", trace["kind"]),
                ("uint32_t[]", trace["space"]),
                ("uint64_t[]", trace["iova"]),
                ("uint64_t[]", trace["gpa"]),
            )
        ]
        base, registers, root, kind, space, iova, gpa = held
        queue, status = machine.driver.queue.base, machine.driver.queue.status
        return lambda: self.scene.limit.limit_replay(
            base, registers, root, queue, status, kind, space, iova, gpa, EVENTS
        )

    def tables(self) -> bytes:
        """The pages that table pages come from."""
        start, size = self.machine.memory.regions[-1]
        return self.machine.memory.read(start, min(size, 1 << 24))


def replay(scene: Scene) -> Job:
    """A trace of two receive rings; nothing is left to Python."""
    strict = _Strict(scene)
    queue = strict.machine.driver.queue
    job = Job(strict.limit(), strict.ours, EVENTS)
    before = queue.sequence
    found = []
    for work in (job.limit, job.ours):
        work()
        tables = bytearray(strict.tables())
        start = strict.machine.memory.regions[-1][0]
        for page in (queue.base, queue.status):  # tails and sequence numbers differ
            tables[page - start : page - start + PAGE] = bytes(PAGE)
        found.append(bytes(tables))
    if found[0] != found[1] or queue.sequence - before != EVENTS // 2:
        raise VtdError("benchmark replay: the limit and the core do not leave the same tables")
    return job
