"""One map or unmap of the trace on the machine of the run: admission, address, bounce, tables, invalidation.

A map either gets all it needs or leaves nothing behind, as `dma_map_sg` does: what it mapped of a list is unmapped
again, its address and its bounce buffers go back.
"""

from __future__ import annotations

import sys

from emulator.machine import Machine
from emulator.mapping.addresses import AddressSpace
from emulator.mapping.bounce.bouncer import Bounced, Bouncer, NoBounceBuffer
from emulator.mapping.costs import Meter
from emulator.mapping.dma import failure_cause
from emulator.mapping.domain import Domain
from emulator.mapping.pools.accounting import CountingSupply
from emulator.sizing import new_tables
from emulator.what_if.buffers import UNPLACED, Buffers
from emulator.what_if.descriptors import Requests
from emulator.what_if.occupancy import Occupancy
from emulator.what_if.operations import Operations
from emulator.what_if.spaces import Spaces
from emulator.what_if.waiting import Refusal
from pagetables.address import PAGE_SHIFT, Gpa, Iova
from pagetables.errors import MappingError
from pagetables.request import Permissions

__all__ = ["Placing"]

_LEVELS = [frozenset(level for level in (1, 2, 3) if mask >> level - 1 & 1) or None for mask in range(8)]
_BOTH = Permissions.R | Permissions.W


class Placing:
    """Maps and unmaps operations. `always` are permissions every leaf gets, as kernels before 7 give R."""

    def __init__(
        self,
        ops: Operations,
        buffers: Buffers,
        machine: Machine,
        spaces: Spaces,
        bouncer: Bouncer | None,
        meter: Meter,
        always: Permissions,
    ) -> None:
        self.occupancy = Occupancy(machine.layer.shape.levels)
        self.unknown_access = 0
        self.requests: Requests | None = None
        self.boundary = 0  # pages: ranges are aligned so that a list laid out for it meets it
        self._ops, self._buffers, self._machine, self._spaces = ops, buffers, machine, spaces
        self._layer, self._supply = machine.layer, machine.supply
        self._bouncer, self._meter = bouncer, meter
        self._bounced: dict[int, Bounced] = {}
        self._pieces_of: dict[int, list[int]] = {}  # those of a buffer that are bounced
        self._permissions = [_BOTH] + [Permissions(bits) | always for bits in range(1, 4)]
        # Most systems decide at each page: their `admit` says yes to everything, and need not be asked.
        self._admits = type(machine.supply).admit is not CountingSupply.admit
        self._reallocates = spaces.addresses is not None

    def map(self, op: int) -> Refusal | None:
        """None if the operation is mapped, else why not; then nothing of it is."""
        space = self._ops.space[op]
        try:
            domain = self._spaces.domain(space)
        except MappingError as error:
            return self._refusal(failure_cause(error))
        buffer = self._ops.buffer[op]
        window = None if self._buffers.direct[buffer] else self._spaces.window(space)
        placed = self._buffers.address[buffer] != UNPLACED
        if not placed and not self._place(op, buffer, window):
            return self._refusal("address")
        cause, mapped = self._map_pieces(op, domain, self._buffers.address[buffer])
        if cause is None or (cause == "overlap" and self._buffers.direct[buffer]):
            return None
        if not placed:
            self._leave(op, buffer, window, mapped)
        return self._refusal(cause)

    def unmap(self, op: int) -> bool:
        """Unmap what is mapped of the operation's range; False if nothing is. MappingError if the tables disagree."""
        ops, buffers = self._ops, self._buffers
        buffer, space, cpu = ops.buffer[op], ops.space[op], ops.cpu[op]
        taken = buffers.take(buffer, ops.offset[op], ops.size[op])
        if not taken:
            return False
        domain, address = self._spaces.domain(space), buffers.address[buffer]
        for offset, size in taken:
            self._unmap_range(domain, space, address + offset, size, cpu)
        self._forget_uses(buffer, space)
        if not buffers.live_bytes[buffer]:
            self._finish_bounces(buffer)
            if self.requests is not None:
                self.requests.complete(buffer)
            self._release(buffer, space, cpu)
        return True

    def target(self, piece: int) -> int:
        """Where the device finds a mapped piece: its memory, or the bounce buffer of it."""
        bounced = self._bounced.get(piece)
        return self._ops.piece_gpa[piece] if bounced is None else bounced.gpa

    def _place(self, op: int, buffer: int, window: AddressSpace | None) -> bool:
        if window is None:
            self._buffers.address[buffer] = self._ops.buffer_start[buffer]
            return True
        pages = self._ops.buffer_size[buffer] >> PAGE_SHIFT
        align = min(1 << (pages - 1).bit_length(), self.boundary) if self.boundary else 1
        address = window.allocate(pages, cpu=self._ops.cpu[op], align=align)
        if address is None:
            return False
        self._buffers.address[buffer] = address
        return True

    def _leave(self, op: int, buffer: int, window: AddressSpace | None, mapped: bool) -> None:
        # The address of a map that failed. If a part of it was mapped, it waits for the invalidation.
        address, self._buffers.address[buffer] = self._buffers.address[buffer], UNPLACED
        if window is not None:
            free = window.free if mapped else window.take_back
            free(Iova(address), self._ops.buffer_size[buffer] >> PAGE_SHIFT, self._ops.cpu[op])

    def _release(self, buffer: int, space: int, cpu: int) -> None:
        window = None if self._buffers.direct[buffer] else self._spaces.window(space)
        if window is not None:
            pages = self._ops.buffer_size[buffer] >> PAGE_SHIFT
            window.free(Iova(self._buffers.address[buffer]), pages, cpu)
            if buffer in self._buffers.parts:  # another operation may map it again, elsewhere
                self._buffers.address[buffer] = UNPLACED

    def _map_pieces(self, op: int, domain: Domain, address: int) -> tuple[str | None, bool]:
        # Why it failed, or None; and whether anything was mapped, if only for a moment.
        ops, supply = self._ops, self._supply
        start, size = address + ops.offset[op], ops.size[op]
        if self._admits and not supply.admit(new_tables(start >> PAGE_SHIFT, size >> PAGE_SHIFT, domain.table.levels)):
            return "page", False
        at = start
        try:
            for piece in range(ops.first[op], ops.first[op + 1]):
                self._map_piece(piece, op, domain, at)
                at += ops.piece_size[piece]
        except (MappingError, NoBounceBuffer) as error:
            self._undo(op, domain, start, at - start)
            return "bounce" if isinstance(error, NoBounceBuffer) else failure_cause(error), at > start
        finally:
            supply.settle()
        self._notify(domain, Iova(start), size)
        if not self._submit(op):
            self._undo(op, domain, start, size)
            return "descriptor", True
        self._buffers.add(ops.buffer[op], ops.offset[op], size)
        return None, True

    def _notify(self, domain: Domain, start: Iova, size: int) -> None:
        # Once, as iommu_map_sg does after its last piece. Who maps waits for what a caching unit has to hear.
        counts = self._machine.driver.counts
        waits = counts.wait
        self._layer.notify(domain, start, size)
        if counts.wait != waits:
            self._meter.spend("invalidate.submit")
            self._meter.spend("invalidate.wait")

    def _submit(self, op: int) -> bool:
        # What is never unmapped is a ring, or the firmware's: no request.
        buffer = self._ops.buffer[op]
        if self.requests is None or self._ops.end_ns[op] < 0 or self._buffers.direct[buffer]:
            return True
        return self.requests.submit(buffer, self._ops.size[op])

    def _map_piece(self, piece: int, op: int, domain: Domain, iova: int) -> None:
        ops = self._ops
        gpa, size, access = ops.piece_gpa[piece], ops.piece_size[piece], ops.piece_access[piece] & 3
        self.unknown_access += not access
        if self._bouncer is not None and not self._buffers.direct[ops.buffer[op]]:
            bounced = self._bouncer.prepare(gpa, size, access or 3, cpu=ops.cpu[op])
            if bounced is not None:
                self._bounced[piece] = bounced
                self._pieces_of.setdefault(ops.buffer[op], []).append(piece)
                gpa = bounced.gpa
        levels = None if self._reallocates else _LEVELS[ops.piece_levels[piece] & 7]
        self._layer.map(domain, Iova(iova), Gpa(gpa), size, self._permissions[access], levels, notify=False)
        allowed = domain.table.leaf_levels if levels is None else domain.table.leaf_levels & levels | {1}
        leaves = self.occupancy.map(self._spaces.key(ops.space[op]), iova, gpa, size, allowed)
        self._meter.spend("map.first")
        if leaves > 1:
            self._meter.spend("map.next", leaves - 1)

    def _undo(self, op: int, domain: Domain, start: int, size: int) -> None:
        if size:
            self._unmap_range(domain, self._ops.space[op], start, size, self._ops.cpu[op])
        first, end = self._ops.first[op : op + 2]
        self._finish_bounces(self._ops.buffer[op], first, end)

    def _unmap_range(self, domain: Domain, space: int, iova: int, size: int, cpu: int) -> None:
        leaves = self.occupancy.unmap(self._spaces.key(space), iova, size)
        self._meter.spend("unmap.first")
        if leaves > 1:
            self._meter.spend("unmap.next", leaves - 1)
        self._layer.unmap(domain, Iova(iova), size, cpu)

    def _finish_bounces(self, buffer: int, first: int = 0, end: int = sys.maxsize) -> None:
        # The bounced pieces of a buffer that lie in [first, end).
        if self._bouncer is None:
            return
        left = []
        for piece in self._pieces_of.pop(buffer, ()):
            if first <= piece < end:
                self._bouncer.finish(self._bounced.pop(piece))
            else:
                left.append(piece)
        if left:
            self._pieces_of[buffer] = left

    def _forget_uses(self, buffer: int, space: int) -> None:
        used = self._buffers.used.pop(buffer, None)
        if used:
            key, now = self._spaces.key(space), self._machine.clock.now
            self._buffers.unmapped_at.update(((key, page), now) for page in used)

    def _refusal(self, cause: str) -> Refusal:
        waits_for = {"address": "addresses", "bounce": "bounce buffers", "descriptor": "transfer descriptors"}
        what = self._supply.waits_for or "pages" if cause == "page" else waits_for.get(cause, cause)
        return Refusal(cause, what)
