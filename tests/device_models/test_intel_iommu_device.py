"""intel-iommu's options: the words they make, and what is refused, as read from QEMU 7.2.22, 10.0.2 and 11.1.3."""

from __future__ import annotations

import pytest

from device_models.intel_iommu import IntelIommu
from device_models.intel_iommu_options import Dialect, dialect_of
from device_models.machine import SystemMachine
from device_models.options import OptionError

BASE = 0xFED9_0000

WORDS = [
    ("qemu-7.2", "", 0x00D2008C22260206, 0xF00F4A),
    ("qemu-7.2", "aw-bits=48", 0x00D2008C222F0606, 0xF00F4A),
    ("qemu-7.2", "caching-mode=on", 0x00D2008C22260286, 0xF00F4A),
    ("qemu-7.2", "intremap=off", 0x00D2008C22260206, 0xF42),
    ("qemu-7.2", "device-iotlb=on", 0x00D2008C22260206, 0xF00F4E),
    ("qemu-7.2", "snoop-control=on", 0x00D2008C22260206, 0xF00FCA),
    ("qemu-7.2", "dma-drain=off", 0x0012008C22260206, 0xF00F4A),
    ("qemu-7.2", "dma-translation=off", 0x00D2008C22260006, 0xF00F4A),
    ("qemu-7.2", "pt=off", 0x00D2008C22260206, 0xF00F0A),
    ("qemu-7.2", "x-scalable-mode=on", 0x00D2008C22260206, 0x480080F00F4A),
    ("qemu-7.2", "x-scalable-mode=on,x-pasid-mode=on", 0x00D2008C22260206, 0x490080F00F4A),
    ("qemu-10.0", "", 0x00D2008C222F0606, 0xF00F4A),
    ("qemu-10.0", "x-scalable-mode=on,x-flts=on", 0x01D2008C222F0606, 0x880000F00F4A),
    ("qemu-10.0", "x-scalable-mode=on,x-flts=on,fs1gp=off", 0x00D2008C222F0606, 0x880000F00F4A),
    ("qemu-10.0", "x-scalable-mode=on,x-flts=on,x-pasid-mode=on", 0x01D2008C222F0606, 0x890000F00F4A),
    ("qemu-11.1", "", 0x80D2008C222F0606, 0xF00F4A),
    ("qemu-11.1", "aw-bits=39", 0x80D2008C22260206, 0xF00F4A),
    ("qemu-11.1", "intremap=on,eim=on", 0x80D2008C222F0606, 0xF00F5A),
    ("qemu-11.1", "dma-translation=off", 0x80D2008C222F0006, 0xF00F4A),
    ("qemu-11.1", "stale-tm=on", 0x80D2008C222F0606, 0xF00F4A),
    ("qemu-11.1", "fs1gp=off", 0x80D2008C222F0606, 0xF00F4A),
    ("qemu-11.1", "scalable-mode=on,aw-bits=39", 0x80D2008C22260206, 0x480080F00F4A),
    ("qemu-11.1", "scalable-mode=on,fsts=on", 0x81D2008C222F0606, 0x880000F00F4A),
    ("qemu-11.1", "scalable-mode=on,pasid-bits=8", 0x80D2008C222F0606, 0x493880F00F4A),
    ("qemu-11.1", "scalable-mode=on,fsts=on,pasid-bits=8", 0x81D2008C222F0606, 0x893800F00F4A),
    ("qemu-11.1", "scalable-mode=on,pasid-bits=20", 0x80D2008C222F0606, 0x499880F00F4A),
    ("qemu-11.1", "scalable-mode=on,device-iotlb=on", 0x80D2008C222F0606, 0x480080F00F4E),
    (
        "qemu-11.1",
        "scalable-mode=on,fsts=on,device-iotlb=on,pasid-bits=8,svm=on",
        0x81D2008C222F0606,
        0x8D3A20F00F4E,
    ),
    (
        "qemu-11.1",
        "scalable-mode=on,fsts=on,device-iotlb=on,pasid-bits=8,svm=on,fs1gp=on,snoop-control=on,caching-mode=on",
        0x81D2008C222F0686,
        0x8D3A20F00FCE,
    ),
]

REFUSALS = [
    ("qemu-7.2", "aw-bits=57", "Supported values for aw-bits are: 39, 48"),
    ("qemu-7.2", "intremap=on,eim=on", "eim=on requires accel=kvm,kernel-irqchip=split"),
    ("qemu-7.2", "stale-tm=on", "Property 'intel-iommu.stale-tm' not found"),
    ("qemu-7.2", "x-pasid-mode=on", "Need to set scalable mode for PASID"),
    ("qemu-10.0", "aw-bits=32", "Legacy mode: supported values for aw-bits are: 39, 48"),
    ("qemu-10.0", "x-scalable-mode=on,aw-bits=57", "Scalable mode(flts=off): supported values for aw-bits are: 39, 48"),
    (
        "qemu-10.0",
        "x-scalable-mode=on,x-flts=on,aw-bits=39",
        "Scalable mode(flts=on): supported value for aw-bits is: 48",
    ),
    ("qemu-10.0", "x-flts=on", "x-flts is only available in scalable mode"),
    ("qemu-10.0", "svm=on", "Property 'intel-iommu.svm' not found"),
    ("qemu-11.1", "x-scalable-mode=on", "Property 'intel-iommu.x-scalable-mode' not found; did you mean scalable-mode"),
    ("qemu-11.1", "pt=off", "Property 'intel-iommu.pt' not found"),
    ("qemu-11.1", "scalable-mode=on,fsts=on,aw-bits=57", "Scalable mode(fsts=on): supported value for aw-bits is: 48"),
    ("qemu-11.1", "fsts=on", "fsts is only available in scalable mode"),
    ("qemu-11.1", "svm=on", "Need to set device IOTLB for svm"),
    ("qemu-11.1", "svm=on,device-iotlb=on", "Need to set fsts for svm"),
    ("qemu-11.1", "svm=on,device-iotlb=on,scalable-mode=on,fsts=on", "Need to set PASID for svm"),
    ("qemu-11.1", "pasid-bits=8", "Need to set scalable mode for PASID"),
    ("qemu-11.1", "intremap=off,eim=on", "eim=on cannot be selected with intremap=off"),
    ("qemu-11.1", "aw-bits=300", "Parameter 'aw-bits' expects uint8_t"),
    ("spec", "aw-bits=40", "supported values for aw-bits are: 39, 48, 57"),
]


def added(profile: str, options: str) -> tuple[SystemMachine, IntelIommu]:
    machine = SystemMachine(profile, engine="python")
    device = machine.add_device(f"intel-iommu,{options}" if options else "intel-iommu")
    assert isinstance(device, IntelIommu)
    return machine, device


@pytest.mark.parametrize("profile, options, cap, ecap", WORDS)
def test_options_make_the_words_that_qemu_makes(profile: str, options: str, cap: int, ecap: int) -> None:
    machine, _ = added(profile, options)
    assert machine.space.read_number(BASE, 4) == 0x10
    assert machine.space.read_number(BASE + 8, 8) == cap
    assert machine.space.read_number(BASE + 0x10, 8) == ecap


@pytest.mark.parametrize("profile, options, message", REFUSALS)
def test_what_qemu_refuses_is_refused_in_its_words(profile: str, options: str, message: str) -> None:
    machine = SystemMachine(profile, engine="python")
    with pytest.raises(OptionError) as refused:
        machine.add_device(f"intel-iommu,{options}")
    assert str(refused.value).startswith(message)
    assert machine.units == []
    assert machine.space.lookup(BASE) is None


def test_under_other_profiles_an_option_changes_what_it_names_and_no_more() -> None:
    _, plain = added("spec", "")
    _, changed = added("spec", "scalable-mode=off,fsts=off,svm=off,pasid-bits=10,caching-mode=on,aw-bits=57")
    assert plain.unit is not None
    assert changed.unit is not None
    before, after = plain.unit.capabilities, changed.unit.capabilities
    known = {"smts": 0, "fsts": 0, "prs": 0, "nwfs": 0, "pds": 0, "pasid": 1, "pss": 9}
    assert int(after.ecap) == int(before.ecap.replace(**known))
    assert int(after.cap) == int(before.cap.replace(cm=1, sagaw=0b1110, mgaw=56))
    assert after.haw == before.haw


def test_auto_becomes_what_the_unit_has() -> None:
    _, device = added("qemu-11.1", "")
    assert (device.get_property("intremap"), device.get_property("eim")) == ("on", "off")
    _, device = added("qemu-11.1", "intremap=off")
    assert device.get_property("intremap") == "off"


def test_registers_take_4_and_8_bytes_and_end_with_the_fault_record() -> None:
    machine, device = added("qemu-11.1", "")
    assert machine.space.read_number(BASE + 8, 2) == 0
    assert machine.space.read_number(BASE + 8, 1) == 0
    assert machine.space.load(BASE + 0x22C, 8) == (bytes(8), False)
    assert device.region.size == 0x230


def test_a_unit_with_performance_counters_has_a_whole_page() -> None:
    _, device = added("spec", "")
    assert device.unit is not None
    beyond = device.unit.capabilities.ecap.pms or device.unit.capabilities.cap.ecmds
    assert device.region.size == (0x1000 if beyond else 0x2A0)


def test_a_machine_takes_one_unit_and_gives_it_back() -> None:
    machine, device = added("qemu-11.1", "")
    with pytest.raises(OptionError, match="does not support multiple vIOMMUs"):
        machine.add_device("intel-iommu")
    assert machine.unit_for(0x10) is device.unit
    machine.remove_device(device)
    assert machine.unit_for(0x10) is None
    assert machine.space.lookup(BASE) is None


def test_a_reset_of_the_machine_resets_the_unit() -> None:
    machine, _ = added("qemu-11.1", "")
    machine.space.write_number(BASE + 0x20, 8, 0x10_0000)
    machine.reset()
    assert machine.space.read_number(BASE + 0x20, 8) == 0


def test_profiles_of_qemu_speak_its_dialects_and_others_the_newest() -> None:
    assert dialect_of("qemu-7.2") is Dialect.QEMU_7_2
    assert dialect_of("qemu-10.0") is Dialect.QEMU_10_0
    assert dialect_of("qemu-11.1") is dialect_of("spec") is Dialect.QEMU_11_1
