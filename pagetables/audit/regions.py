"""Memory that has a meaning: where the kernel lies, whose rings are where. From System.map, YAML hints, /proc/iomem."""

from __future__ import annotations

import enum
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pagetables.address import GPA_LIMIT, PAGE_SIZE, SourceId, parse_source_id
from pagetables.errors import InputError

__all__ = ["Hints", "Region", "RegionKind", "parse_hints", "parse_symbols", "read_hints", "read_symbols"]

KERNEL_MAP = 0xFFFF_FFFF_8000_0000  # x86-64: the kernel's image is linked to this address plus where it lies
LONGEST_SYMBOLS = 64 << 20  # bytes of a file
LONGEST_HINTS = 1 << 20
_SYMBOL = re.compile(rb"([0-9a-fA-F]{8,16}) +([A-Za-z?]) +(\S+)")
_RESOURCE = re.compile(r" *([0-9a-f]+)-([0-9a-f]+) : (.+)")


class RegionKind(enum.Enum):
    """What a region is to the kernel."""

    TEXT = "kernel text"
    RODATA = "kernel read-only data"
    DATA = "kernel data"
    TABLES = "page tables of the CPU"
    PRIVATE = "private memory"  # of the devices named, or of none
    RAM = "memory"  # what the operating system uses as it likes


@dataclass(frozen=True, slots=True)
class Region:
    """Physical memory [start, start + size) with a name. `devices` may reach it, whatever it is."""

    name: str
    kind: RegionKind
    start: int
    size: int
    devices: tuple[SourceId, ...] = ()


@dataclass(frozen=True, slots=True)
class Hints:
    """What a user knows: regions, and how to make physical addresses of the kernel's.

    A symbol's physical address is its address - 0xffffffff80000000 + `kernel_offset` (KASLR, KERNELOFFSET of
    VMCOREINFO; 0 if the symbols are of the running kernel) + `phys_base` (NUMBER(phys_base) of VMCOREINFO).
    """

    regions: tuple[Region, ...] = ()
    phys_base: int | None = None
    kernel_offset: int | None = None


# From which symbol to which: what lies between them. Not .bss: Linux gives unused pages of its end (those kept apart
# for memory encryption) to the allocator, and devices rightly get them.
_SECTIONS = (
    ("_text", "_etext", RegionKind.TEXT),
    ("_stext", "_etext", RegionKind.TEXT),
    ("__start_rodata", "__end_rodata", RegionKind.RODATA),
    ("_sdata", "_edata", RegionKind.DATA),
)
_TABLES = ("init_top_pgt", "swapper_pg_dir", "level4_kernel_pgt", "level3_kernel_pgt", "level2_kernel_pgt")


def read_symbols(path: str, hints: Hints = Hints()) -> tuple[Region, ...]:
    """The regions that the System.map (or /proc/kallsyms) at `path` tells; InputError if it is none."""
    return parse_symbols(_contents(path, LONGEST_SYMBOLS), path, hints)


def parse_symbols(data: bytes, name: str = "symbols", hints: Hints = Hints()) -> tuple[Region, ...]:
    """The regions of the kernel's image that the System.map text `data` tells; `name` is said in errors."""
    known: dict[str, int] = {}
    wanted = {symbol for start, end, _ in _SECTIONS for symbol in (start, end)} | set(_TABLES)
    encoded = {symbol.encode(): symbol for symbol in wanted}
    lines = 0
    for line in data.splitlines():
        match = _SYMBOL.match(line)
        lines += match is not None
        if match is not None and match[3] in encoded:
            known.setdefault(encoded[match[3]], int(match[1], 16))
    if not lines:
        raise InputError(f"{name}: no symbols in it: expected lines such as `ffffffff81000000 T _text`")
    if not any(known.values()):
        raise InputError(
            f"{name}: none of {', '.join(sorted(wanted))} has an address (/proc/kallsyms shows them to root only)"
        )
    shift = (hints.kernel_offset or 0) + (hints.phys_base or 0) - KERNEL_MAP
    return tuple(_checked(name, region) for region in _kernel_regions(known, shift))


def _kernel_regions(known: Mapping[str, int], shift: int) -> Iterator[Region]:
    told = set()
    for first, last, kind in _SECTIONS:
        if first in known and last in known and last not in told and known[last] > known[first]:
            told.add(last)
            yield Region(kind.value, kind, known[first] + shift, known[last] - known[first])
    for symbol in _TABLES:
        if symbol in known and known[symbol] % PAGE_SIZE == 0:
            yield Region(symbol, RegionKind.TABLES, known[symbol] + shift, PAGE_SIZE)


def _checked(name: str, region: Region) -> Region:
    if not 0 <= region.start < region.start + region.size <= GPA_LIMIT:
        raise InputError(
            f"{name}: {region.name} would lie at {region.start:#x}+{region.size:#x}, which is no physical address; "
            "phys_base or kernel_offset in the hints are wrong"
        )
    return region


def read_hints(path: str) -> Hints:
    """The hints in the file at `path`: YAML, or the text of /proc/iomem; InputError otherwise."""
    return parse_hints(_contents(path, LONGEST_HINTS), path)


def parse_hints(data: bytes, name: str = "hints") -> Hints:
    """The hints in `data`: YAML, or the text of /proc/iomem; `name` is said in errors."""
    text = data.decode("utf-8", "replace")
    first = next((line for line in text.splitlines() if line.strip()), "")
    if _RESOURCE.fullmatch(first):
        return Hints(tuple(_resources(text, name)))
    import yaml

    try:
        document = yaml.load(text, yaml.BaseLoader)  # text only: 00:05.0 would be a number
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{name}: neither YAML nor the text of /proc/iomem: {error}") from None
    if not isinstance(document, dict) or not set(document) <= {"kernel", "regions"}:
        raise InputError(f"{name}: expected `kernel` and `regions`, or the text of /proc/iomem")
    kernel = _table(document.get("kernel") or {}, ("phys_base", "offset"), f"{name}: kernel")
    rows = document.get("regions") or []
    if not isinstance(rows, list):
        raise InputError(f"{name}: `regions` is not a list")
    regions = tuple(_region(row, f"{name}: region {number}") for number, row in enumerate(rows, 1))
    base, offset = (
        _number(kernel[key], f"{name}: {key}") if key in kernel else None for key in ("phys_base", "offset")
    )
    return Hints(regions, base, offset)


def _table(value: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= set(keys):
        raise InputError(f"{where}: expected a table of {', '.join(keys)}")
    return value


def _region(row: Any, where: str) -> Region:
    row = _table(row, ("name", "start", "end", "size", "kind", "devices"), where)
    kinds = {kind.name.lower(): kind for kind in RegionKind}
    word = row.get("kind", "private")
    if not isinstance(word, str) or word not in kinds:
        raise InputError(f"{where}: kind {reprlib.repr(word)}; expected one of {', '.join(kinds)}")
    kind = kinds[word]
    if "start" not in row or ("size" in row) == ("end" in row):
        raise InputError(f"{where}: expected `start`, and either `size` or `end` (the last byte)")
    start = _number(row["start"], f"{where}: start")
    size = _number(row["size"], f"{where}: size") if "size" in row else 0
    size = size or _number(row.get("end", start - 1), f"{where}: end") + 1 - start
    devices = row.get("devices") or []
    if not isinstance(devices, list) or not all(isinstance(device, str) for device in devices):
        raise InputError(f"{where}: `devices` is not a list of devices")
    label = row.get("name", kind.value)
    if not isinstance(label, str):
        raise InputError(f"{where}: `name` is not a text")
    return _checked(where, Region(label, kind, start, size, tuple(map(parse_source_id, devices))))


def _number(value: Any, where: str) -> int:
    try:
        return int(value, 0)
    except (ValueError, TypeError):
        raise InputError(f"{where}: {reprlib.repr(value)} is not a number") from None


_RESOURCES = {
    "Kernel code": RegionKind.TEXT,
    "Kernel rodata": RegionKind.RODATA,
    "Kernel data": RegionKind.DATA,
    "System RAM": RegionKind.RAM,
}


def _resources(text: str, name: str) -> Iterator[Region]:
    hidden = True
    for line in text.splitlines():
        match = _RESOURCE.fullmatch(line.rstrip())
        if match is None:
            continue
        start, last = int(match[1], 16), int(match[2], 16)
        hidden &= last == 0
        kind = _RESOURCES.get(match[3].strip())
        if kind is not None and last > start:
            yield _checked(name, Region(match[3].strip(), kind, start, last + 1 - start))
    if hidden:
        raise InputError(f"{name}: every address is 0 (/proc/iomem shows them to root only)")


def _contents(path: str, longest: int) -> bytes:
    with open(path, "rb") as file:
        data = file.read(longest + 1)
    if len(data) > longest:
        raise InputError(f"{path}: longer than {longest} bytes, which is more than there is to say")
    return data
