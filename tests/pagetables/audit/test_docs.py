"""Each rule has its page, each page its rule, and the index says the same as the rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagetables.audit import RULES, Rule
from pagetables.audit.regions import RegionKind, parse_hints

DOCS = Path(__file__).resolve().parents[3] / "docs" / "audit"


def test_each_rule_has_a_page_and_each_page_a_rule() -> None:
    assert {path.stem for path in DOCS.glob("*.md")} - {"README"} == {rule.id for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_page_says_what_why_when_and_what_to_do(rule: Rule) -> None:
    text = (DOCS / f"{rule.id}.md").read_text()
    assert text.startswith(f"# {rule.id} {rule.name}\n\nSeverity: {rule.worst.text}")
    assert re.findall("^## (.*)$", text, re.MULTILINE) == ["Why it matters", "What triggers it", "What to do"]
    for other in re.findall(r"VTD\d+", text):
        assert other in {one.id for one in RULES}


def test_the_index_is_the_registry() -> None:
    rows = re.findall(
        r"^\| \[(VTD\d+)\]\((\S+)\) \| (.*?) \| (.*?) \| (.*?) \|$", (DOCS / "README.md").read_text(), re.M
    )
    assert rows == [(one.id, f"{one.id}.md", one.name, one.worst.text, one.summary) for one in RULES]


def test_the_example_of_hints_is_one() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "README.md").read_text(), re.DOTALL)
    hints = parse_hints(example.encode())
    assert [one.kind for one in hints.regions] == [RegionKind.PRIVATE, RegionKind.PRIVATE, RegionKind.RAM]
    assert hints.phys_base == 0x100_0000


def test_ids_and_names_are_each_given_once() -> None:
    assert len({rule.id for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES) >= 16
    assert all(re.fullmatch(r"VTD[1-9]\d\d", rule.id) and rule.name == rule.name.lower() for rule in RULES)
