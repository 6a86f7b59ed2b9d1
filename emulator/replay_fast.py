"""The fast path of a replay: the loop in C does maps, unmaps and their invalidations; Python does the rest.

What the loop leaves (a table page to take, a refused map, a device that comes or goes, an access) is done by the same
methods as in the plain loop, in the same order and at the same virtual time, so that reports, memory and the page
supply's history are equal.
"""

from __future__ import annotations

import numpy as np

from emulator.engine import QueueState
from emulator.mapping.flush.strict import StrictInvalidation
from emulator.native import NativeEngine
from emulator.native_mapper import NativeMapper
from emulator.native_replay import NEVER, EventColumns, NativeReplay, Stop
from emulator.replay import Replay, row_at
from emulator.trace.event import Kind
from pagetables.address import Gpa
from pagetables.request import Permissions

__all__ = ["FastReplay"]

CHUNK = 1 << 16  # events between two words of progress


class FastReplay:
    """The events of `run`, in the order of its ledger."""

    def __init__(self, run: Replay, engine: NativeEngine, queue: QueueState) -> None:
        columns = run.trace.columns.take(run.ledger.order)
        self._run, self._engine = run, engine
        self._columns = columns
        # An event that was put behind a later one happens no earlier than that.
        self._times = np.maximum.accumulate(columns.time_ns)
        self._events = EventColumns(
            engine,
            time=self._times,
            **{name: np.ascontiguousarray(columns[name]) for name, _ in EventColumns.TYPES if name != "time"},
        )
        always = Permissions.R if run.trace.kernel_rule == "6.x" else Permissions.NONE
        self._loop = NativeReplay(engine, run.machine.driver, queue, len(run.trace.spaces), int(always))

    @classmethod
    def of(cls, run: Replay) -> FastReplay | None:
        """The fast path of `run`, if it has one: native, strict, on a unit that need not hear of each map."""
        machine = run.machine
        engine, queue, capabilities = machine.engine, machine.unit.queue_state, machine.driver.capabilities.cap
        if not isinstance(engine, NativeEngine) or not isinstance(machine.policy, StrictInvalidation):
            return None
        if machine.policy.free_before_flush:  # the loop keeps pages until they are invalidated
            return None
        if capabilities.cm or capabilities.rwbf or queue is None:
            return None
        return cls(run, engine, queue)

    def replay(self) -> None:
        """Do every event."""
        for end in range(CHUNK, self._events.length + CHUNK, CHUNK):
            end = min(end, self._events.length)
            before = self._loop.position
            self._run_to(end)
            self._run.progress(end - before)
        if self._events.length:
            self._run.machine.clock.advance_to(int(self._times[-1]))
        self._collect()

    def _run_to(self, end: int) -> None:
        clock = self._run.machine.clock
        while self._loop.position < end:
            due = clock.next_due
            stop = self._loop.run(self._events, end, NEVER if due is None else due)
            at = self._loop.position
            if stop is Stop.DEADLINE:
                clock.advance_to(int(self._times[at]))
            elif stop is Stop.LEFT:
                self._leave_to_python(at)
                self._loop.position = at + 1
            elif stop is Stop.FREED:
                clock.advance_to(int(self._times[at - 1]))
                self._release(self._loop.freed(int(self._columns.space[at - 1])))

    def _release(self, pages: tuple[Gpa, ...]) -> None:
        if pages:
            layer = self._run.machine.layer
            layer.pages.unlinked += len(pages)
            layer.supply.give_back(pages)
            layer.pages.released(len(pages))

    def _leave_to_python(self, at: int) -> None:
        self._run.machine.clock.advance_to(int(self._times[at]))
        row = row_at(self._columns, at)
        self._run.apply(row)
        if row.kind in (Kind.ATTACH, Kind.DETACH):  # may have taken a device out of another space
            for space in self._run.domains:
                self._serve(space)
        elif row.kind != Kind.ACCESS:
            self._serve(row.space)

    def _serve(self, space: int) -> None:
        # The loop may do the events of a space that has a tag and of which no map was refused.
        domain = self._run.domains.get(space)
        if domain is None or not domain.tagged or self._run.is_gapped(space):
            self._loop.leave(space)
            return
        mapper = domain.mapper()
        if isinstance(mapper, NativeMapper):
            self._loop.serve(space, mapper, domain.domain_id, domain.iova_limit, domain.gpa_limit)

    def _collect(self) -> None:
        run, loop = self._run, self._loop
        run.applied["map"] += loop.maps
        run.applied["unmap"] += loop.unmaps
        run.unknown_access += loop.unknown_access
        run.machine.layer.statistics.maps += loop.maps
        run.machine.layer.statistics.unmaps += loop.unmaps
        run.machine.policy.window.ranges += loop.unmaps
