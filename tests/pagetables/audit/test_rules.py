"""Every rule finds what it is about, says so, and keeps quiet about a machine that differs in that one thing."""

from __future__ import annotations

import pytest

from pagetables.audit import RULES, Severity
from tests.pagetables.audit.case import CASES, Case
from tests.pagetables.audit.cases import isolation, memory, switches, tables

MODULES = (isolation, memory, switches, tables)  # importing them fills CASES

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{case.build.__name__}")


@each_case
def test_the_rule_finds_what_is_wrong(case: Case) -> None:
    found = [one for one in case.build(True).audit().findings if one.rule.id == case.rule]
    assert [one for one in found if case.says in one.message], [one.message for one in found]
    assert {one.severity for one in found if case.says in one.message} == {case.severity}


@each_case
def test_the_rule_finds_nothing_in_the_twin(case: Case) -> None:
    assert [one.message for one in case.build(False).audit().findings if one.rule.id == case.rule] == []


def test_every_rule_has_a_case_of_its_worst_severity() -> None:
    worst: dict[str, Severity] = {}
    for case in CASES:
        worst[case.rule] = max(worst.get(case.rule, Severity.NOTE), case.severity)
    assert worst == {rule.id: rule.worst for rule in RULES}
