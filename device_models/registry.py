"""Device types by name: those that come with the emulator, and those of other distributions.

A distribution adds a device with the entry point group `vtd.devices`: the name is what `-device` takes, the object is
a subclass of `Device`.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from device_models.device import Device
from device_models.options import OptionError
from pagetables.errors import InputError, near

__all__ = ["GROUP", "device_types", "distribution_of", "find_device_type"]

GROUP = "vtd.devices"
_BUILT_IN = (
    EntryPoint("attacker", "device_models.attacker:Attacker", GROUP),
    EntryPoint("dma-engine", "device_models.dma_engine:DmaEngine", GROUP),
    EntryPoint("edu", "device_models.edu:Edu", GROUP),
    EntryPoint("ich9-ahci", "device_models.q35:Ahci", GROUP),
    EntryPoint("intel-iommu", "device_models.intel_iommu:IntelIommu", GROUP),
    EntryPoint("iommu-testdev", "device_models.testdev:IommuTestdev", GROUP),
    EntryPoint("pci-bridge", "device_models.pci.bridges:PciBridge", GROUP),
    EntryPoint("pcie-pci-bridge", "device_models.pci.bridges:PcieToPciBridge", GROUP),
    EntryPoint("pcie-root-port", "device_models.pci.bridges:PcieRootPort", GROUP),
    EntryPoint("VGA", "device_models.q35:Vga", GROUP),
)


def device_types() -> list[str]:
    """Every name that `-device` takes, plug-ins included, sorted."""
    return sorted(_registered(), key=str.lower)


def find_device_type(name: str, profile: str = "") -> type[Device]:
    """The type called `name`, as machines with `profile` have it; OptionError in QEMU's words otherwise."""
    registered = _registered()
    if name not in registered:
        raise OptionError(f"'{name}' is not a valid device model name; {near(name, registered)}")
    try:
        found = registered[name].load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"device {name} ({registered[name].value}) cannot be loaded: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Device)):
        raise InputError(f"device {name} ({registered[name].value}) is no subclass of device_models.device.Device")
    return found.for_profile(profile)


def distribution_of(name: str) -> str | None:
    """The distribution that adds the type called `name`; None for those that come with the emulator."""
    entry = _registered().get(name)
    return entry.dist.name if entry is not None and entry.dist is not None else None


def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in (*_BUILT_IN, *entry_points(group=GROUP))}
