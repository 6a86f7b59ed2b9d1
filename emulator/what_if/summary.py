"""A finished run as an outcome."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from emulator.mapping.iova.allocator import AddressAllocator
from emulator.what_if.domain_numbers import domain_numbers, late_numbers
from emulator.what_if.outcome import AS_RECORDED, REALLOCATED, Outcome
from emulator.what_if.runner import Runner

__all__ = ["summary"]

_LOCKS = ("global", "pool", "cpu", "depot")


def summary(run: Runner, elapsed: float) -> Outcome:
    """The outcome of `run`, which took `elapsed` seconds. What still waits for its flush gets it, last of all, so that
    its age counts; no other number has it."""
    outcome = _outcome(run, elapsed)
    window, pending = run.machine.policy.window, run.machine.policy.window.pending
    run.machine.policy.flush()
    closed = {**window.as_dict(), "pending": pending, "accesses": run.devices.counts.hits}
    told = [{**one, **late_numbers(run, one["domain_id"])} for one in outcome.by_domain]
    return replace(outcome, stale_window=closed, by_domain=tuple(told))


def _outcome(run: Runner, elapsed: float) -> Outcome:
    settings, machine = run.settings, run.machine
    zone, window = machine.zone, machine.policy.window
    events = len(run.ops.piece_gpa)
    return Outcome(
        preset=settings.preset,
        pool=settings.pool,
        iova=settings.iova,
        flush=settings.flush,
        bounce=settings.bounce,
        reaction=settings.reaction,
        spaces=settings.window,
        transfers=settings.transfers,
        addresses=REALLOCATED if run.spaces.addresses is not None else AS_RECORDED,
        events=events,
        maps=run.maps,
        maps_ok=run.maps_ok,
        lists={"ranges": run.lists, "pieces": run.pieces},
        unmaps=run.unmaps,
        unmaps_of_failed=run.unmaps_of_failed,
        failed=dict(run.failed),
        dropped=run.reaction.statistics.dropped,
        refused={cause: count for cause, count in run.refused.items() if count},
        map_ns=_latency(run.map_ns),
        unmap_ns=_latency(run.unmap_ns),
        os_calls=_since(zone.statistics.calls, run.before["calls"]),
        os_refused=_since(zone.statistics.refused, run.before["refused"]),
        direct_reclaims=zone.statistics.direct_reclaims - run.reclaims_before,
        locks={kind: run.meter.counts[f"lock.{kind}"] for kind in _LOCKS}
        | {"queue": run.meter.counts["invalidate.submit"]},
        invalidations=machine.driver.counts.as_dict(),
        pages=_pages(run),
        table_pages=machine.layer.pages.as_dict(),
        below_ns=dict(zone.statistics.below_ns),
        lowest_free=zone.statistics.lowest_free,
        stale_window={},
        accesses=run.devices.counts.as_dict(),
        reused_before_flush=_reused(run),
        freed_before_flush=window.pages_freed_early,
        window=_window(_allocators(run)),
        by_domain=tuple(domain_numbers(run)),
        bytes_copied=run.bouncer.statistics.bytes_copied if run.bouncer is not None else 0,
        bytes_padded=run.padded,
        worker_wakeups=machine.supply.statistics.wakeups,
        waits=run.reaction.statistics.as_dict(),
        deadlocks=tuple(run.waiting.deadlocks),
        requests={} if run.requests is None else run.requests.as_dict(),
        pressure={} if run.pressure is None else run.pressure.as_dict(),
        supply={"name": machine.supply.name, **machine.supply.statistics.as_dict()},
        allocator=_summed([allocator.statistics.as_dict() for allocator in _allocators(run)]),
        live_mappings=sum(1 for live in run.buffers.live_bytes if live),
        live_bytes=sum(run.buffers.live_bytes),
        model_ns=machine.clock.now - (run.ops.time_ns[0] if run.ops.time_ns else 0),
        elapsed_s=elapsed,
        events_per_s=events / elapsed if elapsed else 0.0,
        engine=machine.engine.name,
        series=tuple(run.gauges.samples),
        notes=tuple(_notes(run)),
    )


def _latency(taken: array[int]) -> dict[str, int]:
    if not taken:
        return {"p50": 0, "p99": 0, "max": 0, "mean": 0}
    values = np.frombuffer(taken, np.uint64)
    p50, p99 = np.percentile(values, (50, 99), method="inverted_cdf").tolist()
    return {"p50": int(p50), "p99": int(p99), "max": int(values.max()), "mean": round(float(values.mean()))}


def _since(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in now.items()}


def _pages(run: Runner) -> dict[str, dict[str, int]]:
    gauges = run.gauges
    return {
        name: {"peak": gauges.highest(name), "mean": gauges.mean(name)}
        for name in ("idle", "live", "empty", "waiting_for_flush")
    }


def _reused(run: Runner) -> int:
    addresses = run.spaces.addresses
    return run.machine.policy.window.reused_before_flush if addresses is None else addresses.reused_before_flush


def _allocators(run: Runner) -> list[AddressAllocator]:
    addresses = run.spaces.addresses
    return [] if addresses is None else [space.allocator for space in addresses.spaces.values()]


def _window(allocators: Iterable[AddressAllocator]) -> dict[str, int]:
    known = list(allocators)
    return {
        "pages": sum(allocator.window.pages for allocator in known),
        "occupied": sum(allocator.statistics.occupied for allocator in known),
        "largest_free_run": min((allocator.largest_free_run() for allocator in known), default=0),
    }


def _summed(books: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for book in books:
        for name, value in book.items():
            if isinstance(value, dict):
                total[name] = _summed([total.get(name, {}), value])
            else:
                total[name] = total.get(name, 0) + value
    return total


def _notes(run: Runner) -> list[str]:
    notes = []
    if run.spaces.stand_ins:
        notes.append(f"spaces of no known device: {len(run.spaces.stand_ins)}; they have stand-in requesters")
    if run.placing.unknown_access:
        notes.append(f"pieces of unknown access, mapped for reads and writes: {run.placing.unknown_access:,}")
    direct = sum(run.buffers.direct)
    if direct:
        notes.append(f"buffers mapped to themselves for good, which kept their addresses: {direct:,}")
    if run.waiting.waiters:
        notes.append(f"maps that still wait: {len(run.waiting.waiters):,}")
    if run.settings.accesses == "none" and not run.devices.counts.made:
        notes.append("no device accesses were made up (accesses=none): stale hits were not looked for")
    if run.settings.accesses == "rule":
        notes.append("device accesses are made up (accesses=rule), none after an unmap: accesses=late adds those")
    addresses = run.spaces.addresses
    if addresses is not None:
        notes += dict.fromkeys(note for space in addresses.spaces.values() for note in space.notes)
    return notes
