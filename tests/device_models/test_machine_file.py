"""Machines in YAML: what they become, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_models.intel_iommu import IntelIommu
from device_models.machine import SystemMachine
from device_models.machine_file import load_machine, parse_machine
from device_models.pci.config_space import Command, Offset
from device_models.pci.function import PciFunction
from pagetables.errors import InputError

MACHINES = Path(__file__).resolve().parents[2] / "fixtures" / "machines"
SMALL = "engine: python\nram: 16M\n"
DEVICES = "devices: ['edu,id=gpu,addr=02.0', 'edu,id=net,addr=03.0']\n"


def function(machine: SystemMachine, name: str) -> PciFunction:
    found = machine.device(name)
    assert isinstance(found, PciFunction)
    return found


def owner(machine: SystemMachine, name: str) -> int:
    """The register base of the unit that remaps a device."""
    unit = machine.unit_for(function(machine, name).source_id)
    assert unit is not None
    return unit.base


def test_a_file_becomes_a_machine() -> None:
    machine = load_machine(MACHINES / "two-units.yaml")
    assert [unit.base for unit in machine.units] == [0xFED90000, 0xFED91000]
    owners = {name: owner(machine, name) for name in ("graphics", "e0", "old0", "old1", "rp0", "bridge0")}
    assert owners == {**dict.fromkeys(owners, 0xFED91000), "graphics": 0xFED90000}
    (reserved,) = machine.platform.reserved
    assert (reserved.base, reserved.limit) == (0xC000000, 0xC7FFFFF)


def test_units_take_profiles_options_and_ids() -> None:
    machine = parse_machine(
        SMALL + DEVICES + "profile: alder-lake\nunits:\n"
        "  - {id: gfx, base: 0xfed90000, profile: alder-lake-graphics, scope: [gpu]}\n"
        "  - {base: 0xfed91000, options: 'intremap=off'}\n"
    )
    device = machine.device("gfx")
    assert isinstance(device, IntelIommu)
    assert device.unit is machine.units[0]
    assert [unit.profile.name for unit in machine.units] == ["alder-lake-graphics", "alder-lake"]
    assert machine.units[1].ecap.ir == 0


def test_an_empty_file_of_one_key_is_a_machine_without_units() -> None:
    machine = parse_machine("ram: 16M\nprocessors: 4\nvga: yes\nengine: python")
    assert machine.units == []
    assert machine.memory.regions == ((0, 16 << 20),)
    assert 8 in machine.root_bus.functions


def test_a_place_is_text_and_not_a_number_of_base_60() -> None:
    machine = parse_machine(SMALL + DEVICES + "units: [{base: 0xfed90000, scope: [00:02.0]}]")
    assert owner(machine, "gpu") == 0xFED90000


def test_firmware_numbers_buses_and_places_bars_and_does_so_again_after_reset() -> None:
    machine = load_machine(MACHINES / "two-units.yaml")
    bridge, old, graphics = (function(machine, name) for name in ("bridge0", "old1", "graphics"))
    for _ in range(2):
        assert [bridge.config.get(at, 1) for at in (Offset.PRIMARY_BUS, Offset.SECONDARY_BUS)] == [1, 2]
        starts = [machine.space.read_number(device.bars[0].address or 0, 4) for device in (old, graphics)]
        assert starts == [0x010000ED, 0x010000ED]  # edu's identification, through the bridges' windows
        assert not old.config.get(Offset.COMMAND, 2) & Command.MASTER
        machine.reset()


def test_without_firmware_nothing_is_numbered_or_placed() -> None:
    bridge = "bridges: ['pcie-root-port,id=p0,addr=1c.0']\n"
    machine = parse_machine(SMALL + bridge + DEVICES + "firmware: no\nunits: [{base: 0xfed90000}]")
    graphics, port = function(machine, "gpu"), function(machine, "p0")
    assert graphics.bars[0].address is None
    assert port.config.get(Offset.SECONDARY_BUS, 1) == 0
    assert not any(start < 0x100000 for start, _ in machine.memory.touched())


@pytest.mark.parametrize(
    "text, message",
    [
        ("units: [", "m.yaml: not YAML"),
        ("- a\n", "m.yaml: expected a mapping with keys out of explains, profile"),
        ("devcies: []", "m.yaml: no key is called 'devcies'; did you mean devices?"),
        ("engine: fast", "m.yaml: engine: expected native or python, got 'fast'"),
        ("profile: sepc", "m.yaml: profile: no profile is called 'sepc'; did you mean spec?"),
        ("profile: 3", "m.yaml: profile: expected words, got 3"),
        ("ram: much", "m.yaml: ram: .*'much'"),
        ("ram: 100", "m.yaml: ram: memory of 0x64 bytes"),
        ("processors: 0", "m.yaml: processors: expected a number from 0x1 to 0xff, got 0"),
        ("vga: maybe", "m.yaml: vga: expected yes or no, got 'maybe'"),
        ("devices: edu", r"m.yaml: devices: expected a list, got 'edu'"),
        ("devices: [{edu: 1}]", r"m.yaml: devices\[0\]: expected what -device takes"),
        ("devices: ['edu', 'ude']", r"m.yaml: devices\[1\]: 'ude' is not a valid device model name; known: .*edu"),
        ("devices: ['edu,dma=1']", r"m.yaml: devices\[0\]: Property 'edu.dma' not found; known: .*dma_mask"),
        ("units: [{bas: 1}]", r"m.yaml: units\[0\]: no key is called 'bas'; did you mean base\?"),
        ("units: [fast]", r"m.yaml: units\[0\]: expected a mapping with keys out of id, base"),
        ("units: [{}]", r"m.yaml: units\[0\].base: expected a number from 0x1000"),
        ("units: [{base: 0xfed90010}]", r"m.yaml: units\[0\].base: 0xfed90010 is not the start of a page"),
        ("units: [{base: 0x100000}]", r"m.yaml: units\[0\].base: there is RAM at 0x100000"),
        (
            DEVICES + "units: [{base: 0xfed90000, scope: [gpu]}, {base: 0xfed90000}]",
            r"m.yaml: units\[1\].base: 0xfed90000 is the base of m.yaml: units\[0\] already",
        ),
        ("units: [{base: 0xfed90000, scope: [gpu]}]", r"m.yaml: units\[0\].scope\[0\]: no device has the id 'gpu'"),
        (
            DEVICES + "units: [{base: 0xfed90000, scope: [gup]}]",
            r"m.yaml: units\[0\].scope\[0\]: no device has the id 'gup'; did you mean gpu\?",
        ),
        (
            DEVICES + "units: [{base: 0xfed90000, scope: [00:09.0]}]",
            r"m.yaml: units\[0\].scope\[0\]: there is no device at 00:09.0",
        ),
        (
            DEVICES + "units: [{base: 0xfed90000, scope: [00:02.0/00.0]}]",
            r"m.yaml: units\[0\].scope\[0\]: there is no device at 00:02.0/00.0",
        ),
        (
            DEVICES + "units: [{base: 0xfed90000, scope: ['05:02.0']}]",
            r"m.yaml: units\[0\].scope\[0\]: there is no device at 05:02.0",
        ),
        ("units: [{base: 0xfed90000, scope: [3]}]", r"units\[0\].scope\[0\]: expected a device's id, a place"),
        ("units: [{base: 0xfed90000, scope: []}]", r"units\[0\].scope: expected all, or a list of devices; got none"),
        ("units: [{base: 0xfed90000, scope: gpu}]", r"units\[0\].scope: expected a list, got 'gpu'"),
        (
            DEVICES + "units: [{base: 0xfed90000, scope: [all, gpu]}]",
            r"units\[0\].scope: all PCI devices, and some of them by name",
        ),
        ("units: [{base: 0xfed90000, scope: [{ioapic: 2}]}]", r"units\[0\].scope\[0\]: expected a device's id"),
        (
            "units: [{base: 0xfed90000, scope: [{ioapic: 2, at: 'f0:1f.0', name: x}]}]",
            r"units\[0\].scope\[0\]: a namespace device, and nothing else, has a name",
        ),
        (
            "units: [{base: 0xfed90000, scope: [{ioapic: 999, at: 'f0:1f.0'}]}]",
            r"units\[0\].scope\[0\].ioapic: expected a number from 0x0 to 0xff, got 999",
        ),
        (
            "units: [{base: 0xfed90000}, {base: 0xfed91000}]",
            r"m.yaml: units\[1\]: the unit at 0xfed90000 has all other devices already",
        ),
        ("units: [{base: 0xfed90000, options: cm=on}]", r"m.yaml: units\[0\]: Property 'intel-iommu.cm' not found"),
        ("rmrr: [{base: 0x1000, size: 100}]", r"m.yaml: rmrr\[0\]: expected whole pages, got 0x64 bytes at 0x1000"),
        ("units: [{base: 0xfee00000}]", r"m.yaml: units\[0\].base: there is the interrupt range at 0xfee00000"),
        ("rmrr: [{base: 0x1000, size: 4K}]", r"m.yaml: rmrr\[0\].devices: expected the devices"),
        ("rmrr: [{base: 0x1000}]", r"m.yaml: rmrr\[0\].size: "),
        (
            "sidp: [{device: gpu, flags: 99}]\n" + DEVICES,
            r"sidp\[0\].flags: expected a number from 0x0 to 0x1f, got 99",
        ),
        ("atsr: [gpu]", r"atsr\[0\]: no device has the id 'gpu'"),
    ],
)
def test_an_error_says_where_and_what(text: str, message: str) -> None:
    whole = text if text.startswith("- ") or "ram:" in text or "engine:" in text else SMALL + text
    with pytest.raises(InputError, match=message):
        parse_machine(whole, "m.yaml")


def test_devices_that_need_too_many_addresses_are_refused() -> None:
    displays = [f"VGA,addr={slot:02x}.0" for slot in range(2, 31)] + ["VGA,addr=1f.4"]  # 16 MiB each, and a page
    with pytest.raises(InputError, match=r"m\.yaml: the devices need more addresses than there are below 0xfec00000"):
        parse_machine(SMALL + f"vga: yes\ndevices: {displays}", "m.yaml")
    assert len(parse_machine(SMALL + f"devices: {displays[:28]}").devices) == 32


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "machine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not YAML: not text"):
        load_machine(path)
