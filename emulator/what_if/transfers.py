"""Transfers of several pieces: mapped as the trace has them, each piece apart, or reserved first and linked.

    recorded   a scatter list is one range (dma_map_sg), and what was mapped one by one stays so
    apart      every piece of a list has a range of its own, mapped, announced, unmapped and invalidated by itself: what
               a driver does that maps page by page (dma_map_page, dma_map_phys)
    linked     lists stay one range, and so becomes what was mapped one by one but could have been one transfer: one
               range is reserved, each piece linked into it, one sync tells the unit, and one unmap takes all of it back
               (dma_iova_try_alloc, link, sync, destroy of Linux 6.16; `emulator.mapping.reserve_link`)

No trace says which maps serve one transfer. `linked` takes for one what its CPU mapped piece after piece, with nothing
between and no more than a gap of time, for one domain, and what was unmapped in that order, piece after piece, too. It
is reserved when its first piece was mapped, and destroyed when its last was unmapped. That is the most the interface
could save: a piece that begins inside a page cannot be linked to another, and a trace of the IOMMU shows whole pages.

Coherent memory, which a trace with its class tells, and what is not unmapped as a whole, is nobody's transfer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import fields

from emulator.trace.event import Kind
from emulator.what_if.operations import Operations

__all__ = ["APART", "LINKED", "RECORDED", "WAYS", "with_transfers"]

RECORDED, APART, LINKED = WAYS = ("recorded", "apart", "linked")
_KEPT = ("row", "time_ns", "kind", "space", "cpu")  # of an operation, whatever becomes of its buffer
_OF_PIECE = ("piece_gpa", "piece_size", "piece_access", "piece_levels")


def with_transfers(ops: Operations, way: str, gap_ns: int, classes: Sequence[int]) -> Operations:
    """The operations with transfers mapped in one of `WAYS`. `gap_ns` is the longest time between two pieces of one
    that is linked, `classes` has for each operation its class of memory as the trace tells it, 0 if it does not."""
    if way == RECORDED:
        return ops
    maps, unmaps = _streamed(ops, classes)
    if way == APART:
        return _Apart(ops, {buffer: op for buffer, op in maps.items() if ops.first[op + 1] - ops.first[op] > 1}).run()
    return _Linked(ops, _chains(ops, maps, unmaps, gap_ns)).run()


def _streamed(ops: Operations, classes: Sequence[int]) -> tuple[dict[int, int], dict[int, int]]:
    # Buffers that one operation maps and one unmaps, both whole: the numbers of those operations.
    maps: dict[int, int] = {}
    unmaps: dict[int, int] = {}
    odd = set()
    for op, (kind, buffer) in enumerate(zip(ops.kind, ops.buffer, strict=True)):
        if kind not in (Kind.MAP, Kind.UNMAP) or buffer < 0:
            continue
        known = maps if kind == Kind.MAP else unmaps
        if buffer in known or ops.size[op] != ops.buffer_size[buffer] or (kind == Kind.MAP and classes[op]):
            odd.add(buffer)
        known[buffer] = op
    both = (maps.keys() & unmaps.keys()) - odd
    return {b: op for b, op in maps.items() if b in both}, {b: op for b, op in unmaps.items() if b in both}


def _chains(ops: Operations, maps: dict[int, int], unmaps: dict[int, int], gap_ns: int) -> list[list[int]]:
    # Buffers that could be one transfer, in order; each of at least two.
    mapped_after, unmapped_after = (_followed(ops, kind, gap_ns) for kind in (Kind.MAP, Kind.UNMAP))
    chain_of: dict[int, list[int]] = {}
    for buffer, op in maps.items():
        before = mapped_after.get(buffer)
        chain = chain_of.get(before) if before is not None else None
        joins = chain is not None and unmapped_after.get(buffer) == before and op < unmaps[chain[0]]
        if joins and chain is not None and chain[-1] == before:
            chain.append(buffer)
            chain_of[buffer] = chain
        else:
            chain_of[buffer] = [buffer]
    return [chain for buffer, chain in chain_of.items() if chain[0] == buffer and len(chain) > 1]


def _followed(ops: Operations, kind: int, gap_ns: int) -> dict[int, int]:
    # For each buffer, the one whose operation of the same kind and space its CPU did just before.
    last: dict[int, int] = {}
    found = {}
    for op, now in enumerate(ops.kind):
        if now == Kind.ACCESS:
            continue
        before = last.get(ops.cpu[op])
        last[ops.cpu[op]] = op
        if before is None or not now == ops.kind[before] == kind or ops.space[op] != ops.space[before]:
            continue
        if ops.time_ns[op] - ops.time_ns[before] <= gap_ns:
            found[ops.buffer[op]] = ops.buffer[before]
    return found


class _Rewriting:
    # Operations that are written anew, with other buffers.

    def __init__(self, ops: Operations) -> None:
        self.old = ops
        self.new = Operations(*([] for _ in fields(Operations)))

    def run(self) -> Operations:
        for op, buffer in enumerate(self.old.buffer):
            if buffer < 0:
                self.add(op, buffer, self.old.offset[op], self.old.size[op], self.pieces(op))
            else:
                self.rewrite(op, buffer)
        self.new.first.append(len(self.new.piece_gpa))
        return self.new

    def rewrite(self, op: int, buffer: int) -> None:
        raise NotImplementedError

    def pieces(self, op: int, shift: int = 0) -> Iterable[tuple[int, int]]:
        # Each piece, and where in its new buffer it lies.
        first, end = self.old.first[op : op + 2]
        return [(piece, self.old.piece_offset[piece] + shift) for piece in range(first, end)]

    def add(
        self, op: int, buffer: int, offset: int, size: int, pieces: Iterable[tuple[int, int]], end_ns: int | None = None
    ) -> None:
        old, new = self.old, self.new
        for name in _KEPT:
            getattr(new, name).append(getattr(old, name)[op])
        new.buffer.append(buffer)
        new.offset.append(offset)
        new.size.append(size)
        new.end_ns.append(old.end_ns[op] if end_ns is None else end_ns)
        new.first.append(len(new.piece_gpa))
        for piece, at in pieces:
            new.piece_offset.append(at)
            for name in _OF_PIECE:
                getattr(new, name).append(getattr(old, name)[piece])

    def buffer(self, start: int, size: int) -> int:
        # A new one; its number.
        self.new.buffer_start.append(start)
        self.new.buffer_size.append(size)
        return len(self.new.buffer_size) - 1


class _Apart(_Rewriting):
    # Each piece of the lists in `maps` (buffer, operation) is a buffer.

    def __init__(self, ops: Operations, maps: dict[int, int]) -> None:
        super().__init__(ops)
        self._maps = maps
        self._parts: dict[int, list[int]] = {}  # new buffers of an old one, in order
        self._starts: dict[int, list[int]] = {}  # where in the old one each begins

    def rewrite(self, op: int, buffer: int) -> None:
        parts = self._parts.get(buffer) or self._take_apart(buffer)
        if len(parts) == 1:
            self.add(op, parts[0], self.old.offset[op], self.old.size[op], self.pieces(op))
        elif self.old.kind[op] == Kind.MAP:
            for part, (piece, _) in zip(parts, self.pieces(op), strict=True):
                self.add(op, part, 0, self.old.piece_size[piece], [(piece, 0)])
        elif self.old.kind[op] == Kind.UNMAP:
            for number, part in enumerate(parts):
                rows = () if number else self.pieces(op)  # the row of the trace is counted once
                self.add(op, part, 0, self.new.buffer_size[part], rows)
        else:
            starts, offset = self._starts[buffer], self.old.offset[op]
            number = bisect_right(starts, offset) - 1
            self.add(op, parts[number], offset - starts[number], self.old.size[op], self.pieces(op))

    def _take_apart(self, buffer: int) -> list[int]:
        old, start = self.old, self.old.buffer_start[buffer]
        if buffer in self._maps:
            pieces = self.pieces(self._maps[buffer])
            parts = [self.buffer(start + at, old.piece_size[piece]) for piece, at in pieces]
            self._starts[buffer] = [at for _, at in pieces]
        else:
            parts = [self.buffer(start, old.buffer_size[buffer])]
        self._parts[buffer] = parts
        return parts


class _Linked(_Rewriting):
    # Each chain of buffers is one buffer.

    def __init__(self, ops: Operations, chains: list[list[int]]) -> None:
        super().__init__(ops)
        self._chain_of = {buffer: chain for chain in chains for buffer in chain}
        self._number: dict[int, int] = {}  # of the new buffer, by the old one, or the first of its chain
        self._maps: dict[int, int] = {}
        self._waiting: dict[int, list[int]] = {}  # unmaps of a chain so far
        for op, (kind, buffer) in enumerate(zip(ops.kind, ops.buffer, strict=True)):
            if kind == Kind.MAP and buffer in self._chain_of:
                self._maps[buffer] = op

    def rewrite(self, op: int, buffer: int) -> None:
        chain, kind = self._chain_of.get(buffer), self.old.kind[op]
        head = buffer if chain is None else chain[0]
        if head not in self._number:
            size = sum(self.old.buffer_size[one] for one in chain or (buffer,))
            self._number[head] = self.buffer(self.old.buffer_start[head], size)
        if chain is None or kind not in (Kind.MAP, Kind.UNMAP):
            shift = self._shift(chain or [], buffer)
            self.add(op, self._number[head], self.old.offset[op] + shift, self.old.size[op], self.pieces(op, shift))
        elif kind == Kind.UNMAP:
            rows = self._waiting.setdefault(head, [])
            rows.append(op)
            if len(rows) == len(chain):
                self._whole(op, head, rows)
        elif buffer == head:
            last = self.old.end_ns[self._maps[chain[-1]]]
            self._whole(op, head, [self._maps[one] for one in chain], last)

    def _whole(self, op: int, head: int, ops: list[int], end_ns: int | None = None) -> None:
        chain, number = self._chain_of[head], self._number[head]
        shifted = zip(ops, chain, strict=True)
        pieces = [piece for one, buffer in shifted for piece in self.pieces(one, self._shift(chain, buffer))]
        self.add(op, number, 0, self.new.buffer_size[number], pieces, end_ns)

    def _shift(self, chain: list[int], buffer: int) -> int:
        return sum(self.old.buffer_size[one] for one in chain[: chain.index(buffer)]) if chain else 0
