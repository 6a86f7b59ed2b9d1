"""Runs of mappings: few as a tuple of `Mapping`, very many as columns that make a `Mapping` where one is looked at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, overload

from pagetables.address import Gpa, Iova
from pagetables.request import Permissions

__all__ = ["Columns", "Mapping", "Run", "Runs", "mappings_of", "rows"]

FEW = 1 << 12  # runs: up to here they are made at once
KEPT = 1 << 18  # up to here they are kept when they have been made
CHUNK = 1 << 14
_USER = int(Permissions.USER)
_ACCESS = tuple(Permissions(bits) & ~Permissions.USER for bits in range(16))

Run = tuple[int, int, int, int]  # iova, gpa, size, permissions


@dataclass(frozen=True, slots=True)
class Mapping:
    """Neighbouring pages that continue each other in IOVA and GPA with the same access. `user` is first-stage U/S."""

    iova: Iova
    gpa: Gpa
    size: int
    access: Permissions
    user: bool = False


class Columns(NamedTuple):
    """Many runs at once: numpy arrays, or what can be indexed and listed like them, of equal length."""

    iova: Any
    gpa: Any
    size: Any
    bits: Any

    def runs(self) -> Iterator[Run]:
        """Each run."""
        for start in range(0, len(self.iova), CHUNK):
            yield from zip(*(column[start : start + CHUNK].tolist() for column in self), strict=True)

    def part(self, start: int, end: int | None) -> Columns:
        """The runs from `start` to `end`."""
        return Columns(*(column[start:end] for column in self))

    def run(self, index: int) -> Run:
        """The run at `index`."""
        iova, gpa, size, bits = (int(column[index]) for column in self)
        return iova, gpa, size, bits


Piece = list[Run] | Columns


class Runs(Sequence[Mapping]):
    """The runs of `pieces`, one after the other, as a sequence of mappings."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces = [piece for piece in pieces if _length(piece)]
        self._starts = [0, *accumulate(map(_length, self._pieces))]
        self._made: tuple[Mapping, ...] = ()

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Mapping: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Mapping, ...]: ...
    def __getitem__(self, index: int | slice) -> Mapping | tuple[Mapping, ...]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        if self._made:
            return self._made[index]
        position = range(len(self))[index]
        number = bisect_right(self._starts, position) - 1
        piece, at = self._pieces[number], position - self._starts[number]
        return _mapping(piece.run(at) if isinstance(piece, Columns) else piece[at])

    def __iter__(self) -> Iterator[Mapping]:
        if not self._made and len(self) <= KEPT:
            self._made = tuple(map(_mapping, self.runs()))
        return iter(self._made) if self._made else map(_mapping, self.runs())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Runs | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((len(self), self[0] if len(self) else None))

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What they are made of, in order: columns, and lists of runs."""
        return tuple(self._pieces)

    def runs(self) -> Iterator[Run]:
        """Each run as plain numbers."""
        for piece in self._pieces:
            yield from piece.runs() if isinstance(piece, Columns) else piece


def mappings_of(pieces: Sequence[Piece]) -> Sequence[Mapping]:
    """The mappings of runs that are merged already: a tuple, or `Runs` where there are very many."""
    if sum(map(_length, pieces)) > FEW:
        return Runs(pieces)
    return tuple(Runs(pieces))


def rows(mappings: Sequence[Mapping]) -> Iterator[Run]:
    """The same mappings as plain numbers: iova, gpa, size, permissions (USER included)."""
    if isinstance(mappings, Runs):
        return mappings.runs()
    return ((one.iova, one.gpa, one.size, int(one.access) | one.user * _USER) for one in mappings)


def _length(piece: Piece) -> int:
    return len(piece.iova) if isinstance(piece, Columns) else len(piece)


def _mapping(run: Run) -> Mapping:
    iova, gpa, size, bits = run
    return Mapping(Iova(iova), Gpa(gpa), size, _ACCESS[bits], bool(bits & _USER))
