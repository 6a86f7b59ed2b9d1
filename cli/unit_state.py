"""What a unit's registers say of it, in words: what it can do, what is enabled, what went wrong."""

from __future__ import annotations

from collections.abc import Iterator

from cli.outline import Node
from cli.render import count
from pagetables.address import format_source_id
from pagetables.images.registers import RegisterPage
from pagetables.layouts.registers import (
    Capability,
    ExtendedCapability,
    FaultEventControl,
    FaultStatus,
    InvalidationQueueErrorRecord,
    ProtectedMemoryEnable,
    Version,
)

__all__ = ["state_lines", "state_nodes"]

_ABLE = (
    ("smts", "scalable mode"),
    ("pt", "pass-through"),
    ("nest", "nested"),
    ("pasid", "PASID"),
    ("qi", "queued invalidation"),
    ("ir", "interrupt remapping"),
    ("eim", "x2APIC"),
    ("dt", "device-TLB"),
    ("prs", "page requests"),
    ("sc", "snoop control"),
)
_ENABLED = (
    ("tes", "translation"),
    ("rtps", "root table set"),
    ("qies", "queued invalidation"),
    ("ires", "interrupt remapping"),
    ("irtps", "interrupt table set"),
    ("cfis", "compatibility format interrupts"),
    ("afls", "advanced fault log"),
)
_WRONG = (
    ("pfo", "fault records overflowed"),
    ("iqe", "the invalidation queue stopped at an error"),
    ("ice", "an invalidation completed that nobody waits for"),
    ("ite", "a device-TLB invalidation timed out"),
)


def state_nodes(registers: RegisterPage) -> Iterator[Node]:
    """The lines as branches of a tree; what went wrong stands out."""
    if registers.base is None:  # made up for a bare root table address
        return
    for text, is_wrong in state_lines(registers):
        yield Node(text, "yellow" if is_wrong else "")


def state_lines(registers: RegisterPage) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it tells of something wrong."""
    yield _capabilities(registers), False
    enabled = [what for name, what in _ENABLED if registers.status.field(name).mask & registers.status]
    yield f"enabled: {', '.join(enabled) or 'nothing'}", False
    if registers.has(FaultEventControl):
        masked = "masked" if registers.read(FaultEventControl).im else "on"
        records = count(registers.read(Capability).nfr + 1, "fault record")
        yield f"{records}, fault event {masked}", False
    if registers.has(ProtectedMemoryEnable) and registers.read(ProtectedMemoryEnable).prs:
        yield "protected memory regions are on", False
    if registers.has(FaultStatus):
        status = registers.read(FaultStatus)
        for name, what in _WRONG:
            if status.field(name).mask & status:
                yield f"fault status: {what}{_where(registers, name)}", True


def _capabilities(registers: RegisterPage) -> str:
    cap, ecap = registers.read(Capability), registers.read(ExtendedCapability)
    able = registers.capabilities()
    stages = []
    if able.second_stage_levels:
        stages.append(f"second-stage {_levels(able.second_stage_levels)}")
    if able.first_stage_levels:
        stages.append(f"first-stage {_levels(able.first_stage_levels)}")
    sizes = ["4 KiB", *(name for bit, name in ((1, "2 MiB"), (2, "1 GiB")) if cap.sslps & bit)]
    features = [what for name, what in _ABLE if ecap.field(name).mask & ecap]
    version = registers.read(Version)
    return f"version {version.maj}.{version.min}, can do: {', '.join((*stages, ' '.join(sizes), *features))}"


def _levels(levels: frozenset[int]) -> str:
    return "/".join(map(str, sorted(levels))) + " levels"


def _where(registers: RegisterPage, name: str) -> str:
    if not registers.has(InvalidationQueueErrorRecord):
        return ""
    record = registers.read(InvalidationQueueErrorRecord)
    if name == "iqe" and record.iqei:
        return f" (reason {record.iqei})"
    if name == "ite" and record.itesid:
        return f" (device {format_source_id(record.itesid)})"
    return ""
