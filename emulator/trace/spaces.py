"""Which spaces there are, and which device or domain-id leads to which.

A space is one set of page tables. Devices are put into spaces by their attach events; the domain-id of the cache tag
assigned just before says which devices share one. Kernels that record no cache tags are helped out with the IOMMU
groups: devices of one group always share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from pagetables.address import DomainId, SourceId, parse_source_id
from pagetables.errors import InputError

__all__ = ["Space", "SpaceBook", "source_of"]


@dataclass(frozen=True, slots=True)
class Space:
    """An address space that the trace tells of. `index` is the number in the column `space`.

    `devices` are those that were ever attached, in order; when, say the attach and detach rows. A space that is not
    `attributed` gathers what no event ascribes to a device or domain; who uses it is unknown, so it has no devices.
    """

    index: int
    name: str
    devices: tuple[SourceId, ...] = ()
    domain_id: DomainId | None = None
    attributed: bool = True


@dataclass(slots=True)
class _Open:
    tag: tuple[str, int] | None = None
    name: str = ""
    domain_id: int | None = None
    attributed: bool = True
    devices: list[str] = field(default_factory=list)
    same_as: int | None = None


@lru_cache(maxsize=4096)
def source_of(device: str) -> SourceId | None:
    """The source-id of a device as a trace names it, or None if it is no PCI function."""
    try:
        return parse_source_id(device)
    except InputError:
        return None


class SpaceBook:
    """The spaces found so far."""

    def __init__(self) -> None:
        self._spaces: list[_Open] = []
        self._of_device: dict[str, int] = {}
        self._of_tag: dict[tuple[str, int], int] = {}
        self._group_of: dict[str, int] = {}
        self._members: dict[int, dict[str, None]] = {}
        self._declared: dict[tuple[int, int], int] = {}
        self.tags_seen = False

    def resolve(self, space: int) -> int:
        """The space that `space` turned out to be."""
        while (same := self._spaces[space].same_as) is not None:
            space = same
        return space

    def has_domain(self, space: int) -> bool:
        """Whether the domain-id of the space is known."""
        return self._spaces[self.resolve(space)].domain_id is not None

    def open(self, attributed: bool = True, name: str = "", domain_id: int | None = None) -> int:
        """The number of a new space."""
        self._spaces.append(_Open(name=name, domain_id=domain_id, attributed=attributed))
        return len(self._spaces) - 1

    def declare(self, file: int, index: int, name: str = "", domain: int | None = None, attributed: bool = True) -> int:
        """The space that `file` calls `index`, opened where it is first named."""
        space = self._declared.get((file, index))
        if space is None:
            space = self._declared[file, index] = self.open(attributed, name, domain)
        return space

    def find_device(self, device: str) -> int | None:
        """The space that `device` is in now, or None."""
        space = self._of_device.get(device)
        return None if space is None else self.resolve(space)

    def of_tag(self, unit: str, domain: int) -> int:
        """The space whose entries `unit` tags with `domain` now; a new one if that is not known."""
        space = self._of_tag.get((unit, domain))
        if space is None:
            space = self._new_tag(unit, domain)
        return self.resolve(space)

    def _new_tag(self, unit: str, domain: int) -> int:
        space = self._of_tag[unit, domain] = self.open(domain_id=domain)
        self._spaces[space].tag = (unit, domain)
        return space

    def join_group(self, device: str, group: int) -> None:
        """Remember the IOMMU group of a device."""
        self.leave_group(device)
        self._group_of[device] = group
        self._members.setdefault(group, {})[device] = None

    def leave_group(self, device: str) -> None:
        """Forget the IOMMU group of a device that is gone."""
        group = self._group_of.pop(device, None)
        if group is not None:
            del self._members[group][device]

    def unassign(self, unit: str, domain: int) -> None:
        """The last user of a domain-id on `unit` is gone: who gets it next has another space."""
        self._of_tag.pop((unit, domain), None)

    def assigned(self, unit: str, domain: int, references: int) -> int:
        """The space of a tag as an assign event leaves it: the first reference begins a new space."""
        self.tags_seen = True
        if references == 1:
            return self._new_tag(unit, domain)
        return self.of_tag(unit, domain)

    def attach(self, device: str, space: int) -> None:
        """Put `device` into `space`, out of the one it was in."""
        space = self.resolve(space)
        self._of_device[device] = space
        if device not in self._spaces[space].devices:
            self._spaces[space].devices.append(device)

    def detach(self, device: str) -> None:
        """Take `device` out of its space."""
        self._of_device.pop(device, None)

    def without_tag(self, device: str) -> int:
        """The space for a device of which no tag tells: that of a group mate which moved on already, or a new one."""
        mine = self.find_device(device)
        mates = [self.find_device(mate) for mate in self._mates(device)]
        ahead = [space for space in mates if space is not None and (mine is None or space > mine)]
        return max(ahead) if ahead else self.open()

    def _mates(self, device: str) -> list[str]:
        group = self._group_of.get(device)
        return [] if group is None else [mate for mate in self._members[group] if mate != device]

    def same(self, device: str, tagged: int) -> int:
        """The one space of `device`, now known to be the one with that tag; where both have tags, the device's."""
        mine = self._of_device.get(device)
        if mine is None:
            self.attach(device, tagged)
            return tagged
        return self.merge(mine, tagged)

    def merge(self, mine: int, tagged: int) -> int:
        """The one space that two turned out to be; `mine` itself if it has a tag already."""
        mine, tagged = self.resolve(mine), self.resolve(tagged)
        if mine == tagged or self._spaces[mine].tag is not None:
            return mine
        found, other = self._spaces[mine], self._spaces[tagged]
        found.tag, found.domain_id = other.tag, other.domain_id
        found.devices += [device for device in other.devices if device not in found.devices]
        other.same_as = mine
        return mine

    def close(self) -> tuple[list[Space], list[int]]:
        """The spaces, renumbered without those that merged; and the new number of each old one."""
        kept = [index for index, space in enumerate(self._spaces) if space.same_as is None]
        number = {old: new for new, old in enumerate(kept)}
        spaces = [self._closed(number[old], self._spaces[old]) for old in kept]
        return spaces, [number[self.resolve(old)] for old in range(len(self._spaces))]

    def _closed(self, index: int, space: _Open) -> Space:
        sources = dict.fromkeys(source for source in map(source_of, space.devices) if source is not None)
        domain = None if space.domain_id is None else DomainId(space.domain_id)
        return Space(index, space.name or _name(space), tuple(sources), domain, space.attributed)


def _name(space: _Open) -> str:
    devices = ", ".join(device.removeprefix("0000:") for device in space.devices)
    if space.tag is not None:
        unit, domain = space.tag
        return f"domain {domain}" + (f" of {unit}" if unit else "") + (f" ({devices})" if devices else "")
    return devices or "unnamed"
