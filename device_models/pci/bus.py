"""PCI buses: functions by device and function number, the spaces their BARs appear in, and who a request is from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from device_models.memory_region import WHOLE_SPACE, MemoryRegion
from device_models.options import OptionError
from device_models.pci.config_space import MULTIFUNCTION, Offset
from pagetables.address import SourceId

if TYPE_CHECKING:
    from device_models.pci.bridges import Bridge
    from device_models.pci.function import PciFunction

__all__ = ["PORT_SPACE", "PciBus"]

PORT_SPACE = 1 << 16
PINS = 4


class PciBus:
    """A bus. `bridge` leads to it, None for a root bus; `interrupt` takes (slot, pin, level, source) of a root bus."""

    def __init__(
        self,
        name: str,
        express: bool,
        bridge: Bridge | None = None,
        interrupt: Callable[[int, int, bool, object], None] | None = None,
    ) -> None:
        self.name = name
        self.express = express
        self.bridge = bridge
        self.functions: dict[int, PciFunction] = {}
        self.hotpluggable = bridge is not None
        self.memory = MemoryRegion("pci" if bridge is None else f"{name}-memory", WHOLE_SPACE)
        self.ports = MemoryRegion("io" if bridge is None else f"{name}-io", PORT_SPACE)
        self._interrupt = interrupt

    @property
    def type_name(self) -> str:
        """`PCI` or `PCIE`, as `info qtree` has it."""
        return "PCIE" if self.express else "PCI"

    @property
    def number(self) -> int:
        """The bus number: 0 for the root, else what software wrote into the bridge."""
        return 0 if self.bridge is None else self.bridge.config.get(Offset.SECONDARY_BUS, 1)

    @property
    def only_slot_zero(self) -> bool:
        """True for a link: one device, number 0."""
        return self.express and self.bridge is not None

    def free_slot(self) -> int:
        """devfn of the first slot that nobody uses; OptionError on a full bus."""
        slots = (0,) if self.only_slot_zero else range(32)
        used = {devfn >> 3 for devfn in self.functions}
        for slot in slots:
            if slot not in used:
                return slot << 3
        raise OptionError(f"PCI: no slot/function available on bus {self.name}, all in use or reserved")

    def plug(self, function: PciFunction, devfn: int) -> None:
        """Give a function its place; OptionError if it is taken, or this bus has no such place."""
        taken = self.functions.get(devfn)
        if taken is not None:
            raise OptionError(
                f"PCI: slot {devfn >> 3} function {devfn & 7} not available for {function.TYPE}, "
                f"in use by {taken.TYPE},id={taken.id or '(null)'}"
            )
        if self.only_slot_zero and devfn >> 3:
            raise OptionError(f"PCI: slot {devfn >> 3} is not valid for {function.TYPE}, only slot 0 on {self.name}")
        self._check_multifunction(function, devfn)
        first = self.functions.get(devfn & ~7)
        if function.hotplugged and first is not None:
            raise OptionError(
                f"PCI: slot {devfn >> 3} function 0 already occupied by {first.TYPE}, "
                f"new func {function.TYPE} cannot be exposed to guest."
            )
        self.functions[devfn] = function
        if self.bridge is not None and not function.hotplugged:
            self.bridge.plugged()

    def unplug(self, function: PciFunction) -> None:
        """Take a function away."""
        for devfn in [at for at, known in self.functions.items() if known is function]:
            del self.functions[devfn]

    def _check_multifunction(self, function: PciFunction, devfn: int) -> None:
        first = self.functions.get(devfn & ~7)
        if devfn & 7 and first is not None and not first.config.get(Offset.HEADER_TYPE, 1) & MULTIFUNCTION:
            raise OptionError(
                f"PCI: single function device can't be populated in function {devfn >> 3:x}.{devfn & 7:x}"
            )
        others = [at for at in self.functions if at >> 3 == devfn >> 3 and at & 7]
        if not devfn & 7 and others and not function.multifunction:
            raise OptionError(
                f"PCI: {devfn >> 3:x}.0 indicates single function, but {others[0] >> 3:x}."
                f"{others[0] & 7:x} is already populated."
            )

    def find(self, number: int) -> PciBus | None:
        """The bus that configuration requests for bus `number` reach from here."""
        if number == self.number:
            return self
        for child in self.children():
            if child.bridge is not None and child.bridge.forwards_bus(number):
                return child.find(number)
        return None

    def children(self) -> Iterator[PciBus]:
        """Buses behind the bridges on this one."""
        for function in list(self.functions.values()):
            secondary = function.secondary
            if secondary is not None:
                yield secondary

    def requester(self, devfn: int) -> SourceId:
        """The source-id that requests of `devfn` carry where they reach the root complex.

        Conventional PCI has no requester ids. What comes through a bridge from PCI Express carries the bridge's
        secondary bus number with devfn 0, what comes through one from conventional PCI the bridge's own id.
        """
        source = self.number << 8 | devfn
        bus: PciBus = self
        while bus.bridge is not None and bus.bridge.bus is not None:
            bridge, parent = bus.bridge, bus.bridge.bus
            if not bus.express:
                source = bus.number << 8 if bridge.EXPRESS else parent.number << 8 | bridge.devfn
            bus = parent
        return SourceId(source)

    def lets_up(self, source_id: SourceId) -> bool:
        """True if a request from this bus that claims to be `source_id`'s gets through every port above."""
        bus: PciBus = self
        while bus.bridge is not None and bus.bridge.bus is not None:
            if not bus.bridge.lets_up(source_id):
                return False
            bus = bus.bridge.bus
        return True

    def set_pin(self, devfn: int, pin: int, level: bool, source: object) -> None:
        """Raise or lower interrupt pin 0 to 3 of a device; bridges rotate pins by the slot on their way up."""
        if self.bridge is not None and self.bridge.bus is not None:
            self.bridge.bus.set_pin(self.bridge.devfn, (pin + (devfn >> 3)) % PINS, level, source)
        elif self._interrupt is not None:
            self._interrupt(devfn >> 3, pin, level, source)
