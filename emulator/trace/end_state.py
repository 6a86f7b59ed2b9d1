"""What is mapped when a trace ends, to be compared with tables (`pagetables.diff`)."""

from __future__ import annotations

from collections import defaultdict

from emulator.trace.history import TraceHistory
from emulator.trace.trace import Trace
from pagetables.address import Gpa, Iova
from pagetables.diff import Run, Side, SpaceState
from pagetables.diff.runs import disjoint
from pagetables.diff.sides import Key

__all__ = ["end_state"]


def end_state(trace: Trace) -> Side:
    """The spaces of all devices that are attached at the end of the trace, with what is live in them."""
    history = TraceHistory(trace)
    live: dict[int, list[Run]] = defaultdict(list)
    for number in history.live():
        start, end = int(history.start[number]), int(history.end[number])
        run = Run(Iova(start), Gpa(int(history.gpa[number])), end - start, history.access(number))
        live[int(history.space[number])].append(run)
    runs = {space: tuple(disjoint(found)) for space, found in live.items()}
    spaces = {
        Key(0, source, None): SpaceState(runs.get(space, ()), trace.spaces[space].domain_id)
        for source, space in history.spaces_at(None).items()
    }
    names = ", ".join(trace.files)
    unclaimed = tuple(runs[space] for space in sorted(runs) if not trace.spaces[space].devices)
    return Side(names, spaces, is_trace=True, unclaimed=unclaimed)
