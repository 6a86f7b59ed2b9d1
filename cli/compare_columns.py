"""The columns of a comparison: what is shown of a run, in which words, and which end of it is good."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagetables.wording import human_size

if TYPE_CHECKING:
    from emulator.what_if import Outcome

__all__ = ["BEST", "COLUMNS", "THEMES", "WORST", "Column", "brief_count", "brief_duration", "brief_size", "marks"]

BEST, WORST = "+", "-"
THEMES = ("failures and time", "memory", "safety")
_FAILURES, _MEMORY, _SAFETY = THEMES


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a run. `name` is how text and pages call it, `title` is its head in a narrow table; `about` is a
    sentence. Less is better unless `more` says otherwise. None: the run has no such number."""

    name: str
    title: str
    theme: str
    unit: str
    about: str
    value: Callable[[Outcome], int | None]
    more: bool = False

    def text(self, outcome: Outcome) -> str:
        """The number of a run as a table shows it."""
        value = self.value(outcome)
        return "" if value is None else _BRIEF[self.unit](value)


def brief_count(number: int) -> str:
    """A number in five characters: `7,727`, `54.1k`, `2.0M`."""
    if number < 10_000:
        return f"{number:,}"
    for scale, letter in ((10**3, "k"), (10**6, "M"), (10**9, "G")):
        if number < 999.5 * scale or letter == "G":
            break
    return f"{number / scale:.0f}{letter}" if number >= 100 * scale else f"{number / scale:.1f}{letter}"


def brief_duration(ns: int) -> str:
    """A time of the model clock: `55ns`, `1.8us`, `10ms`, `2.4s`."""
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns >= scale:
            return f"{ns / scale:.0f}{unit}" if ns >= 10 * scale else f"{ns / scale:.1f}{unit}"
    return f"{ns}ns" if ns else "0"


def brief_size(size: int) -> str:
    """A size, with its unit: `4KiB`, `1.5GiB`, `370MiB`; no number of pages looks like it."""
    number, unit = human_size(size).split()
    return f"{round(float(number))}{unit}" if float(number) >= 10 else f"{number}{unit}" if size else "0"


def marks(column: Column, outcomes: Sequence[Outcome]) -> list[str]:
    """For each run BEST, WORST or nothing. What most runs share as it is shown is no distinction, and is not marked.

    A run that gave maps up has it easy: it is best at nothing but at failing.
    """
    values = [column.value(outcome) for outcome in outcomes]
    known = [value for value in values if value is not None]
    if not known:
        return [""] * len(values)
    fair = [column.name.startswith("failed") or not outcome.failures for outcome in outcomes]
    best = [value for value, competes in zip(values, fair, strict=True) if competes and value is not None] or known
    good, bad = (max(best), min(known)) if column.more else (min(best), max(known))
    shown = [column.text(outcome) for outcome in outcomes]
    texts = {shown[values.index(good)]: BEST, shown[values.index(bad)]: WORST}
    rare = {text: mark for text, mark in texts.items() if len(texts) > 1 and 2 * shown.count(text) <= len(known)}
    found = [rare.get(text, "") for text in shown]
    return ["" if mark == BEST and not competes else mark for mark, competes in zip(found, fair, strict=True)]


def _latency(taken: Mapping[str, int], which: str, done: int) -> int | None:
    return taken[which] if done else None


def _stale_hits(outcome: Outcome) -> int | None:
    return outcome.accesses["hits"] if outcome.accesses["made"] else None


def _free_run(outcome: Outcome) -> int | None:
    return outcome.window["largest_free_run"] << 12 if outcome.window["pages"] else None


def _flushes(outcome: Outcome) -> int:
    return sum(outcome.invalidations[kind] for kind in ("global", "domain", "page", "pasid"))


_BRIEF = {"count": brief_count, "ns": brief_duration, "bytes": brief_size, "pages": brief_count}
COLUMNS = (
    Column(
        "failed: page",
        "no\npage",
        _FAILURES,
        "count",
        "maps given up for want of a table page",
        lambda run: run.failed["page"],
    ),
    Column(
        "failed: address",
        "no\naddr",
        _FAILURES,
        "count",
        "maps given up for want of an address",
        lambda run: run.failed["address"],
    ),
    Column(
        "failed: bounce",
        "no\nbounce",
        _FAILURES,
        "count",
        "maps given up for want of a bounce buffer",
        lambda run: run.failed["bounce"],
    ),
    Column(
        "failed: descriptor",
        "no\ndescr",
        _FAILURES,
        "count",
        "maps whose request found no transfer descriptors (--set requests=uhci)",
        lambda run: run.failed["descriptor"],
    ),
    Column(
        "map, median",
        "map\np50",
        _FAILURES,
        "ns",
        "latency that half of the maps stay below",
        lambda run: _latency(run.map_ns, "p50", run.maps_ok),
    ),
    Column(
        "map, 99 %",
        "map\np99",
        _FAILURES,
        "ns",
        "latency that 99 % of the maps stay below",
        lambda run: _latency(run.map_ns, "p99", run.maps_ok),
    ),
    Column(
        "map, longest",
        "map\nmax",
        _FAILURES,
        "ns",
        "longest map, waiting included",
        lambda run: _latency(run.map_ns, "max", run.maps_ok),
    ),
    Column(
        "unmap, median",
        "unmap\np50",
        _FAILURES,
        "ns",
        "median latency of unmaps",
        lambda run: _latency(run.unmap_ns, "p50", run.unmaps),
    ),
    Column(
        "OS calls",
        "OS\ncalls",
        _FAILURES,
        "count",
        "requests to the page allocator",
        lambda run: sum(run.os_calls.values()),
    ),
    Column("flushes", "flush\ncount", _FAILURES, "count", "invalidation descriptors but for waits", _flushes),
    Column(
        "shared locks",
        "shared\nlocks",
        _FAILURES,
        "count",
        "locks taken that CPUs share: a global one, or a pool's",
        lambda run: run.locks["global"] + run.locks["pool"],
    ),
    Column(
        "late maps",
        "late\nmaps",
        _FAILURES,
        "count",
        "maps that succeeded only after waiting or trying again",
        lambda run: run.waits["late_successes"],
    ),
    Column(
        "live, peak", "live", _MEMORY, "pages", "most table pages in use at once", lambda run: run.pages["live"]["peak"]
    ),
    Column(
        "empty, peak",
        "empty",
        _MEMORY,
        "pages",
        "most table pages linked that map nothing",
        lambda run: run.pages["empty"]["peak"],
    ),
    Column(
        "idle, peak", "idle", _MEMORY, "pages", "most pages idle in the supply", lambda run: run.pages["idle"]["peak"]
    ),
    Column(
        "unlinked, peak",
        "un-\nlinked",
        _MEMORY,
        "pages",
        "most table pages unlinked but waiting for their flush",
        lambda run: run.pages["waiting_for_flush"]["peak"],
    ),
    Column(
        "idle, mean",
        "idle\nmean",
        _MEMORY,
        "pages",
        "pages idle in the supply, mean over time",
        lambda run: run.pages["idle"]["mean"],
    ),
    Column(
        "least free",
        "least\nfree",
        _MEMORY,
        "pages",
        "fewest free pages of the system",
        lambda run: run.lowest_free,
        True,
    ),
    Column(
        "largest free run",
        "free\nrun",
        _MEMORY,
        "bytes",
        "largest run of free addresses at the end, of the fullest window: less of it is fragmentation",
        _free_run,
        True,
    ),
    Column("copied", "copied", _MEMORY, "bytes", "bytes that bouncing copied", lambda run: run.bytes_copied),
    Column(
        "stale, longest",
        "stale\nmax",
        _SAFETY,
        "ns",
        "longest time from an unmap to its invalidation",
        lambda run: run.stale_window["max_ns"],
    ),
    Column(
        "stale, mean",
        "stale\nmean",
        _SAFETY,
        "ns",
        "mean time from an unmap to its invalidation",
        lambda run: run.stale_window["mean_ns"],
    ),
    Column(
        "stale at the end",
        "stale\nat end",
        _SAFETY,
        "count",
        "ranges not yet invalidated when the trace ended",
        lambda run: run.stale_window["pending"],
    ),
    Column(
        "reused early",
        "reused\nearly",
        _SAFETY,
        "count",
        "addresses handed out again before the flush that covers them",
        lambda run: run.reused_before_flush,
    ),
    Column(
        "freed early",
        "freed\nearly",
        _SAFETY,
        "count",
        "table pages back with the system before the flush that covers them",
        lambda run: run.freed_before_flush,
    ),
    Column(
        "stale hits",
        "stale\nhits",
        _SAFETY,
        "count",
        "device accesses that a stale entry answered (--set accesses=late adds late ones)",
        _stale_hits,
    ),
    Column(
        "padded",
        "padded",
        _SAFETY,
        "bytes",
        "bytes mapped that no driver passed, for lists to meet a segment boundary",
        lambda run: run.bytes_padded,
    ),
    Column("starved", "starv-\ned", _SAFETY, "count", "maps that waited in vain", lambda run: run.waits["starved"]),
    Column(
        "deadlocks", "dead-\nlocks", _SAFETY, "count", "circles of who waits for whom", lambda run: len(run.deadlocks)
    ),
)
"""Every column, theme by theme."""
