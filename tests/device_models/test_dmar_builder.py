"""The DMAR table of a machine: what it says, held against iasl, our own checks and the machine that it describes."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from device_models.dmar import build_dmar, dmar_table
from device_models.firmware import place_tables
from device_models.machine import SystemMachine
from device_models.machine_file import load_machine, parse_machine
from device_models.pci.extended import Ats
from device_models.pci.function import PciFunction
from pagetables.dmar_check import check_dmar
from pagetables.errors import InputError
from pagetables.images.acpi import find_dmar
from pagetables.layouts.dmar import Andd, Atsr, DeviceScope, Drhd, Rhsa, Rmrr, Satc, ScopeType, Sidp, build, parse
from tests.required import need_program

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MACHINES = sorted((FIXTURES / "machines").glob("*.yaml"))
EVERY_KIND = """
ram: 64M
engine: python
bridges: ["pcie-root-port,id=port,addr=1c.0", "pcie-pci-bridge,id=bridge,addr=1d.0"]
devices: ["edu,id=gpu,addr=02.0", "edu,id=net,addr=03.0", "edu,id=disk,bus=port"]
units:
  - base: 0xfed90000
    scope: [gpu, 00:1c.0/00.0, {namespace: 1, name: '\\_SB.PCI0.I2C0', at: "00:15.0"}]
    proximity: 0
  - {base: 0xfed92000, scope: [bridge, {hpet: 0, at: "f0:0f.0"}]}
  - {base: 0xfed91000, scope: [all, {ioapic: 2, at: "f0:1f.0"}], proximity: 1}
rmrr: [{base: 0x2000000, size: 1M, devices: [gpu, disk]}]
atsr: [port]
satc: [gpu]
sidp: [{device: net, flags: 0x11}]
x2apic_opt_out: yes
dma_opt_in: yes
"""


class Caching(PciFunction):
    """A function with ATS."""

    TYPE = "caching"
    EXPRESS = True

    def realize(self) -> None:
        super().realize()
        Ats(self.config)


def plug(machine: SystemMachine, bus: str, addr: str) -> None:
    device = Caching(machine)
    device.bus = machine.buses[bus]
    device.set_property("addr", addr)
    device.realize()
    machine.devices.append(device)


def test_every_kind_of_structure_is_built() -> None:
    table = dmar_table(parse_machine(EVERY_KIND))
    gpu, net = (DeviceScope(ScopeType.ENDPOINT, 0, ((slot, 0),)) for slot in (2, 3))
    disk = DeviceScope(ScopeType.ENDPOINT, 0, ((0x1C, 0), (0, 0)))
    port, bridge = (DeviceScope(ScopeType.BRIDGE, 0, ((slot, 0),)) for slot in (0x1C, 0x1D))
    i2c = DeviceScope(ScopeType.NAMESPACE_DEVICE, 0, ((0x15, 0),), enum_id=1)
    hpet = DeviceScope(ScopeType.HPET, 0xF0, ((0x0F, 0),), enum_id=0)
    ioapic = DeviceScope(ScopeType.IOAPIC, 0xF0, ((0x1F, 0),), enum_id=2)
    assert table.structures == (
        Drhd(0xFED90000, scopes=(gpu, disk, i2c)),
        Drhd(0xFED92000, scopes=(bridge, hpet)),
        Drhd(0xFED91000, flags=1, scopes=(ioapic,)),
        Rmrr(0x2000000, 0x20FFFFF, scopes=(gpu, disk)),
        Atsr(scopes=(port,)),
        Rhsa(0xFED90000, 0),
        Rhsa(0xFED91000, 1),
        Andd(1, b"\\_SB.PCI0.I2C0"),
        Satc(flags=1, scopes=(gpu,)),
        Sidp(scopes=(dataclasses.replace(net, flags=0x11),)),
    )
    assert (table.interrupt_remapping, table.x2apic_opt_out, table.dma_opt_in, table.haw) == (True, True, True, 52)


def test_the_bytes_read_back_as_the_table_with_a_right_checksum() -> None:
    machine = parse_machine(EVERY_KIND)
    data = build_dmar(machine)
    assert sum(data) & 0xFF == 0
    assert parse(data) == dmar_table(machine)


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_our_own_machines_have_tables_that_nobody_complains_about(path: Path) -> None:
    assert check_dmar(build_dmar(load_machine(path))).complaints == ()


def test_a_table_of_every_kind_has_nothing_to_complain_about() -> None:
    assert check_dmar(build_dmar(parse_machine(EVERY_KIND))).complaints == ()


def test_the_catch_all_comes_last_wherever_it_was_added() -> None:
    text = """
engine: python
devices: ["edu,id=gpu,addr=02.0"]
units: [{base: 0xfed91000, scope: all}, {base: 0xfed90000, scope: [gpu]}]
"""
    units = dmar_table(parse_machine(text)).units
    assert [(unit.base, unit.include_all) for unit in units] == [(0xFED90000, False), (0xFED91000, True)]


def test_an_ioapic_is_named_where_interrupts_are_remapped_and_nobody_named_one() -> None:
    with_remapping = dmar_table(parse_machine("units: [{base: 0xfed90000}]\nengine: python"))
    (unit,) = with_remapping.units
    assert unit.scopes == (DeviceScope(ScopeType.IOAPIC, 0xFF, ((0, 0),)),)
    without = dmar_table(parse_machine("units: [{base: 0xfed90000, options: intremap=off}]\nengine: python"))
    assert without.units[0].scopes == ()
    assert (with_remapping.interrupt_remapping, without.interrupt_remapping) == (True, False)


def test_one_unit_without_interrupt_remapping_takes_it_from_the_platform() -> None:
    text = """
engine: python
devices: ["edu,id=gpu,addr=02.0"]
units: [{base: 0xfed90000, scope: [gpu], options: intremap=off}, {base: 0xfed91000}]
"""
    assert not dmar_table(parse_machine(text)).interrupt_remapping


def test_devices_with_ats_are_found_behind_ports_and_in_the_root_complex() -> None:
    machine = parse_machine(
        "engine: python\nbridges: ['pcie-root-port,id=p0,addr=1c.0', 'pcie-root-port,id=p1,addr=1d.0,chassis=1']\n"
        "units: [{base: 0xfed90000, options: device-iotlb=on}]"
    )
    plug(machine, "p1", "00.0")
    plug(machine, "pcie.0", "05.0")
    structures = dmar_table(machine).structures
    assert structures[1:] == (
        Atsr(scopes=(DeviceScope(ScopeType.BRIDGE, 0, ((0x1D, 0),)),)),
        Satc(scopes=(DeviceScope(ScopeType.ENDPOINT, 0, ((5, 0),)),)),
    )


def test_without_device_tlbs_in_a_unit_no_ats_is_told_of() -> None:
    machine = parse_machine(
        "engine: python\nbridges: ['pcie-root-port,id=p0,addr=1c.0']\n"
        "units: [{base: 0xfed90000, options: device-iotlb=off}]"
    )
    plug(machine, "p0", "00.0")
    plug(machine, "pcie.0", "05.0")
    assert [type(one) for one in dmar_table(machine).structures] == [Drhd]


def test_atsr_all_names_every_root_port() -> None:
    machine = parse_machine(
        "engine: python\nbridges: ['pcie-root-port,id=p0,addr=1c.0', 'pcie-root-port,id=p1,addr=1d.0,chassis=1']\n"
        "units: [{base: 0xfed90000}]\natsr: all"
    )
    (atsr,) = (one for one in dmar_table(machine).structures if isinstance(one, Atsr))
    assert [scope.path for scope in atsr.scopes] == [((0x1C, 0),), ((0x1D, 0),)]


def test_a_machine_without_units_has_no_table() -> None:
    with pytest.raises(InputError, match="no remapping unit"):
        build_dmar(SystemMachine("spec", engine="python"))


def test_firmware_leaves_the_table_where_it_is_looked_for() -> None:
    machine = parse_machine(EVERY_KIND)
    found = find_dmar(machine.memory)
    assert found is not None
    assert found.table == build_dmar(machine)
    with pytest.raises(InputError, match="firmware needs more"):
        place_tables(parse_machine("ram: 512K\nengine: python\nunits: [{base: 0xfed90000}]\nfirmware: no"))


def test_qemus_table_is_built_from_a_machine_like_qemus() -> None:
    golden = parse((FIXTURES / "dmar" / "qemu-7.2-q35.bin").read_bytes())
    slots = [f"edu,id=d{slot},addr=0{slot}.0" for slot in range(3, 9)]
    ports = [f"pcie-root-port,id=p{number},chassis={number},addr=1c.{number},multifunction=on" for number in range(3)]
    board = "['00:00.0', d3, d4, d5, d6, d7, d8, p0, p1, p2, '00:1f.0', '00:1f.2', '00:1f.3']"
    machine = parse_machine(
        f"engine: python\nprofile: qemu-7.2\nbridges: {ports}\ndevices: {slots}\n"
        f"units: [{{base: 0xfed90000, options: 'intremap=off', scope: {board}}}]"
    )
    (theirs,), (ours,) = golden.units, dmar_table(machine).units
    pci = tuple(scope for scope in theirs.scopes if scope.type != ScopeType.IOAPIC)
    assert ours == dataclasses.replace(theirs, scopes=pci)
    assert dmar_table(machine).haw == golden.haw


# -- ACPI's own tool --------------------------------------------------------------------------------------------------

# Debian 12's iasl, of 2020, knows neither SATC nor SIDP.
WHAT_IASL_KNOWS = "\n".join(line for line in EVERY_KIND.splitlines() if not line.startswith(("satc", "sidp")))


@pytest.fixture
def iasl() -> str:
    """ACPICA's compiler and disassembler."""
    return need_program("iasl", "iasl", package="acpica-tools")


def recompiled(iasl: str, data: bytes, folder: Path) -> tuple[str, bytes]:
    """What iasl reads in a table, and the table that it makes of that text."""
    (folder / "dmar.bin").write_bytes(data)
    for arguments in (["-d", "dmar.bin"], ["-p", "again", "dmar.dsl"]):
        done = subprocess.run([iasl, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "dmar.dsl").read_text(), (folder / "again.aml").read_bytes()


@pytest.mark.parametrize("name", ["every-kind", *(path.stem for path in MACHINES)])
def test_iasl_reads_the_table_and_writes_the_same_bytes(iasl: str, name: str, tmp_path: Path) -> None:
    path = FIXTURES / "machines" / f"{name}.yaml"
    machine = load_machine(path) if path.exists() else parse_machine(WHAT_IASL_KNOWS)
    data = build_dmar(machine)
    text, again = recompiled(iasl, data, tmp_path)
    assert "Unknown" not in text
    assert "invalid" not in text.lower()
    assert "should be" not in text  # as iasl says of a wrong checksum
    # The compiler signs what it writes: with its signature in ours, every byte is the same.
    ours = dataclasses.replace(
        dmar_table(machine), creator_id=again[28:32], creator_revision=int.from_bytes(again[32:36], "little")
    )
    assert again == build(ours)


def test_iasl_tells_of_a_wrong_checksum(iasl: str, tmp_path: Path) -> None:
    data = bytearray(build_dmar(parse_machine(WHAT_IASL_KNOWS)))
    data[9] ^= 1
    assert "should be" in recompiled(iasl, bytes(data), tmp_path)[0]
