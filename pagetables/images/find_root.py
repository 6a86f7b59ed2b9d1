"""Root tables in an image without registers: every page is looked at, and what it leads to decides.

A root table is recognised by its shape (pointers to pages with nothing but a present bit beside them), by context
tables that make sense behind it, and by paging tables that map something behind those. A unit without a single
device under it cannot be found, nor told from noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pagetables.address import PAGE_SIZE, Gpa
from pagetables.images.elf import Sparse
from pagetables.images.holes import runs_within
from pagetables.images.plausible import Holding, Plausibility, Verdict
from pagetables.layouts.registers import RootTableAddress
from pagetables.layouts.values import TableMode

__all__ = ["LIKELY", "Candidate", "Searchable", "find_roots"]

SUREST = 0.99  # nothing but the registers makes it certain
LIKELY = 0.5  # confidence from which on a candidate is worth using
CHUNK = 4 << 20  # bytes looked at in one go
SAMPLE = 32  # qwords of a page that decide for most pages
PATIENCE = 8  # entries that make no sense, with none that does, before a page is given up
_QWORDS = PAGE_SIZE // 8

# How much each sign counts; confidence is what remains when doubt is halved for each whole point.
MAPPED, EMPTY, PASSED = 3.0, 0.5, 0.25


class Searchable(Sparse, Holding, Protocol):
    """An image, or memory."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A page that may be a root table: how sure that is (0 to 1), and why."""

    address: Gpa
    mode: TableMode
    confidence: float
    devices: int
    reasons: tuple[str, ...]

    @property
    def rtaddr(self) -> int:
        """The value of RTADDR that leads to it."""
        return int(RootTableAddress.of(rta=self.address // PAGE_SIZE, ttm=self.mode))


def find_roots(memory: Searchable, progress: Callable[[int], None] | None = None) -> list[Candidate]:
    """Every page of `memory` that may be a root table, the surest first; `progress` is told the bytes just read."""
    judge = Plausibility(memory)
    found = []
    for address, entries in _shaped(memory, progress or (lambda size: None)):
        candidates = (_candidate(judge, address, entries, mode) for mode in (TableMode.LEGACY, TableMode.SCALABLE))
        best = max(candidates, key=lambda one: one.confidence)
        if best.confidence > 0:
            found.append(best)
    return sorted(found, key=lambda one: (-one.confidence, -one.devices, one.address))


def _shaped(memory: Searchable, progress: Callable[[int], None]) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
    # Pages whose qwords have no bit set between the present bit and the page frame, nor beyond the memory.
    end = max((start + size for start, size in memory.regions), default=0)
    forbidden = np.uint64((1 << 64) - (1 << max(end, 1).bit_length()) | 0xFFE)
    for start, stop in _page_runs(memory):
        for at in range(start, stop, CHUNK):
            size = min(CHUNK, stop - at)
            pages = np.frombuffer(memory.read(at, size), "<u8").reshape(-1, _QWORDS)
            # Two passes: a few qwords rule out nearly every page that is not zero.
            seen = np.bitwise_or.reduce(pages[:, :SAMPLE], axis=1)
            rest = np.flatnonzero((seen & forbidden) == 0)
            seen = np.bitwise_or.reduce(pages[rest], axis=1)
            for index in rest[((seen & forbidden) == 0) & ((seen & np.uint64(1)) != 0)].tolist():
                yield at + index * PAGE_SIZE, pages[index]
            progress(size)


def _page_runs(memory: Sparse) -> Iterator[tuple[int, int]]:
    # (start, end) of whole pages, each once.
    runs = list(memory.touched())
    for start, size in memory.regions:
        first, last = -(-start // PAGE_SIZE) * PAGE_SIZE, (start + size) // PAGE_SIZE * PAGE_SIZE
        for begin, end in runs_within(runs, first, last):
            begin = max(begin // PAGE_SIZE * PAGE_SIZE, first)
            first = min(-(-end // PAGE_SIZE) * PAGE_SIZE, last)
            if begin < first:
                yield begin, first


def _candidate(judge: Plausibility, address: int, entries: npt.NDArray[np.uint64], mode: TableMode) -> Candidate:
    verdicts = list(_verdicts(judge, entries, mode))
    mapped = frozenset().union(*(verdict.mapped for verdict in verdicts))
    empty = frozenset().union(*(verdict.empty for verdict in verdicts))
    passed, devices, bad = (sum(getattr(one, name) for one in verdicts) for name in ("passed", "devices", "bad"))
    points = MAPPED * len(mapped) + EMPTY * len(empty) + PASSED * passed
    sound = devices / (devices + bad) if devices else 0.0
    confidence = min((1 - 2**-points) * sound**2, SUREST)
    reasons = [
        f"{_count(devices, 'device')} in {_count(sum(one.devices > 0 for one in verdicts), 'context table')}",
        f"{_count(len(mapped), 'set')} of paging tables with mappings, {len(empty)} without",
    ]
    reasons += [f"{_count(passed, 'space')} without translation"] if passed else []
    reasons += [f"{bad} root and context entries that make no sense"] if bad else []
    return Candidate(Gpa(address), mode, round(confidence, 2), devices, tuple(reasons))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _verdicts(judge: Plausibility, entries: npt.NDArray[np.uint64], mode: TableMode) -> Iterator[Verdict]:
    # One for each context table that the root entries point to, and for each entry that points to none.
    good = bad = 0
    for index in np.flatnonzero(entries).tolist():
        entry = int(entries[index])
        verdict = Verdict(bad=1)
        half_used = mode is TableMode.SCALABLE or index % 2 == 0  # a legacy entry has nothing in its upper half
        if entry & 1 and half_used and judge.is_page(entry - 1):
            verdict = judge.context_table(entry - 1, mode is TableMode.SCALABLE)
        good, bad = good + verdict.devices, bad + verdict.bad
        yield verdict
        if not good and bad > PATIENCE:
            return
