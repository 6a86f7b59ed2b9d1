"""Mappings as columns of numbers, since there may be a million."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from pagetables.runs import Columns, Mapping, Run, Runs, rows

__all__ = ["columns_of"]

_ROW = np.dtype([(name, np.uint64) for name in Columns._fields])


def columns_of(mappings: Sequence[Mapping]) -> Columns:
    """IOVA, GPA, size and permission bits (USER included) of each of `mappings`, as unsigned 64-bit numbers."""
    if not isinstance(mappings, Runs):
        return _columns(rows(mappings))
    pieces = [piece if isinstance(piece, Columns) else _columns(piece) for piece in mappings.pieces]
    return Columns(*(np.concatenate(parts).astype(np.uint64) for parts in zip(*pieces, strict=True)))


def _columns(runs: Iterable[Run]) -> Columns:
    table = np.fromiter(runs, _ROW)
    return Columns(*(np.ascontiguousarray(table[name]) for name in Columns._fields))
