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
    parse_size,
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


@pytest.mark.parametrize(
    "text, size",
    [("4096", 4096), ("0x1000", 4096), ("64k", 1 << 16), ("1.5G", 3 << 29), ("0.1K", 102), ("7b", 7), ("0x1b", 27),
     ("010", 10), ("0x10M", 1 << 24), ("2t", 2 << 40), ("1P", 1 << 50), ("15E", 15 << 60)],
)  # fmt: skip
def test_sizes_of_qemus_options_have_a_letter(text: str, size: int) -> None:
    assert parse_size(text) == parse_size(text, letters_only=True) == size


@pytest.mark.parametrize(
    "text, size",
    [("3 MiB", 3 << 20), ("1TB", 1 << 40), ("1_000", 1000), (" 4K ", 4096), ("0x1_0000", 1 << 16), ("8B", 8)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["3 MiB", "1TB", "1_000", " 4K ", "0x1_0000"])
def test_qemus_options_do_not_know_sizes_of_people(text: str) -> None:
    with pytest.raises(InputError, match="is not a size such as"):
        parse_size(text, letters_only=True)


@pytest.mark.parametrize(
    "text", ["", "K", "1Q", "-1", "1..5G", "1.5", "1.5B", "1.G", ".5G", "0x", "0x_", "_1", "much", "0x1.8K", "\u0661K"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    for letters_only in (False, True):
        with pytest.raises(InputError, match=r"is not a size such as 4096, 64K, 512M or 1\.5G"):
            parse_size(text, letters_only)


def test_sizes_beyond_64_bits_are_refused_in_few_words() -> None:
    assert parse_size("0xffffffffffffffff") == (1 << 64) - 1
    for text in ("16E", "0x10000000000000000", "99999999999999999999"):
        with pytest.raises(InputError, match="is too large for a size"):
            parse_size(text)
    with pytest.raises(InputError, match=r"'9{40}\.\.\.' is not a size") as refused:
        parse_size("9" * 10_000)
    assert len(str(refused.value)) < 120
