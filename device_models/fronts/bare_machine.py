"""QEMU's `-machine none`: no memory, no buses, no devices; programs start one to ask what a binary knows."""

from __future__ import annotations

from device_models.device import Device
from device_models.machine import SystemMachine
from device_models.options import OptionError, parse_options
from device_models.pci.function import PciFunction
from device_models.registry import find_device_type
from emulator.profile import Profile

__all__ = ["BareMachine"]

_LEAST_MEMORY = 4096  # of the machine that this is made of; none of it can be seen


class BareMachine(SystemMachine):
    """A machine that takes no device."""

    TYPE = "none-machine"

    def __init__(self, profile: str | Profile) -> None:
        super().__init__(profile, memory_size=_LEAST_MEMORY, engine="python")
        for region in list(self.system.children):
            self.system.remove(region)
        for region in list(self.root_bus.ports.children):
            self.root_bus.ports.remove(region)

    def _add_board(self, vga: bool) -> None:
        """Nothing is on it."""

    def add_device(self, text: str, hotplugged: bool = False) -> Device:
        """OptionError always: there is nowhere to put it."""
        driver = parse_options(text).get("driver", "")
        if issubclass(find_device_type(driver, self.profile.name), PciFunction):
            raise OptionError(f"No 'PCI' bus found for device '{driver}'")
        raise OptionError("Parameter 'driver' expects a dynamic sysbus device type for the machine")
