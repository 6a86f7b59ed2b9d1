"""Option strings and typed properties: what is taken, and how a wrong one is told."""

from __future__ import annotations

import pytest

from device_models.machine import SystemMachine
from device_models.options import OptionError, parse_options
from device_models.properties import Choice, Link, PciAddress, Size, String, Switch, Unsigned, help_lines
from device_models.registry import find_device_type


def test_the_first_part_is_the_driver_and_flags_are_on() -> None:
    assert parse_options("edu,addr=02.0,multifunction") == {"driver": "edu", "addr": "02.0", "multifunction": "on"}
    assert parse_options("driver=edu,id=e") == {"driver": "edu", "id": "e"}


def test_a_doubled_comma_is_a_comma_of_the_value() -> None:
    assert parse_options("edu,romfile=a,,b,id=e") == {"driver": "edu", "romfile": "a,b", "id": "e"}


def test_json_objects_are_options_too() -> None:
    assert parse_options('{"driver": "edu", "multifunction": true, "rombar": 0}') == {
        "driver": "edu",
        "multifunction": "on",
        "rombar": "0",
    }


@pytest.mark.parametrize("text", ["edu,=3", "edu,a b=1", "{", "{1}"])
def test_what_is_no_option_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_options(text)


@pytest.mark.parametrize("text, value", [("on", True), ("yes", True), ("true", True), ("off", False), ("n", False)])
def test_switches_take_the_words_that_qemu_takes(text: str, value: bool) -> None:
    assert Switch(False, name="x").parse(text, "edu") is value


def test_numbers_are_decimal_hexadecimal_or_octal_and_fit() -> None:
    byte = Unsigned(8, name="x")
    assert [byte.parse(text, "edu") for text in ("39", "0x27", "047")] == [39, 39, 39]
    for text in ("abc", "", "0b1", "0o7", "1_0", "0x10000000000000000"):
        with pytest.raises(OptionError, match="expects integer"):
            byte.parse(text, "edu")
    assert Unsigned(64, name="x").parse("-1", "edu") == (1 << 64) - 1
    with pytest.raises(OptionError, match="uint8_t"):
        byte.checked(256, "edu")
    with pytest.raises(OptionError, match="uint8_t"):
        byte.checked(-1, "edu")


@pytest.mark.parametrize("text, size", [("64K", 65536), ("1.5G", 3 << 29), ("0x100", 256), ("2m", 2 << 20), ("7b", 7)])
def test_sizes_have_suffixes(text: str, size: int) -> None:
    assert Size(name="x").parse(text, "edu") == size


@pytest.mark.parametrize("text", ["", "K", "1Q", "-1", "1..5G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="size such as"):
        Size(name="x").parse(text, "edu")


def test_slots_are_hexadecimal_with_an_optional_function() -> None:
    addr = PciAddress(None, name="addr")
    assert addr.parse("1f.3", "edu") == 0xFB
    assert addr.parse("02", "edu") == 0x10
    assert addr.format(0xFB) == "1f.3"
    assert addr.json(None) == -1
    for wrong in ("40", "1.8", "x", "1.2.3"):
        with pytest.raises(OptionError, match=f"Property 'edu.addr' doesn't take value '{wrong}'"):
            addr.parse(wrong, "edu")


def test_a_choice_names_what_is_near() -> None:
    choice = Choice("OnOffAuto", ("on", "off", "auto"), "auto", name="eim")
    assert choice.parse("off", "intel-iommu") == "off"
    with pytest.raises(OptionError, match="does not accept value 'aut'; did you mean auto"):
        choice.parse("aut", "intel-iommu")


def test_text_and_links_are_taken_as_they_are() -> None:
    assert String(None, name="x").parse("a b", "edu") == "a b"
    assert Link("edu", name="peer").parse("e0", "edu") == "e0"
    assert Link("edu", name="peer").parse("", "edu") is None


def test_help_is_laid_out_as_qemu_lays_it_out() -> None:
    # As qemu-system-x86_64 7.2.22 prints them.
    lines = help_lines("edu", find_device_type("edu").properties)
    assert lines[0] == "edu options:"
    for line in (
        "  addr=<int32>           - Slot and optional function number, example: 06.0 or 06",
        "  dma_mask=<uint64>",
        "  multifunction=<bool>   - on/off (default: false)",
        "  rombar=<uint32>        -  (default: 1)",
        "  romsize=<uint32>       -  (default: 4294967295)",
        "  romfile=<str>",
    ):
        assert any(shown.startswith(line) for shown in lines), (line, lines)
    unit = help_lines("intel-iommu", find_device_type("intel-iommu", "qemu-7.2").properties)
    assert "  aw-bits=<uint8>        -  (default: 39)" in unit
    assert '  intremap=<OnOffAuto>   - on/off/auto (default: "auto")' in unit
    assert help_lines("x", {}) == ["There are no options for x."]


def test_a_property_nobody_has_is_named_with_its_neighbours() -> None:
    machine = SystemMachine(engine="python")
    with pytest.raises(OptionError, match=r"Property 'edu.dma_mas' not found; did you mean dma_mask"):
        machine.add_device("edu,dma_mas=1")


def test_properties_are_fixed_once_a_device_is_realized() -> None:
    edu = SystemMachine(engine="python").add_device("edu,addr=3")
    with pytest.raises(OptionError, match=r"Attempt to set property 'addr' .* after it was realized"):
        edu.set_property("addr", "4")
    edu.set_property("dma_mask", "0xffff")  # QEMU's stays open
    assert edu.get_property("dma_mask") == 0xFFFF
    with pytest.raises(OptionError, match="not found"):
        edu.get_property("nothing")
