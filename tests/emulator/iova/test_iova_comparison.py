"""The comparison of docs/iova.md: flushes and hazards at a steady number of live one-page maps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.emulator.iova.toy import ROWS, SYSTEMS, run, visited

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "iova.md"

# Flushes for each thousand maps and hazards, of an independent model of the same algorithms.
MODEL = {
    (512, "FIFO"): ((991, 0), (120, 0), (0.23, 6643), (0.27, 0)),
    (512, "random"): ((991, 0), (222, 0), (0.23, 6649), (0.27, 0)),
    (3000, "FIFO"): ((950, 0), (695, 0), (0.23, 40546), (0.85, 0)),
    (3000, "random"): ((950, 0), (232, 0), (0.48, 24418), (0.85, 0)),
    (4000, "random"): ((933, 0), (236, 0), (4.85, 27680), (9.62, 0)),
}


@pytest.mark.parametrize("live, order", ROWS)
def test_only_the_generic_pool_has_hazards_and_only_it_and_the_stale_bitmap_flush_rarely(live: int, order: str) -> None:
    strict, gart, generic, stale = (run(system, live, order, maps=9000) for system in SYSTEMS)
    assert (strict.hazards, gart.hazards, stale.hazards) == (0, 0, 0)
    assert generic.hazards > 0
    assert strict.flushes == 9000 - live
    assert strict.flushes > gart.flushes > 20 * stale.flushes
    assert stale.per_thousand < 20
    assert generic.per_thousand < 20
    assert strict.failed == gart.failed == generic.failed == stale.failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("live, order", ROWS)
def test_the_whole_table_is_that_of_an_independent_model_and_of_the_document(live: int, order: str) -> None:
    row = [str(live), order]
    for system, (flushes, hazards) in zip(SYSTEMS, MODEL[live, order], strict=True):
        outcome = run(system, live, order)
        assert outcome.per_thousand == pytest.approx(flushes, rel=0.05)
        assert outcome.hazards == pytest.approx(hazards, rel=0.01)
        row.append(f"{outcome.per_thousand:.3g}, {outcome.hazards}")
    assert row in documented_rows()


def documented_rows() -> list[list[str]]:
    """The rows of every table of the document."""
    return [re.split(r"\s*\|\s*", line.strip("| ")) for line in DOCUMENT.read_text().splitlines() if "|" in line]


@pytest.mark.slow
@pytest.mark.parametrize("live", [512, 3000])
@pytest.mark.parametrize("order", ["FIFO", "random"])
def test_the_price_of_a_search_is_what_the_document_says(live: int, order: str) -> None:
    tree, cached, pool = (visited(name, live, order) for name in ("rbtree", "rbtree+rcache", "gen-pool"))
    assert [str(live), order, f"{tree:.3g}", f"{cached:.2g}", f"{pool:.4g}"] in documented_rows()


def test_the_walk_of_the_tree_grows_with_what_is_live_and_magazines_hide_it() -> None:
    few, many = (visited("rbtree", live, "random", maps=3000) for live in (50, 400))
    assert many > 3 * few
    assert visited("rbtree+rcache", 400, "random", maps=3000) < 0.2
