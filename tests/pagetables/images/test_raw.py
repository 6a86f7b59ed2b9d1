"""Raw memory: where it belongs is said by the user; what it does not store is not read."""

from __future__ import annotations

import gzip
import io
import os

import pytest

from pagetables.errors import ImageError, NoMemory
from pagetables.images.opening import open_image
from pagetables.images.raw import write_raw
from pagetables.memory import PhysicalMemory

PAGE = 4096
GIB = 1 << 30


def test_a_base_says_where_the_first_byte_belongs(tmp_path):
    (tmp_path / "raw").write_bytes(b"x" * PAGE)
    image = open_image(tmp_path / "raw", base=0x1000000)
    assert image.regions == ((0x1000000, PAGE),)
    assert image.read(0x1000000, 2) == b"xx"
    with pytest.raises(NoMemory):
        image.read(0, 1)


def test_with_a_base_the_size_need_not_be_whole_pages(tmp_path):
    (tmp_path / "raw").write_bytes(b"12345678" * 3)
    assert open_image(tmp_path / "raw", base=0x8000).load(0x8010) == int.from_bytes(b"12345678", "little")
    with pytest.raises(ImageError, match="24 bytes are no whole number of pages"):
        open_image(tmp_path / "raw")


def test_a_base_holds_for_compressed_memory_too(tmp_path):
    (tmp_path / "raw.gz").write_bytes(gzip.compress(b"x" * PAGE))
    assert open_image(tmp_path / "raw.gz", base=0x2000).regions == ((0x2000, PAGE),)


def test_memory_beyond_every_physical_address_is_refused(tmp_path):
    (tmp_path / "raw").write_bytes(bytes(PAGE))
    with pytest.raises(ImageError, match=r"physical addresses end at 0x10000000000000"):
        open_image(tmp_path / "raw", base=(1 << 52) - 1)


def test_a_sparse_file_of_256_gib_costs_what_is_in_it(tmp_path):
    with open(tmp_path / "raw", "wb") as file:
        file.truncate(256 * GIB)
        os.pwrite(file.fileno(), b"tables", 200 * GIB)
    with open_image(tmp_path / "raw") as image:
        assert image.regions == ((0, 256 * GIB),)
        assert image.read(200 * GIB, 6) == b"tables"
        assert image.load(255 * GIB) == 0
        runs = list(image.touched())
    assert len(runs) == 1
    start, size = runs[0]
    assert start <= 200 * GIB < start + size
    assert size <= 1 << 20


def test_what_is_written_reads_back_with_gaps_as_zero(tmp_path):
    memory = PhysicalMemory([(0x4000, 0x2000), (1 << 32, 0x2000)])
    memory.write(0x5000, b"low")
    memory.write((1 << 32) + 0x1000, b"high")
    with open(tmp_path / "raw", "wb") as file:
        write_raw(file, memory)
    image = open_image(tmp_path / "raw")
    assert image.regions == ((0, (1 << 32) + 0x2000),)
    assert image.read(0x5000, 4) == b"low\0"
    assert image.read((1 << 32) + 0x1000, 5) == b"high\0"
    assert image.read(0x10000, 16) == bytes(16)
    assert (tmp_path / "raw").stat().st_blocks * 512 < 1 << 20


class _Pipe(io.BytesIO):
    """A file that cannot seek."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError("a pipe")


def test_a_pipe_gets_its_zeros(tmp_path):
    memory = PhysicalMemory([(0, 4 << 20)])
    memory.write((4 << 20) - 1, b"!")
    pipe = _Pipe()
    write_raw(pipe, memory)
    assert pipe.getvalue() == bytes((4 << 20) - 1) + b"!"
