"""Memory maps in words: what `info mtree` prints of address spaces, as trees of regions and as flat views."""

from __future__ import annotations

from collections.abc import Iterator

from device_models.address_space import AddressSpace
from device_models.memory_region import MemoryRegion

__all__ = ["flat_view_lines", "memory_tree_lines"]

_LAST = (1 << 64) - 1


def memory_tree_lines(space: AddressSpace) -> list[str]:
    """The regions of a space by address, then the targets of aliases that are nowhere else."""
    lines = [f"address-space: {space.name}", *_branch(space.root, 0, "  ")]
    shown, waiting = {id(space.root)}, _targets(space.root)
    while waiting:
        region = waiting.pop(0)
        if id(region) not in shown and region.container is None:
            shown.add(id(region))
            lines += ["", f"memory-region: {region.name}", *_branch(region, region.address, "  ")]
            waiting += _targets(region)
    return lines


def flat_view_lines(space: AddressSpace) -> list[str]:
    """What is where: `info mtree -f`."""
    lines = [f' AS "{space.name}", root: {space.root.name}', f" Root memory region: {space.root.name}"]
    for flat in space.ranges():
        at = f" @{flat.offset:016x}" if flat.offset else ""
        region = flat.region
        what = f"(prio {region.priority}, {region.kind}): {region.name}{at}"
        lines.append(f"  {_span(flat.start, flat.end - 1)} {what}")
    return lines if space.ranges() else [*lines, "  No rendered FlatView"]


def _branch(region: MemoryRegion, start: int, indent: str) -> Iterator[str]:
    what = region.name
    if region.alias is not None:
        last = region.alias_offset + max(region.size - 1, 0)
        what = f"alias {region.name} @{region.alias.name} {_span(region.alias_offset, last)}"
    hidden = "" if region.enabled else " [disabled]"
    end = start + max(region.size - 1, 0)
    yield f"{indent}{_span(start, end)} (prio {region.priority}, {region.kind}): {what}{hidden}"
    for child in sorted(region.children, key=lambda known: (known.address, -known.priority)):
        yield from _branch(child, start + child.address, indent + "  ")


def _span(start: int, last: int) -> str:
    return f"{start & _LAST:016x}-{min(last, _LAST):016x}"


def _targets(region: MemoryRegion) -> list[MemoryRegion]:
    found = [] if region.alias is None else [region.alias]
    for child in region.children:
        found += _targets(child)
    return found
