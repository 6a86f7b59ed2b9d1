"""The table of docs/supplies.md, run again."""

from __future__ import annotations

import re

import pytest

from emulator.mapping.supply import supply_names
from tests.conftest import FIXTURES
from tests.emulator.supplies.comparison import play

DOCUMENT = FIXTURES.parent / "docs" / "supplies.md"
SCRIPTS = ("bursts", "long", "usb-swap")


def table() -> dict[str, list[str]]:
    """The last table of the document: name of the supply, and its cells."""
    rows = re.findall(r"^\| `([\w.+-]+)` \| ([\d,]+ \| [\d,]+ \|.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


def test_the_document_tells_of_every_supply() -> None:
    assert set(table()) == set(supply_names())


@pytest.mark.slow
@pytest.mark.parametrize("name", supply_names())
def test_each_supply_does_what_the_document_says(name: str) -> None:
    bursts, long, swap = (play(name, FIXTURES / "pressure" / f"{script}.yaml") for script in SCRIPTS)
    numbers = (bursts.calls, bursts.idle, bursts.refused, long.refused, swap.refused)
    assert table()[name] == [*(f"{number:,}" for number in numbers), "yes" if swap.deadlock else "no"]
