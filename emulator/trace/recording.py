"""The commands that record a usable trace on a target machine, and which kernels print what.

Every event named here is one that `emulator.trace.tracepoints` reads. Boot parameters record from the first map on;
what was mapped before a recording began is otherwise unknown to it. `trace_clock=mono` orders the CPUs' events.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pagetables.errors import InputError, near

__all__ = ["EVENTS", "TOOLS", "Recording", "commands", "kernel_notes"]

EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "iommu": (
        "map", "unmap", "attach_device_to_domain", "add_device_to_group", "remove_device_from_group", "io_page_fault",
    ),
    "dma": (
        "dma_map_phys", "dma_map_page", "dma_map_resource", "dma_unmap_phys", "dma_unmap_page", "dma_unmap_resource",
        "dma_alloc", "dma_alloc_pages", "dma_alloc_sgt", "dma_alloc_sgt_err", "dma_free", "dma_free_pages",
        "dma_free_sgt", "dma_map_sg", "dma_map_sg_err", "dma_unmap_sg",
    ),
    "intel_iommu": ("qi_submit", "prq_report", "cache_tag_assign", "cache_tag_unassign", "cache_tag_flush_range"),
    "swiotlb": ("swiotlb_bounced",),
}  # fmt: skip
"""The events to enable, by group; a kernel has those of its age."""

TOOLS: Final = ("ftrace", "trace-cmd", "perf", "boot", "qemu")
"""The ways to record, by name."""

_TRACING = "/sys/kernel/tracing"
_VERSION = re.compile(r"([0-9]{1,2})\.([0-9]{1,3})(?:\.([0-9]{1,4}))?(?:[-+.].*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Recording:
    """What to record: `seconds` long, `buffer_kib` for each CPU, the groups of `EVENTS` named."""

    seconds: int = 30
    buffer_kib: int = 65536
    groups: tuple[str, ...] = tuple(EVENTS)

    @classmethod
    def of(cls, seconds: int, buffer_kib: int, groups: Sequence[str]) -> Recording:
        """The recording with these groups, all of them if none is named; InputError for what cannot be recorded."""
        for group in groups:
            if group not in EVENTS:
                raise InputError(f"no group of events is called {group!r}; {near(group, EVENTS)}")
        if seconds < 1 or buffer_kib < 1:
            raise InputError(f"{seconds} s with {buffer_kib} KiB for each CPU: expected at least 1 of both")
        return cls(seconds, buffer_kib, tuple(dict.fromkeys(groups)) or tuple(EVENTS))


def commands(tool: str, recording: Recording) -> list[str]:
    """The lines of a root shell that record with `tool`; the last one names the file to bring home."""
    if tool not in TOOLS:
        raise InputError(f"no way to record is called {tool!r}; {near(tool, TOOLS)}")
    make = {"ftrace": _ftrace, "trace-cmd": _trace_cmd, "perf": _perf, "boot": _boot, "qemu": _qemu}
    return make[tool](recording)


def _ftrace(recording: Recording) -> list[str]:
    lines = [f"cd {_TRACING}", "echo 0 > tracing_on", "echo > trace", "echo mono > trace_clock"]
    lines.append(f"echo {recording.buffer_kib} > buffer_size_kb")
    for group in recording.groups:
        names = " ".join(EVENTS[group])
        lines.append(f"for e in {names}; do [ -d events/{group}/$e ] && echo 1 > events/{group}/$e/enable; done")
    return [
        *lines,
        f"echo 1 > tracing_on; sleep {recording.seconds}; echo 0 > tracing_on",
        "grep . per_cpu/cpu*/stats | grep overrun",
        "gzip -c trace > /root/trace.txt.gz",
    ]


def _trace_cmd(recording: Recording) -> list[str]:
    # trace-cmd takes a group by its name, and refuses an event that the kernel does not have.
    groups = " ".join(f"-e {group}" for group in recording.groups)
    return [
        f"trace-cmd record -C mono -b {recording.buffer_kib} {groups} -o /root/trace.dat sleep {recording.seconds}",
        "trace-cmd report -i /root/trace.dat | gzip > /root/trace.report.gz",
    ]


def _perf(recording: Recording) -> list[str]:
    groups = " ".join(f"-e {shlex.quote(group + ':*')}" for group in recording.groups)
    return [
        f"perf record -a -k mono -m {_power_of_two(recording.buffer_kib)}K {groups} -o /root/perf.data"
        f" -- sleep {recording.seconds}",
        "perf script --ns -F comm,tid,cpu,time,event,trace -i /root/perf.data | gzip > /root/trace.perf.gz",
    ]


def _power_of_two(kib: int) -> int:
    return 1 << max(kib - 1, 3).bit_length()


def _boot(recording: Recording) -> list[str]:
    groups = ",".join(f"{group}:*" for group in recording.groups)
    return [
        f"# kernel command line: trace_clock=mono trace_buf_size={recording.buffer_kib}K trace_event={groups}",
        f"echo 0 > {_TRACING}/tracing_on",
        f"gzip -c {_TRACING}/trace > /root/trace.txt.gz",
    ]


def _qemu(recording: Recording) -> list[str]:
    events = ("vtd_dmar_translate", "vtd_iotlb_page_hit", "vtd_iotlb_page_update", "vtd_dmar_fault", "vtd_inv_desc",
              "vtd_reg_write")  # fmt: skip
    traced = " ".join(f"-trace {event}" for event in events)
    return [f"qemu-system-x86_64 -device intel-iommu {traced} -msg timestamp=on -D qemu-vtd.log ..."]


def kernel_notes(version: str | None) -> list[str]:
    """What traces of this kernel lack, each a sentence; without a version, of every kernel that lacks something."""
    if version is None:
        return [note for _, _, note in _NOTES]
    found = _VERSION.fullmatch(version)
    if found is None:
        raise InputError(f"{version!r} is no kernel version: expected such as 6.12 or 7.0.3")
    number = int(found[1]), int(found[2])
    return [note for first, last, note in _NOTES if first <= number <= last]


_NOTES: Final = (
    ((0, 0), (6, 9), "before 6.10: no cache_tag_* events: maps get their device by dma events or IOMMU groups"),
    ((0, 0), (6, 11), "before 6.12: no dma:* events: maps are told apart by address only"),
    (
        (0, 0),
        (5, 11),
        "before 5.12: no qi_submit; 5.4 to 5.11 have intel_iommu:map_single and others, which name devices",
    ),
    ((7, 0), (7, 0), "7.0.x before the stable release of mid-2026 prints no iommu:map at all: record dma:* too"),
    ((6, 16), (99, 0), "from about 6.16 (seen in 7.2): NVMe maps through dma_iova_link: iommu:map without a dma event"),
    ((0, 0), (99, 0), "VT-d prints no io_page_fault: keep `dmesg` of the same time, its DMAR lines tell the faults"),
)
