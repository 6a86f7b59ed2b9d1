"""LiME dumps, written by hand: true ones, and ones that lie."""

from __future__ import annotations

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.errors import ImageError
from pagetables.images.lime import read_lime, write_lime
from pagetables.images.opening import open_image
from pagetables.memory import PhysicalMemory

PAGE = 4096


def part(first: int, last: int, data: bytes | None = None, version: int = 1, magic: int = 0x4C694D45) -> bytes:
    """One range as LiME writes it."""
    body = bytes(last - first + 1) if data is None else data
    return struct.pack("<IIQQQ", magic, version, first, last, 0) + body


def opened(tmp_path, data: bytes):
    """The image that `data` is."""
    (tmp_path / "dump").write_bytes(data)
    return open_image(tmp_path / "dump")


def test_ranges_are_memory_and_gaps_are_not(tmp_path):
    low, high = bytes(range(256)) * 16, b"\xa5" * PAGE
    image = opened(tmp_path, part(0x1000, 0x1FFF, low) + part(1 << 32, (1 << 32) + PAGE - 1, high))
    assert image.container == "LiME dump"
    assert image.regions == ((0x1000, PAGE), (1 << 32, PAGE))
    assert image.read(0x1000, PAGE) == low
    assert image.load((1 << 32) + 8) == 0xA5A5A5A5A5A5A5A5
    assert image.load(0x2000) is None
    assert image.load(0) is None


def test_the_last_address_is_inclusive(tmp_path):
    image = opened(tmp_path, part(0x1000, 0x1007, b"12345678"))
    assert image.read(0x1000, 8) == b"12345678"
    assert not image.contains(0x1008, 1)


def test_ranges_may_come_in_any_order(tmp_path):
    image = opened(tmp_path, part(0x8000, 0x8FFF, b"b" * PAGE) + part(0x1000, 0x1FFF, b"a" * PAGE))
    assert image.read(0x1000, 1) + image.read(0x8000, 1) == b"ab"


def test_a_base_makes_no_sense_for_it(tmp_path):
    (tmp_path / "dump").write_bytes(part(0, 0xFFF))
    with pytest.raises(ImageError, match="its addresses are in the file; a base is for raw memory"):
        open_image(tmp_path / "dump", base=0x1000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (part(0x1000, 0x1FFF) + part(0x1800, 0x27FF), "two ranges claim 0x1800"),
        (part(0x1000, 0x1FFF)[:-1], r"0x1000 bytes follow, but the file ends at 0x101f: cut short\?"),
        (part(0x1000, 0x1FFF) + b"EMiL", r"range header at 0x1020: 4 bytes, expected 32"),
        (part(0x1000, 0x1FFF) + bytes(32), "begins with 00 00 00 00, expected 45 4d 69 4c"),
        (part(0x1000, 0x1FFF, version=2), r"version 2 \(AVML's.*\); expected 1"),
        (part(0x1000, 0x1FFF, version=7), "version 7; expected 1"),
        (part(0x2000, 0x1FFF, b""), r"memory 0x2000-0x1fff; expected first <= last"),
        (part(0x2000, 0x1000, b""), r"expected first <= last"),
        (part(0, (1 << 64) - 1, b"x"), r"memory 0x0-0xffffffffffffffff"),
        (part(0, (1 << 52) - 1, b"x"), r"0x10000000000000 bytes follow, but the file ends"),
    ],
)
def test_a_range_that_lies_is_an_error_and_costs_nothing(tmp_path, data, message):
    with pytest.raises(ImageError, match=message):
        opened(tmp_path, data)


def test_what_is_written_reads_back(tmp_path):
    memory = PhysicalMemory([(0x1000, 0x4000), (1 << 32, 64 << 20)])
    memory.write(0x2000, b"table")
    memory.write((1 << 32) + 0x5000, b"more")
    with open(tmp_path / "dump", "wb") as file:
        write_lime(file, memory)
    with open_image(tmp_path / "dump") as image:
        assert image.regions == memory.regions
        for start, size in memory.regions:
            assert image.read(start, size) == memory.read(start, size)
        assert sum(size for _, size in image.touched()) < 1 << 20
    assert (tmp_path / "dump").stat().st_blocks * 512 < 1 << 20  # the rest are holes


RANGES = st.tuples(
    st.sampled_from([0x4C694D45, 0]), st.integers(0, 3), st.integers(0, (1 << 64) - 1), st.integers(0, 1 << 13)
)


def ends_in_our_words(data: bytes) -> None:
    """Reading `data` ends in ranges that the file holds, or in one line that names the file."""
    try:
        segments = read_lime("dump", data)
    except ImageError as error:
        assert re.match("dump: ", str(error))  # noqa: PT017  # both ends are good ones
        return
    assert all(one.offset + one.held <= len(data) for one in segments)


@given(st.lists(RANGES, max_size=4), st.binary(max_size=300))
def test_no_dump_does_more_than_fail_in_our_words(ranges, tail):
    headers = (
        struct.pack("<IIQQQ", magic, version, first, (first + size) % (1 << 64), 0) + bytes(size)
        for magic, version, first, size in ranges
    )
    ends_in_our_words(b"".join(headers) + tail)


@given(st.lists(st.integers(0, 63), max_size=8, unique=True))
def test_disjoint_ranges_are_read_as_they_were_written(pages):
    data = b"".join(part(page * PAGE, page * PAGE + 15, page.to_bytes(16, "big")) for page in pages)
    segments = read_lime("dump", data)
    assert [one.start for one in segments] == sorted(page * PAGE for page in pages)
    assert all(data[one.offset : one.offset + 16] == (one.start // PAGE).to_bytes(16, "big") for one in segments)
