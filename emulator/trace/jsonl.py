"""JSON Lines: the project's own trace format, to write by hand and to keep what other formats told.

    {"event": "attach", "device": "00:03.0", "domain": 5}
    {"event": "map", "device": "00:03.0", "iova": "0x1000", "gpa": "0x5000", "size": 4096, "time": "1.5s"}
    {"event": "access", "device": "00:03.0", "iova": "0x1008", "size": 8, "access": "w"}
    {"event": "unmap", "device": "00:03.0", "iova": "0x1000", "size": 4096}
    {"event": "detach", "device": "00:03.0"}

For the checks of `emulator.misuse` a harness may also tell of calls (dma_map, dma_unmap, dma_alloc, dma_free, dma_sync,
dma_check: somebody looked if a map had failed), of caches (invalidate), of memory (page_free) and of a driver that lets
go of its device (release):

    {"event": "dma_map", "device": "00:03.0", "iova": "0x1040", "gpa": "0x5040", "size": 64, "access": "r"}

Numbers are integers, or strings as people write them; a time is an integer (nanoseconds) or a string such as "1.5s",
and without one an event happens when the line before did. `gfp` says what memory the caller of a map may ask for
(atomic, kernel, ...), the `gpa` of an access where it went. `domain` instead of `device` names a domain; a map that
names neither is attributed like a kernel's. Two more records frame a trace that was converted: `trace` (version,
kernel_rule, caching_mode) and `space` (space, name, domain, attributed), to whose numbers the events then refer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from emulator.trace.columns import NO_PASID, NO_SOURCE, Columns
from emulator.trace.event import GFP_CLASSES, READ, WRITE, Event, Kind, SpaceRef
from emulator.trace.skipped import SkippedLines
from emulator.trace.spaces import Space
from emulator.trace.trace import KernelRule, Trace
from pagetables.address import PAGE_SIZE, format_source_id, parse_number, parse_source_id
from pagetables.errors import InputError, TraceError, near

__all__ = ["VERSION", "JsonReader", "JsonWriter", "upgrade", "write_json_lines"]

VERSION = 2

Record = dict[str, Any]

_ACCESSES = {"r": READ, "w": WRITE, "rw": READ | WRITE, "-": 0}
_NAMES = {bits: name for name, bits in _ACCESSES.items()}
_TIME = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?(ns|us|ms|s)", re.ASCII)
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_PAGES = {PAGE_SIZE << 9 * level: 1 << level for level in range(3)}
_WHERE = {"device", "domain", "space"}
_WHEN = {"event", "time", "cpu", "pid", "task"}
_FIELDS = {
    "map": _WHEN | _WHERE | {"iova", "gpa", "size", "access", "page_sizes", "gfp"},
    "unmap": _WHEN | _WHERE | {"iova", "size"},
    "access": _WHEN | _WHERE | {"iova", "gpa", "size", "access", "pasid"},
    "attach": _WHEN | _WHERE,
    "detach": _WHEN | _WHERE,
    "space": {"event", "space", "name", "domain", "attributed"},
    "trace": {"event", "version", "kernel_rule", "caching_mode"},
    **{name: _WHEN | {"device", "iova", "gpa", "size", "access"} for name in ("dma_map", "dma_alloc")},
    **{name: _WHEN | {"device", "iova", "size", "access"} for name in ("dma_unmap", "dma_free", "dma_sync")},
    "dma_check": _WHEN | {"device", "iova"},
    "release": _WHEN | {"device"},
    "page_free": _WHEN | {"gpa", "size"},
    "invalidate": _WHEN | {"device", "domain", "iova", "size", "cache"},
}
_KINDS = {name: Kind[name.upper()] for name in _FIELDS if name.upper() in Kind.__members__}
_KINDS["release"] = Kind.GROUP_REMOVE
_CALLS = {name for name in _FIELDS if name.startswith("dma_")}  # of the DMA API: any bytes, not whole pages
_CACHES = ("iotlb", "device-tlb")
_RENAMED = {"bdf": "device", "paddr": "gpa", "op": "event"}  # version 1
_LATEST = (1 << 64) - 1
_RULES: dict[str, KernelRule] = {"6.x": "6.x", "7.x": "7.x"}


def upgrade(record: Record) -> Record:
    """The record with the names of the present version."""
    return {_RENAMED.get(name, name) if _RENAMED.get(name) not in record else name: v for name, v in record.items()}


class JsonReader:
    """Reads the lines of one file; a line that cannot be used goes to `skipped` with the field at fault."""

    def __init__(self, name: str, index: int, skipped: SkippedLines) -> None:
        self.name = name
        self.index = index
        self.skipped = skipped
        self.kernel_rule: KernelRule | None = None
        self.caching_mode = False
        self._time = 0

    def events(self, pieces: Iterable[bytes]) -> Iterator[Event]:
        """One event for each usable line; TraceError if there are lines but none is usable."""
        used, number, first = False, 0, ""
        for line in _lines(pieces):
            number += 1
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                event = self._event(number, line)
            except InputError as why:
                first = first or f"{self.name}:{number}: {why}"
                self.skipped.add(self.name, number, str(why))
                yield Event(self.index, number, self._time, 0, 0, "", Kind.OTHER)
                continue
            used = True
            if event is not None:
                yield event
        if first and not used:
            raise TraceError(first)

    def _event(self, number: int, line: str) -> Event | None:
        record = _record(line)
        kind = record["event"]
        if kind == "trace":
            self._header(record)
            return None
        detail = _detail(record)
        if kind == "space":
            return Event(self.index, number, 0, 0, 0, "", Kind.SPACE, domain=_optional(record, "domain"), detail=detail)
        self._time = _time(record["time"]) if "time" in record else self._time
        sizes = record.get("page_sizes", [])
        return Event(
            self.index, number, self._time, _optional(record, "cpu", 0xFFFF) or 0, _optional(record, "pid") or 0,
            str(record.get("task", "")), _KINDS[kind], device=_device(record), domain=_optional(record, "domain"),
            access=_access(record), pasid=_optional(record, "pasid", 0xF_FFFF), leaf_levels=_leaf_levels(sizes),
            detail=detail, gfp=_gfp(record), **_range(record),
        )  # fmt: skip

    def _header(self, record: Record) -> None:
        version = record.get("version", VERSION)
        if not isinstance(version, int) or not 1 <= version <= VERSION:
            raise InputError(f"version: {version!r} is newer than this reader or no version; {VERSION} is the latest")
        rule = record.get("kernel_rule")
        if rule is not None and rule not in _RULES:
            raise InputError(f"kernel_rule: {rule!r} is none; {near(str(rule), _RULES)}")
        self.kernel_rule = _RULES[rule] if rule is not None else None
        self.caching_mode = record.get("caching_mode", False) is True


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    for piece in pieces:
        lines = piece.decode("utf-8", "replace").split("\n")
        yield from lines[:-1] if lines[-1] == "" else lines


def _record(line: str) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as why:
        raise InputError(f"no JSON: {why}") from None
    if not isinstance(record, dict):
        raise InputError("a line must be a JSON object in braces")
    record = upgrade(record)
    kind = record.get("event")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise InputError(f"event: {kind!r} is none; {near(str(kind), _FIELDS)}")
    for name in record:
        if name not in _FIELDS[kind]:
            raise InputError(f"{name}: {kind} has no such field; {near(name, _FIELDS[kind])}")
    return record


def _field(name: str, parse: Callable[[Any], Any], value: object) -> Any:
    try:
        return parse(value)
    except InputError as why:
        raise InputError(f"{name}: {why}") from None


def _number(value: object) -> int:
    if isinstance(value, str):
        value = parse_number(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{value!r} is not a number: expected an integer, or a string such as '0x1000'")
    if not 0 <= value <= _LATEST:
        raise InputError(f"{value:#x} does not fit into 64 bits")
    return value


def _optional(record: Record, name: str, most: int = 0xFFFF_FFFF) -> int | None:
    if record.get(name) is None:
        return None
    number: int = _field(name, _number, record[name])
    if number > most:
        raise InputError(f"{name}: {number} is too large; at most {most}")
    return number


def _required(record: Record, name: str) -> int:
    if record.get(name) is None:
        raise InputError(f"{name}: {record['event']} needs it")
    number: int = _field(name, _number, record[name])
    return number


def _range(record: Record) -> dict[str, int]:
    kind = record["event"]
    if kind in ("attach", "detach", "release"):
        return {}
    if kind == "page_free":
        return {"gpa": _required(record, "gpa"), "size": _required(record, "size")}
    if kind == "invalidate" and record.get("iova") is None:
        return {}
    iova = _required(record, "iova")
    size = 1 if kind in ("access", "dma_check") and "size" not in record else _required(record, "size")
    found = {"iova": iova, "size": size}
    if kind == "map" or record.get("gpa") is not None:
        found["gpa"] = _required(record, "gpa")
    if (size == 0 and kind not in _CALLS) or max(iova, found.get("gpa", 0)) + size > 1 << 64:
        raise InputError(f"size: {size:#x} bytes at {iova:#x} are no range below 2**64")
    if kind != "access" and kind not in _CALLS:
        for name, number in found.items():
            if number % PAGE_SIZE:
                raise InputError(f"{name}: {number:#x} is not a multiple of {PAGE_SIZE}")
    return found


def _time(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LATEST:
        return value
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InputError(f"time: {value!r} is none: expected nanoseconds as an integer, or a string such as '1.5s'")
    fraction = match[2] or ""
    ns: int = int(match[1]) * _UNITS[match[3]] + int(fraction or "0") * _UNITS[match[3]] // 10 ** len(fraction)
    return min(ns, _LATEST)


def _device(record: Record) -> str | None:
    kind, device = record["event"], record.get("device")
    if device is None:
        if kind in ("attach", "detach", "access", "release", *_CALLS) and "space" not in record:
            raise InputError(f"device: {kind} needs it, such as '00:03.0'")
        return "" if kind in ("attach", "detach") else None
    if not isinstance(device, str):
        raise InputError(f"device: {device!r} is not a device: expected a string such as '00:03.0'")
    short = format_source_id(_field("device", parse_source_id, device))
    segment = int(device.split(":")[0], 16) if device.count(":") == 2 else 0
    return f"{segment:04x}:{short}"  # as the kernel names it


def _access(record: Record) -> int:
    kind = record["event"]
    access = record.get("access", "r" if kind == "access" else "rw")
    if not isinstance(access, str) or access not in _ACCESSES:
        raise InputError(f"access: {access!r} is none; known: r, w, rw, -")
    return _ACCESSES[access] if kind in ("map", "access") or kind in _CALLS else 0


def _gfp(record: Record) -> int:
    name = record.get("gfp", "")
    if not isinstance(name, str) or name not in GFP_CLASSES:
        raise InputError(f"gfp: {name!r} is none; {near(str(name), GFP_CLASSES[1:])}")
    return GFP_CLASSES.index(name)


def _leaf_levels(sizes: object) -> int:
    if not isinstance(sizes, list) or not all(isinstance(size, int) and size in _PAGES for size in sizes):
        raise InputError(f"page_sizes: {sizes!r} is no list of {', '.join(map(str, _PAGES))}")
    return sum(bit for size, bit in _PAGES.items() if size in sizes)


def _detail(record: Record) -> SpaceRef | str | None:
    if record["event"] != "invalidate":
        return _space(record)
    cache = record.get("cache", "iotlb")
    if cache not in _CACHES:
        raise InputError(f"cache: {cache!r} is none; known: {', '.join(_CACHES)}")
    return str(cache)


def _space(record: Record) -> SpaceRef | None:
    index = _optional(record, "space", 1 << 20)
    if index is None:
        if record["event"] == "space":
            raise InputError("space: a space needs its number")
        return None
    return SpaceRef(index, str(record.get("name", "")), attributed=record.get("attributed", True) is not False)


def write_json_lines(trace: Trace, out: IO[str]) -> None:
    """Write `trace` so that reading it again gives equal columns (but for event numbers and lines) and equal spaces."""
    JsonWriter(out, trace.spaces, trace.kernel_rule).write(trace.columns)


class JsonWriter:
    """Writes columns to `out` as they come, after the records that frame them."""

    def __init__(self, out: IO[str], spaces: Iterable[Space], kernel_rule: KernelRule) -> None:
        self._out = out
        self._put({"event": "trace", "version": VERSION, "kernel_rule": kernel_rule})
        for space in spaces:
            domain = {} if space.domain_id is None else {"domain": int(space.domain_id)}
            named = {"event": "space", "space": space.index, "name": space.name, **domain}
            self._put(named | {"attributed": space.attributed})

    def write(self, columns: Columns) -> None:
        """Append rows."""
        for row in columns.rows():
            self._put(_row(row))

    def _put(self, record: Record) -> None:
        self._out.write(json.dumps(record) + "\n")


def _row(row: dict[str, int]) -> Record:
    kind = Kind(row["kind"])
    record: Record = {"event": kind.name.lower(), "time": row["time_ns"], "cpu": row["cpu"], "space": row["space"]}
    if row["source"] != NO_SOURCE:
        record["device"] = format_source_id(row["source"])
    if kind in (Kind.MAP, Kind.UNMAP, Kind.ACCESS):
        record |= {"iova": f"{row['iova']:#x}", "size": row["size"]}
    if kind is Kind.MAP:
        sizes = [size for size, bit in _PAGES.items() if row["leaf_levels"] & bit]
        record |= {"gpa": f"{row['gpa']:#x}"} | ({} if len(sizes) == len(_PAGES) else {"page_sizes": sizes})
    if kind in (Kind.MAP, Kind.ACCESS):
        record["access"] = _NAMES[row["access"]]
    if kind is Kind.ACCESS and row["gpa"]:
        record["gpa"] = f"{row['gpa']:#x}"
    if row["gfp"]:
        record["gfp"] = GFP_CLASSES[row["gfp"]]
    if row["pasid"] != NO_PASID:
        record["pasid"] = row["pasid"]
    return record
