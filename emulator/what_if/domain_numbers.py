"""What a run's metrics come to domain by domain: by domain-id, which is what tags the entries of an IOTLB.

A domain-id that went from one domain to another (its last device was detached) is one entry, with the spaces of both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from emulator.mapping.addresses import AddressSpace
from emulator.mapping.domain import Domain
from emulator.mapping.driver import InvalidationCounts
from emulator.mapping.flush.window import Ages
from emulator.trace.event import Kind
from emulator.what_if.runner import Runner
from pagetables.address import PAGE_SIZE
from pagetables.formats import FIRST_STAGE, SECOND_STAGE
from pagetables.formats import Kind as EntryKind
from pagetables.mapper import Stage
from pagetables.memory import Memory

__all__ = ["domain_numbers", "late_numbers"]

_KINDS = ("domain", "page", "pasid")


def domain_numbers(run: Runner) -> Iterator[dict[str, Any]]:
    """For each domain-id: `domain_id`, `spaces`, `table_pages`, `maps_ok`, `unmaps`, `invalidations`; `window` if it
    has addresses of its own, else None. Those of several domains are summed."""
    served: dict[int, dict[str, tuple[Domain, AddressSpace | None]]] = {}
    for name, (domain, window) in run.spaces.named().items():
        served.setdefault(domain.domain_id, {})[name] = (domain, window)
    counts = run.machine.driver.by_domain
    for number in sorted(served.keys() | counts.keys()):
        members = served.get(number, {})
        domains = {id(domain): domain for domain, _ in members.values()}
        told = counts.get(number, InvalidationCounts()).as_dict()
        yield {
            "domain_id": number,
            "spaces": list(members),
            "table_pages": sum(_table_pages(run.machine.memory, domain) for domain in domains.values()),
            "maps_ok": _done(run, Kind.MAP, domains),
            "unmaps": _done(run, Kind.UNMAP, domains),
            "invalidations": {kind: told[kind] for kind in _KINDS},
            "window": _window({id(window): window for _, window in members.values() if window is not None}),
        }


def late_numbers(run: Runner, domain_id: int) -> dict[str, Any]:
    """What is known of a domain-id when everything has been flushed: `stale_window`, and `stale_hits` of devices."""
    ages = run.machine.policy.window.by_domain.get(domain_id, Ages())
    return {"stale_window": ages.as_dict(), "stale_hits": run.devices.stale_hits.get(domain_id, 0)}


def _done(run: Runner, kind: Kind, domains: dict[int, Domain]) -> int:
    return sum(run.done[kind, key] for key, domain in run.spaces.domains.items() if id(domain) in domains)


def _window(windows: dict[int, AddressSpace]) -> dict[str, int] | None:
    if not windows:
        return None
    allocators = [window.allocator for window in windows.values()]
    return {
        "occupied": sum(allocator.statistics.occupied for allocator in allocators),
        "largest_free_run": min(allocator.largest_free_run() for allocator in allocators),
    }


def _table_pages(memory: Memory, domain: Domain) -> int:
    table = domain.table
    form = FIRST_STAGE if table.stage is Stage.FIRST else SECOND_STAGE

    def below(page: int, level: int) -> int:
        if level == 1:
            return 1
        entries = struct.unpack("<512Q", memory.read(page, PAGE_SIZE))
        linked = (entry for entry in entries if entry and form.kind(entry, level) is EntryKind.TABLE)
        return 1 + sum(below(form.table(entry), level - 1) for entry in linked)

    return below(table.root, table.levels)
