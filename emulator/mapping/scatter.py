"""Scatter lists as dma-iommu maps them (Linux drivers/iommu/dma-iommu.c): one range of addresses for the whole list.

    lay out    every segment grows to whole pages. Where one would cross a multiple of the device's segment boundary,
               the *previous* one is made longer, so that it starts on the boundary: the padding maps physical memory
               that lies behind that segment and that the driver never passed
    map        one range, aligned to its size; pieces that follow each other in memory are mapped as one
    finalise   what the device is given: neighbours are one output segment if the second starts on a page, not on a
               boundary, the first ends with its last page, and the sum fits the longest segment the device takes
    unmap      one range, from the first to the last

Segments that are reached over the bus (peer to peer) keep their bus address: nothing is mapped, and no output segment
holds them and another.

Invariants: the output segments, read in order, are the bytes of the list, in order; none crosses a boundary if no
segment is longer than it. `Exposure` counts what a device can reach beyond them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from emulator.mapping.addresses import AddressSpaces
from emulator.mapping.dma import MappingLayer
from emulator.mapping.domain import NoAddress
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa, Iova
from pagetables.errors import InputError, MappingError
from pagetables.request import Permissions

__all__ = [
    "BOUNDARY",
    "LONGEST",
    "DmaSegment",
    "Exposure",
    "Piece",
    "ScatterLists",
    "ScatterMapping",
    "Segment",
    "lay_out",
]

BOUNDARY = 1 << 32  # bytes; Linux's default for a device that says nothing
LONGEST = 1 << 16  # the same, for one segment


@dataclass(frozen=True, slots=True)
class Segment:
    """A buffer of the driver. `bus` is its address on the bus if it belongs to a device nearby."""

    gpa: int
    size: int
    bus: int | None = None


@dataclass(frozen=True, slots=True)
class DmaSegment:
    """What the device is told: where to read or write, and how much."""

    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment laid out: whole pages from `gpa` on, `padding` bytes of them only to reach a boundary."""

    segment: Segment
    gpa: int
    size: int
    padding: int = 0

    @property
    def offset(self) -> int:
        """Where in its first page the segment begins."""
        return self.segment.gpa - self.gpa


@dataclass(slots=True)
class Exposure:
    """Bytes that were mapped though no driver passed them."""

    rounding: int = 0  # of the pages at the ends of buffers
    padding: int = 0  # whole pages behind a buffer, to reach a boundary

    @property
    def total(self) -> int:
        """All of them."""
        return self.rounding + self.padding

    def add(self, pieces: Iterable[Piece]) -> None:
        """What these pieces map beyond their segments."""
        for piece in pieces:
            self.padding += piece.padding
            self.rounding += piece.size - piece.padding - piece.segment.size


@dataclass(frozen=True, slots=True)
class ScatterMapping:
    """A mapped list: `pages` pages from `iova` on (0 if all is reached over the bus), `outputs` for the device, and how
    many bytes it can reach beyond them."""

    key: Hashable
    iova: Iova
    pages: int
    outputs: tuple[DmaSegment, ...]
    exposed: int


def lay_out(segments: Sequence[Segment], boundary: int = BOUNDARY) -> list[Piece]:
    """The pieces of a list, in order; those reached over the bus have no size. InputError for an empty segment."""
    pieces: list[Piece] = []
    length = 0
    last = -1  # of the pieces that are mapped
    for segment in segments:
        if segment.size <= 0:
            raise InputError(f"a segment at {segment.gpa:#x} has {segment.size} bytes")
        if segment.bus is not None:
            pieces.append(Piece(segment, segment.gpa, 0))
            continue
        start = segment.gpa & -PAGE_SIZE
        size = (segment.gpa + segment.size - start + PAGE_SIZE - 1) & -PAGE_SIZE
        padding = -length % boundary
        if 0 < padding < size:  # it would cross the boundary; one that ends there does not
            before = pieces[last]
            pieces[last] = Piece(before.segment, before.gpa, before.size + padding, before.padding + padding)
            length += padding
        last = len(pieces)
        pieces.append(Piece(segment, start, size))
        length += size
    return pieces


class ScatterLists:
    """Maps lists for devices with a segment `boundary` and a `longest` segment (bytes, both powers of two)."""

    def __init__(
        self, layer: MappingLayer, spaces: AddressSpaces, boundary: int = BOUNDARY, longest: int = LONGEST
    ) -> None:
        if boundary < PAGE_SIZE or boundary & (boundary - 1) or longest < 1:
            raise InputError(f"a segment boundary must be a power of two of at least a page, not {boundary:#x}")
        self.boundary, self.longest = boundary, longest
        self.exposed = Exposure()
        self._layer, self._spaces = layer, spaces

    def map(
        self,
        key: Hashable,
        segments: Sequence[Segment],
        permissions: Permissions,
        cpu: int = 0,
        limit: int | None = None,
    ) -> ScatterMapping:
        """The mapped list; a MappingError (NoAddress among them) leaves nothing mapped and no address taken."""
        if not segments:
            raise InputError("a scatter list without a segment cannot be mapped")
        pieces = lay_out(segments, self.boundary)
        pages = sum(piece.size for piece in pieces) >> PAGE_SHIFT
        iova = self._range(key, pages, cpu, limit) if pages else Iova(0)
        self._map_pieces(key, iova, pieces, permissions, pages, cpu)
        exposure = Exposure()
        exposure.add(piece for piece in pieces if piece.size)
        self.exposed.rounding += exposure.rounding
        self.exposed.padding += exposure.padding
        return ScatterMapping(key, iova, pages, tuple(self._finalise(pieces, iova)), exposure.total)

    def unmap(self, mapping: ScatterMapping, cpu: int = 0) -> None:
        """The whole range goes at once, padding and all; NotMapped if it is not mapped."""
        if mapping.pages:
            space = self._spaces.space(mapping.key)
            self._layer.unmap(space.domain, mapping.iova, mapping.pages << PAGE_SHIFT, cpu)
            space.free(mapping.iova, mapping.pages, cpu)

    def _range(self, key: Hashable, pages: int, cpu: int, limit: int | None) -> Iova:
        # Aligned to its size, or to the boundary if that is less: only so does the layout meet the boundary.
        align = min(1 << (pages - 1).bit_length(), self.boundary >> PAGE_SHIFT)
        iova = self._spaces.allocate(key, pages, limit, cpu, align)
        if iova is None:
            raise NoAddress(f"no {pages} pages in a row are free for a scatter list", 0)
        return iova

    def _map_pieces(
        self, key: Hashable, iova: Iova, pieces: list[Piece], permissions: Permissions, pages: int, cpu: int
    ) -> None:
        space = self._spaces.space(key)
        at = iova
        try:
            for gpa, size in _runs(pieces):
                self._layer.map(space.domain, at, Gpa(gpa), size, permissions, notify=False)
                at = Iova(at + size)
        except MappingError:
            if at > iova:
                self._layer.unmap(space.domain, iova, at - iova, cpu, at_once=True)
            space.take_back(iova, pages, cpu)
            raise
        if pages:
            self._layer.notify(space.domain, iova, pages << PAGE_SHIFT)  # once for the whole list

    def _finalise(self, pieces: list[Piece], iova: int) -> Iterator[DmaSegment]:
        # One output segment is open at a time: it may still grow while it ends with the last page of its piece.
        address, size, growing = 0, 0, False
        for piece in pieces:
            segment = piece.segment
            starts_inside = bool(piece.size) and not piece.offset and iova % self.boundary
            if growing and starts_inside and size + segment.size <= self.longest:
                size += segment.size
            else:
                if size:
                    yield DmaSegment(address, size)
                address, size = iova + piece.offset if segment.bus is None else segment.bus, segment.size
            iova += piece.size
            growing = bool(piece.size) and piece.offset + segment.size == piece.size
        yield DmaSegment(address, size)


def _runs(pieces: Iterable[Piece]) -> Iterator[tuple[int, int]]:
    # Pieces that lie one behind the other in memory are one run.
    start = size = 0
    for piece in pieces:
        if piece.size and size and piece.gpa == start + size:
            size += piece.size
        elif piece.size:
            if size:
                yield start, size
            start, size = piece.gpa, piece.size
    if size:
        yield start, size
