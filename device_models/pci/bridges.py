"""Bridges: PCI-to-PCI, PCIe root port, PCIe-to-PCI. Each has a bus behind it and windows of addresses that lead there.

Bus numbers and windows are software's to set. A window whose limit lies below its base is closed.
"""

from __future__ import annotations

from typing import ClassVar

from device_models.memory_region import MemoryRegion
from device_models.options import OptionError
from device_models.pci.bars import BAR_PRIORITY, BarKind
from device_models.pci.bridge_capabilities import (
    AccessControl,
    HotPlugController,
    add_error_reporting,
    add_power,
    add_slot_numbering,
)
from device_models.pci.bus import PciBus
from device_models.pci.config_space import Command, Offset
from device_models.pci.extended import EXPRESS, PCIE_TO_PCI, ROOT_PORT, add_express_capability
from device_models.pci.function import PciFunction
from device_models.properties import Switch, Unsigned, on_off_auto
from pagetables.address import SourceId

__all__ = ["Bridge", "PciBridge", "PcieRootPort", "PcieToPciBridge"]

RED_HAT_QUMRANET = 0x1B36
PCI_TO_PCI = 0x0604
TYPE_1 = 1
_WINDOW_MASK, _WIDE = 0xFFF0, 1
_MIB, _PORTS = 20, 12
_CONTROL, _CONTROL_EXPRESS = 0x0BFF, 0x005F
_SUBSYSTEM_IDS = 0x0D
_CONVENTIONAL_STATUS = 0xA0  # 66 MHz, fast back-to-back
_LINK_STATUS, _SLOT_CONTROL, _SLOT_STATUS = 0x12, 0x18, 0x1A  # in the express capability
_FASTEST_LINK, _ONE_LANE = 0x0204, 0x0011  # of a port that is alone, and with a function of PCI Express
_SLOT_EMPTY, _SLOT_USED, _SLOT_USED_7_2 = 0x07C0, 0x03C0, 0x01C0
_LOCK_CONTROL, _LOCK_STATUS, _COMMAND_DONE = 0x0800, 0x80, 0x10


class Bridge(PciFunction):
    """A function with a bus behind it, which has the bridge's id for its name."""

    VENDOR, CLASS, HEADER = RED_HAT_QUMRANET, PCI_TO_PCI, TYPE_1
    BEHIND_IS_EXPRESS: ClassVar[bool] = False
    behind: PciBus

    def realize(self) -> None:
        """Declare the type 1 header and make the bus."""
        super().realize()
        config = self.config
        config.allow(Offset.PRIMARY_BUS, 4, 0xFFFF_FFFF)
        config.allow(Offset.IO_BASE, 2, 0xF0F0)
        config.clear_by_one(Offset.SECONDARY_STATUS, 2, 0xF900)
        config.allow(Offset.MEMORY_BASE, 4, _WINDOW_MASK << 16 | _WINDOW_MASK)
        config.allow(Offset.PREFETCH_BASE, 4, _WINDOW_MASK << 16 | _WINDOW_MASK)
        config.set(Offset.PREFETCH_BASE, 4, _WIDE << 16 | _WIDE)
        config.allow(Offset.PREFETCH_BASE_HIGH, 8, (1 << 64) - 1)
        config.allow(Offset.BRIDGE_CONTROL, 2, _CONTROL_EXPRESS if self.BEHIND_IS_EXPRESS else _CONTROL)
        name = self.id or f"{'pcie' if self.BEHIND_IS_EXPRESS else 'pci'}.{len(self.machine.buses)}"
        self.secondary = self.behind = PciBus(name, self.BEHIND_IS_EXPRESS, self)
        self.machine.buses[name] = self.secondary
        self._windows = {
            "pci_bridge_io": MemoryRegion.of(self.secondary.ports, "pci_bridge_io", 0, 0),
            "pci_bridge_mem": MemoryRegion.of(self.secondary.memory, "pci_bridge_mem", 0, 0),
            "pci_bridge_pref_mem": MemoryRegion.of(self.secondary.memory, "pci_bridge_pref_mem", 0, 0),
        }

    def reset(self) -> None:
        """Bus numbers and windows are gone."""
        super().reset()
        self._open_windows()

    def unrealize(self) -> None:
        """The bus goes, and everything on it must be gone before."""
        if self.secondary is not None:
            if self.secondary.functions:
                raise OptionError(f"Bus '{self.secondary.name}' is not empty")
            for window in self._windows.values():
                if window.container is not None:
                    window.container.remove(window)
                window.forget()
            self.machine.buses.pop(self.secondary.name, None)
        super().unrealize()

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Software writes: windows open, move and close."""
        super().config_write(offset, size, value)
        self._open_windows()

    def forwards_bus(self, number: int) -> bool:
        """True if configuration requests for bus `number` go through here."""
        secondary, subordinate = (self.config.get(at, 1) for at in (Offset.SECONDARY_BUS, Offset.SUBORDINATE_BUS))
        return bool(secondary) and secondary <= number <= subordinate

    def lets_up(self, source_id: SourceId) -> bool:
        """True unless a request that claims to be `source_id`'s is stopped on its way from behind this bridge."""
        return True

    def plugged(self) -> None:
        """Something was put behind the bridge before the machine ran."""

    @property
    def _newer(self) -> bool:
        return self.machine.profile.name != "qemu-7.2"

    def windows(self) -> dict[str, tuple[int, int]]:
        """Name, base and last address of each window as the registers say it, open or not."""
        get = self.config.get
        io = (get(Offset.IO_BASE, 1) & 0xF0) << 8, (get(Offset.IO_LIMIT, 1) & 0xF0) << 8 | (1 << _PORTS) - 1
        memory = _span(get(Offset.MEMORY_BASE, 2), get(Offset.MEMORY_LIMIT, 2), 0, 0)
        prefetch = _span(
            get(Offset.PREFETCH_BASE, 2),
            get(Offset.PREFETCH_LIMIT, 2),
            get(Offset.PREFETCH_BASE_HIGH, 4),
            get(Offset.PREFETCH_LIMIT_HIGH, 4),
        )
        return {"pci_bridge_io": io, "pci_bridge_mem": memory, "pci_bridge_pref_mem": prefetch}

    def _open_windows(self) -> None:
        if self.bus is None:
            return
        command = self.config.get(Offset.COMMAND, 2)
        for name, (base, last) in self.windows().items():
            io = name == "pci_bridge_io"
            window, parent = self._windows[name], self.bus.ports if io else self.bus.memory
            parent.remove(window)
            if last >= base and command & (Command.IO if io else Command.MEMORY):
                window.retarget(base, last - base + 1)
                parent.add(window, base, BAR_PRIORITY)


def _span(base: int, limit: int, base_high: int, limit_high: int) -> tuple[int, int]:
    start = (base & _WINDOW_MASK) << 16 | base_high << 32
    return start, (limit & _WINDOW_MASK) << 16 | limit_high << 32 | (1 << _MIB) - 1


class _ConventionalBehind(Bridge):
    # Conventional PCI behind it, with a hot-plug controller for the slots there.
    hot_plug: HotPlugController | None = None

    def realize(self) -> None:
        """Both buses are as fast as conventional ones get."""
        super().realize()
        for status in (Offset.STATUS, Offset.SECONDARY_STATUS):
            self.config.change(status, 2, _CONVENTIONAL_STATUS, _CONVENTIONAL_STATUS)

    def _add_hot_plug(self, behind: PciBus) -> None:
        self.hot_plug = HotPlugController(self.config, behind, self._newer)
        self.add_bar(0, self.hot_plug.region, BarKind(wide=True))

    def config_read(self, offset: int, size: int) -> int:
        """What software reads, the selected register of the hot-plug controller among it."""
        if self.hot_plug is not None:
            self.hot_plug.refresh()
        return super().config_read(offset, size)


class PciBridge(_ConventionalBehind):
    """Conventional PCI on both sides."""

    TYPE = "pci-bridge"
    EXPLAINS = "Standard PCI Bridge"
    DEVICE = 0x0001
    PIN = 1
    chassis_nr = Unsigned(8, 0, name="chassis_nr")
    shpc = Switch(True, "on/off")
    msi_choice = on_off_auto("auto", name="msi")

    def realize(self) -> None:
        """Add hot-plug, slot numbers and MSI. A bridge needs the number of its chassis, as QEMU's does."""
        if not self.chassis_nr:
            raise OptionError(
                "Bridge chassis not specified. Each bridge is required to be assigned a unique chassis id > 0."
            )
        super().realize()
        if self.shpc:
            self._add_hot_plug(self.behind)
        else:
            self.config.set(Offset.INTERRUPT_PIN, 1, 0)
        add_slot_numbering(self.config, self.chassis_nr)
        if self.shpc and self.msi_choice != "off":  # slots are what it would interrupt for
            self.add_msi(maskable=True)


class PcieRootPort(Bridge):
    """A root port: a link with one device behind it."""

    TYPE = "pcie-root-port"
    EXPLAINS = "PCI Express Root Port"
    DEVICE = 0x000C
    PIN = 1
    EXPRESS = True
    BEHIND_IS_EXPRESS = True
    port = Unsigned(8, 0)
    chassis = Unsigned(8, 0)
    slot = Unsigned(16, 0)
    disable_acs = Switch(False)
    access_control: AccessControl | None = None

    def realize(self) -> None:
        """Add MSI-X, whose table is BAR 0, the express capability, errors and access control; all windows closed.

        Two ports with the same number of chassis and slot cannot be, as in QEMU.
        """
        for other in self.machine.devices:
            if isinstance(other, PcieRootPort) and (other.chassis, other.slot) == (self.chassis, self.slot):
                raise OptionError(
                    f"Can't add chassis slot, error -16: '{other.id or other.TYPE}' has chassis={self.chassis}, "
                    f"slot={self.slot} too"
                )
        super().realize()
        table = MemoryRegion("pcie-root-port-msix", 0x1000)
        self.add_bar(0, table)
        at = self.config.add_capability(_SUBSYSTEM_IDS, 8, 0x40)
        self.config.set(at + 4, 2, RED_HAT_QUMRANET)
        self.add_msix(table, 0, 1, pending_offset=0x800, offset=0x48)
        self._express = add_express_capability(self.config, ROOT_PORT, 0x54, self._newer)
        if self._newer:
            self.config.allow(Offset.SECONDARY_LATENCY, 1, 0)
        errors = add_error_reporting(self.config, True, self._newer, 2)
        self.access_control = None if self.disable_acs else AccessControl(self.config, errors)
        for base in (Offset.IO_BASE, Offset.MEMORY_BASE, Offset.PREFETCH_BASE):  # above their limits: closed
            self.config.change(base, 2, 0xF0 if base == Offset.IO_BASE else _WINDOW_MASK, _WINDOW_MASK)

    def reset(self) -> None:
        """Power is on in a slot that holds something."""
        super().reset()
        self.plugged()

    def plugged(self) -> None:
        """The slot's indicators show whether something is in it."""
        used = _SLOT_USED if self._newer else _SLOT_USED_7_2
        self.config.set(self._express + _SLOT_CONTROL, 2, used if self.behind.functions else _SLOT_EMPTY)

    def config_read(self, offset: int, size: int) -> int:
        """What software reads; the link is what the function behind it makes of it."""
        first = self.behind.functions.get(0)
        joined = first is not None and first.config.find_capability(EXPRESS)
        self.config.set(self._express + _LINK_STATUS, 2, _ONE_LANE if joined else _FASTEST_LINK)
        return super().config_read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Software writes; a command to the slot is done at once."""
        super().config_write(offset, size, value)
        control = self._express + _SLOT_CONTROL
        if offset < control + 2 and control < offset + size:
            locks = self.config.get(control, 2) & _LOCK_CONTROL
            self.config.change(control, 2, _LOCK_CONTROL, 0)
            status = self.config.get(self._express + _SLOT_STATUS, 2)
            self.config.set(self._express + _SLOT_STATUS, 2, (status ^ (_LOCK_STATUS if locks else 0)) | _COMMAND_DONE)

    def lets_up(self, source_id: SourceId) -> bool:
        """With source validation on, only requests whose bus number is behind the port pass; others are noted."""
        control = self.access_control
        if control is None or not control.validates_sources or self.forwards_bus(source_id >> 8):
            return True
        control.violated()
        return False


class PcieToPciBridge(_ConventionalBehind):
    """PCI Express above, conventional PCI below: everything behind it is one requester."""

    TYPE = "pcie-pci-bridge"
    EXPLAINS = "PCIe-to-PCI bridge: all devices behind it share one requester id"
    DEVICE = 0x000E
    PIN = 1
    EXPRESS = True

    def realize(self) -> None:
        """Add hot-plug, the express capability, power management, MSI and errors."""
        super().realize()
        self._add_hot_plug(self.behind)
        add_express_capability(self.config, PCIE_TO_PCI, 0x48, self._newer)
        add_power(self.config, 0x84)
        self.add_msi(maskable=True, offset=0x8C)
        add_error_reporting(self.config, False, self._newer, 2)
