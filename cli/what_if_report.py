"""A what-if run, as JSON and for people: at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cli.render import console, count, human_size

if TYPE_CHECKING:
    from emulator.misuse.judging import Judgement
    from emulator.misuse.verdict import Verdict
    from emulator.trace import Trace
    from emulator.what_if import Outcome
    from emulator.what_if.runner import Runner

__all__ = ["document", "duration", "measured", "show"]

WIDTH = 80
SHOWN = 10  # findings of a kind that are listed; the rest is counted


def document(run: Runner, outcome: Outcome, judged: Judgement) -> dict[str, Any]:
    """The JSON of a what-if replay: the keys of a plain one, and every metric of the run."""
    from emulator.misuse.judging import verdict_document
    from emulator.replay_report import left_out

    trace, ledger = run.trace, run.ledger
    skipped = [*trace.skipped, *left_out(trace, ledger)]
    return {
        "files": list(trace.files),
        "skipped": [{"file": line.file, "line": line.line, "why": line.why} for line in skipped],
        "faults": [],
        "misuse": [verdict_document(trace, verdict) for verdict in judged.misuse],
        **measured(trace, outcome),
    }


def measured(trace: Trace, outcome: Outcome) -> dict[str, Any]:
    """Every metric of a run as JSON has it; `events` and `applied` count as in a plain replay, `rows` what was run."""
    return {
        **outcome.as_dict(),
        "events": trace.events,
        "rows": outcome.events,
        "applied": {"map": outcome.maps_ok, "unmap": outcome.unmaps, "access": outcome.accesses["made"]},
    }


def show(run: Runner, outcome: Outcome, judged: Judgement, dump: str | None = None) -> None:
    """Print the run on stdout; `dump` is the file that holds the memory, if one was written."""
    from rich.table import Table

    out = console()
    out.width = min(out.width, WIDTH)
    title = f"what if: {outcome.preset}" if outcome.preset else "what if"
    out.print(f"{title}, addresses {outcome.addresses}", style="bold")
    out.print(
        f"{count(outcome.events, 'event')} in {outcome.elapsed_s:.2f} s ({outcome.events_per_s:,.0f}/s), "
        f"{outcome.engine} engine"
    )
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in _rows(outcome):
        table.add_row(name, value)
    out.print(table)
    _findings(out, "deadlocks", outcome.deadlocks)
    _findings(out, "misuse by the recorded software", _misuse(run, judged.misuse))
    _findings(out, "notes", outcome.notes, style="dim")
    if dump is not None:
        out.print(f"memory and registers: {dump}", soft_wrap=True)


def duration(ns: int) -> str:
    """A time of the model clock for people: `55 ns`, `1.8 us`, `10.0 ms`, `2.4 s`."""
    for unit, scale in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if ns >= scale:
            return f"{ns / scale:.1f} {unit}"
    return f"{ns} ns"


def _rows(outcome: Outcome) -> Iterable[tuple[str, str]]:
    yield "axes", f"pool {outcome.pool}, addresses {outcome.iova} ({outcome.spaces})"
    yield "", f"invalidation {outcome.flush}, bounce {outcome.bounce}, a failed map: {outcome.reaction}"
    yield "maps", _maps(outcome)
    if outcome.lists["ranges"]:
        yield "lists", f"{count(outcome.lists['ranges'], 'range')} of {count(outcome.lists['pieces'], 'piece')}"
    yield "unmaps", _unmaps(outcome)
    yield "map takes", _latency(outcome.map_ns)
    yield "unmap takes", _latency(outcome.unmap_ns)
    yield "pages", _pages(outcome)
    yield "system", _system(outcome)
    yield "locks", _named(outcome.locks)
    yield "invalidations", _named(outcome.invalidations)
    yield "stale window", _window(outcome)
    if outcome.accesses["made"]:
        yield "device accesses", _accesses(outcome)
    if outcome.window["pages"]:
        run = human_size(outcome.window["largest_free_run"] << 12)
        yield "window", f"largest free run {run}, {human_size(outcome.window['occupied'] << 12)} occupied"
    if outcome.bytes_copied:
        yield "bounced", f"{human_size(outcome.bytes_copied)} copied"
    if outcome.bytes_padded:
        yield "padding", f"{human_size(outcome.bytes_padded)} mapped that no driver passed"
    if outcome.requests:
        yield "requests", _requests(outcome.requests)
    if outcome.waits["retries"]:
        yield "waiting", _waits(outcome)
    yield "live at the end", f"{count(outcome.live_mappings, 'mapping')}, {human_size(outcome.live_bytes)}"


def _maps(outcome: Outcome) -> str:
    failed = _named(outcome.failed)
    text = f"{outcome.maps_ok:,} of {outcome.maps:,} succeeded"
    if any(outcome.failed.values()):
        text += f"; failed for want of {failed}"
    return text + (f"; refused: {_named(outcome.refused)}" if outcome.refused else "")


def _requests(numbers: Mapping[str, int]) -> str:
    told = f"{numbers['submitted']:,} submitted, {numbers['failed']:,} failed; "
    return told + f"descriptors: {numbers['live_highest']:,} live at most, of {numbers['descriptors']:,}"


def _unmaps(outcome: Outcome) -> str:
    text = f"{outcome.unmaps:,}"
    return text + (f", {outcome.unmaps_of_failed:,} of maps that had failed" if outcome.unmaps_of_failed else "")


def _latency(taken: Mapping[str, int]) -> str:
    return f"{duration(taken['p50'])} (median), {duration(taken['p99'])} (99 %), {duration(taken['max'])} at most"


def _pages(outcome: Outcome) -> str:
    shown = (("live", "live"), ("empty", "empty but linked"), ("idle", "idle"), ("waiting_for_flush", "unlinked"))
    parts = [f"{outcome.pages[key]['peak']:,} {name}" for key, name in shown if outcome.pages[key]["peak"]]
    return f"at most {', '.join(parts)}" if parts else "none"


def _system(outcome: Outcome) -> str:
    calls = _named(outcome.os_calls)
    text = f"asked for pages: {calls}" if calls != "none" else "never asked for a page"
    if outcome.worker_wakeups:
        text += f"; worker ran {outcome.worker_wakeups:,} x"
    return text + (f"; {count(outcome.direct_reclaims, 'direct reclaim')}" if outcome.direct_reclaims else "")


def _window(outcome: Outcome) -> str:
    window = outcome.stale_window
    if not window["max_ns"]:
        return "none: every range was invalidated before its unmap returned"
    text = f"{duration(window['max_ns'])} at most, {duration(window['mean_ns'])} on average"
    if outcome.reused_before_flush:
        text += f"; {count(outcome.reused_before_flush, 'address', 'addresses')} reused before the flush"
    if outcome.freed_before_flush:
        text += f"; {count(outcome.freed_before_flush, 'table page')} freed before it"
    return text


def _accesses(outcome: Outcome) -> str:
    made = outcome.accesses
    text = f"{made['made']:,}, {made['hits']:,} answered by a stale entry"
    if made["oldest_ns"]:
        text += f" (oldest {duration(made['oldest_ns'])})"
    return text + (f", {made['blocked']:,} blocked" if made["blocked"] else "")


def _waits(outcome: Outcome) -> str:
    waits = outcome.waits
    text = f"{count(waits['retries'], 'retry', 'retries')}, {waits['late_successes']:,} late successes"
    return text + f" (longest {duration(waits['longest_ns'])}), {waits['starved']:,} starved"


def _named(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in numbers.items() if value) or "none"


def _misuse(run: Runner, verdicts: Sequence[Verdict]) -> list[str]:
    files = run.trace.files
    lines = [f"{files[one.at.file]}:{one.at.line}: {one.rule}: {one.says}" for one in verdicts[:SHOWN]]
    more = len(verdicts) - SHOWN
    return lines + ([f"and {more:,} more"] if more > 0 else [])


def _findings(out: Any, title: str, lines: Iterable[str], style: str | None = None) -> None:
    listed = list(lines)
    if listed:
        out.print()
        out.print(title, style="bold")
        for line in listed:
            out.print(f"  {line}", style=style)
