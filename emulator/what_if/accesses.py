"""Device accesses, made up by rule since traces hold none, and run through the unit, so that stale hits are observed.

    rule    each mapping is used at a random time while it lives, and once more just before it is unmapped
    late    the same, and once more some microseconds after it was unmapped: a device that did not stop in time

An answer is stale if it is not where the buffer lies, or, for a late access, if the tables say no longer what the unit
says. Pages and times are random but depend on the row of the trace alone: every run of a trace sees the same accesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.machine import Machine
from emulator.mapping.domain import Domain
from emulator.trace.event import Kind
from emulator.what_if.operations import Operations
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Iova, SourceId
from pagetables.fault import Fault
from pagetables.mapper import Stage
from pagetables.request import Access, Request
from pagetables.source import Source, TranslationType

__all__ = ["NEVER", "AccessCounts", "DeviceAccess", "Devices", "planned"]

NEVER = 1 << 63
USE, LAST, LATE = range(3)
_WRITE = 2
_TOGETHER = 1 << 16


class DeviceAccess(NamedTuple):
    """One access that is due: when, why (`USE`, `LAST`, `LATE`), for which operation, to which page of which piece."""

    time_ns: int
    why: int
    op: int
    piece: int
    offset: int  # in the piece


@dataclass(slots=True)
class AccessCounts:
    """What came of device accesses."""

    made: int = 0
    hits: int = 0  # answered by a stale entry
    oldest_ns: int = 0  # how long ago the mapping of such an entry was unmapped
    blocked: int = 0  # ended in a fault
    others: int = 0  # late ones that met a later mapping at the same address

    def as_dict(self) -> dict[str, int]:
        """The counts by name, as a report prints them."""
        return {
            "made": self.made,
            "hits": self.hits,
            "oldest_ns": self.oldest_ns,
            "blocked": self.blocked,
            "others": self.others,
        }


def planned(ops: Operations, rule: str, late_ns: int) -> Iterator[DeviceAccess]:
    """The accesses of a trace in order of time; none if `rule` is none."""
    maps = np.flatnonzero(np.array(ops.kind, np.int64) == Kind.MAP)
    if rule == "none" or not len(maps):
        return
    time, end = np.array(ops.time_ns, np.int64)[maps], np.array(ops.end_ns, np.int64)[maps]
    closed = end >= 0
    until = np.where(closed, end, max(ops.time_ns))
    use = time + 1 + (_random(maps, 0) % np.maximum(until - time, 1).astype(np.uint64)).astype(np.int64)
    kinds = [(USE, maps, use), (LAST, maps[closed], end[closed])]
    if rule == "late":
        kinds.append((LATE, maps[closed], end[closed] + late_ns))
    found = [_some(ops, *kind) for kind in kinds]
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    for start in range(0, len(order), _TOGETHER):  # as Python's numbers they take ten times the room
        rows = order[start : start + _TOGETHER]
        yield from map(DeviceAccess._make, zip(*(column[rows].tolist() for column in columns), strict=True))


def _some(ops: Operations, why: int, maps: npt.NDArray[Any], time: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    first = np.array(ops.first, np.int64)
    # A late access goes to the page that was used last: that is what a cache still holds.
    salt = 1 + min(why, LAST)
    piece = first[maps] + (_random(maps, salt) % (first[maps + 1] - first[maps]).astype(np.uint64)).astype(np.int64)
    pages = np.array(ops.piece_size, np.uint64)[piece] >> np.uint64(PAGE_SHIFT)
    offset = (_random(maps, salt + 2) % np.maximum(pages, np.uint64(1))) << np.uint64(PAGE_SHIFT)
    return [time, np.full(len(maps), why), maps, piece, offset.astype(np.int64)]


def _random(rows: npt.NDArray[Any], salt: int) -> npt.NDArray[np.uint64]:
    # splitmix64, one number for each row.
    with np.errstate(over="ignore"):
        mixed = (rows.astype(np.uint64) * np.uint64(8) + np.uint64(salt + 1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)


class Devices:
    """Makes accesses, and tells stale answers from good ones. `age` is asked how long ago a page was unmapped."""

    def __init__(self, machine: Machine, age: Callable[[Domain, int], int]) -> None:
        self.counts = AccessCounts()
        self.stale_hits: dict[int, int] = {}  # by domain-id
        self._machine, self._age = machine, age

    def use(self, domain: Domain, source: SourceId, iova: int, gpa: int, access: int) -> None:
        """An access to a page that is mapped, to `gpa`."""
        answer = self._access(source, iova, access)
        if answer is not None and answer >> PAGE_SHIFT != gpa >> PAGE_SHIFT:
            self._stale(domain, iova)

    def check(self, domain: Domain, source: SourceId, iova: int, access: int) -> None:
        """An access of which only the tables know whether it may be answered, and with what."""
        answer = self._access(source, iova, access)
        if answer is None:
            return
        now = self._machine.engine.walk(
            self._machine.memory, _source(domain), _request(source, iova, access), self._machine.profile.capabilities
        )
        if isinstance(now, Fault) or now.gpa >> PAGE_SHIFT != answer >> PAGE_SHIFT:
            self._stale(domain, iova)
        else:
            self.counts.others += 1

    def _access(self, source: SourceId, iova: int, access: int) -> int | None:
        self.counts.made += 1
        answer = self._machine.unit.translate(_request(source, iova, access))
        if isinstance(answer, Fault):
            self.counts.blocked += 1
            self._machine.driver.clear_faults()
            return None
        return answer.gpa

    def _stale(self, domain: Domain, iova: int) -> None:
        self.counts.hits += 1
        self.stale_hits[domain.domain_id] = self.stale_hits.get(domain.domain_id, 0) + 1
        self.counts.oldest_ns = max(self.counts.oldest_ns, self._age(domain, iova & -PAGE_SIZE))


def _request(source: SourceId, iova: int, access: int) -> Request:
    return Request(source, Iova(iova), Access.WRITE if access == _WRITE else Access.READ)


def _source(domain: Domain) -> Source:
    table = domain.table
    if table.stage is Stage.FIRST:
        return Source(TranslationType.FIRST_STAGE, domain.domain_id, False, fs_table=table.root, fs_levels=table.levels)
    return Source(TranslationType.SECOND_STAGE, domain.domain_id, True, ss_table=table.root, ss_levels=table.levels)
