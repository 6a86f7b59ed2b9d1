"""What a rule is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from pagetables.address import Gpa, Pasid, SourceId, format_source_id
from pagetables.severity import Severity

if TYPE_CHECKING:
    from pagetables.audit.scene import Scene

__all__ = ["FINDING_LIMIT", "Device", "Finding", "Hit", "Rule", "Severity", "Subject", "rule"]

FINDING_LIMIT = 1000  # findings of one rule: a damaged image can cause 2**36


@dataclass(frozen=True, slots=True, order=True)
class Device:
    """A requester: the unit that serves it (its place in the audit), its source-id, and its PASID if it has one."""

    unit: int
    source_id: SourceId
    pasid: Pasid | None = None

    def __str__(self) -> str:
        return format_source_id(self.source_id) + (f" pasid {self.pasid:#x}" if self.pasid else "")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a finding is about: devices, memory (`start`, `size`), and the entry or register that says so."""

    devices: tuple[Device, ...] = ()
    start: int | None = None
    size: int = 0
    entry: Gpa | None = None
    unit: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule's check yields: how bad, why, and what about."""

    severity: Severity
    message: str
    subject: Subject = Subject()


@dataclass(frozen=True, slots=True)
class Finding:
    """A hit and the rule that made it."""

    rule: Rule
    severity: Severity
    message: str
    subject: Subject


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its id (stable for ever), its name, the worst it reports, what it says, and how it is checked."""

    id: str
    name: str
    worst: Severity
    summary: str
    check: Callable[[Scene], Iterator[Hit]]

    def findings(self, scene: Scene) -> Iterator[Finding]:
        """What the rule finds in `scene`, at most FINDING_LIMIT times, the worst first."""
        hits = list(islice(self.check(scene), FINDING_LIMIT + 1))
        cut = len(hits) > FINDING_LIMIT
        for hit in sorted(hits[:FINDING_LIMIT], key=lambda hit: -hit.severity):
            yield Finding(self, hit.severity, hit.message, hit.subject)
        if cut:
            yield Finding(self, Severity.NOTE, f"only the first {FINDING_LIMIT} are listed", Subject())


def rule(id_: str, name: str, worst: Severity, summary: str) -> Callable[[Callable[[Scene], Iterator[Hit]]], Rule]:
    """What makes a check a rule."""
    return lambda check: Rule(id_, name, worst, summary, check)
