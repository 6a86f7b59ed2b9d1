"""Memory regions: RAM, registers behind functions, containers, and aliases of other regions.

A container holds regions at offsets. Where they overlap the higher priority wins, and of equal ones the one added
last. A region reaches no further than its container. What a region is worth in an address space is rendered there
(`device_models.address_space`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagetables.errors import InputError
from pagetables.memory import PhysicalMemory

if TYPE_CHECKING:
    from device_models.address_space import AddressSpace

__all__ = ["MemoryRegion", "Operations", "Ram", "Sizes", "WHOLE_SPACE"]

WHOLE_SPACE = 1 << 64


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes that one access may have."""

    smallest: int = 1
    largest: int = 4


@dataclass(frozen=True, slots=True)
class Operations:
    """What is behind a register region: functions of (offset, size) and (offset, size, value).

    `valid` is what the bus lets through: larger accesses are split, smaller ones are as if nothing were there.
    `implemented` is what the functions get: an access is split or widened to that.
    """

    read: Callable[[int, int], int]
    write: Callable[[int, int, int], None]
    valid: Sizes = field(default_factory=Sizes)
    implemented: Sizes = field(default_factory=Sizes)


@dataclass(frozen=True, slots=True)
class Ram:
    """Bytes of `memory` from physical address `start` on."""

    memory: PhysicalMemory
    start: int = 0


class MemoryRegion:
    """`size` bytes of something. It is in at most one container; `enabled` takes it out of sight."""

    def __init__(
        self,
        name: str,
        size: int,
        operations: Operations | None = None,
        ram: Ram | None = None,
        alias: MemoryRegion | None = None,
        alias_offset: int = 0,
    ) -> None:
        self.name = name
        self.size = size
        self.operations = operations
        self.ram = ram
        self.alias = alias
        self.alias_offset = alias_offset
        self.address = 0
        self.priority = 0
        self.container: MemoryRegion | None = None
        self.children: list[MemoryRegion] = []
        self.spaces: list[AddressSpace] = []
        self._aliases: list[MemoryRegion] = []
        self._enabled = True
        if alias is not None:
            alias._aliases.append(self)

    @classmethod
    def of(cls, target: MemoryRegion, name: str, offset: int, size: int) -> MemoryRegion:
        """An alias: `size` bytes of `target` from `offset` on, to be placed elsewhere."""
        return cls(name, size, alias=target, alias_offset=offset)

    @property
    def enabled(self) -> bool:
        """False while the region is hidden."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        if enabled != self._enabled:
            self._enabled = enabled
            self.changed()

    @property
    def kind(self) -> str:
        """`ram`, or `i/o` for everything else, as `info mtree` says."""
        return (self.alias.kind if self.alias else "i/o") if self.ram is None else "ram"

    def add(self, region: MemoryRegion, address: int, priority: int = 0) -> None:
        """Place `region` at `address`; it wins over what is there with a lower or the same priority."""
        if region.container is not None:
            raise InputError(f"memory region {region.name} is in {region.container.name} already")
        region.container, region.address, region.priority = self, address, priority
        place = next((n for n, other in enumerate(self.children) if priority >= other.priority), len(self.children))
        self.children.insert(place, region)
        self.changed()

    def remove(self, region: MemoryRegion) -> None:
        """Take `region` out; one that is not here is left alone."""
        if region.container is self:
            self.children.remove(region)
            region.container = None
            self.changed()

    def move(self, address: int) -> None:
        """Place the region elsewhere in its container."""
        if address != self.address:
            self.address = address
            self.changed()

    def retarget(self, offset: int, size: int) -> None:
        """Let an alias show another part of its target."""
        if (offset, size) != (self.alias_offset, self.size):
            self.alias_offset, self.size = offset, size
            self.changed()

    def forget(self) -> None:
        """End an alias: its target no longer tells it of changes."""
        if self.alias is not None and self in self.alias._aliases:
            self.alias._aliases.remove(self)

    def changed(self) -> None:
        """Every address space that shows this region is rendered anew."""
        for space in self.spaces:
            space.outdated()
        if self.container is not None:
            self.container.changed()
        for alias in self._aliases:
            alias.changed()
