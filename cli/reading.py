"""Traces read for a command, with a progress bar, and the accesses of a QEMU log put among their events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cli.render import progress

if TYPE_CHECKING:
    from emulator.trace import Trace
    from emulator.trace.alignment import Alignment

__all__ = ["read"]


def read(
    paths: Sequence[str],
    accesses: str | None = None,
    see: Callable[..., Any] | None = None,
    until: str | None = None,
) -> tuple[Trace, Alignment | None]:
    """The traces as one, up to `until` (an event or a time), and how the log `accesses` was aligned with it, None
    without a log. `see` gets what `read_traces` tells of each event."""
    from emulator.trace import read_traces

    with progress("reading", None) as done:
        before = 0

        def tell(events: int) -> None:
            nonlocal before
            done(events - before)
            before = events

        trace, alignment = read_traces(paths, tell, see), None
    if accesses is not None:
        from emulator.trace.alignment import merge_accesses

        trace, alignment = merge_accesses(trace, accesses)
    return trace if until is None else trace.until(until), alignment
