"""Faults that repeat: every address of a storm is looked at, and what has one verdict is told once."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from pagetables.address import PAGE_SIZE, SourceId
from pagetables.dmesg import FaultLine, Storm
from pagetables.explain.evidence import History
from pagetables.explain.explaining import Explanation, explain
from pagetables.explain.tables import Tables
from pagetables.explain.verdict import Verdict

__all__ = ["Explained", "explain_storm"]

MOST = 64  # pages of one storm that are looked at one by one


@dataclass(frozen=True, slots=True)
class Explained:
    """One explanation, that of the first fault, and all faults of a storm that have the same verdict."""

    what: Explanation
    storm: Storm
    assumed: int = 0  # pages that were not looked at: they get the verdict of the storm's first


def explain_storm(
    storm: Storm,
    tables: Tables | None = None,
    history: History | None = None,
    present: Container[SourceId] = (),
) -> list[Explained]:
    """The explanations of a storm, in the order in which their faults began; the sources are those of `explain`."""
    pages: dict[int, Explanation] = {}
    groups: dict[Verdict, list[FaultLine]] = {}
    told: dict[Verdict, Explanation] = {}
    assumed = 0
    for fault in storm.faults:
        page = (fault.address or 0) // PAGE_SIZE
        if page not in pages:
            assumed += len(pages) >= MOST
            known = next(iter(pages.values())) if len(pages) >= MOST else None
            pages[page] = known or explain(fault, tables, history, present)
        what = pages[page]
        told.setdefault(what.verdict, what)
        groups.setdefault(what.verdict, []).append(fault)
    first = next(iter(told))
    return [
        Explained(told[verdict], Storm(tuple(faults)), assumed if verdict is first else 0)
        for verdict, faults in groups.items()
    ]
