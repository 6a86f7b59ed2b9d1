"""A trace replayed: each event through the mapping layer, the driver and the unit, as a kernel would have done it.

One domain for each space of the trace, addresses as recorded. Bytes in memory and MMIO are all that passes between the
software side and the unit.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from emulator.ledger import keep_ledger
from emulator.machine import Machine
from emulator.mapping.dma import failure_cause
from emulator.mapping.domain import Domain
from emulator.misuse.judging import Watch
from emulator.replay_report import make_report
from emulator.report import Report
from emulator.settings import Settings
from emulator.trace.columns import NO_PASID, NO_SOURCE, Columns
from emulator.trace.event import READ, WRITE, Kind
from emulator.trace.live import Live, Range
from emulator.trace.trace import Trace
from pagetables.address import Gpa, Iova, Pasid, SourceId
from pagetables.errors import MappingError
from pagetables.fault import Fault
from pagetables.request import Access, Permissions, Request, Translation

__all__ = ["Replay", "Row", "RowFault", "needed_ram", "replay", "row_at"]

Progress = Callable[[int], None]

STAND_IN_BUS = 0xFE  # requesters for spaces that no event ascribes to a device
HOLE = 0xFEC0_0000  # from here to 4 GiB: interrupt controllers and register pages, never RAM
FOUR_GIB = 1 << 32
MOST_RAM = np.uint64(16 << 40)
ROUND = 1 << 20
REPORT_EVERY = 1024
_LEVELS = [frozenset(level for level in (1, 2, 3) if mask >> level - 1 & 1) or None for mask in range(8)]
_ACCESS = {READ: Access.READ, WRITE: Access.WRITE, READ | WRITE: Access.ATOMIC}


class Row(NamedTuple):
    """One event of the columns, in Python integers."""

    event: int
    time_ns: int
    kind: int
    space: int
    source: int
    pasid: int
    iova: int
    gpa: int
    size: int
    access: int
    leaf_levels: int
    cpu: int
    file: int
    line: int


class RowFault(NamedTuple):
    """A fault that an access of the trace met: where the access stands, and the fault."""

    event: int
    file: int
    line: int
    fault: Fault


def needed_ram(columns: Columns) -> tuple[tuple[int, int], ...]:
    """RAM regions that hold what the trace maps to: from 0, and from 4 GiB where it goes that far.

    What lies in the hole below 4 GiB or beyond `MOST_RAM` is no RAM but another device's registers.
    """
    maps = columns.kind == Kind.MAP
    gpa, size = columns.gpa[maps], columns.size[maps]
    ends = (gpa + size)[(gpa < MOST_RAM) & (size <= MOST_RAM - np.minimum(gpa, MOST_RAM))]
    low = int(ends[ends <= HOLE].max(initial=ROUND))
    high = int(ends.max(initial=0))
    regions = [(0, -(-low // ROUND) * ROUND)]
    if high > FOUR_GIB:
        regions.append((FOUR_GIB, -(-high // ROUND) * ROUND - FOUR_GIB))
    return tuple(regions)


def replay(trace: Trace, settings: Settings | None = None, progress: Progress | None = None) -> Report:
    """The report of replaying `trace` on the machine that `settings` describe."""
    return Replay(trace, settings or Settings(), progress).run()


class Replay:
    """One replay. After `run` the machine is left as the last event left it.

    `fast` lets the native engine loop over events in C where it can; the outcome is the same. `watch` is what saw the
    trace being read: with it, calls of the DMA API are judged too.
    """

    def __init__(
        self,
        trace: Trace,
        settings: Settings,
        progress: Progress | None = None,
        fast: bool = True,
        watch: Watch | None = None,
    ) -> None:
        self.fast = fast
        self.watch = watch or Watch()
        self.trace = trace
        started = time.perf_counter()
        self.ledger = keep_ledger(trace.columns)
        self._ledger_took = time.perf_counter() - started
        self.machine = Machine(settings, needed_ram(trace.columns))
        self.applied: Counter[str] = Counter(dict.fromkeys(("map", "unmap", "access", "attach", "detach"), 0))
        self.failed: Counter[str] = Counter()
        self.lost_unmaps = 0  # of maps that this machine refused
        self.refused_unmaps: list[tuple[int, str]] = []
        self.unknown_access = 0
        self.faults: list[RowFault] = []
        self.domains: dict[int, Domain] = {}
        self.stand_ins: dict[int, SourceId] = {}
        self._refused: dict[int, Live] = {}
        self.progress = progress or (lambda done: None)
        self._rule_r = Permissions.R if trace.kernel_rule == "6.x" else Permissions.NONE
        self._handlers: dict[int, Callable[[Row], None]] = {
            Kind.MAP: self._map,
            Kind.UNMAP: self._unmap,
            Kind.ACCESS: self._access,
            Kind.ATTACH: self._attach,
            Kind.DETACH: self._detach,
        }

    def run(self) -> Report:
        """Replay every event and report."""
        started = time.perf_counter()
        if not (self.fast and self._run_fast()):
            self._run_rows()
        return make_report(self, self._ledger_took + time.perf_counter() - started)

    def live(self) -> tuple[int, int]:
        """Mappings that are live, and their bytes: what the trace left live, but for what this machine refused."""
        refused = [piece for live in self._refused.values() for piece in live.take(0, 1 << 64)]
        lost = sum(piece.end - piece.start for piece in refused)
        return self.ledger.live_mappings - len({piece.row for piece in refused}), self.ledger.live_bytes - lost

    def _run_fast(self) -> bool:
        if self.machine.engine.name != "native":
            return False
        from emulator.replay_fast import FastReplay

        path = FastReplay.of(self)
        if path is not None:
            path.replay()
        return path is not None

    def _run_rows(self) -> None:
        for number, row in enumerate(_rows(self.trace.columns.take(self.ledger.order)), 1):
            self.apply(row)
            if not number % REPORT_EVERY:
                self.progress(REPORT_EVERY)

    def apply(self, row: Row) -> None:
        """Do one event, at its time."""
        self.machine.clock.advance_to(row.time_ns)
        self._handlers[row.kind](row)

    def is_gapped(self, space: int) -> bool:
        """True if this machine refused a map of the space that the trace has not unmapped yet."""
        return bool(self._refused.get(space))

    def domain(self, space: int) -> Domain:
        """The domain of a space of the trace, made when it is first needed; OutOfPages if that fails."""
        domain = self.domains.get(space)
        if domain is None:
            described = self.trace.spaces[space]
            domain = self.domains[space] = self.machine.layer.create_domain(described.domain_id)
            if not described.devices:
                self.machine.layer.attach(domain, self._stand_in(space))
        return domain

    def _stand_in(self, space: int) -> SourceId:
        number = len(self.stand_ins)
        source = SourceId((STAND_IN_BUS - (number >> 8)) << 8 | number & 0xFF)
        self.stand_ins[space] = source
        return source

    def _permissions(self, row: Row) -> Permissions:
        if not row.access:
            self.unknown_access += 1
            return Permissions.R | Permissions.W
        return Permissions(row.access) | self._rule_r

    def _map(self, row: Row) -> None:
        try:
            self.machine.layer.map(
                self.domain(row.space),
                Iova(row.iova),
                Gpa(row.gpa),
                row.size,
                self._permissions(row),
                _LEVELS[row.leaf_levels & 7],
            )
        except MappingError as error:
            self.failed[failure_cause(error)] += 1
            self._refused.setdefault(row.space, Live()).add(Range(row.iova, row.iova + row.size, self.failed.total()))
        else:
            self.applied["map"] += 1

    def _unmap(self, row: Row) -> None:
        pieces = self._pieces(row)
        if not pieces:
            self.lost_unmaps += 1
            return
        try:
            for start, end in pieces:
                self.machine.layer.unmap(self.domain(row.space), Iova(start), end - start, row.cpu)
        except MappingError as error:
            self.failed["unmap"] += 1
            self.refused_unmaps.append((row.event, str(error)))
        else:
            self.applied["unmap"] += 1

    def _pieces(self, row: Row) -> list[tuple[int, int]]:
        # The range without what this machine refused to map.
        at, end = row.iova, row.iova + row.size
        refused = self._refused.get(row.space)
        if not refused:
            return [(at, end)]
        pieces = []
        for gap in refused.take(at, end):
            if gap.start > at:
                pieces.append((at, gap.start))
            at = gap.end
        return pieces + ([(at, end)] if at < end else [])

    def _access(self, row: Row) -> None:
        source = row.source if row.source != NO_SOURCE else self._requester(row.space)
        pasid = None if row.pasid == NO_PASID else Pasid(row.pasid)
        self.applied["access"] += 1
        access = _ACCESS.get(row.access, Access.READ)
        at, end = row.iova, row.iova + max(row.size, 1)
        while at < end:  # from page to page; the first fault ends it
            answer = self._request(row, Request(SourceId(source), Iova(at), access, pasid))
            if isinstance(answer, Fault):
                return
            at = (at >> answer.page_shift) + 1 << answer.page_shift

    def _requester(self, space: int) -> int:
        devices = self.trace.spaces[space].devices
        return devices[0] if devices else self.stand_ins.get(space, STAND_IN_BUS << 8)

    def _request(self, row: Row, request: Request) -> Translation | Fault:
        answer = self.machine.unit.translate(request)
        if isinstance(answer, Fault):
            self.faults.append(RowFault(row.event, row.file, row.line, answer))
            self.machine.driver.clear_faults()
        elif row.space in self.domains and self.machine.policy.is_stale(self.domains[row.space], request.iova):
            self.machine.policy.window.accesses += 1
        return answer

    def _attach(self, row: Row) -> None:
        if row.source == NO_SOURCE:
            return
        attached = self.machine.driver.attached
        try:
            domain = self.domain(row.space)
        except MappingError as error:
            self.failed[failure_cause(error)] += 1
            return
        source = SourceId(row.source)
        if source in attached:
            self.machine.layer.detach(self._domain_of(source), source)
        self.machine.layer.attach(domain, source)
        self.applied["attach"] += 1

    def _domain_of(self, source: SourceId) -> Domain:
        return next(domain for domain in self.domains.values() if source in domain.devices)

    def _detach(self, row: Row) -> None:
        domain = self.domains.get(row.space)
        if domain is not None and SourceId(row.source) in domain.devices:
            self.machine.layer.detach(domain, SourceId(row.source))
            self.applied["detach"] += 1


def row_at(columns: Columns, index: int) -> Row:
    """The event at `index`."""
    return Row(*(int(columns[name][index]) for name in Row._fields))


def _rows(columns: Columns) -> Iterator[Row]:
    return map(Row._make, zip(*(columns[name].tolist() for name in Row._fields), strict=True))
