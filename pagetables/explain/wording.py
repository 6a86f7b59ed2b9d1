"""How explanations say who, where, when and how far."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from pagetables.address import SourceId, format_source_id
from pagetables.explain.evidence import Moment, Region

__all__ = ["devices", "distance", "span_text", "told", "when"]

_MOST_NAMED = 4
_NS = 1_000_000_000


def devices(owners: Iterable[SourceId]) -> str:
    """Device names, the first few of many; who owns nothing is "no device that the trace names"."""
    names = [format_source_id(one) for one in sorted(owners)]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more if names else "a device that the trace does not name"


def span_text(region: Region) -> str:
    """The addresses of a region, the last one included."""
    return f"{region.iova:#x}-{region.end - 1:#x}"


def distance(ns: int) -> str:
    """A length of time: in microseconds, milliseconds or seconds."""
    for unit, name in ((_NS, "s"), (1_000_000, "ms")):
        if ns >= unit:
            return f"{ns / unit:.3g} {name}" if ns < 1000 * unit else f"{ns // unit} {name}"
    return f"{ns // 1000} us"


def when(moment: Moment) -> str:
    """A moment: time, CPU, task and line."""
    task = f" by {moment.task}" if moment.task else ""
    seconds = f"{moment.time_ns // _NS}.{moment.time_ns % _NS // 1000:06d}"
    return f"at {seconds} s on CPU {moment.cpu}{task} ({PurePath(moment.file).name}:{moment.line})"


def told(region: Region) -> str:
    """A region with all that is known of it."""
    target = "" if region.gpa is None else f" -> {region.gpa:#x}"
    access = "" if region.access is None else f" {region.access.text()}"
    mapped = "" if region.mapped is None else f", mapped {when(region.mapped)}"
    freed = "" if region.unmapped is None else f", unmapped {when(region.unmapped)}"
    return f"{span_text(region)}{target}{access} of {devices(region.owners)}{mapped}{freed}"
