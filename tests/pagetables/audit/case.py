"""What a case is: a machine that breaks a rule, and its twin that differs in that one thing and does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pagetables.audit import Severity
from tests.pagetables.audit.machines import Machine

NOTE, WARNING, ERROR = Severity.NOTE, Severity.WARNING, Severity.ERROR


@dataclass(frozen=True)
class Case:
    """`build(wrong)` is a machine; `says` is in the message of the finding, whose severity is known."""

    rule: str
    severity: Severity
    says: str
    build: Callable[[bool], Machine]


CASES: list[Case] = []


def case(rule: str, severity: Severity, says: str):
    """Adds a case."""

    def add(build):
        CASES.append(Case(rule, severity, says, build))
        return build

    return add
