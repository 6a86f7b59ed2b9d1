"""The report of a finished replay: its counts and findings, in the words of the trace."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from emulator.ledger import Ledger
from emulator.misuse.judging import judge, verdict_document
from emulator.report import Report, SpaceReport
from emulator.settings import Settings
from emulator.trace.event import Kind
from emulator.trace.skipped import Skipped
from emulator.trace.trace import Trace
from pagetables.address import format_source_id

if TYPE_CHECKING:
    from emulator.replay import Replay, RowFault

__all__ = ["left_out", "make_report"]

RULES = {
    "6.x": "6.x: every leaf has R, whatever the mapping asked for",
    "7.x": "7.x: leaves have what the mapping asked for",
}


def make_report(run: Replay, elapsed: float) -> Report:
    """The report of `run`, which took `elapsed` seconds."""
    trace, machine = run.trace, run.machine
    mappings, size = run.live()
    judged = judge(trace, run.watch, run.ledger)
    return Report(
        files=trace.files,
        events=trace.events,
        applied=dict(run.applied),
        skipped=[*trace.skipped, *left_out(trace, run.ledger)],
        faults=[_fault(run, fault) for fault in run.faults],
        misuse=[verdict_document(trace, verdict) for verdict in judged.misuse],
        exposure={
            **judged.exposure.as_dict(),
            "shared": [verdict_document(trace, verdict) for verdict in judged.exposed],
        },
        failed={"page": 0, "address": 0, "bounce": 0, **run.failed},
        reordered=run.ledger.reordered,
        live_mappings=mappings,
        live_bytes=size,
        table_pages=machine.layer.pages.as_dict(),
        supply={"name": machine.supply.name, **machine.supply.statistics.as_dict()},
        pressure=_pressure(run),
        invalidations=machine.driver.counts.as_dict(),
        stale_window=machine.policy.window.as_dict(),
        spaces=_spaces(run),
        settings=_settings(machine.settings, run),
        rule=RULES[trace.kernel_rule],
        notes=[*trace.notes, *_notes(run)],
        elapsed_s=elapsed,
        events_per_s=sum(run.applied.values()) / elapsed if elapsed else 0.0,
        engine=machine.engine.name,
    )


def _where(trace: Trace, row: int) -> dict[str, Any]:
    columns = trace.columns
    return {
        "event": int(columns.event[row]),
        "file": trace.files[int(columns.file[row])],
        "line": int(columns.line[row]),
    }


def left_out(trace: Trace, ledger: Ledger) -> list[Skipped]:
    """The rows of the trace that its ledger leaves out, where they stand, and why."""
    found = []
    for row, why in ledger.skipped:
        where = _where(trace, row)
        found.append(Skipped(where["file"], where["line"], why))
    return found


def _fault(run: Replay, found: RowFault) -> dict[str, Any]:
    request, reason = found.fault.request, found.fault.reason
    return {
        "event": found.event,
        "file": run.trace.files[found.file],
        "line": found.line,
        "source_id": format_source_id(request.source_id),
        "pasid": request.pasid,
        "iova": f"{request.iova:#x}",
        "access": request.access.value,
        "reason": int(reason),
        "condition": reason.condition,
        "meaning": reason.meaning,
    }


def _pressure(run: Replay) -> dict[str, Any]:
    zone = run.machine.zone
    statistics = zone.statistics
    return {
        "pages": zone.managed,
        "free": zone.free,
        "lowest_free": statistics.lowest_free,
        "min": zone.marks.min,
        "low": zone.marks.low,
        "high": zone.marks.high,
        "calls": dict(statistics.calls),
        "refused": dict(statistics.refused),
        "direct_reclaims": statistics.direct_reclaims,
        "reclaimer_wakeups": statistics.reclaimer_wakeups,
        "reclaimed": statistics.reclaimed,
    }


def _spaces(run: Replay) -> list[SpaceReport]:
    columns = run.trace.columns
    maps = Counter(columns.space[columns.kind == Kind.MAP].tolist())
    unmaps = Counter(columns.space[columns.kind == Kind.UNMAP].tolist())
    spaces = []
    for space in run.trace.spaces:
        domain = run.domains.get(space.index)
        stand_in = run.stand_ins.get(space.index)
        devices = space.devices or (() if stand_in is None else (stand_in,))
        spaces.append(
            SpaceReport(
                name=space.name,
                devices=tuple(map(format_source_id, devices)),
                attributed=space.attributed,
                recorded_domain_id=space.domain_id,
                domain_id=None if domain is None else domain.domain_id,
                maps=maps[space.index],
                unmaps=unmaps[space.index],
            )
        )
    return spaces


def _settings(settings: Settings, run: Replay) -> dict[str, Any]:
    return {
        "profile": settings.profile,
        "mode": settings.mode.name.lower(),
        "stage": settings.stage.value.removesuffix("-stage"),
        "levels": settings.levels,
        "pool": settings.pool,
        **{f"pool.{name}": value for name, value in settings.pool_options},
        "flush": settings.flush,
        **{f"flush.{name}": value for name, value in run.machine.policy.options.items()},
        "iova": settings.iova,
        "ram": [{"start": f"{start:#x}", "size": size} for start, size in run.machine.memory.regions],
    }


def _notes(run: Replay) -> list[str]:
    notes = []
    if run.stand_ins:
        names = ", ".join(map(format_source_id, sorted(run.stand_ins.values())))
        notes.append(f"what no event ascribes to a device was replayed for the stand-in requesters {names}")
    if run.unknown_access:
        notes.append(f"{_of(run.unknown_access, 'map')} of unknown access: mapped for reads and writes")
    if run.lost_unmaps:
        notes.append(f"{_of(run.lost_unmaps, 'unmap')} of mappings that this machine had refused")
    if run.failed["address"]:
        levels = run.machine.settings.levels
        notes.append(f"{_of(run.failed['address'], 'map')} beyond {levels}-level tables; levels=5 reaches furthest")
    if run.refused_unmaps:
        event, why = run.refused_unmaps[0]
        notes.append(f"{_of(len(run.refused_unmaps), 'unmap')} refused, the first at event {event}: {why}")
    return notes


def _of(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
