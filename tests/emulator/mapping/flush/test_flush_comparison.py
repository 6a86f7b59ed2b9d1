"""The comparison of docs/flush.md: what each policy costs, and what it leaves in reach."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emulator.mapping.flush.policy import policy_names
from tests.emulator.mapping.flush.comparison import SYSTEMS, run

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "flush.md"


def documented_rows() -> list[list[str]]:
    """The rows of every table of the document."""
    return [re.split(r"\s*\|\s*", line.strip("| ")) for line in DOCUMENT.read_text().splitlines() if "|" in line]


def test_every_policy_has_a_row_in_the_document() -> None:
    first = " ".join(row[0] for row in documented_rows())
    assert {name for name in policy_names() if f"`{name}`" not in first} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_policy_does_what_the_document_says(name: str) -> None:
    assert run(name).row(name) in documented_rows()


def test_lazy_policies_save_invalidations_and_only_the_generic_pool_hands_out_what_is_stale() -> None:
    outcomes = {name: run(name, maps=9000) for name in SYSTEMS}
    strict, percpu, every = (outcomes[name] for name in ("strict", "percpu", "flush-every-map"))
    assert (strict.invalidations, strict.most_stale) == (1000, 0)
    assert percpu.invalidations < outcomes["list"].invalidations < 10
    assert 0 < outcomes["list"].longest_ms < percpu.longest_ms <= 10
    assert outcomes["list"].most_stale == 250
    assert every.invalidations > 1000
    assert (every.longest_ms, every.most_stale) == (0, 1)
    hazards = {name for name, outcome in outcomes.items() if outcome.reused}
    assert hazards == {"lazy-on-wrap, sparc-generic-1pool", "none"}
    assert {name for name, outcome in outcomes.items() if outcome.failed} <= {"single"}
    assert percpu.ns < strict.ns / 5
