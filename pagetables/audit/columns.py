"""Mappings as columns of numbers, since there may be a million."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pagetables.runs import Columns, Mapping, rows

__all__ = ["columns_of"]

_ROW = np.dtype([(name, np.uint64) for name in Columns._fields])


def columns_of(mappings: Sequence[Mapping]) -> Columns:
    """IOVA, GPA, size and permission bits (USER included) of each of `mappings`."""
    table = np.fromiter(rows(mappings), _ROW, len(mappings))
    return Columns(*(np.ascontiguousarray(table[name]) for name in Columns._fields))
