"""The what-if runner: a trace's operations on another system than the one that was recorded.

Time is the trace's: each operation starts when it was recorded. What it takes is model time, added up by a meter; it is
the operation's latency, and does not move what comes later. A map that must wait holds up nobody else; if its unmap
comes meanwhile, the buffer is unmapped once it has been mapped for as long as it was in the recording.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable
from functools import partial

from emulator.clock import MICROSECOND, Clock
from emulator.machine import Machine
from emulator.mapping.bounce.bouncer import make_bouncer
from emulator.mapping.costs import Costs, Meter
from emulator.mapping.dma import FAILURES, failure_cause
from emulator.mapping.domain import Domain
from emulator.mapping.pressure import Gfp
from emulator.mapping.pressure_run import PressureRun
from emulator.mapping.pressure_script import load_script
from emulator.mapping.reactions import Action, make_reaction
from emulator.replay import needed_ram
from emulator.settings import Settings
from emulator.trace.columns import NO_SOURCE
from emulator.trace.event import GFP_CLASSES, Kind
from emulator.trace.trace import Trace
from emulator.what_if.accesses import LATE, DeviceAccess, Devices, planned
from emulator.what_if.aperture import fitted
from emulator.what_if.boundary import with_boundary
from emulator.what_if.buffers import UNPLACED, Buffers
from emulator.what_if.descriptors import Requests
from emulator.what_if.gauges import Gauges
from emulator.what_if.operations import Operations, Prepared
from emulator.what_if.outcome import SERIES
from emulator.what_if.placing import Placing
from emulator.what_if.spaces import RECORDED, Spaces
from emulator.what_if.swap_disk import SwapDisk
from emulator.what_if.transfers import with_transfers
from emulator.what_if.waiting import Refusal, Waiter, WaitList
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, SourceId
from pagetables.errors import MappingError
from pagetables.request import Permissions

__all__ = ["Runner"]

REPORT_EVERY = 1024
MOST_TICKS = 50_000  # of the gauges: in longer traces they are read every second, third ... operation
_GIVEN_UP = ("page", "address", "bounce", "descriptor")  # what a driver reacts to; the rest is the trace's doing


class Runner:
    """One run of `trace` on the machine that `settings` describe. `run` does it; the rest is what a summary reads."""

    def __init__(
        self, trace: Trace | Prepared, settings: Settings, progress: Callable[[int], None] | None = None
    ) -> None:
        prepared = trace if isinstance(trace, Prepared) else Prepared.of(trace)
        trace = prepared.trace
        self.trace, self.ledger = trace, prepared.ledger
        self.ops, self.padding = with_boundary(_transfers(prepared, settings), settings.sg_boundary)
        self.padded = 0  # bytes mapped that nobody passed
        self.buffers = Buffers(self.ops, settings.iova != RECORDED)
        self.settings = fitted(settings, len(trace.spaces), self.buffers.direct_ranges(self.ops))
        self.machine = Machine(self.settings, needed_ram(trace.columns))
        self.spaces = Spaces(self.machine, trace.spaces, self.buffers.direct_ranges(self.ops))
        self.meter = Meter(Costs.load(settings.costs))
        self.failed: Counter[str] = Counter(dict.fromkeys(_GIVEN_UP, 0))
        self.refused: Counter[str] = Counter(dict.fromkeys(FAILURES, 0))
        self.maps = self.maps_ok = self.unmaps = self.unmaps_of_failed = 0
        self.done: Counter[tuple[int, int]] = Counter()  # maps and unmaps by kind and key of their domain
        self.lists = self.pieces = 0  # ranges of several pieces that were mapped, and those pieces
        self.map_ns, self.unmap_ns = array("Q"), array("Q")
        self.devices = Devices(self.machine, self._age)
        self.gauges = Gauges(SERIES[1:], self._read_gauges)
        self._progress = progress or (lambda done: None)
        self._busy_until: dict[int, int] = {}
        self._connect()

    def _connect(self) -> None:
        settings, machine = self.settings, self.machine
        clock = machine.clock
        self.bouncer = make_bouncer(settings.bounce, machine.zone, clock, dict(settings.bounce_options))
        self.reaction = make_reaction(settings.reaction, dict(settings.reaction_options))
        self.waiting = WaitList(clock, self.reaction, self._retry, self._give_up)
        machine.supply.meter = machine.policy.meter = self.meter
        machine.supply.on_available.append(partial(self.waiting.news, "page"))
        if self.bouncer is not None:
            self.bouncer.meter = self.meter
            for source in (self.bouncer.on_available, machine.zone.on_available):
                source.append(partial(self.waiting.news, "bounce"))
        always = Permissions.R if self.trace.kernel_rule == "6.x" else Permissions.NONE
        self.placing = Placing(self.ops, self.buffers, machine, self.spaces, self.bouncer, self.meter, always)
        self.requests = self._requested()
        self.placing.requests = self.requests
        self.placing.boundary = settings.sg_boundary >> PAGE_SHIFT
        self.gfp = _classes(self.trace, self.ops, settings.gfp)
        statistics = machine.zone.statistics
        self.before = {"calls": dict(statistics.calls), "refused": dict(statistics.refused)}  # by filling the pools
        self.reclaims_before = statistics.direct_reclaims
        self.pressure = self._pressed()
        flushed = machine.policy.flushed

        def hear(domain: Domain | None) -> None:
            flushed(domain)
            self.waiting.news("address")

        machine.policy.flushed = hear

    def _requested(self) -> Requests | None:
        settings, zone = self.settings, self.machine.zone
        if settings.requests == "none":
            return None
        zone.on_available.append(partial(self.waiting.news, "descriptor"))
        return Requests(zone, self.meter, settings.requests_packet, settings.requests_reserve, settings.requests_gfp)

    def _pressed(self) -> PressureRun | None:
        if self.settings.pressure is None:
            return None
        script = load_script(self.settings.pressure)
        disk = SwapDisk(self.machine, self.spaces)
        return PressureRun(script, self.machine.zone, self.machine.clock, disk.map)

    def run(self) -> float:
        """Do every operation, and wait for who still waits; the seconds that took."""
        started = time.perf_counter()
        ops, clock, tick = self.ops, self.machine.clock, self.gauges.tick
        handlers: dict[int, Callable[[int], None]] = {
            Kind.MAP: self._map,
            Kind.UNMAP: self._unmap,
            Kind.ACCESS: self._recorded_access,
            Kind.ATTACH: self._attach,
            Kind.DETACH: self._detach,
        }
        every = len(ops) // MOST_TICKS + 1
        self._start(clock)
        due = planned(ops, self.settings.accesses, self.settings.late_us * 1000)
        access = next(due, None)
        for op, (now, kind) in enumerate(zip(ops.time_ns, ops.kind, strict=True)):
            while access is not None and access.time_ns <= now:
                self._device_access(access)
                access = next(due, None)
            clock.advance_to(now)
            handlers[kind](op)
            if not op % every:
                tick(now)
            if not op % REPORT_EVERY:
                self._progress(ops.first[op] - ops.first[max(op - REPORT_EVERY, 0)])
        while access is not None:
            self._device_access(access)
            access = next(due, None)
        self.waiting.finish()
        if self.pressure is not None and (circle := self.pressure.circle()) is not None:
            self.waiting.deadlocks.append(str(circle))
        self.gauges.finish(clock.now)
        return time.perf_counter() - started

    def _start(self, clock: Clock) -> None:
        # Pressure begins when all devices are there: what a boot needs is not what the trace is about.
        ops = self.ops
        if not ops.time_ns:
            return
        clock.advance_to(ops.time_ns[0])
        if self.pressure is not None:
            attached = [now for now, kind in zip(ops.time_ns, ops.kind, strict=True) if kind == Kind.ATTACH]
            clock.after(max(attached, default=clock.now) - clock.now + 1, self.pressure.start)

    def _map(self, op: int) -> None:
        self.maps += 1
        self.machine.supply.gfp = self.gfp[op]
        refusal, took = self._try(op)
        if refusal is None:
            self.maps_ok += 1
            self.map_ns.append(took)
        elif refusal.cause in self.failed:
            self.buffers.waits(self.ops.buffer[op])
            self.waiting.failed(op, self.trace.spaces[self.ops.space[op]].name, self.gfp[op], refusal)
        else:
            self.refused[refusal.cause] += 1

    def _try(self, op: int) -> tuple[Refusal | None, int]:
        meter = self.meter
        meter.take()  # what went on in the background is nobody's latency
        waits = meter.counts["invalidate.wait"]
        refusal = self.placing.map(op)
        if refusal is None:
            self._mapped(op)
        if meter.counts["invalidate.wait"] != waits:
            self._stand_in_line(self.ops.cpu[op])
        return refusal, meter.take()

    def _mapped(self, op: int) -> None:
        self.done[Kind.MAP, self.spaces.key(self.ops.space[op])] += 1
        self.padded += self.padding.get(op, 0)
        pieces = self.ops.first[op + 1] - self.ops.first[op]
        if pieces > 1:
            self.lists += 1
            self.pieces += pieces

    def _retry(self, waiter: Waiter) -> Refusal | None:
        self.machine.supply.gfp = waiter.gfp
        refusal, took = self._try(waiter.op)
        if refusal is None:
            turn = self.meter.costs.ns[self.reaction.turn]
            self.maps_ok += 1
            self.map_ns.append(self.machine.clock.now - waiter.since + took + round(turn * (waiter.tries - 1)))
            self._settle(waiter.op)
        return refusal

    def _give_up(self, op: int, cause: str, action: Action) -> None:
        self.failed[cause] += 1
        self.unmaps_of_failed += len(self.buffers.settle(self.ops.buffer[op]))

    def _settle(self, op: int) -> None:
        # Unmaps that came while the map waited are due when the buffer has lived as long as it was to.
        for unmap in self.buffers.settle(self.ops.buffer[op]):
            lifetime = self.ops.time_ns[unmap] - self.ops.time_ns[op]
            self.machine.clock.after(lifetime, partial(self._unmap, unmap))

    def _unmap(self, op: int) -> None:
        if self.buffers.owe(self.ops.buffer[op], op):
            return
        meter = self.meter
        meter.take()
        waits = meter.counts["invalidate.wait"]
        try:
            removed = self.placing.unmap(op)
        except MappingError as error:
            self.refused[failure_cause(error)] += 1
            return
        if not removed:
            self.unmaps_of_failed += 1
            return
        if meter.counts["invalidate.wait"] != waits:
            self._stand_in_line(self.ops.cpu[op])
        self.unmaps += 1
        self.done[Kind.UNMAP, self.spaces.key(self.ops.space[op])] += 1
        self.unmap_ns.append(meter.take())
        self.waiting.news("address", "bounce", "descriptor")

    def _stand_in_line(self, cpu: int) -> None:
        # The queue has one lock: who submits waits for every other CPU whose submission is not done. A CPU waits for
        # its own submissions before it goes on, so that it never has two.
        now, busy = self.machine.clock.now, self._busy_until
        others = sum(1 for who, until in busy.items() if until > now and who != cpu)
        if others:
            self.meter.spend("invalidate.queueing", others)
        costs = self.meter.costs.ns
        took = costs["invalidate.submit"] + costs["invalidate.wait"] + others * costs["invalidate.queueing"]
        busy[cpu] = now + round(took)

    def _attach(self, op: int) -> None:
        source = self._source(op)
        if source is not None and not self.spaces.attach(self.ops.space[op], source):
            self.refused["no-domain"] += 1

    def _detach(self, op: int) -> None:
        source = self._source(op)
        if source is not None:
            self.spaces.detach(source)

    def _source(self, op: int) -> SourceId | None:
        source = int(self.trace.columns.source[self.ops.row[op]])
        return None if source == NO_SOURCE else SourceId(source)

    def _recorded_access(self, op: int) -> None:
        # A page of the buffer that the recorded access met; what met none is left to plain replay.
        buffer = self.ops.buffer[op]
        if buffer < 0 or self.buffers.address[buffer] == UNPLACED:
            return
        row = self.ops.row[op]
        iova = self.buffers.address[buffer] + self.ops.offset[op]
        source = self._source(op) or self.spaces.requester(self.ops.space[op])
        if source is not None:
            domain = self.spaces.domain(self.ops.space[op])
            self.devices.check(domain, source, iova, int(self.trace.columns.access[row]))
            self.buffers.use(buffer, iova & -PAGE_SIZE)

    def _device_access(self, due: DeviceAccess) -> None:
        self.machine.clock.advance_to(due.time_ns)
        op = due.op
        buffer, space = self.ops.buffer[op], self.ops.space[op]
        source = self.spaces.requester(space)
        lives = bool(self.buffers.live_bytes[buffer])
        if source is None or self.buffers.address[buffer] == UNPLACED or lives == (due.why == LATE):
            return
        iova = self.buffers.address[buffer] + self.ops.piece_offset[due.piece] + due.offset
        domain, access = self.spaces.domain(space), self.ops.piece_access[due.piece]
        if due.why == LATE:
            self.devices.check(domain, source, iova, access)
            return
        self.devices.use(domain, source, iova, self.placing.target(due.piece) + due.offset, access)
        self.buffers.use(buffer, iova)

    def _age(self, domain: Domain, page: int) -> int:
        key = next((key for key, known in self.spaces.domains.items() if known is domain), 0)
        return self.machine.clock.now - self.buffers.unmapped_at.get((key, page), self.machine.clock.now)

    def _read_gauges(self) -> tuple[int, ...]:
        pages = self.machine.layer.pages
        waiting = pages.unlinked - pages.freed
        empty = pages.live - waiting - self.spaces.count - self.placing.occupancy.needed
        return (
            self.machine.supply.statistics.idle,
            pages.live,
            empty,
            waiting,
            self.machine.zone.free,
            self.machine.policy.window.pending,
            len(self.waiting.waiters),
            sum(self.failed.values()),
        )


def _transfers(prepared: Prepared, settings: Settings) -> Operations:
    ops = prepared.ops
    classes = prepared.trace.columns.gfp[ops.row].tolist() if len(ops) else []
    return with_transfers(ops, settings.transfers, settings.transfers_gap_us * MICROSECOND, classes)


def _classes(trace: Trace, ops: Operations, standard: Gfp) -> list[Gfp]:
    # The class of each operation: the trace's where it tells, which it does for coherent allocations.
    known = {0: standard} | {number: Gfp.named(name) for number, name in enumerate(GFP_CLASSES) if name}
    return [known[number] for number in trace.columns.gfp[ops.row].tolist()] if len(ops) else []
