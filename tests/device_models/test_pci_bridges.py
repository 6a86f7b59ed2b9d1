"""Bridges and how software reaches what is behind them; who a request is from; the two configuration mechanisms."""

from __future__ import annotations

import pytest

from device_models.machine import SystemMachine
from device_models.options import OptionError
from device_models.pci.bridges import PcieRootPort
from pagetables.address import SourceId
from pagetables.request import Access
from tests.device_models.pci_scene import BAR_0, COMMAND, IO, MEMORY, Plain, Software, plug

BUSES, IO_WINDOW, MEMORY_WINDOW, PREFETCH_WINDOW = 0x18, 0x1C, 0x20, 0x24
PORT, BRIDGE = 0x20, 0x28  # 04.0, 05.0


def machine_with(*devices: str) -> tuple[SystemMachine, Software]:
    machine = SystemMachine("spec", engine="python")
    for device in devices:
        machine.add_device(device)
    return machine, Software(machine)


def behind_port() -> tuple[SystemMachine, Software]:
    machine, software = machine_with("pcie-root-port,id=rp,addr=4")
    plug(machine, Plain, bus="rp")
    software.write(PORT, BUSES, 0x0003_0300)  # secondary 3, subordinate 3
    return machine, software


def test_a_function_behind_a_root_port_answers_under_its_bus_number() -> None:
    _, software = behind_port()
    assert software.read(0, 0, bus=3) == 0x5678_1234
    assert software.read(8, 0, bus=3) == 0xFFFF_FFFF
    assert software.read(0, 0, bus=4) == 0xFFFF_FFFF
    software.write(PORT, BUSES, 0x0007_0700)
    assert software.read(0, 0, bus=3) == 0xFFFF_FFFF
    assert software.read(0, 0, bus=7) == 0x5678_1234


def test_a_device_behind_a_port_may_have_several_functions() -> None:
    machine, software = machine_with("pcie-root-port,id=rp,addr=4")
    plug(machine, Plain, "addr=0.1", bus="rp")
    plug(machine, Plain, "addr=0,multifunction=on", bus="rp")
    software.write(PORT, BUSES, 0x0003_0300)
    assert [software.read(devfn, 0, bus=3) for devfn in (0, 1, 2)] == [0x5678_1234, 0x5678_1234, 0xFFFF_FFFF]
    assert [device.source_id for device in machine.devices[-2:]] == [0x0301, 0x0300]


def test_a_function_that_comes_while_the_machine_runs_must_come_before_function_0() -> None:
    machine, _ = machine_with("pcie-root-port,id=rp,addr=4", "edu,bus=rp,addr=0,multifunction=on")
    with pytest.raises(OptionError, match="slot 0 function 0 already occupied by edu, new func edu cannot be exposed"):
        machine.device_add("edu,bus=rp,addr=0.1")
    empty, _ = machine_with("pcie-root-port,id=rp,addr=4")
    empty.device_add("edu,bus=rp,addr=0.1")
    assert list(empty.buses["rp"].functions) == [1]


def test_before_buses_are_numbered_nothing_behind_a_bridge_answers() -> None:
    machine, software = machine_with("pcie-root-port,id=rp,addr=4")
    plug(machine, Plain, bus="rp")
    assert software.read(0, 0, bus=0) == 0x29C0_8086
    assert software.read(0, 0, bus=1) == 0xFFFF_FFFF


def test_memory_behind_a_bridge_is_seen_through_its_window() -> None:
    machine, software = behind_port()
    software.write(0, BAR_0, 0xE010_0000, bus=3)
    software.write(0, COMMAND, MEMORY, 2, bus=3)
    assert machine.space.lookup(0xE010_0000) is None
    software.write(PORT, MEMORY_WINDOW, 0xE010_E010)
    assert machine.space.lookup(0xE010_0000) is None
    software.write(PORT, COMMAND, MEMORY, 2)
    assert machine.space.read_number(0xE010_0000, 1) == 0xA0
    software.write(PORT, MEMORY_WINDOW, 0xE000_E010)  # limit below base: closed
    assert machine.space.lookup(0xE010_0000) is None


def test_ports_and_prefetchable_memory_have_windows_of_their_own() -> None:
    machine, software = behind_port()
    software.write(0, BAR_0 + 4, 0xC000, bus=3)
    software.write(0, BAR_0 + 8, 0x4000_0000, bus=3)
    software.write(0, BAR_0 + 12, 0x12, bus=3)
    software.write(0, COMMAND, MEMORY | IO, 2, bus=3)
    software.write(PORT, COMMAND, MEMORY | IO, 2)
    software.write(PORT, IO_WINDOW, 0xC0C0, 2)
    software.write(PORT, PREFETCH_WINDOW, 0x4000_4000)
    software.write(PORT, 0x28, 0x12)
    software.write(PORT, 0x2C, 0x12)
    assert machine.ports.read_number(0xC000, 1) == 0xA1
    assert machine.space.read_number(0x12_4000_0000, 1) == 0xA2
    machine.reset()
    assert machine.space.lookup(0x12_4000_0000) is None


def test_behind_pci_express_a_request_carries_its_own_id() -> None:
    machine, _ = behind_port()
    assert machine.devices[-1].request(0, Access.READ).source_id == 0x0300


def test_behind_a_pcie_to_pci_bridge_everybody_is_devfn_0_of_the_secondary_bus() -> None:
    machine, software = machine_with("pcie-root-port,id=rp,addr=4", "pcie-pci-bridge,id=pb,bus=rp")
    device = plug(machine, Plain, "addr=3", bus="pb")
    software.write(PORT, BUSES, 0x0005_0300)
    software.write(0, BUSES, 0x0005_0503, bus=3)
    assert software.read(0x18, 0, bus=5) == 0x5678_1234
    assert device.source_id == 0x0500


def test_behind_a_conventional_bridge_the_bridge_is_the_requester() -> None:
    machine, software = machine_with("pci-bridge,id=br,addr=5,chassis_nr=1")
    device = plug(machine, Plain, "addr=3", bus="br")
    software.write(BRIDGE, BUSES, 0x0002_0200)
    assert device.source_id == BRIDGE


def test_the_hot_plug_controller_shows_what_is_plugged_and_takes_no_commands() -> None:
    machine, software = machine_with("pci-bridge,id=br,addr=5,chassis_nr=1")
    device = plug(machine, Plain, "addr=3", bus="br")
    software.write(BRIDGE, BAR_0, 0xE010_0000)
    software.write(BRIDGE, COMMAND, MEMORY, 2)
    slots = [machine.space.read_number(0xE010_0024 + 4 * number, 4) & 3 for number in range(31)]
    assert [number + 1 for number, state in enumerate(slots) if state == 2] == [3]
    machine.space.write_number(0xE010_0014, 4, 0x0302)  # slot 3, power off
    assert machine.space.read_number(0xE010_0014, 4) == 0
    software.write(BRIDGE, 0x42, 9 + 2, 1)
    assert software.read(BRIDGE, 0x44) & 3 == 2
    machine.remove_device(device)
    assert software.read(BRIDGE, 0x44) & 3 == 3


def test_a_slot_is_locked_and_unlocked_by_the_same_bit_and_every_command_is_done() -> None:
    _, software = machine_with("pcie-root-port,id=rp,addr=4")
    control, status = 0x6C, 0x6E
    assert software.read(PORT, status, 2) == 0
    software.write(PORT, control, 0x0800, 2)
    assert (software.read(PORT, control, 2), software.read(PORT, status, 2)) == (0, 0x90)
    software.write(PORT, status, 0xFFFF, 2)
    assert software.read(PORT, status, 2) == 0x80
    software.write(PORT, control, 0x0FC0, 2)
    assert (software.read(PORT, control, 2), software.read(PORT, status, 2)) == (0x07C0, 0x10)


def test_what_a_bridge_can_go_without_is_not_in_its_lists() -> None:
    machine, software = machine_with(
        "pcie-root-port,id=rp,addr=4,disable-acs=on", "pci-bridge,addr=5,chassis_nr=1,shpc=off", "edu,bus=rp"
    )
    port = machine.device("rp")
    assert isinstance(port, PcieRootPort)
    assert port.config.find_extended_capability(0x0D) == 0
    software.write(PORT, BUSES, 0x0003_0300)
    assert port.lets_up(SourceId(0x0018))
    bridge = machine.root_bus.functions[BRIDGE].config
    assert [bridge.find_capability(identity) for identity in (0x0C, 0x05, 0x04)] == [0, 0, 0x40]
    assert software.read(BRIDGE, 0x3D, 1) == 0


def test_bridges_rotate_interrupt_pins_by_the_slot() -> None:
    machine, _ = machine_with("pci-bridge,id=br,addr=5,chassis_nr=1")
    device = plug(machine, Plain, "addr=3", bus="br")
    device.set_interrupt(True)  # INTA of slot 3 is INTD of the bridge in slot 5
    assert [number for number, level in enumerate(machine.inputs.levels) if level] == [16 + 4 + (5 + 3) % 4]


def test_what_qemu_refuses_of_slots_and_bridges_is_refused() -> None:
    machine, _ = machine_with("pcie-root-port,id=rp,addr=4")
    for text, message in (
        ("pci-bridge,addr=6", "chassis not specified"),
        ("edu,bus=rp,addr=1", "only slot 0"),
        ("edu,addr=1f.0", "slot 31 function 0 not available for edu, in use by ICH9-LPC"),
        ("edu,bus=nowhere", "Bus 'nowhere' not found"),
        ("pcie-root-port,addr=7", "Can't add chassis slot, error -16: 'rp' has chassis=0, slot=0 too"),
        ("edu,addr=4.1", "single function device can't be populated in function 4.1"),
    ):
        with pytest.raises(OptionError, match=message):
            machine.add_device(text)
    assert len(machine.devices) == 5
    machine.add_device("pcie-root-port,addr=7,slot=1")


def test_a_full_bus_says_so() -> None:
    machine, _ = machine_with("pcie-root-port,id=rp,addr=4", "edu,bus=rp")
    with pytest.raises(OptionError, match="no slot/function available on bus rp"):
        machine.add_device("edu,bus=rp")


def test_function_0_that_comes_last_must_be_multifunction() -> None:
    machine, _ = machine_with("edu,addr=6.1")
    with pytest.raises(OptionError, match=r"6.0 indicates single function, but 6.1 is already populated"):
        machine.add_device("edu,addr=6.0")
    machine.add_device("edu,addr=6.0,multifunction=on")


def test_a_bridge_with_devices_behind_it_stays() -> None:
    machine, _ = machine_with("pcie-root-port,id=rp,addr=4", "edu,bus=rp,id=e")
    with pytest.raises(OptionError, match="Bus 'rp' is not empty"):
        machine.remove_device(machine.device("rp"))
    machine.device_del("e")
    machine.remove_device(machine.device("rp"))
    assert "rp" not in machine.buses


class TestMechanisms:
    # The values of the next three tests are those that qemu-system-x86_64 7.2.22 gives.

    def test_the_low_bits_of_both_ports_are_or_ed(self) -> None:
        machine, _ = machine_with()
        ports = machine.ports
        ports.write_number(0xCF8, 4, 0x8000_0002)
        assert (ports.read_number(0xCFC, 2), ports.read_number(0xCFC, 4)) == (0x29C0, 0x29C0)
        ports.write_number(0xCF8, 4, 0x8000_0000)
        assert ports.read_number(0xCFD, 2) == 0xC080
        assert ports.read_number(0xCFF, 1) == 0x29

    def test_only_a_whole_dword_sets_the_address_and_only_with_bit_31_does_it_lead_anywhere(self) -> None:
        machine, _ = machine_with()
        ports = machine.ports
        ports.write_number(0xCF8, 4, 0x8000_FBFC)
        ports.write_number(0xCF8, 2, 0x1234)
        assert ports.read_number(0xCF8, 4) == 0x8000_FBFC
        ports.write_number(0xCF8, 4, 0)
        assert ports.read_number(0xCFC, 4) == 0xFFFF_FFFF
        ports.write_number(0xCFC, 4, 0)

    def test_the_memory_window_opens_where_pciexbar_says(self) -> None:
        machine, software = machine_with("edu,addr=1")
        assert machine.space.lookup(0xB000_0000) is None
        software.write(0, 0x60, 0xB000_0001)
        read = machine.space.read_number
        assert read(0xB000_0000, 4) == 0x29C0_8086
        assert read(0xB00F_8000, 2) == 0x8086
        assert read(0xB000_8000, 4) == 0x11E8_1234
        assert read(0xB000_8100, 4) == 0xFFFF_FFFF  # a conventional function ends at 100h
        software.write(0, 0x60, 0xB000_0005)  # 64 MiB: 64 buses
        assert read(0xB000_0000, 4) == 0x29C0_8086
        assert read(0xB400_0000, 4) == 0
        software.write(0, 0x60, 0)
        assert machine.space.lookup(0xB000_0000) is None

    def test_extended_space_is_reached_through_memory_only(self) -> None:
        machine, software = machine_with("pcie-root-port,id=rp,addr=4")
        software.write(0, 0x60, 0xB000_0001)
        machine.devices[-1].config.set(0x104, 4, 0x1234_5678)
        assert machine.space.read_number(0xB000_0000 | PORT << 12 | 0x104, 4) == 0x1234_5678
        machine.space.write_number(0xB000_0000 | PORT << 12 | 0x3C, 1, 0x0B)
        assert software.read(PORT, 0x3C, 1) == 0x0B
