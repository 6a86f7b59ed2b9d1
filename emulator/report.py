"""What a replay found, as data: the JSON that programs read and the numbers that people are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.trace.skipped import Skipped

__all__ = ["Report", "SpaceReport"]


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """One space of the trace as it was replayed."""

    name: str
    devices: tuple[str, ...]
    attributed: bool
    recorded_domain_id: int | None
    domain_id: int | None
    maps: int
    unmaps: int

    def as_dict(self) -> dict[str, Any]:
        """The space as JSON has it."""
        return {
            "name": self.name,
            "devices": list(self.devices),
            "attributed": self.attributed,
            "recorded_domain_id": self.recorded_domain_id,
            "domain_id": self.domain_id,
            "maps": self.maps,
            "unmaps": self.unmaps,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one replay.

    `applied` counts what took effect, `failed` the maps that the replayed machine refused, by cause; `misuse` is what
    the recorded software did wrong, `exposure` what its mappings let devices reach beyond their buffers, `faults` what
    its devices met. What is live at the end is no leak.
    """

    files: tuple[str, ...]
    events: int
    applied: Mapping[str, int]
    skipped: Sequence[Skipped]
    faults: Sequence[Mapping[str, Any]]
    misuse: Sequence[Mapping[str, Any]]
    exposure: Mapping[str, Any]
    failed: Mapping[str, int]
    reordered: int
    live_mappings: int
    live_bytes: int
    table_pages: Mapping[str, int]
    supply: Mapping[str, Any]
    pressure: Mapping[str, Any]
    invalidations: Mapping[str, int]
    stale_window: Mapping[str, int]
    spaces: Sequence[SpaceReport]
    settings: Mapping[str, Any]
    rule: str
    notes: Sequence[str]
    elapsed_s: float
    events_per_s: float
    engine: str

    @property
    def has_findings(self) -> bool:
        """True if software misused the API, a device met a fault, or this machine refused a map or unmap."""
        return bool(self.misuse or self.faults or any(self.failed.values()))

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "files": list(self.files),
            "events": self.events,
            "applied": dict(self.applied),
            "skipped": [{"file": line.file, "line": line.line, "why": line.why} for line in self.skipped],
            "faults": [dict(fault) for fault in self.faults],
            "misuse": [dict(finding) for finding in self.misuse],
            "exposure": dict(self.exposure),
            "failed": dict(self.failed),
            "reordered": self.reordered,
            "live_mappings": self.live_mappings,
            "live_bytes": self.live_bytes,
            "table_pages": dict(self.table_pages),
            "supply": dict(self.supply),
            "pressure": dict(self.pressure),
            "invalidations": dict(self.invalidations),
            "stale_window": dict(self.stale_window),
            "spaces": [space.as_dict() for space in self.spaces],
            "settings": dict(self.settings),
            "rule": self.rule,
            "notes": list(self.notes),
            "elapsed_s": self.elapsed_s,
            "events_per_s": self.events_per_s,
            "engine": self.engine,
        }
