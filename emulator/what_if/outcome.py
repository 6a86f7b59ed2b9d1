"""What came of a run, as data: every metric with one line that says what it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["AS_RECORDED", "REALLOCATED", "SERIES", "Outcome", "metric_names"]

AS_RECORDED = "as recorded"
REALLOCATED = "re-allocated"
SERIES = ("time_ns", "idle", "live", "empty", "waiting_for_flush", "free", "stale_ranges", "waiters", "failed")


def _metric(about: str, **options: Any) -> Any:
    return field(metadata={"about": about}, **options)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. Times are model nanoseconds, pages are of 4 KiB; dictionaries have the same keys in every run."""

    preset: str | None = _metric("the preset, or none")
    pool: str = _metric("where table pages came from")
    iova: str = _metric("the address allocator; `recorded` if the trace's addresses were kept")
    flush: str = _metric("when unmapped ranges were invalidated")
    bounce: str = _metric("how buffers a device cannot reach were bounced")
    reaction: str = _metric("what the driver did when a map failed")
    spaces: str = _metric("per-domain: a space for each domain; shared: one window for all devices")
    transfers: str = _metric("transfers of several pieces: as recorded, each piece apart, or reserved first and linked")
    addresses: str = _metric("as recorded, or re-allocated: runs of the two kinds are never compared")
    events: int = _metric("rows of the trace that were replayed")
    maps: int = _metric("maps the trace asks for; a scatter list is one, and so is a linked transfer")
    maps_ok: int = _metric("maps that got what they needed, at once or later")
    lists: Mapping[str, int] = _metric(
        "ranges mapped piece by piece (scatter lists, linked transfers), and their pieces"
    )
    unmaps: int = _metric("unmaps that removed something")
    unmaps_of_failed: int = _metric("unmaps of what this run had failed to map: nothing to do")
    failed: Mapping[str, int] = _metric("maps given up, by what was missing: page, address, bounce, descriptor")
    dropped: int = _metric("of those given up, the ones whose driver dropped the request and went on")
    refused: Mapping[str, int] = _metric("maps and unmaps refused for another reason, by cause: the trace's doing")
    map_ns: Mapping[str, int] = _metric("latency of maps that succeeded: p50, p99, max, mean; waiting included")
    unmap_ns: Mapping[str, int] = _metric("latency of unmaps: p50, p99, max, mean")
    os_calls: Mapping[str, int] = _metric("requests to the page allocator, by class")
    os_refused: Mapping[str, int] = _metric("those it refused")
    direct_reclaims: int = _metric("requests that had to free pages first")
    locks: Mapping[str, int] = _metric(
        "locks taken, by how many share them: global, pool, cpu, depot; the invalidation queue's"
    )
    invalidations: Mapping[str, int] = _metric("invalidation descriptors by granularity, and wait descriptors")
    pages: Mapping[str, Mapping[str, int]] = _metric(
        "peak and mean (over time) of pages idle in the pool, live as tables, empty but linked, and unlinked but "
        "waiting for their flush"
    )
    table_pages: Mapping[str, int] = _metric("pages held for tables: peak, final; freed so far")
    below_ns: Mapping[str, int] = _metric("time that free memory was below each watermark: min, low, high")
    lowest_free: int = _metric("fewest free pages of the system")
    stale_window: Mapping[str, int] = _metric(
        "unmapped ranges the unit had not been told of: how many, for how long (those of the end until the end), how "
        "many still were then (pending), accesses of devices that hit one"
    )
    accesses: Mapping[str, int] = _metric(
        "by devices: made; answered by a stale entry (hits), the oldest of them; stopped by a fault (blocked)"
    )
    reused_before_flush: int = _metric("addresses handed out again before the flush that covers them")
    freed_before_flush: int = _metric("table pages that went back to the system before the flush that covers them")
    window: Mapping[str, int] = _metric(
        "of the address windows at the end: pages, occupied pages, largest free run (the smallest of all windows)"
    )
    by_domain: Sequence[Mapping[str, Any]] = _metric(
        "of each domain-id: its spaces, table pages at the end, maps and unmaps done, invalidations of it alone, stale "
        "window and hits, and its addresses where it has a window of its own"
    )
    bytes_copied: int = _metric("bytes that bouncing copied")
    bytes_padded: int = _metric("bytes mapped that no driver passed, for lists to meet a segment boundary")
    worker_wakeups: int = _metric("times a background worker was woken")
    waits: Mapping[str, int] = _metric("what waiting and trying again came to; see the driver reactions")
    deadlocks: Sequence[str] = _metric("who waits for what that nothing can bring any more")
    requests: Mapping[str, int] = _metric("USB requests and their transfer descriptors; empty if none were made up")
    pressure: Mapping[str, Any] = _metric("what the pressure script came to; empty without one")
    supply: Mapping[str, Any] = _metric("the page supply's own numbers")
    allocator: Mapping[str, Any] = _metric("the address allocators' own numbers, summed; empty if as recorded")
    live_mappings: int = _metric("maps not yet unmapped at the end")
    live_bytes: int = _metric("bytes of those")
    model_ns: int = _metric("model time from the first event to the last thing that happened")
    elapsed_s: float = _metric("seconds this run took, reading the trace apart", compare=False)
    events_per_s: float = _metric("rows of the trace for each of those seconds", compare=False)
    engine: str = _metric("who executed: native or python")
    series: Sequence[tuple[int, ...]] = _metric("samples over model time; their columns are `series_columns`")
    series_columns: tuple[str, ...] = _metric("what each number of a sample is", default=SERIES)
    notes: Sequence[str] = _metric("what a reader of the numbers has to know", default=())

    @property
    def is_reallocated(self) -> bool:
        """Whether addresses came from an allocator and not from the trace."""
        return self.addresses == REALLOCATED

    @property
    def failures(self) -> int:
        """Maps given up, whatever was missing."""
        return sum(self.failed.values())

    @property
    def has_findings(self) -> bool:
        """True if a map was given up or refused, somebody waits for ever, or a device met what it should not have."""
        bad = self.reused_before_flush or self.freed_before_flush or self.accesses["hits"] or self.accesses["blocked"]
        return bool(self.failures or self.refused or self.deadlocks or bad)

    def as_dict(self) -> dict[str, Any]:
        """The run as JSON has it, with plain lists and dictionaries."""
        return {column.name: _plain(getattr(self, column.name)) for column in fields(self)}


def metric_names() -> dict[str, str]:
    """Every field of an outcome and what it counts."""
    return {column.name: str(column.metadata["about"]) for column in fields(Outcome)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
