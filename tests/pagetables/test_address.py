"""Addresses, devices and numbers, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.address import (
    format_source_id,
    level_shift,
    level_size,
    parse_number,
    parse_source_id,
    source_id,
)
from pagetables.errors import InputError


@pytest.mark.parametrize(
    "text", ["", "1f.2", "00:20.0", "00:1f.8", "100:00.0", "00:1f.2.3", "g0:00.0", "00:1f", "\u0660\u0660:00.0"]
)
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is not a device: expected BUS:DEVICE\.FUNCTION in hexadecimal"):
        parse_source_id(text)


@pytest.mark.parametrize("text", ["", "x", "0x", "12 34", "0b2", "1.5", "beef", "012"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a number: expected decimal, or hexadecimal with 0x"):
        parse_number(text)


@pytest.mark.parametrize(
    "text, number", [("0x1000_0003", 0x1000_0003), ("4096", 4096), ("0X1f", 0x1F), (" 7 ", 7), ("0", 0), ("-1", -1)]
)
def test_numbers_are_read_as_people_write_them(text: str, number: int) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    "text, sid",
    [("00:1f.2", 0x00FA), ("0000:00:1f.2", 0x00FA), ("ff:1f.7", 0xFFFF), ("3:0.0", 0x300), (" 00:05.0\n", 0x28)],
)
def test_devices_are_read_with_and_without_a_segment(text: str, sid: int) -> None:
    assert parse_source_id(text) == sid


def test_a_source_id_is_bus_device_function() -> None:
    assert source_id(0x03, 0x01, 0x2) == 0x30A
    assert format_source_id(0x30A) == "03:01.2"


@pytest.mark.parametrize("numbers", [(256, 0, 0), (0, 32, 0), (0, 0, 8), (-1, 0, 0)])
def test_numbers_that_pci_does_not_have_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="no PCI function has bus"):
        source_id(*numbers)


@given(st.integers(0, 0xFFFF))
def test_a_source_id_survives_being_written(sid: int) -> None:
    assert parse_source_id(format_source_id(sid)) == sid


@pytest.mark.parametrize("level, shift", [(1, 12), (2, 21), (3, 30), (4, 39), (5, 48)])
def test_each_level_indexes_nine_bits(level: int, shift: int) -> None:
    assert level_shift(level) == shift
    assert level_size(level) == 1 << shift
