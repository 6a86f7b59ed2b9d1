"""`vtd devices`: what a machine can have, and with which properties."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from cli.__main__ import main
from device_models import registry
from device_models.registry import device_types, find_device_type


def test_every_type_is_listed_with_its_bus_and_its_id(printed):
    listed = printed("devices")["devices"]
    assert [each["name"] for each in listed] == device_types()
    known = {each["name"]: (each["bus"], each["id"], each["distribution"]) for each in listed}
    assert known["iommu-testdev"] == ("PCI", "1b36:0005", None)
    assert known["intel-iommu"] == ("System", None, None)
    assert all(each["explains"] for each in listed)


def test_properties_have_types_and_defaults(printed):
    (edu,) = printed("devices", "edu")["devices"]
    found = {each["name"]: each for each in edu["properties"]}
    assert (found["dma_mask"]["type"], found["dma_mask"]["default"]) == ("uint64", (1 << 28) - 1)
    assert (found["addr"]["type"], found["addr"]["default"]) == ("int32", None)
    assert edu["profiles"] == {}


def test_the_options_of_each_version_of_qemu_are_told_apart(printed):
    (unit,) = printed("devices", "intel-iommu")["devices"]
    names = {each["name"] for each in unit["properties"]}
    assert {"scalable-mode", "pasid-bits"} <= names
    assert "x-scalable-mode" not in names
    older = {profile: {each["name"] for each in found} for profile, found in unit["profiles"].items()}
    assert set(older) == {"qemu-7.2", "qemu-10.0"}
    assert "x-flts" in older["qemu-10.0"]
    assert "x-flts" not in older["qemu-7.2"]
    (chosen,) = printed("devices", "intel-iommu", "--profile", "qemu-7.2")["devices"]
    assert {each["name"] for each in chosen["properties"]} == older["qemu-7.2"]
    assert "profiles" not in chosen


@pytest.mark.parametrize("arguments", [[], ["dma-engine"], ["intel-iommu"], ["pcie-pci-bridge"]])
def test_people_read_what_fits_a_terminal(capsys, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["devices", *arguments]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for name in arguments or device_types():
        assert name in out


def test_help_is_worded_as_qemu_words_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["devices", "edu"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "edu options:" in lines
    assert "  addr=<int32>           - Slot and optional function number, example: 06.0 or 06" in lines
    assert "  dma_mask=<uint64>" in lines
    assert "  romsize=<uint32>       -  (default: 4294967295)" in lines


def test_profiles_with_the_same_options_are_named_together(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["devices", "intel-iommu"]) == 0
    out = capsys.readouterr().out
    assert out.count("intel-iommu options:") == 3
    assert "with profile qemu-7.2:" in out
    assert main(["devices", "intel-iommu", "--profile", "qemu-10.0"]) == 0
    assert "with profile" not in capsys.readouterr().out


def test_a_device_of_another_distribution_says_whose_it_is(capsys, monkeypatch, printed):
    class Origin:
        name = "vtd-guests"

    entry = EntryPoint("guest", "device_models.edu:Edu", registry.GROUP)
    vars(entry)["dist"] = Origin()
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert printed("devices", "guest")["devices"][0]["distribution"] == "vtd-guests"
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["devices"]) == 0
    assert "(from vtd-guests)" in capsys.readouterr().out


def test_an_unknown_type_or_profile_names_what_is_near(said):
    assert "'edo' is not a valid device model name; did you mean edu" in said("devices", "edo")
    assert "did you mean spec" in said("devices", "edu", "--profile", "spek")


def test_every_type_can_be_loaded():
    assert all(name == find_device_type(name).TYPE for name in device_types())
