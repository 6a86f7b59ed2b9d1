"""The numbers of docs/answers.md, for every preset, are what comparing the recordings gives."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from tests.conftest import FIXTURES

DOCUMENT = FIXTURES.parent / "docs" / "answers.md"


def spelt(ns):
    """A time as the document has it."""
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns >= scale:
            return f"{ns / scale:.3g} {unit}"
    return f"{ns} ns" if ns else "0"


def row(runs):
    """The row of one preset: sums over the recordings, the most of any, medians of the first."""
    unmaps = sum(run["unmaps"] for run in runs)
    flushes = sum(run["invalidations"][kind] for run in runs for kind in ("global", "domain", "page"))
    return [
        "/".join(str(sum(run["failed"][cause] for run in runs)) for cause in ("page", "address", "bounce")),
        spelt(runs[0]["map_ns"]["p50"]),
        spelt(runs[0]["unmap_ns"]["p50"]),
        f"{1000 * flushes / unmaps:.3g}",
        f"{sum(sum(run['os_calls'].values()) for run in runs):,}",
        "/".join(f"{max(run['pages'][kind]['peak'] for run in runs):,}" for kind in ("live", "empty", "idle")),
        spelt(max(run["stale_window"]["max_ns"] for run in runs)),
        str(sum(run["reused_before_flush"] for run in runs)),
        f"{100 * sum(run['accesses']['hits'] for run in runs) / unmaps:.1f} %",
    ]


@pytest.mark.slow
def test_answers_for_every_preset_are_what_comparing_the_recordings_gives(corpus, printed):
    found = defaultdict(list)
    for trace in sorted(corpus.glob("*/trace.txt.gz")):
        for run in printed("compare", trace, "--set", "accesses=late")["runs"]:
            found[run["run"]].append(run)
    table = DOCUMENT.read_text().split("## Without")[0]
    told = {cells[0].strip("`"): cells[1:] for cells in map(cells_of, re.findall(r"^\| `.*", table, re.MULTILINE))}
    assert {preset: row(runs) for preset, runs in found.items()} == told


def cells_of(line):
    """The cells of a row of a table."""
    return [cell.strip() for cell in line.strip("|").split("|")]
