"""Mappings become the same columns, however they are kept."""

from __future__ import annotations

import numpy as np

from pagetables.audit.columns import columns_of
from pagetables.runs import Columns, Runs

RUNS = [(0x1000, 0x5000, 0x1000, 3), (0x3000, 0x9000, 0x2000, 1), (0xFFFF_FFFF_FFFF_F000, 0x7000, 0x1000, 0xB)]


def plain(columns: Columns) -> list[tuple[int, ...]]:
    assert {column.dtype for column in columns} == {np.dtype(np.uint64)}
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_few_and_many_mappings_give_the_same_columns() -> None:
    as_columns = Columns(*(np.array(column, np.uint64) for column in zip(*RUNS, strict=True)))
    for many in (Runs([RUNS]), Runs([as_columns]), Runs([RUNS[:1], Columns(*(column[1:] for column in as_columns))])):
        assert plain(columns_of(many)) == RUNS
    assert plain(columns_of(tuple(Runs([RUNS])))) == RUNS


def test_no_mappings_are_empty_columns() -> None:
    assert plain(columns_of(())) == []
