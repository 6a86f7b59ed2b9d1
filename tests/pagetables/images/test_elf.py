"""Writing ELF cores: what goes in comes out, and nothing is written half."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess

import pytest

from pagetables.errors import NoMemory
from pagetables.images.elf import write_elf
from pagetables.images.elf_format import Note
from pagetables.images.opening import open_image
from pagetables.memory import PhysicalMemory

TIB = 1 << 40


@pytest.fixture
def memory():
    """RAM with a hole, four pages of which were written."""
    memory = PhysicalMemory([(0x1000, 0x100000), (4 << 30, TIB)])
    memory.write(0x3000, b"low" * 2000)
    memory.store(4 << 30, 7)
    memory.store((4 << 30) + TIB - 8, 9)
    yield memory
    memory.close()


def test_an_image_reads_as_the_memory_did(memory, tmp_path):
    write_elf(tmp_path / "out.elf", memory)
    with open_image(tmp_path / "out.elf") as image:
        assert image.read(0x1000, 0x100000) == memory.read(0x1000, 0x100000)
        assert image.regions == memory.regions
        for address in (0, 0xFF8, 0x1000, 0x3000, 0x100FF8, 0x101000, 4 << 30, (4 << 30) + TIB - 8, (4 << 30) + TIB):
            assert image.load(address) == memory.load(address)
        with pytest.raises(NoMemory):
            image.read(0, 8)


def test_an_image_costs_the_pages_that_were_touched(memory, tmp_path):
    write_elf(tmp_path / "out.elf", memory)
    assert (tmp_path / "out.elf").stat().st_size < 4 * 4096 + 1024


def test_notes_come_back(memory, tmp_path):
    page = struct.pack("<Q", 0xFED9_0000) + bytes(4096)
    write_elf(tmp_path / "out.elf", memory, [("VTD", 1, page), Note("OTHER", 99, b"odd")])
    assert open_image(tmp_path / "out.elf").notes == (Note("VTD", 1, page), Note("OTHER", 99, b"odd"))


def test_untouched_memory_makes_an_image_too(tmp_path):
    write_elf(tmp_path / "out.elf", PhysicalMemory([(0, TIB)]))
    image = open_image(tmp_path / "out.elf")
    assert image.load(TIB - 8) == 0
    assert image.load(TIB) is None


def test_an_image_can_be_written_again_from_an_image(memory, tmp_path):
    write_elf(tmp_path / "one.elf", memory, [("VTD", 1, b"x")])
    with open_image(tmp_path / "one.elf") as image:
        write_elf(tmp_path / "two.elf", image, image.notes)
    assert (tmp_path / "one.elf").read_bytes() == (tmp_path / "two.elf").read_bytes()


class Scattered:
    """Every second page of a long region."""

    regions = ((0, 70_000 << 13),)

    def touched(self):
        return iter([(index << 13, 4096) for index in range(70_000)])

    def read(self, address, size):
        return struct.pack("<Q", address) + bytes(size - 8)


def test_seventy_thousand_runs_make_an_image(tmp_path):
    write_elf(tmp_path / "out.elf", Scattered())
    image = open_image(tmp_path / "out.elf")
    assert len(image.segments) == 70_000
    assert image.load(69_999 << 13) == 69_999 << 13
    assert image.load((69_999 << 13) + 4096) == 0


@pytest.mark.skipif(shutil.which("readelf") is None, reason="NOT RUN: readelf is not installed")
def test_readelf_agrees(memory, tmp_path):
    write_elf(tmp_path / "out.elf", memory, [("VTD", 1, b"12345678")])
    said = subprocess.run(
        ["readelf", "-hlnW", tmp_path / "out.elf"], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}
    )
    assert "CORE (Core file)" in said.stdout
    assert "0x0000000000003000 0x002000 0x0fe000 RW" in said.stdout
    assert "VTD" in said.stdout
    assert said.stderr == ""


class Failing(Scattered):
    """Memory that breaks in the middle of being written."""

    def read(self, address, size):
        if address > 10 << 13:
            raise KeyboardInterrupt
        return super().read(address, size)


def test_nothing_half_written_is_left(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_elf(tmp_path / "out.elf", Failing())
    assert os.listdir(tmp_path) == []


def test_what_was_there_before_survives_a_failure(tmp_path):
    (tmp_path / "out.elf").write_bytes(b"precious")
    with pytest.raises(KeyboardInterrupt):
        write_elf(tmp_path / "out.elf", Failing())
    assert (tmp_path / "out.elf").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["out.elf"]
