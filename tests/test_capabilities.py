"""The README's table of what is modelled says what the code and its tests say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emulator.profile import load_profile
from tests.capability_table import COLUMNS, Capability, capabilities, section, table

TESTS = Path(__file__).resolve().parent
MODELLED = [one for one in capabilities() if one.cells["here"] != "no"]


def name_of(one: Capability) -> str:
    """How a test of this feature is called."""
    return one.feature[:40]


def test_the_readme_has_the_table() -> None:
    assert section() == table(), "run: python -m tests.capability_table"


@pytest.mark.parametrize("one", MODELLED, ids=name_of)
def test_what_is_modelled_is_shown_by_tests_that_exist(one: Capability) -> None:
    assert one.evidence
    for name in one.evidence:
        module, _, function = name.partition(".")
        texts = [path.read_text(encoding="utf-8") for path in TESTS.rglob(f"{module}.py")]
        assert any(re.search(rf"^\s*def {function}\(", text, re.MULTILINE) for text in texts), name


@pytest.mark.parametrize("one", [one for one in capabilities() if one.registers], ids=name_of)
def test_the_profile_of_the_specification_says_that_it_has_it(one: Capability) -> None:
    known = load_profile("spec").capabilities
    for name in one.registers:
        word, _, field = name.partition(".")
        assert getattr(getattr(known, word), field), name


def test_what_is_not_modelled_has_no_evidence() -> None:
    assert [
        one.feature for one in capabilities() if one.cells["here"] == "no" and (one.evidence or one.registers)
    ] == []


def test_every_cell_is_an_answer() -> None:
    for one in capabilities():
        assert set(one.cells) == set(COLUMNS)
        assert all(re.fullmatch(r"yes|no|part: .+", cell) for cell in one.cells.values()), one
    features = [one.feature for one in capabilities()]
    assert len(features) == len(set(features))


def test_what_only_others_have_is_told_too() -> None:
    without = [one for one in capabilities() if one.cells["here"] == "no"]
    assert any("yes" in one.cells.values() for one in without)
