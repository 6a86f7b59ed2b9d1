"""Scatter lists for devices whose segments may not cross a boundary: what was recorded, laid out as dma-iommu does it.

A trace shows a list as the runs of memory that its kernel mapped. Where a run would cross a multiple of the boundary,
the one before it is made longer, so that it starts on the boundary (`emulator.mapping.scatter.lay_out`): the range
grows, and what it grows by is memory behind that run, which no driver passed.
"""

from __future__ import annotations

from dataclasses import replace

from emulator.mapping.scatter import Segment, lay_out
from emulator.trace.event import Kind
from emulator.what_if.operations import Operations

__all__ = ["with_boundary"]


def with_boundary(ops: Operations, boundary: int) -> tuple[Operations, dict[int, int]]:
    """The operations with every list laid out for this boundary (a power of two of bytes, 0 for as recorded), and the
    bytes of padding by the number of the operation. A buffer that is mapped or unmapped in parts stays as it is."""
    if not boundary:
        return ops, {}
    whole = _mapped_and_unmapped_whole(ops)
    size, buffer_size = list(ops.size), list(ops.buffer_size)
    piece_offset, piece_size = list(ops.piece_offset), list(ops.piece_size)
    padding: dict[int, int] = {}
    for op, kind in enumerate(ops.kind):
        first, end = ops.first[op], ops.first[op + 1]
        if kind != Kind.MAP or end - first < 2 or ops.buffer[op] not in whole:
            continue
        pieces = lay_out([Segment(ops.piece_gpa[at], ops.piece_size[at]) for at in range(first, end)], boundary)
        added = sum(piece.padding for piece in pieces)
        if added:
            padding[op] = added
            offset = 0
            for at, piece in enumerate(pieces, first):
                piece_offset[at], piece_size[at] = offset, piece.size
                offset += piece.size
            size[op] = buffer_size[ops.buffer[op]] = offset
    for op, kind in enumerate(ops.kind):
        if kind == Kind.UNMAP and ops.buffer[op] in whole:
            size[op] = buffer_size[ops.buffer[op]]
    laid_out = replace(ops, size=size, buffer_size=buffer_size, piece_offset=piece_offset, piece_size=piece_size)
    return laid_out, padding


def _mapped_and_unmapped_whole(ops: Operations) -> set[int]:
    whole = set(range(len(ops.buffer_size)))
    seen: set[tuple[int, int]] = set()
    for op, kind in enumerate(ops.kind):
        buffer = ops.buffer[op]
        if kind not in (Kind.MAP, Kind.UNMAP) or buffer < 0:
            continue
        if (buffer, kind) in seen or ops.size[op] != ops.buffer_size[buffer]:
            whole.discard(buffer)
        seen.add((buffer, kind))
    return whole
