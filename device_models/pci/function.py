"""A PCI function: configuration space, BARs, interrupts, and memory as the function sees it.

A device of this kind is a subclass that names its ids, registers BARs in `realize`, and from then on uses `dma_read`,
`dma_write`, `notify` and `set_interrupt`. It cannot tell whether its requests are remapped.
"""

from __future__ import annotations

from typing import ClassVar

from device_models.device import Device
from device_models.dma import DmaError, DmaRead, DmaRefusal
from device_models.memory_region import MemoryRegion
from device_models.options import OptionError
from device_models.pci.bars import Bar, BarKind
from device_models.pci.bus import PciBus
from device_models.pci.config_space import (
    CONVENTIONAL_SIZE,
    EXPRESS_SIZE,
    HEADER_SIZE,
    MULTIFUNCTION,
    STATUS_INTERRUPT,
    Command,
    ConfigSpace,
    Offset,
)
from device_models.pci.msi import Msi
from device_models.pci.msix import MsiX
from device_models.properties import PciAddress, String, Switch, Unsigned
from pagetables.address import Iova, Pasid, SourceId
from pagetables.request import Access, AddressType, Request

__all__ = ["PciFunction"]

RED_HAT, QEMU_SUBSYSTEM = 0x1AF4, 0x1100


class PciFunction(Device):
    """One function. `CLASS` is base and sub class, `PIN` 1 to 4 for INTA to INTD (0: none)."""

    TYPE = "pci-device"
    VENDOR: ClassVar[int] = 0
    DEVICE: ClassVar[int] = 0
    CLASS: ClassVar[int] = 0x00FF
    INTERFACE: ClassVar[int] = 0
    REVISION: ClassVar[int] = 0
    PIN: ClassVar[int] = 0
    EXPRESS: ClassVar[bool] = False
    HEADER: ClassVar[int] = 0

    addr = PciAddress(None, "Slot and optional function number, example: 06.0 or 06")
    multifunction = Switch(False, "on/off")
    rombar = Unsigned(32, 1)
    romfile = String(None)
    romsize = Unsigned(32, 0xFFFF_FFFF)
    acpi_index = Unsigned(32, 0)

    config: ConfigSpace
    bus: PciBus | None = None
    devfn: int = 0
    secondary: PciBus | None = None
    msi: Msi | None = None
    msix: MsiX | None = None

    def realize(self) -> None:
        """Take a slot of the bus and fill the header."""
        super().realize()
        if self.bus is None:
            raise OptionError(f"No 'PCI' bus found for device '{self.TYPE}'")
        self.config = ConfigSpace(EXPRESS_SIZE if self.EXPRESS else CONVENTIONAL_SIZE)
        self.bars: dict[int, Bar] = {}
        self._pin_level = False
        self._fill_header()
        self.devfn = self.bus.free_slot() if self.addr is None else self.addr
        self.bus.plug(self, self.devfn)
        self.values["addr"] = self.devfn

    def _fill_header(self) -> None:
        config = self.config
        config.identify(self.VENDOR, self.DEVICE, self.CLASS, self.REVISION, self.INTERFACE)
        config.set(Offset.HEADER_TYPE, 1, self.HEADER | (MULTIFUNCTION if self.multifunction else 0))
        if not self.HEADER:
            config.set(Offset.SUBSYSTEM_VENDOR, 2, RED_HAT)
            config.set(Offset.SUBSYSTEM, 2, QEMU_SUBSYSTEM)
        config.set(Offset.INTERRUPT_PIN, 1, self.PIN)

    def reset(self) -> None:
        """Configuration space as after power-on, the interrupt pin low, BARs where that leaves them."""
        super().reset()
        self.set_interrupt(False)
        self.config.reset()
        if self.msix is not None:
            self.msix.reset()
        self._update_bars()

    def unrealize(self) -> None:
        """Leave the bus; BARs disappear, the pin falls."""
        if self.bus is not None and self.bus.functions.get(self.devfn) is self:
            self.set_interrupt(False)
            for bar in self.bars.values():
                bar.withdraw()
            self.bus.unplug(self)
        super().unrealize()

    # -- what the device declares -------------------------------------------------------------------------------------

    def add_bar(self, number: int, region: MemoryRegion, kind: BarKind | None = None) -> Bar:
        """Put `region` behind BAR `number`; 32-bit memory unless `kind` says otherwise."""
        bar = Bar(self.config, number, region, kind or BarKind())
        if self.bus is not None:
            bar.place(self.bus.memory, self.bus.ports)
        self.bars[number] = bar
        return bar

    def add_msi(self, vectors: int = 1, wide: bool = True, maskable: bool = False, offset: int = 0) -> Msi:
        """Give the function MSI."""
        self.msi = Msi(self.config, self._send_message, vectors, wide, maskable, offset)
        return self.msi

    def add_msix(
        self,
        region: MemoryRegion,
        bar: int,
        vectors: int,
        table_offset: int = 0,
        pending_offset: int | None = None,
        offset: int = 0,
    ) -> MsiX:
        """Give the function MSI-X, with table and pending bits (behind the table, unless an offset is given) in
        `region`, which is BAR `bar`'s."""
        send = self._send_message
        self.msix = MsiX(self.config, send, region, bar, vectors, table_offset, pending_offset, offset)
        return self.msix

    # -- configuration requests ---------------------------------------------------------------------------------------

    def config_read(self, offset: int, size: int) -> int:
        """What software reads from configuration space."""
        return self.config.read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Software writes configuration space."""
        self.config.write(offset, size, value)
        if offset < HEADER_SIZE:
            self._update_bars()
            self._update_pin()
        elif self.msi is not None:
            self.msi.written()
        if self.msix is not None and offset >= HEADER_SIZE:
            self.msix.written()

    def _update_bars(self) -> None:
        for bar in self.bars.values():
            bar.update()

    # -- interrupts ---------------------------------------------------------------------------------------------------

    @property
    def messages_enabled(self) -> bool:
        """True while software has MSI or MSI-X on: the pin is not used then."""
        return any(kind is not None and kind.enabled for kind in (self.msi, self.msix))

    def notify(self, vector: int = 0) -> None:
        """Send an interrupt message by MSI-X or MSI, whichever is on."""
        if self.msix is not None and self.msix.enabled:
            self.msix.notify(vector)
        elif self.msi is not None:
            self.msi.notify(vector)

    def set_interrupt(self, level: bool) -> None:
        """Raise or lower the interrupt pin; INTX_DISABLE keeps the wire low, the status bit tells anyway."""
        if not self.PIN:
            return
        self._pin_level = level
        self.config.change(Offset.STATUS, 2, STATUS_INTERRUPT, STATUS_INTERRUPT if level else 0)
        self._update_pin()

    def _update_pin(self) -> None:
        if self.PIN and self.bus is not None:
            disabled = self.config.get(Offset.COMMAND, 2) & Command.INTX_DISABLE
            self.bus.set_pin(self.devfn, self.PIN - 1, self._pin_level and not disabled, self)

    def _send_message(self, address: int, data: int) -> None:
        self.dma_write(address, data.to_bytes(4, "little"))

    # -- memory -------------------------------------------------------------------------------------------------------

    @property
    def source_id(self) -> SourceId:
        """What the function's requests carry when they reach the root complex."""
        return SourceId(0) if self.bus is None else self.bus.requester(self.devfn)

    @property
    def is_master(self) -> bool:
        """True if software lets the function send requests."""
        return bool(self.config.get(Offset.COMMAND, 2) & Command.MASTER)

    def request(
        self,
        iova: int,
        access: Access,
        pasid: int | None = None,
        privileged: bool = False,
        address_type: AddressType = AddressType.UNTRANSLATED,
    ) -> Request:
        """A request of this function."""
        tag = None if pasid is None else Pasid(pasid)
        return Request(self.source_id, Iova(iova), access, tag, privileged, address_type)

    def dma_read(
        self,
        iova: int,
        size: int,
        pasid: int | None = None,
        privileged: bool = False,
        address_type: AddressType = AddressType.UNTRANSLATED,
    ) -> DmaRead:
        """Read `size` bytes at `iova`: data with zeros where it was blocked, and the first error."""
        if not self.is_master:
            return DmaRead(bytes(size), DmaRefusal.NOT_A_MASTER)
        return self.machine.dma.read_all(self.request(iova, Access.READ, pasid, privileged, address_type), size)

    def dma_write(
        self,
        iova: int,
        data: bytes,
        pasid: int | None = None,
        privileged: bool = False,
        address_type: AddressType = AddressType.UNTRANSLATED,
    ) -> DmaError | None:
        """Write `data` at `iova`; the first error. What is not blocked is written."""
        if not self.is_master:
            return DmaRefusal.NOT_A_MASTER
        return self.machine.dma.write_all(self.request(iova, Access.WRITE, pasid, privileged, address_type), data)
