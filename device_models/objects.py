"""The tree of a machine's objects, by path, as QEMU's QOM has it: `/machine/peripheral/ID` is the device called ID.

Devices without an id are in `/machine/peripheral-anon`, those that belong to the board in `/machine/unattached`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from device_models.device import Device
from device_models.options import OptionError
from pagetables.errors import near

__all__ = ["ANONYMOUS", "BOARD", "IO_APIC", "MACHINE", "NAMED", "ObjectProperty", "ObjectTree"]

MACHINE = "/machine"
NAMED, ANONYMOUS, BOARD = f"{MACHINE}/peripheral", f"{MACHINE}/peripheral-anon", f"{MACHINE}/unattached"
IO_APIC = f"{MACHINE}/q35/ioapic"


@dataclass(frozen=True, slots=True)
class ObjectProperty:
    """A property, or a child (whose type is `child<TYPE>`), of an object in the tree."""

    name: str
    type: str


class ObjectTree:
    """Objects by absolute path. A path leads to a device, or to a container that holds others."""

    def __init__(self, machine_type: str) -> None:
        self._types = {
            MACHINE: machine_type,
            f"{MACHINE}/q35": "q35-pcihost",
            IO_APIC: "ioapic",
            NAMED: "container",
            ANONYMOUS: "container",
            BOARD: "container",
        }
        self._devices: dict[str, Device] = {}
        self._made: dict[str, int] = {}

    def add(self, device: Device, folder: str, name: str | None = None) -> str:
        """Put `device` into `folder`, as `name` or as the next `device[N]` of it; returns its path."""
        if name is None:
            number = self._made.get(folder, 0)
            self._made[folder] = number + 1
            name = f"device[{number}]"
        path = f"{folder}/{name}"
        self._types[path], self._devices[path] = device.TYPE, device
        return path

    def remove(self, path: str) -> None:
        """Take the object at `path` out."""
        self._types.pop(path, None)
        self._devices.pop(path, None)

    def device(self, path: str) -> Device:
        """The device at `path`, or with that id; OptionError if there is none."""
        full = path if path.startswith("/") else f"{NAMED}/{path}"
        if full not in self._devices:
            raise OptionError(f"Device '{path}' not found{self._near(path)}")
        return self._devices[full]

    def device_at(self, path: str) -> Device | None:
        """The device at an absolute path; None if something else, or nothing, is there."""
        return self._devices.get(path)

    def resolve(self, path: str) -> str:
        """The absolute path that `path` means: itself, or the only one that ends in it."""
        if path.rstrip("/") in self._types:
            return path.rstrip("/")
        ends = [known for known in self._types if not path.startswith("/") and known.endswith(f"/{path}")]
        if len(ends) != 1:
            raise OptionError(f"Device '{path}' not found{self._near(path)}")
        return ends[0]

    def properties(self, path: str) -> list[ObjectProperty]:
        """What `qom-list` answers: `type`, the device's properties, then children."""
        where = self.resolve(path)
        found = [ObjectProperty("type", "string")]
        device = self._devices.get(where)
        if device is not None:
            found.append(ObjectProperty("realized", "bool"))
            found += [ObjectProperty(name, known.type_name) for name, known in sorted(device.properties.items())]
        for child, kind in self._types.items():
            if child.rpartition("/")[0] == where:
                found.append(ObjectProperty(child.rpartition("/")[2], f"child<{kind}>"))
        return found

    def get(self, path: str, name: str) -> Any:
        """What `qom-get` answers: the value of a property; a child's value is its path."""
        where = self.resolve(path)
        if name == "type":
            return self._types[where]
        if f"{where}/{name}" in self._types:
            return f"{where}/{name}"
        device = self._devices.get(where)
        if device is None:
            raise OptionError(f"Property '{self._types[where]}.{name}' not found")
        return device.realized if name == "realized" else device.get_property(name)

    def _near(self, path: str) -> str:
        # Ids for what looks like one, paths for a path; a long list of them teaches nobody.
        ids = [known.removeprefix(f"{NAMED}/") for known in self._types if known.startswith(f"{NAMED}/")]
        found = near(path, self._types if "/" in path else ids)
        return "" if found.startswith("known: ") and ("/" in path or not ids) else f"; {found}"

    def paths(self) -> list[str]:
        """Every path, sorted."""
        return sorted(self._types)
