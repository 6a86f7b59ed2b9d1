"""A machine like QEMU's q35: memory, ports, PCI, interrupts, virtual time, and the devices that are added to it.

machine = SystemMachine("qemu-11.1", memory_size=256 << 20)
machine.add_device("intel-iommu,intremap=on")
edu = machine.add_device("edu,id=e0,addr=02.0")
machine.space.write_number(0xFED9_0018, 4, 1 << 30)
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from device_models.address_space import AddressSpace
from device_models.board import INTERRUPT_INPUTS, apic_window, interrupt_input, ram_layout, reset_port, system_map
from device_models.device import Device
from device_models.dma import SystemBus
from device_models.interrupt_lines import InterruptLines
from device_models.local_apic import LocalApics
from device_models.objects import ANONYMOUS, BOARD, MACHINE, NAMED, ObjectTree
from device_models.options import OptionError, parse_options
from device_models.pci.bus import PciBus
from device_models.pci.function import PciFunction
from device_models.pci.host import PciHost
from device_models.platform import Platform
from device_models.q35 import Ahci, HostBridge, LpcBridge, SmBus, Vga
from device_models.registry import find_device_type
from device_models.scopes import UnitPlace, UnitScopes
from emulator.clock import Clock
from emulator.engine import Engine, load_engine
from emulator.profile import Profile, load_profile
from emulator.unit import RemappingUnit
from pagetables.errors import VtdError, near
from pagetables.memory import PhysicalMemory

__all__ = ["SystemMachine"]

DEFAULT_MEMORY = 128 << 20
_APIC_BASE, _APIC_PRIORITY = 0xFEE0_0000, 4096
_RESET_PORT = 0xCF9
_IDENTIFIER = re.compile(r"[A-Za-z][\w.-]*")


class SystemMachine:
    """Board and devices. `space` is the processor's memory, `ports` its I/O; `dma` carries what devices request."""

    TYPE = "pc-q35-machine"

    def __init__(
        self,
        profile: str | Profile = "spec",
        memory_size: int = DEFAULT_MEMORY,
        processors: int = 1,
        engine: Engine | str = "native",
        vga: bool = False,
    ) -> None:
        self.profile = load_profile(profile) if isinstance(profile, str) else profile
        self.engine = load_engine(engine) if isinstance(engine, str) else engine
        self.clock = Clock()
        self.memory = PhysicalMemory(ram_layout(memory_size))
        self.apics = LocalApics(self.clock, processors)
        self.inputs = InterruptLines(INTERRUPT_INPUTS)
        self.root_bus = PciBus("pcie.0", express=True, interrupt=self._route_pin)
        self.buses = {"pcie.0": self.root_bus}
        self.host = PciHost(self.root_bus)
        self.system = system_map(self.memory, self.root_bus.memory)
        self.system.add(apic_window(self.apics), _APIC_BASE, _APIC_PRIORITY)
        self.space = AddressSpace("memory", self.system)
        self.ports = AddressSpace("I/O", self.root_bus.ports, unassigned=0xFF)
        self.dma = SystemBus(self.space, self.apics, self.unit_for)
        self.devices: list[Device] = []
        self.units: list[RemappingUnit] = []
        self.scopes = UnitScopes(self.root_bus)
        self.platform = Platform()
        self.objects = ObjectTree(self.TYPE)
        self.on_reset: list[Callable[[], None]] = []
        self._add_board(vga)

    def _add_board(self, vga: bool) -> None:
        self.host.add_ports(self.root_bus.ports)
        self.root_bus.ports.add(reset_port(self.reset), _RESET_PORT, 1)
        bridge = HostBridge(self)
        bridge.host = self.host
        self._settle(bridge, f"{MACHINE}/q35", "mch", {"addr": "00.0"})
        if vga:
            self._settle(Vga(self), BOARD, None, {"addr": "01.0"})
        for kind, addr in ((LpcBridge, "1f.0"), (Ahci, "1f.2"), (SmBus, "1f.3")):
            self._settle(kind(self), BOARD, None, {"addr": addr, "multifunction": "on"})

    # -- devices ------------------------------------------------------------------------------------------------------

    def add_device(self, text: str, hotplugged: bool = False) -> Device:
        """Add what `-device TEXT` adds; OptionError, worded as QEMU's, leaves the machine as it was."""
        options = parse_options(text)
        driver = options.pop("driver", None)
        if not driver:
            raise OptionError("Parameter 'driver' is missing")
        identity = options.pop("id", None)
        self._check_identity(identity)
        device = find_device_type(driver, self.profile.name)(self, identity)
        device.hotplugged = hotplugged
        self._choose_bus(device, options.pop("bus", None))
        return self._settle(device, NAMED if identity else ANONYMOUS, identity, options)

    def add_unit(self, place: UnitPlace, options: str = "", identity: str | None = None) -> Device:
        """Add a remapping unit beside others, which QEMU cannot; `options` are those of `-device intel-iommu`."""
        self._check_identity(identity)
        profile = place.profile or self.profile
        device = find_device_type("intel-iommu", profile.name)(self, identity)
        device.place = place  # type: ignore[attr-defined]
        folder = NAMED if identity else ANONYMOUS
        return self._settle(device, folder, identity, parse_options(options, implied="") if options else {})

    def device_add(self, text: str) -> Device:
        """`add_device` on a running machine: types and buses that can then take part, and no others."""
        options = parse_options(text)
        driver, identity = options.get("driver"), options.get("id")
        if identity is not None and any(device.id == identity for device in self.devices):
            raise OptionError(f"Duplicate device ID '{identity}'")
        if driver:
            kind = find_device_type(driver, self.profile.name)
            if not kind.HOTPLUGGABLE:
                raise OptionError(f"Device '{driver}' does not support hotplugging")
            bus = self.buses.get(options.get("bus", self.root_bus.name))
            if bus is not None and issubclass(kind, PciFunction) and not bus.hotpluggable:
                raise OptionError(f"Bus '{bus.name}' does not support hotplugging")
        return self.add_device(text, hotplugged=True)

    def device_del(self, identity: str) -> None:
        """Remove a device that was added, by id or path; OptionError if there is none, or it is in use."""
        device = self.objects.device(identity)
        if isinstance(device, PciFunction) and device.bus is not None and not device.bus.hotpluggable:
            raise OptionError(f"Bus '{device.bus.name}' does not support hotplugging")
        self.remove_device(device)

    def remove_device(self, device: Device) -> None:
        """Take a device out of the machine."""
        device.unrealize()
        device.realized = False
        self.devices.remove(device)
        self.objects.remove(device.path)

    def device(self, identity: str) -> Device:
        """The device with that id, or at that path; OptionError if there is none."""
        return self.objects.device(identity)

    def _check_identity(self, identity: str | None) -> None:
        if identity is None:
            return
        if not _IDENTIFIER.fullmatch(identity):
            raise OptionError("Parameter 'id' expects an identifier")
        if any(device.id == identity for device in self.devices):
            raise OptionError(f"Duplicate ID '{identity}' for device")

    def _choose_bus(self, device: Device, name: str | None) -> None:
        if not isinstance(device, PciFunction):
            if name in self.buses:
                raise OptionError(f"Device '{device.TYPE}' can't go on {self.buses[name].type_name} bus")
            if name is not None and name != "main-system-bus":
                raise OptionError(f"Bus '{name}' not found")
            return
        bus = self.buses.get(name or self.root_bus.name)
        if bus is None:
            raise OptionError(f"Bus '{name}' not found; {near(str(name), self.buses)}")
        device.bus = bus

    def _settle(self, device: Device, folder: str, name: str | None, options: dict[str, str]) -> Device:
        if isinstance(device, PciFunction) and device.bus is None:
            device.bus = self.root_bus
        for key, value in options.items():
            device.set_property(key, value)
        try:
            device.realize()
        except VtdError:
            device.unrealize()
            raise
        device.realized = True
        device.path = self.objects.add(device, folder, name)
        self.devices.append(device)
        device.reset()
        return device

    # -- units and interrupts -----------------------------------------------------------------------------------------

    def attach_unit(self, unit: RemappingUnit, place: UnitPlace | None = None) -> None:
        """From now on `unit` remaps for the scope of `place`; its interrupts and those it passes go to the local APICs.

        Without a place it serves every device. OptionError if a device would have two units.
        """
        self.scopes.attach(unit, place or UnitPlace(unit.base))
        unit.interrupt_sink = self.apics.deliver
        unit.message_sink = lambda message: self.apics.write_message(message.address, message.data)
        self.units.append(unit)

    def detach_unit(self, unit: RemappingUnit) -> None:
        """`unit` remaps nothing any more."""
        if unit in self.units:
            self.units.remove(unit)
            self.scopes.detach(unit)

    def unit_for(self, source_id: int) -> RemappingUnit | None:
        """The unit whose scope has `source_id`, None if no unit remaps it."""
        return self.scopes.unit_for(source_id)

    def _route_pin(self, slot: int, pin: int, level: bool, source: object) -> None:
        self.inputs.set(interrupt_input(slot, pin), level, source)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write memory, and registers and caches of each unit, as an ELF core, at `path` when it is whole."""
        from emulator.unit.cache_contents import cache_contents  # here: a machine that is not saved needs none of them
        from pagetables.cached import caches_note
        from pagetables.images.elf import write_elf
        from pagetables.images.registers import RegisterPage

        notes = [RegisterPage(unit.base, unit.register_page()).note() for unit in self.units]
        write_elf(path, self.memory, [*notes, *(caches_note(cache_contents(unit)) for unit in self.units)])

    # -- time and power -----------------------------------------------------------------------------------------------

    def clock_step(self, nanoseconds: int | None = None) -> int:
        """Let time pass, without a number until the next timer; returns the time, in ns."""
        if nanoseconds is None:
            self.clock.advance_to(self.clock.next_due or self.clock.now)
        else:
            self.clock.advance(nanoseconds)
        return self.clock.now

    def reset(self) -> None:
        """As after power-on, with memory and time as they are; then `on_reset` is told."""
        for device in self.devices:
            device.reset()
        self.host.reset()
        self.apics.reset()
        for tell in self.on_reset:
            tell()
