"""Traces as a kernel, trace-cmd or perf would have printed them.

`TextWriter` tells columns as events: what our readers understand again, in the words of kernel 6.12 (rule 6.x) or 7
(7.x). Text has no place for device accesses, PASIDs and page sizes, nor for the class of a request outside of an
allocation: `losses` counts what was left out. `reframe` passes the event lines of one text format on in another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from emulator.trace.columns import NO_PASID, NO_SOURCE, Columns
from emulator.trace.event import GFP_CLASSES, READ, WRITE, Kind
from emulator.trace.framing import FRAME, PERF_FRAME, Format, time_ns
from emulator.trace.spaces import Space
from emulator.trace.trace import KernelRule
from pagetables.address import PAGE_SHIFT, SourceId, format_source_id

__all__ = ["GROUPS", "HEADERS", "TextWriter", "framed", "reframe"]

HEADERS: Final = {Format.FTRACE: "# tracer: nop\n#\n", Format.TRACE_CMD: "cpus=1\n", Format.PERF: ""}

GROUPS: Final = (("map", "iommu"), ("unmap", "iommu"), ("dma_", "dma"), ("cache_tag_", "intel_iommu"),
    ("qi_submit", "intel_iommu"), ("prq_report", "intel_iommu"), ("bounce_", "intel_iommu"),
    ("swiotlb_", "swiotlb"), ("attach_", "iommu"), ("detach_", "iommu"), ("add_device", "iommu"),
    ("remove_device", "iommu"), ("io_page_fault", "iommu"))  # fmt: skip
"""How event names begin, and the group of events that they belong to; perf prints it."""

_DIRECTIONS = {READ: "TO_DEVICE", WRITE: "FROM_DEVICE", READ | WRITE: "BIDIRECTIONAL"}
_ALL_PAGES = 7
_FIRST_PID = 1000
_OTHER_GROUP = "ftrace"
_MICROSECOND = 1000


def framed(style: Format, task: str, pid: int, cpu: int, time: int, name: str, text: str) -> str:
    """One line of `style`, with its end; `time` in nanoseconds, printed in microseconds where nothing is lost."""
    seconds, rest = divmod(time, 1_000_000_000)
    stamp = f"{seconds:5d}.{rest:09d}" if rest % _MICROSECOND else f"{seconds:5d}.{rest // _MICROSECOND:06d}"
    if style is Format.PERF:
        return f"{task:>16} {pid:7d} [{cpu:03d}] {stamp}: {_group(name)}:{name}: {text}\n"
    if style is Format.TRACE_CMD:
        return f"{task:>16}-{pid:<5d} [{cpu:03d}] {stamp}: {name + ':':<20} {text}\n"
    return f"{task:>16}-{pid:<7d} [{cpu:03d}] ..... {stamp}: {name}: {text}\n"


def _group(name: str) -> str:
    return next((group for start, group in GROUPS if name.startswith(start)), _OTHER_GROUP)


class TextWriter:
    """Writes columns as event lines through `write`. Each space is one task's, and domain `did` of one unit."""

    def __init__(
        self, write: Callable[[str], object], style: Format, spaces: Sequence[Space], kernel_rule: KernelRule
    ) -> None:
        self.losses: Counter[str] = Counter()
        self._write = write
        self._style = style
        self._spaces = spaces
        self._old = kernel_rule == "6.x"
        self._domains = _domains(spaces)
        self._attached: dict[int, list[int]] = {space.index: [] for space in spaces}
        self._begun: set[int] = set()
        self._tell: dict[int, Callable[..., Iterator[tuple[str, str]]]] = {
            int(Kind.MAP): self._map,
            int(Kind.UNMAP): self._unmap,
            int(Kind.ATTACH): self._attach,
            int(Kind.DETACH): self._detach,
        }
        write(HEADERS[style])

    def write(self, columns: Columns) -> None:
        """Append rows."""
        self._count_losses(columns)
        names = ("kind", "space", "source", "iova", "gpa", "size", "access", "gfp", "cpu", "time_ns")
        for row in zip(*(columns[name].tolist() for name in names), strict=True):
            tell = self._tell.get(row[0])
            if tell is None:
                continue
            space, cpu, time = row[1], row[8], row[9]
            for name, text in tell(*row[1:8]):
                self._write(framed(self._style, f"space-{space}", _FIRST_PID + space, cpu, time, name, text))

    def _count_losses(self, columns: Columns) -> None:
        maps = columns.kind == Kind.MAP
        left_out = {
            "device accesses": columns.kind == Kind.ACCESS,
            "PASIDs of accesses": columns.pasid != NO_PASID,
            "page sizes of maps": maps & (columns.leaf_levels != _ALL_PAGES),
        }
        for what, which in left_out.items():
            count = int(np.count_nonzero(which))
            if count:
                self.losses[what] += count

    def _map(
        self, space: int, _: int, iova: int, gpa: int, size: int, access: int, gfp: int
    ) -> Iterator[tuple[str, str]]:
        end = iova + size & (1 << 64) - 1
        yield "map", f"IOMMU: iova=0x{iova:016x} - 0x{end:016x} paddr=0x{gpa:016x} size={size}"
        devices = self._attached[space]
        if not devices or not access:
            return
        device = _device(devices[0])
        if gfp and access == READ | WRITE:
            flags = f"GFP_{GFP_CLASSES[gfp].upper()}"
            direction = "" if self._old else "dir=BIDIRECTIONAL "
            address = f"dma_addr={iova:x} size={size} virt_addr=0000000000000000"
            yield "dma_alloc", f"{device} {direction}{address} flags={flags} attrs="
            return
        name = "dma_map_page" if self._old else "dma_map_phys"
        yield name, f"{device} dir={_DIRECTIONS[access]} dma_addr={iova:x} size={size} phys_addr={gpa:x} attrs="

    def _unmap(self, space: int, _: int, iova: int, _gpa: int, size: int, *rest: int) -> Iterator[tuple[str, str]]:
        end = iova + size & (1 << 64) - 1
        yield "unmap", f"IOMMU: iova=0x{iova:016x} - 0x{end:016x} size={size} unmapped_size={size}"
        if self._attached[space]:
            pages = size >> PAGE_SHIFT
            told = f" pages 0x{pages:x}" if self._old else ""
            where = f"[0x{iova:x}-0x{iova + size - 1:x}] addr 0x{iova:x}{told} mask 0x{(pages - 1).bit_length():x}"
            yield "cache_tag_flush_range", f"dmar0 dmar0[0] type iotlb did {self._domains[space]} {where}"

    def _attach(self, space: int, source: int, *rest: int) -> Iterator[tuple[str, str]]:
        if source == NO_SOURCE:
            self.losses["attachments of what is no PCI device"] += 1
            return
        self._attached[space].append(source)
        references = 2 if space in self._begun else 1  # the first begins a space
        self._begun.add(space)
        did = self._domains[space]
        yield "cache_tag_assign", f"dmar0/dmar0 type iotlb did {did} pasid 0 ref {references}"
        yield "attach_device_to_domain", f"IOMMU: device={_device(source)}"

    def _detach(self, space: int, source: int, *rest: int) -> Iterator[tuple[str, str]]:
        if source in self._attached[space]:
            self._attached[space].remove(source)
        if source != NO_SOURCE:
            yield "detach_device_from_domain", f"IOMMU: device={_device(source)}"


def _domains(spaces: Sequence[Space]) -> dict[int, int]:
    # A domain-id is one space's here: where two units used the same one, or none is known, a free one is taken.
    used: dict[int, int] = {}
    free = max((int(space.domain_id) for space in spaces if space.domain_id is not None), default=0)
    taken: set[int] = set()
    for space in spaces:
        wanted = None if space.domain_id is None else int(space.domain_id)
        if wanted is None or wanted in taken:
            free += 1
            wanted = free
        taken.add(wanted)
        used[space.index] = wanted
    return used


def _device(source: int) -> str:
    return f"0000:{format_source_id(SourceId(source))}"


def reframe(pieces: Iterable[bytes], source: Format, target: Format) -> Iterator[str]:
    """The event lines of text in the frame of `target`, headers and lost-event lines as they stand, no call chains."""
    yield HEADERS[target]
    frame = PERF_FRAME if source is Format.PERF else FRAME
    for piece in pieces:
        for line in piece.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n"):
            found = frame.match(line)
            if found is not None:
                seconds, fraction, ticks, name, text = found.group(4, 5, 6, 7, 8)
                time = time_ns(seconds, fraction, "" if source is Format.PERF else ticks)
                yield framed(target, found[1], int(found[2]), int(found[3] or 0), time, name, text)
            elif line.startswith("CPU:") and target is not Format.PERF:
                yield line + "\n"
