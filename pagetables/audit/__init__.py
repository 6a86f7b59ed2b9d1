"""An audit of a unit's tables: what each device can reach, and what a person should look at."""

from __future__ import annotations

from pagetables.audit.regions import Hints, Region, RegionKind, read_hints, read_symbols
from pagetables.audit.registry import RULES, choose_rules
from pagetables.audit.report import Reach, Report, audit
from pagetables.audit.rule import Device, Finding, Rule, Severity, Subject

__all__ = [
    "RULES",
    "Device",
    "Finding",
    "Hints",
    "Reach",
    "Region",
    "RegionKind",
    "Report",
    "Rule",
    "Severity",
    "Subject",
    "audit",
    "choose_rules",
    "read_hints",
    "read_symbols",
]
