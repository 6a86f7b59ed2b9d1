"""Opening images: which kind a file is decides its first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
import threading

import pytest
import zstandard

from pagetables.errors import ImageError
from pagetables.images.compressed import unpack
from pagetables.images.opening import open_image
from tests.pagetables.images.elf_bytes import Core, Load

ELF = bytes(Core([Load(0x1000, bytes(range(8)) + bytes(8184))]))
FIRST = int.from_bytes(bytes(range(8)), "little")
PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor(write_checksum=True).compress}


@pytest.mark.parametrize("kind", PACKERS)
def test_a_compressed_image_opens_as_it_is(tmp_path, kind):
    (tmp_path / "image").write_bytes(PACKERS[kind](ELF))  # the name does not matter
    with open_image(tmp_path / "image") as image:
        assert image.load(0x1000) == FIRST
        assert image.read(0x1008, 8184) == bytes(8184)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_compressed_image_that_is_cut_short_is_an_error(tmp_path, kind):
    packed = PACKERS[kind](os.urandom(8192))
    (tmp_path / "image").write_bytes(packed[:-40])
    with pytest.raises(ImageError, match=r"image: damaged (gzip|xz|zstd) data"):
        open_image(tmp_path / "image")


@pytest.mark.parametrize("kind", PACKERS)
def test_a_damaged_compressed_image_is_an_error(tmp_path, kind):
    packed = bytearray(PACKERS[kind](os.urandom(8192)))
    packed[len(packed) // 2] ^= 0xFF
    packed[14:30] = bytes(16)
    (tmp_path / "image").write_bytes(packed)
    with pytest.raises(ImageError, match="image: "):
        open_image(tmp_path / "image")


def test_an_image_compressed_in_several_pieces_is_one(tmp_path):
    for kind, pack in PACKERS.items():
        (tmp_path / kind).write_bytes(pack(ELF[:5000]) + pack(ELF[5000:]))
        assert open_image(tmp_path / kind).load(0x1000) == FIRST


def test_what_unpacks_to_something_packed_is_refused(tmp_path):
    (tmp_path / "image").write_bytes(gzip.compress(gzip.compress(ELF)))
    with pytest.raises(ImageError, match="compressed twice"):
        open_image(tmp_path / "image")


def test_unpacking_stops_at_the_limit(tmp_path):
    bomb = io.BytesIO(gzip.compress(bytes(10 << 20)))
    with open(tmp_path / "out", "w+b") as target, pytest.raises(ImageError, match="more than 1,048,576 bytes"):
        unpack("bomb.gz", bomb, "gzip", target, limit=1 << 20)
    assert (tmp_path / "out").stat().st_blocks == 0


def test_unpacked_zeros_are_holes(tmp_path):
    with open(tmp_path / "out", "w+b") as target:
        unpack("zeros.gz", io.BytesIO(gzip.compress(bytes(64 << 20) + b"end")), "gzip", target)
    assert (tmp_path / "out").stat().st_size == (64 << 20) + 3
    assert (tmp_path / "out").stat().st_blocks * 512 <= 64 << 10


def test_standard_input_is_an_image(monkeypatch):
    for data in (ELF, gzip.compress(ELF)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert open_image("-").load(0x1000) == FIRST


def test_a_pipe_is_an_image(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[ELF])
    writer.start()
    assert open_image(tmp_path / "pipe").load(0x1000) == FIRST
    writer.join()


def test_raw_memory_begins_at_address_0(tmp_path):
    (tmp_path / "raw").write_bytes(bytes(0x1000) + ELF[-8192:])
    image = open_image(tmp_path / "raw")
    assert image.container == "raw memory"
    assert image.load(0x1000) == FIRST
    assert image.load(0x3000) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty; expected an ELF core, a kdump-compressed dump, a LiME dump or raw memory"),
        (b"DISKDUMP" + bytes(4088), "a diskdump, which is not read: convert it"),
        (b"PAGEDU64" + bytes(4088), "a Windows crash dump"),
        (b"# tracer: nop\n", r"no kind of image that is known \(it begins with 23 20 74 72\), nor raw memory"),
        (bz2.compress(b"text"), "no kind of image"),
        (bytes(4097), r"4097 bytes are no whole number of pages"),
    ],
)
def test_what_is_no_image_is_said_to_be_what_it_is(tmp_path, data, message):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ImageError, match=message):
        open_image(tmp_path / "file")


def test_a_folder_and_a_missing_file_are_errors_of_the_system(tmp_path):
    with pytest.raises(IsADirectoryError):
        open_image(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "missing")


@pytest.mark.parametrize("header", [b"", b"\x3f", b"\x3f\xa0\x48\x70", b"\xff" * 20, b"\xe0" + b"\xff" * 8])
def test_zstd_data_with_a_wrong_or_missing_header_is_damaged(tmp_path, header):
    (tmp_path / "image").write_bytes(b"\x28\xb5\x2f\xfd" + header)
    with pytest.raises(ImageError, match=r"image: damaged zstd data"):
        open_image(tmp_path / "image")
