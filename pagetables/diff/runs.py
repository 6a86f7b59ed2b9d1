"""Mappings of one space against mappings of another: come, gone, changed, moved.

Both are runs, ascending and disjoint; a sweep over their ends costs what the runs cost, however many pages they have.
How a run is cut into pages does not matter. A page that went from one IOVA to another is moved, not gone and come: of
several copies the lowest that went is the lowest that came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from pagetables.address import Gpa, Iova
from pagetables.request import Permissions

__all__ = ["Change", "Run", "common", "compare", "disjoint", "uncovered"]

Kind = Literal["come", "gone", "changed", "moved"]
_Segment = tuple[int, int, "Run | None", "Run | None"]


class Run(NamedTuple):
    """Addresses that are mapped together. `access` (with U/S) is None where the source does not tell it."""

    iova: Iova
    gpa: Gpa
    size: int
    access: Permissions | None

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.iova + self.size

    def part(self, start: int, end: int) -> Run:
        """What of it lies in [start, end)."""
        return Run(Iova(start), Gpa(self.gpa + start - self.iova), end - start, self.access)

    def longer(self, size: int) -> Run:
        """The same, `size` bytes longer."""
        return Run(self.iova, self.gpa, self.size + size, self.access)

    def is_continued_by(self, other: Run) -> bool:
        """True if `other` begins where this ends, in IOVA and GPA, with the same access."""
        follows = self.end == other.iova and self.gpa + self.size == other.gpa
        return follows and self.access == other.access


class Change(NamedTuple):
    """One difference: `before` is None for what came, `after` for what went; both are of one size."""

    kind: Kind
    before: Run | None
    after: Run | None

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(run.size for run in (self.before or self.after,) if run is not None)

    @property
    def iova(self) -> int:
        """Where it is, or where it went to."""
        return min(run.iova for run in (self.after or self.before,) if run is not None)


def compare(before: Sequence[Run], after: Sequence[Run]) -> list[Change]:
    """What changed from `before` to `after`, in the order of IOVA, neighbouring changes of a kind as one."""
    gone: list[Run] = []
    come: list[Run] = []
    changes: list[Change] = []
    for start, end, old, new in _segments(before, after, skip_equal=True):
        if old is None and new is not None:
            come.append(new.part(start, end))
        elif new is None and old is not None:
            gone.append(old.part(start, end))
        elif old is not None and new is not None:
            left, right = old.part(start, end), new.part(start, end)
            if left.gpa != right.gpa or not _same_access(left, right):
                changes.append(Change("changed", left, right))
    is_known = all(run.access is not None for run in (*gone, *come))
    moved, gone, come = _moves(gone, come, is_known) if gone and come else ([], gone, come)
    changes += [Change("moved", old, new) for old, new in moved]
    changes += [Change("gone", run, None) for run in gone] + [Change("come", None, run) for run in come]
    return list(_joined(changes))


def disjoint(runs: Iterable[Run]) -> list[Run]:
    """`runs` in the order of IOVA, without what overlaps an earlier one; neighbours that continue each other as one."""
    found: list[Run] = []
    for run in sorted(runs, key=lambda run: (run.iova, -run.size)):
        start = max(run.iova, found[-1].end) if found else run.iova
        if start < run.end:
            part = run.part(start, run.end)
            if found and found[-1].is_continued_by(part):
                found[-1] = found[-1].longer(part.size)
            else:
                found.append(part)
    return found


def common(one: Sequence[Run], other: Sequence[Run]) -> Iterator[Run]:
    """What both map to the same memory, with the access that `one` has."""
    for start, end, left, right in _segments(one, other):
        if left is not None and right is not None:
            part = left.part(start, end)
            if part.gpa == right.part(start, end).gpa:
                yield part


def uncovered(one: Sequence[Run], other: Sequence[Run]) -> Iterator[Run]:
    """What `one` maps and `other` does not."""
    for start, end, left, right in _segments(one, other):
        if left is not None and right is None:
            yield left.part(start, end)


def _same_access(one: Run, other: Run) -> bool:
    return one.access is None or other.access is None or one.access == other.access


def _segments(before: Sequence[Run], after: Sequence[Run], skip_equal: bool = False) -> Iterator[_Segment]:
    # (start, end, run before, run after) of each stretch in which neither side begins or ends.
    one, other = iter(before), iter(after)
    old, new = next(one, None), next(other, None)
    position = 0
    while old is not None or new is not None:
        if skip_equal and old == new:  # most of it, where little changed
            old, new = next(one, None), next(other, None)
            continue
        position = max(position, min(run.iova for run in (old, new) if run is not None))
        old_in = old if old is not None and old.iova <= position else None
        new_in = new if new is not None and new.iova <= position else None
        ends = [run.end if run.iova <= position else run.iova for run in (old, new) if run is not None]
        end = min(ends)
        yield position, end, old_in, new_in
        position = end
        if old is not None and old.end <= position:
            old = next(one, None)
        if new is not None and new.end <= position:
            new = next(other, None)


def _moves(gone: list[Run], come: list[Run], is_known: bool) -> tuple[list[tuple[Run, Run]], list[Run], list[Run]]:
    # Pairs of what leads to the same memory, and what is left of both. Cut wherever either side begins or ends in GPA.
    moved: list[tuple[Run, Run]] = []
    rest: tuple[list[Run], list[Run]] = ([], [])
    for start, end, left, right in _stretches(gone, come, is_known):
        cut = _cut(left, start, end), _cut(right, start, end)
        pairs = min(len(cut[0]), len(cut[1]))
        moved += zip(cut[0], cut[1], strict=False)
        rest[0].extend(cut[0][pairs:])
        rest[1].extend(cut[1][pairs:])
    return moved, rest[0], rest[1]


def _cut(runs: list[Run], start: int, end: int) -> list[Run]:
    # What of each leads to [start, end), by IOVA.
    if len(runs) == 1 and runs[0].size == end - start:
        return runs
    parts = [Run(Iova(run.iova + start - run.gpa), Gpa(start), end - start, run.access) for run in runs]
    parts.sort()
    return parts


def _stretches(gone: list[Run], come: list[Run], is_known: bool) -> Iterator[tuple[int, int, list[Run], list[Run]]]:
    # (start, end, what went, what came) of each stretch of memory in which nothing begins or ends; by access, if known.
    numbered = [*gone, *come]
    ends = [
        (int(run.access or 0) if is_known else 0, gpa, number)
        for number, run in enumerate(numbered)
        for gpa in (run.gpa, run.gpa + run.size)
    ]
    ends.sort()
    active: tuple[dict[int, Run], dict[int, Run]] = ({}, {})
    start = 0
    for _, gpa, number in ends:
        if gpa > start and (active[0] or active[1]):
            yield start, gpa, list(active[0].values()), list(active[1].values())
        start = gpa
        side = active[number >= len(gone)]
        if side.pop(number, None) is None:
            side[number] = numbered[number]


def _joined(changes: list[Change]) -> Iterator[Change]:
    last: Change | None = None
    for change in sorted(changes, key=lambda one: (one.iova, one.kind)):
        if last is not None and last.kind == change.kind and _goes_on(last, change):
            before, after = last.before, last.after
            last = Change(
                last.kind,
                before and before.longer(change.size),
                after and after.longer(change.size),
            )
            continue
        if last is not None:
            yield last
        last = change
    if last is not None:
        yield last


def _goes_on(last: Change, change: Change) -> bool:
    pairs = ((last.before, change.before), (last.after, change.after))
    return all(one is None or other is None or one.is_continued_by(other) for one, other in pairs)
