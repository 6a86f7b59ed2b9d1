"""The machine: memory layout, devices by option string, object paths, time, reset, and devices of others."""

from __future__ import annotations

import importlib.metadata
import sys
import types

import pytest

from device_models.board import ram_layout
from device_models.device import Device
from device_models.machine import SystemMachine
from device_models.options import OptionError
from device_models.pci.function import PciFunction
from device_models.properties import Unsigned
from device_models.registry import GROUP, device_types, find_device_type
from pagetables.errors import InputError


class Guest(PciFunction):
    """A device of another distribution."""

    TYPE = "guest"
    level = Unsigned(8, 3)


class Failing(Device):
    """A device that cannot be realized."""

    TYPE = "failing"
    undone = 0

    def realize(self) -> None:
        super().realize()
        raise OptionError("not today")

    def unrealize(self) -> None:
        Failing.undone += 1
        super().unrealize()


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("vtd_test_devices")
    module.Guest, module.Failing, module.wrong = Guest, Failing, 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vtd_test_devices", module)
    names = {"guest": "Guest", "failing": "Failing", "wrong": "wrong", "missing": "Nothing"}
    entries = [importlib.metadata.EntryPoint(key, f"vtd_test_devices:{name}", GROUP) for key, name in names.items()]
    monkeypatch.setattr("device_models.registry.entry_points", lambda group: entries if group == GROUP else [])


@pytest.fixture
def machine() -> SystemMachine:
    return SystemMachine("spec", memory_size=64 << 20, engine="python")


def test_memory_beyond_the_pci_hole_begins_at_4_gib() -> None:
    assert ram_layout(1 << 30) == [(0, 1 << 30)]
    assert ram_layout(0xB000_0000) == [(0, 0xB000_0000)]
    assert ram_layout(0xB000_1000) == [(0, 0x8000_0000), (1 << 32, 0x3000_1000)]
    for wrong in (0, -4096, 100):
        with pytest.raises(InputError, match="multiple of 0x1000"):
            ram_layout(wrong)


def test_the_chipset_is_where_q35_has_it(machine: SystemMachine) -> None:
    found = {devfn: function.config.get(0, 4) for devfn, function in machine.root_bus.functions.items()}
    assert found == {0: 0x29C0_8086, 0xF8: 0x2918_8086, 0xFA: 0x2922_8086, 0xFB: 0x2930_8086}
    with_vga = SystemMachine("spec", engine="python", vga=True)
    assert with_vga.root_bus.functions[8].config.get(0, 4) == 0x1111_1234


def test_a_device_takes_the_first_free_slot_or_the_one_it_names(machine: SystemMachine) -> None:
    first, second = machine.add_device("edu"), machine.add_device("edu,addr=05.0")
    assert (first.get_property("addr"), second.get_property("addr")) == (8, 0x28)


@pytest.mark.parametrize(
    "text, message",
    [
        ("edo", "'edo' is not a valid device model name; did you mean edu"),
        ("id=x,addr=1", "Parameter 'driver' is missing"),
        ("edu,id=1x", "Parameter 'id' expects an identifier"),
        ("edu,id=taken", "Duplicate ID 'taken' for device"),
        ("driver=", "Parameter 'driver' is missing"),
        ("intel-iommu,bus=pcie.0", "Device 'intel-iommu' can't go on PCIE bus"),
        ("intel-iommu,bus=nowhere", "Bus 'nowhere' not found"),
    ],
)
def test_a_wrong_device_is_refused_in_the_words_of_qemu(machine: SystemMachine, text: str, message: str) -> None:
    machine.add_device("edu,id=taken")
    before = (len(machine.devices), machine.objects.paths())
    with pytest.raises(OptionError) as refused:
        machine.add_device(text)
    assert str(refused.value).startswith(message)
    assert (len(machine.devices), machine.objects.paths()) == before


def test_devices_of_other_distributions_are_devices(plugins: None, machine: SystemMachine) -> None:
    assert {"edu", "guest", "intel-iommu", "VGA"} <= set(device_types())
    device = machine.add_device("guest,id=g,level=0x7")
    assert isinstance(device, Guest)
    assert device.level == 7


def test_what_is_registered_and_is_no_device_is_told(plugins: None) -> None:
    with pytest.raises(InputError, match=r"wrong \(vtd_test_devices:wrong\) is no subclass"):
        find_device_type("wrong")
    with pytest.raises(InputError, match=r"missing .* cannot be loaded"):
        find_device_type("missing")


def test_a_device_that_fails_to_realize_is_undone(plugins: None, machine: SystemMachine) -> None:
    Failing.undone = 0
    before = len(machine.devices)
    with pytest.raises(OptionError, match="not today"):
        machine.add_device("failing,id=f")
    assert (Failing.undone, len(machine.devices)) == (1, before)
    with pytest.raises(OptionError, match="Device 'f' not found"):
        machine.device("f")


def test_objects_have_paths_types_and_properties(machine: SystemMachine) -> None:
    machine.add_device("edu,id=e0,addr=2")
    machine.add_device("edu")
    tree = machine.objects
    assert machine.device("e0") is machine.device("/machine/peripheral/e0")
    assert ("e0", "child<edu>") in {(found.name, found.type) for found in tree.properties("/machine/peripheral")}
    assert ("dma_mask", "uint64") in {(found.name, found.type) for found in tree.properties("/machine/peripheral/e0")}
    assert tree.get("/machine/peripheral/e0", "addr") == 0x10
    assert tree.get("/machine/peripheral/e0", "realized") is True
    assert tree.get("e0", "type") == "edu"
    assert tree.get("/machine", "peripheral") == "/machine/peripheral"
    assert tree.get("/machine/peripheral-anon/device[0]", "type") == "edu"
    assert tree.get("/machine/unattached/device[0]", "type") == "ICH9-LPC"
    with pytest.raises(OptionError, match=r"'container.nothing' not found"):
        tree.get("/machine/peripheral", "nothing")
    with pytest.raises(OptionError, match="not found"):
        tree.get("/machine/peripheral/e1", "addr")


def test_a_running_machine_takes_devices_on_hotplug_buses_only(machine: SystemMachine) -> None:
    machine.add_device("pcie-root-port,id=rp,addr=4")
    machine.add_device("edu,id=fixed")
    with pytest.raises(OptionError, match=r"Bus 'pcie.0' does not support hotplugging"):
        machine.device_add("edu,id=e")
    machine.device_add("edu,id=e,bus=rp")
    machine.device_del("e")
    for identity, message in (("e", "Device 'e' not found"), ("fixed", "does not support hotplugging")):
        with pytest.raises(OptionError, match=message):
            machine.device_del(identity)


def test_a_running_machine_takes_no_unit_and_no_display(machine: SystemMachine) -> None:
    machine.add_device("pcie-root-port,id=rp,addr=4")
    for text in ("intel-iommu", "VGA,bus=rp"):
        with pytest.raises(OptionError, match="does not support hotplugging"):
            machine.device_add(text)
    assert machine.units == []
    with pytest.raises(OptionError, match="'driver' is missing"):
        machine.device_add("bus=rp")


def test_beside_a_function_0_that_is_seen_already_nothing_is_added(machine: SystemMachine) -> None:
    # Software looks for functions when it finds function 0: what comes later it would never see.
    machine.add_device("pci-bridge,id=pb,addr=4,chassis_nr=1")
    machine.device_add("edu,bus=pb,addr=8.1")
    machine.device_add("edu,bus=pb,addr=8,multifunction=on")
    with pytest.raises(OptionError, match="PCI: slot 8 function 0 already occupied by edu, new func edu cannot be"):
        machine.device_add("edu,bus=pb,addr=8.2")


def test_an_unknown_id_is_answered_with_ids_that_are_near(machine: SystemMachine) -> None:
    for identity, answer in (
        ("edu0", "Device 'edu0' not found"),
        ("/machine/nowhere", "Device '/machine/nowhere' not found"),
    ):
        with pytest.raises(OptionError) as refused:
            machine.device(identity)
        assert str(refused.value).startswith(answer)
        assert "known: /" not in str(refused.value)
    machine.add_device("edu,id=edu1")
    with pytest.raises(OptionError, match=r"Device 'edu0' not found; did you mean edu1\?$"):
        machine.device("edu0")


def test_time_passes_by_steps_or_to_the_next_timer(machine: SystemMachine) -> None:
    ran: list[int] = []
    machine.clock.after(300, lambda: ran.append(machine.clock.now))
    assert machine.clock_step(100) == 100
    assert machine.clock_step() == 300
    assert ran == [300]
    assert machine.clock_step() == 300


def test_a_reset_keeps_memory_and_time_and_is_told(machine: SystemMachine) -> None:
    told: list[bool] = []
    machine.on_reset.append(lambda: told.append(True))
    machine.space.write(0x1000, b"abcd")
    machine.clock_step(5)
    machine.apics.write_message(0xFEE0_0000, 0x41)
    machine.ports.write_number(0xCF8, 4, 0x8000_0000)
    machine.ports.write_number(0xCF9, 1, 0x02)
    assert (told, machine.ports.read_number(0xCF9, 1)) == ([], 2)
    machine.ports.write_number(0xCF9, 1, 0x06)
    assert told == [True]
    assert machine.space.read(0x1000, 4) == b"abcd"
    assert (machine.clock.now, machine.apics.vectors(), machine.ports.read_number(0xCF8, 4)) == (5, [], 0)


def test_the_processor_sends_messages_by_writing_dwords_to_the_interrupt_range(machine: SystemMachine) -> None:
    machine.space.write_number(0xFEE0_0000, 4, 0x55)
    machine.space.write_number(0xFEE0_0000, 2, 0x56)
    machine.space.write_number(0xFEE0_0000, 8, 0x57_0000_0058)  # two dwords, as in QEMU: the second is logical
    assert machine.apics.vectors() == [0x55, 0x58]
    assert [event.apics for event in machine.apics.events] == [(0,), (0,), ()]
    assert machine.space.read_number(0xFEE0_0020, 4) == 0
