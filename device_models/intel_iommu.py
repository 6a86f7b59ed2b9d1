"""intel-iommu: a remapping unit as a device of the machine, with the options that QEMU's has.

The option names changed between QEMU's versions; a machine with the profile `qemu-7.2` takes those of 7.2, one with
`qemu-10.0` those of 10.0, any other those of 11.1. Under a profile that is not QEMU's an option that is not given
leaves what the profile says.
"""

from __future__ import annotations

from device_models.device import Device
from device_models.intel_iommu_options import Dialect, UnitOptions, compose, dialect_of
from device_models.memory_region import MemoryRegion, Operations, Sizes
from device_models.options import OptionError
from device_models.properties import Switch, Unsigned, on_off_auto
from device_models.scopes import UnitPlace
from emulator.unit import RemappingUnit
from pagetables.address import PAGE_SIZE, Gpa

__all__ = ["IntelIommu"]

BASE = Gpa(0xFED9_0000)
_RECORD = 16
_REGISTERS = Sizes(4, 8)


class IntelIommu(Device):
    """The unit at FED90000h, or at the `place` that was set before. `unit` is what the device's registers belong to."""

    TYPE = "intel-iommu"
    EXPLAINS = "Intel IOMMU (VT-d) DMA Remapping device"
    HOTPLUGGABLE = False
    DIALECT = Dialect.QEMU_11_1

    aw_bits = Unsigned(8, 48)
    caching_mode = Switch(False)
    device_iotlb = Switch(False)
    dma_translation = Switch(True)
    eim = on_off_auto()
    intremap = on_off_auto()
    snoop_control = Switch(False)
    version = Unsigned(32, 0)

    unit: RemappingUnit | None = None
    place: UnitPlace | None = None

    @classmethod
    def for_profile(cls, profile: str) -> type[Device]:
        """The type with the options of the QEMU that `profile` names."""
        return _TYPES[dialect_of(profile)]

    def realize(self) -> None:
        """Build the unit and put its registers into memory."""
        super().realize()
        machine = self.machine
        place = self.place
        if machine.units and place is None:
            raise OptionError("QEMU does not support multiple vIOMMUs for x86 yet.")
        options = UnitOptions(self.DIALECT, dict(self.values))
        profile = compose((place and place.profile) or machine.profile, options)
        base = BASE if place is None else place.base
        if "intremap" not in self.values or self.intremap == "auto":
            self.values["intremap"] = "on" if profile.capabilities.ecap.ir else "off"
        if self.eim == "auto":
            self.values["eim"] = "on" if profile.capabilities.ecap.eim else "off"
        self.unit = unit = RemappingUnit(machine.memory, profile, machine.engine, base, machine.clock)
        operations = Operations(unit.read, lambda at, size, value: unit.write(at, size, value), _REGISTERS, _REGISTERS)
        self.region = MemoryRegion("intel_iommu", _register_bytes(unit), operations)
        machine.attach_unit(unit, place)
        machine.system.add(self.region, base)

    def reset(self) -> None:
        """The unit as after power-on."""
        super().reset()
        if self.unit is not None:
            self.unit.reset()

    def unrealize(self) -> None:
        """Take registers and unit out of the machine."""
        if self.unit is not None:
            self.machine.detach_unit(self.unit)
            self.machine.system.remove(self.region)
            self.unit = None
        super().unrealize()


def _register_bytes(unit: RemappingUnit) -> int:
    # As QEMU has it the registers end with the fault records; a unit with registers beyond them has a page.
    cap, ecap = unit.capabilities.cap, unit.capabilities.ecap
    if ecap.pms or ecap.vcs or cap.ecmds:
        return PAGE_SIZE
    return min(max(cap.fro * _RECORD + (cap.nfr + 1) * _RECORD, (ecap.iro + 1) * _RECORD), PAGE_SIZE)


class _IntelIommu72(IntelIommu):
    DIALECT = Dialect.QEMU_7_2
    aw_bits = Unsigned(8, 39)
    dma_drain = Switch(True)
    pt = Switch(True)
    x_buggy_eim = Switch(False)
    x_pasid_mode = Switch(False)
    x_scalable_mode = Switch(False)


class _IntelIommu10(IntelIommu):
    DIALECT = Dialect.QEMU_10_0
    dma_drain = Switch(True)
    fs1gp = Switch(True)
    pt = Switch(True)
    stale_tm = Switch(False)
    x_buggy_eim = Switch(False)
    x_flts = Switch(False)
    x_pasid_mode = Switch(False)
    x_scalable_mode = Switch(False)


class _IntelIommu11(IntelIommu):
    fs1gp = Switch(True)
    fsts = Switch(False)
    pasid_bits = Unsigned(8, 0)
    scalable_mode = Switch(False)
    stale_tm = Switch(False)
    svm = Switch(False)


_TYPES: dict[Dialect, type[Device]] = {
    Dialect.QEMU_7_2: _IntelIommu72,
    Dialect.QEMU_10_0: _IntelIommu10,
    Dialect.QEMU_11_1: _IntelIommu11,
}
