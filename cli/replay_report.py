"""A replay's report, for people: at most 80 columns wide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cli.render import console, count, human_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from emulator.report import Report

__all__ = ["show"]

WIDTH = 80
SHOWN = 10  # findings of a kind that are listed; the rest is counted


def show(report: Report, dump: str | None = None) -> None:
    """Print `report` on stdout; `dump` is the file that holds the memory, if one was written."""
    out = console()
    out.width = min(out.width, WIDTH)
    _headline(out, report)
    out.print()
    out.print(_spaces(report))
    out.print(_numbers(report))
    _findings(out, "misuse by the recorded software", [_misuse(found) for found in report.misuse])
    _findings(out, "pages that two owners share", [_misuse(found) for found in report.exposure["shared"]])
    _findings(out, "faults", [_fault(found) for found in report.faults])
    _findings(out, "lines not used", _skipped(report))
    _findings(out, "notes", report.notes, style="dim")
    if dump is not None:
        out.print(f"memory and registers: {dump}", soft_wrap=True)


def _headline(out: Console, report: Report) -> None:
    applied = report.applied
    what = [count(applied["map"], "map"), count(applied["unmap"], "unmap")]
    what += [count(applied["access"], "access", "accesses")] if applied["access"] else []
    out.print(f"{' and '.join(what[:2])}{', ' + what[2] if what[2:] else ''} replayed", style="bold")
    rate = f"{report.events_per_s:,.0f}/s"
    out.print(
        f"{count(report.events, 'event')} read; replayed in {report.elapsed_s:.2f} s ({rate}), {report.engine} engine"
    )
    chosen = report.settings
    out.print(
        f"{chosen['mode']} mode, {chosen['levels']}-level {chosen['stage']}-stage tables, profile {chosen['profile']}, "
        f"pool {chosen['pool']}, {chosen['flush']} invalidation"
    )


def _spaces(report: Report) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("domain", justify="right")
    table.add_column("recorded", justify="right")
    table.add_column("devices")
    table.add_column("maps", justify="right")
    table.add_column("unmaps", justify="right")
    for space in report.spaces:
        devices = ", ".join(space.devices) or "-"
        table.add_row(
            _or_dash(space.domain_id),
            _or_dash(space.recorded_domain_id),
            devices if space.attributed else f"{devices} (stand-in: {space.name})",
            f"{space.maps:,}",
            f"{space.unmaps:,}",
        )
    return table


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _numbers(report: Report) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("", "")
    for name, value in _rows(report):
        table.add_row(name, value)
    return table


def _rows(report: Report) -> Iterable[tuple[str, str]]:
    pages, supply = report.table_pages, report.supply
    yield "live at the end", f"{count(report.live_mappings, 'mapping')}, {human_size(report.live_bytes)}"
    yield "table pages", f"{pages['final']:,} now, {pages['peak']:,} at most, {pages['freed']:,} freed"
    yield f"pool {supply['name']}", _supply(supply)
    yield "invalidations", _named(report.invalidations)
    yield "stale window", _window(report.stale_window)
    if any(report.failed.values()):
        yield "refused", _named(report.failed)
    if report.reordered:
        yield "reordered", f"{count(report.reordered, 'map')} overtook the unmap of another CPU"
    if report.exposure["mapped_bytes"]:
        beyond, mapped = report.exposure["exposed_bytes"], report.exposure["mapped_bytes"]
        yield (
            "exposure",
            f"{human_size(mapped)} of buffers mapped, {human_size(beyond)} of their pages exposed with them",
        )
    yield "leaves", report.rule


def _supply(supply: Mapping[str, Any]) -> str:
    parts = [f"{supply['hits']:,} pages from the pool", f"{supply['fallbacks']:,} from the system"]
    parts.append(f"{supply['failures']:,} refused")
    if supply["wakeups"]:
        parts.append(f"worker ran {supply['wakeups']:,} x")
    return ", ".join(parts)


def _window(window: Mapping[str, int]) -> str:
    if not window["max_ns"] and not window["pending"]:
        return "none: every range was invalidated before its unmap returned"
    parts = [f"{window['max_ns'] / 1e6:.1f} ms at most, {window['mean_ns'] / 1e6:.1f} ms on average"]
    parts.append(f"{window['reused_before_flush']:,} ranges used again before their flush")
    if window["accesses"]:
        parts.append(f"{count(window['accesses'], 'access', 'accesses')} went through it")
    return "; ".join(parts)


def _named(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{value:,} {name.replace('_', '-')}" for name, value in counts.items() if value) or "none"


def _findings(out: Console, title: str, lines: Iterable[str], style: str = "") -> None:
    lines = list(lines)
    if not lines:
        return
    out.print()
    out.print(f"{title} ({len(lines)})" if len(lines) > 1 else title, style="bold")
    for line in lines[:SHOWN]:
        out.print(f"  {line}", style=style)
    if len(lines) > SHOWN:
        out.print(f"  and {len(lines) - SHOWN:,} more; --json lists them all")


def _misuse(found: Mapping[str, Any]) -> str:
    text = (
        f"{found['file']}:{found['line']}: {found['kind']}: {found['iova']} +{found['size']:#x} of {found['space']}: "
    )
    case = [f"{event['role']} line {event['line']}" for event in found["events"][:-1] if event["line"]]
    return f"{text}{found['says']}" + (f"; {', '.join(case)}" if case else "")


def _fault(found: Mapping[str, Any]) -> str:
    access = {"r": "read", "w": "write", "rw": "atomic"}.get(found["access"], found["access"])
    return (
        f"{found['file']}:{found['line']}: {access} of {found['iova']} by {found['source_id']}: "
        f"reason {found['reason']:#x} ({found['condition']}), {found['meaning']}"
    )


def _skipped(report: Report) -> list[str]:
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], int] = {}
    for line in report.skipped:
        key = (line.file, line.why)
        counts[key] += 1
        first.setdefault(key, line.line)
    return [f"{number:,} x {why}, first at {file}:{first[file, why]}" for (file, why), number in counts.most_common()]
