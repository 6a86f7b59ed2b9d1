"""The audit: a scan of every unit, the rules over it, and what each device can reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pagetables.audit.ranges import NOTHING, Ranges
from pagetables.audit.regions import Hints, Region
from pagetables.audit.registry import RULES
from pagetables.audit.rule import Device, Finding, Rule, Severity
from pagetables.audit.scene import Requester, Scene, Unit, build_scene
from pagetables.images.inspection import UnitReport, inspect_unit
from pagetables.images.registers import RegisterPage
from pagetables.layouts.dmar import DmarTable
from pagetables.memory import Memory
from pagetables.source import TranslationType

__all__ = ["Reach", "Report", "audit"]

WIDEST = 52  # bits of a host address where no DMAR table says


@dataclass(frozen=True, slots=True)
class Reach:
    """What a device can reach. `everything` is true where nothing holds it back; the ranges are empty then."""

    device: Device
    domain_id: int
    translation: str
    everything: bool
    readable: Ranges
    writable: Ranges


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found, the worst first, and what each device can reach.

    `notes` say what was not looked at, for want of something; `rules` are those that were asked.
    """

    units: tuple[UnitReport, ...]
    rules: tuple[Rule, ...]
    findings: tuple[Finding, ...]
    reach: tuple[Reach, ...]
    notes: tuple[str, ...]

    @property
    def worst(self) -> Severity | None:
        """The highest severity found; None if nothing was."""
        return max((finding.severity for finding in self.findings), default=None)

    def at_least(self, severity: Severity) -> Report:
        """The same without findings that are less than `severity`."""
        return replace(self, findings=tuple(one for one in self.findings if one.severity >= severity))

    def with_notes(self, notes: Iterable[str]) -> Report:
        """The same with more to note."""
        return replace(self, notes=(*notes, *self.notes))


def audit(
    memory: Memory,
    pages: Sequence[RegisterPage],
    *,
    dmar: DmarTable | None = None,
    symbols: Iterable[Region] = (),
    hints: Hints | None = None,
    rules: Sequence[Rule] = RULES,
) -> Report:
    """What is wrong with the tables and switches of the units whose registers are `pages`, and who reaches what.

    `dmar` also gives the host address width; `symbols` and `hints` say what memory is (pagetables.audit.regions).
    """
    haw = WIDEST if dmar is None else min(max(dmar.haw, 1), WIDEST)
    reports = [(inspect_unit(memory, page, haw=haw), page.capabilities(haw)) for page in pages]
    regions = (*symbols, *(hints.regions if hints is not None else ()))
    scene = build_scene(memory, reports, dmar, regions)
    findings = [finding for rule in rules for finding in rule.findings(scene)]
    return Report(
        tuple(report for report, _ in reports),
        tuple(rules),
        tuple(sorted(findings, key=lambda one: (-one.severity, one.rule.id))),
        tuple(_reach(scene, unit, one) for unit in scene.units for one in unit.requesters),
        tuple(_notes(scene)),
    )


def _reach(scene: Scene, unit: Unit, one: Requester) -> Reach:
    everything = one.domain is None or not unit.report.translation_enabled
    domain = None if everything or one.domain is None else scene.domains[one.domain]
    return Reach(
        one.device,
        one.space.domain_id,
        TranslationType(one.space.translation).name.lower().replace("_", "-"),
        everything,
        NOTHING if domain is None else domain.readable,
        NOTHING if domain is None else domain.writable,
    )


def _notes(scene: Scene) -> list[str]:
    notes = []
    if not all(unit.told for unit in scene.units):
        notes.append("only the root table address is known: interrupts, switches and capabilities were not judged")
    if scene.dmar is None:
        notes.append("no DMAR table: reserved memory (RMRR) and the host address width were not judged")
    if not scene.regions:
        notes.append("neither symbols nor hints: where the kernel and other devices' rings lie was not judged")
    return notes
