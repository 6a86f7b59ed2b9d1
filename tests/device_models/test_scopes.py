"""Several units in a machine: who remaps whose requests, aliases behind bridges, and what is refused."""

from __future__ import annotations

import pytest

from device_models.dma import DmaRead
from device_models.firmware import enumerate_buses
from device_models.intel_iommu import IntelIommu
from device_models.machine import SystemMachine
from device_models.options import OptionError
from device_models.pci.config_space import Command, Offset
from device_models.pci.function import PciFunction
from device_models.scopes import EVERYTHING, Scope, ScopeKind, UnitPlace, UnitScope, scope_of
from emulator.engine import Engine
from emulator.profile import load_profile
from emulator.unit import RemappingUnit
from pagetables.address import Gpa
from pagetables.fault import Fault, FaultReason
from pagetables.images.registers import DEFAULT_BASE

FIRST, SECOND, THIRD = (Gpa(DEFAULT_BASE + 0x1000 * number) for number in range(3))
SET_ROOT_TABLE, TRANSLATE, SET_INTERRUPT_TABLE, REMAP_INTERRUPTS = 1 << 30, 1 << 31, 1 << 24, 1 << 25
GCMD, GSTS, RTADDR, IRTA, MESSAGE = 0x18, 0x1C, 0x20, 0xB8, 0xFEE0_0000


def board(engine: Engine | str = "python") -> SystemMachine:
    """Two functions on the root bus, and below a root port a bridge to conventional PCI with two more."""
    machine = SystemMachine("spec", memory_size=16 << 20, engine=engine)
    for device in (
        "edu,id=graphics,addr=02.0",
        "edu,id=net,addr=03.0",
        "pcie-root-port,id=port,addr=1c.0",
        "pcie-pci-bridge,id=bridge,bus=port",
        "edu,id=old0,bus=bridge,addr=04.0",
        "edu,id=old1,bus=bridge,addr=05.0",
        "pcie-root-port,id=other,addr=1d.0,chassis=1",
        "edu,id=disk,bus=other",
    ):
        machine.add_device(device)
    enumerate_buses(machine)
    return machine


def function(machine: SystemMachine, name: str) -> PciFunction:
    """The function with that id, which may send requests from now on."""
    found = machine.device(name)
    assert isinstance(found, PciFunction)
    found.config.change(Offset.COMMAND, 2, Command.MASTER, Command.MASTER)
    return found


def named(machine: SystemMachine, *names: str) -> UnitScope:
    return UnitScope(tuple(scope_of(function(machine, name)) for name in names))


def add_unit(machine: SystemMachine, base: Gpa, scope: UnitScope) -> RemappingUnit:
    device = machine.add_unit(UnitPlace(base, scope))
    assert isinstance(device, IntelIommu)
    assert device.unit is not None
    return device.unit


def block(machine: SystemMachine, base: Gpa) -> None:
    """Translation on, under a root table of zeros: nobody is present."""
    machine.space.write_number(base + RTADDR, 8, 0x10_0000)
    machine.space.write_number(base + GCMD, 4, SET_ROOT_TABLE)
    machine.space.write_number(base + GCMD, 4, TRANSLATE)


def reason(answer: DmaRead) -> FaultReason | None:
    return answer.error.reason if isinstance(answer.error, Fault) else None


def test_a_device_is_remapped_by_the_unit_that_names_it_and_by_no_other(engine: Engine) -> None:
    machine = board(engine)
    first = add_unit(machine, FIRST, named(machine, "graphics"))
    rest = add_unit(machine, SECOND, EVERYTHING)
    block(machine, SECOND)
    assert reason(function(machine, "graphics").dma_read(0x1000, 4)) is None
    assert reason(function(machine, "net").dma_read(0x1000, 4)) is FaultReason.ROOT_NOT_PRESENT
    block(machine, FIRST)
    assert reason(function(machine, "graphics").dma_read(0x1000, 4)) is FaultReason.ROOT_NOT_PRESENT
    assert first.fsts.ppf == rest.fsts.ppf == 1


def test_each_unit_answers_at_its_own_registers() -> None:
    machine = board()
    add_unit(machine, FIRST, named(machine, "graphics"))
    add_unit(machine, SECOND, EVERYTHING)
    block(machine, SECOND)
    status = [machine.space.read_number(base + GSTS, 4) for base in (FIRST, SECOND)]
    assert status == [0, TRANSLATE | SET_ROOT_TABLE]


def test_interrupts_go_through_the_unit_of_their_sender() -> None:
    machine = board()
    add_unit(machine, FIRST, named(machine, "graphics"))
    add_unit(machine, SECOND, EVERYTHING)
    machine.space.write_number(SECOND + IRTA, 8, 0x20_0000)
    for bit in (SET_INTERRUPT_TABLE, REMAP_INTERRUPTS):
        machine.space.write_number(SECOND + GCMD, 4, bit)
    message = MESSAGE | 1 << 4  # remappable format, handle 0
    blocked = function(machine, "net").dma_write(message, bytes(4))
    assert isinstance(blocked, Fault)
    assert blocked.reason is FaultReason.IR_NOT_PRESENT
    assert function(machine, "graphics").dma_write(MESSAGE, (0x41).to_bytes(4, "little")) is None
    assert machine.apics.vectors() == [0x41]


def test_a_bridge_in_a_scope_is_everything_below_it_and_itself() -> None:
    machine = board()
    below = add_unit(machine, FIRST, named(machine, "port"))
    rest = add_unit(machine, SECOND, EVERYTHING)
    owners = {name: machine.unit_for(function(machine, name).source_id) for name in ("port", "bridge", "old0", "old1")}
    assert owners == dict.fromkeys(owners, below)
    assert {machine.unit_for(function(machine, name).source_id) for name in ("other", "disk", "net")} == {rest}


def test_an_endpoint_behind_a_port_is_found_by_its_path_whatever_the_bus_number() -> None:
    machine = board()
    unit = add_unit(machine, FIRST, named(machine, "disk"))
    add_unit(machine, SECOND, EVERYTHING)
    disk, port = function(machine, "disk"), function(machine, "other")
    assert disk.source_id == 0x0300
    assert machine.unit_for(0x0300) is unit
    port.config_write(Offset.SECONDARY_BUS, 1, 0x40)
    port.config_write(Offset.SUBORDINATE_BUS, 1, 0x40)
    assert disk.source_id == 0x4000
    assert machine.unit_for(0x4000) is unit
    assert machine.unit_for(0x0300) is not unit
    assert machine.unit_for(port.source_id) is not unit


def test_devices_behind_a_bridge_to_conventional_pci_are_one_requester() -> None:
    machine = board()
    old = [function(machine, name).source_id for name in ("old0", "old1")]
    assert old == [0x0200, 0x0200]  # the bridge's secondary bus, device 0
    assert function(machine, "bridge").source_id == 0x0100  # its own requests carry its own id


def test_a_requester_without_a_unit_reaches_memory_as_it_is() -> None:
    machine = board()
    add_unit(machine, FIRST, named(machine, "graphics"))
    block(machine, FIRST)
    assert machine.unit_for(function(machine, "net").source_id) is None
    assert function(machine, "net").dma_write(0x5000, b"free") is None
    assert machine.memory.read(0x5000, 4) == b"free"


def test_an_ioapic_is_on_a_bus_that_nobody_has() -> None:
    machine = board()
    ioapic = Scope(ScopeKind.IOAPIC, (0x1F << 3,), start_bus=0xF0, number=2)
    first = add_unit(machine, FIRST, UnitScope((ioapic,)))
    rest = add_unit(machine, SECOND, EVERYTHING)
    assert machine.unit_for(0xF0F8) is first
    assert machine.unit_for(0xF0F0) is rest


def test_a_unit_that_goes_leaves_its_devices_to_the_others() -> None:
    machine = board()
    gone = machine.add_unit(UnitPlace(FIRST, named(machine, "graphics")), identity="gone")
    rest = add_unit(machine, SECOND, EVERYTHING)
    machine.remove_device(gone)
    assert machine.unit_for(function(machine, "graphics").source_id) is rest
    assert machine.space.read_number(FIRST, 4) != machine.space.read_number(SECOND, 4)


def test_units_have_profiles_of_their_own() -> None:
    machine = board()
    machine.add_unit(UnitPlace(FIRST, named(machine, "graphics"), load_profile("alder-lake-graphics")))
    machine.add_unit(UnitPlace(SECOND, EVERYTHING, load_profile("alder-lake")), "caching-mode=on")
    graphics, rest = machine.units
    assert graphics.ecap == load_profile("alder-lake-graphics").capabilities.ecap
    assert rest.ecap == load_profile("alder-lake").capabilities.ecap
    assert rest.cap.cm == 1


def test_no_device_has_two_units() -> None:
    machine = board()
    add_unit(machine, FIRST, named(machine, "port"))
    for names in (("port",), ("bridge",)):
        with pytest.raises(OptionError, match=r"is served by the unit at 0xfed90000 already, as bridge 00:1c\.0"):
            add_unit(machine, SECOND, named(machine, *names))
    add_unit(machine, SECOND, EVERYTHING)
    with pytest.raises(OptionError, match="the unit at 0xfed91000 has all other devices already"):
        add_unit(machine, THIRD, EVERYTHING)
    assert [unit.base for unit in machine.units] == [FIRST, SECOND]


def test_a_bridge_cannot_be_named_over_a_device_that_has_a_unit() -> None:
    machine = board()
    add_unit(machine, FIRST, named(machine, "disk"))
    with pytest.raises(OptionError, match=r"bridge 00:1d\.0 is served by .* already, as endpoint 00:1d\.0/00\.0"):
        add_unit(machine, SECOND, named(machine, "other"))


def test_a_device_behind_conventional_pci_cannot_be_named() -> None:
    machine = board()
    with pytest.raises(OptionError, match="'old0' is behind the bridge 'bridge' to conventional PCI"):
        named(machine, "old0")


def test_scopes_are_told_in_words() -> None:
    machine = board()
    assert str(named(machine, "graphics", "disk")) == "endpoint 00:02.0, endpoint 00:1d.0/00.0"
    assert str(EVERYTHING) == "all other devices"
    assert str(UnitScope()) == "no device"
    assert str(Scope(ScopeKind.HPET, (0x78,), 0xF0, 1)) == "HPET 1 at f0:0f.0"


def test_qemus_own_option_still_adds_only_one() -> None:
    machine = board()
    machine.add_device("intel-iommu")
    with pytest.raises(OptionError, match="does not support multiple vIOMMUs"):
        machine.add_device("intel-iommu")
