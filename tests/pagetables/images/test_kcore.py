"""Live memory: a file laid out as /proc/kcore is, since tests do not run as root on a machine of their own."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.errors import ImageError, NoMemory
from pagetables.images import kcore, opening
from pagetables.images.kcore import KcoreImage
from tests.pagetables.images.elf_bytes import Core, Load

PAGE = 4096
NOWHERE = (1 << 64) - 1
RAM = bytes(range(256)) * 16 * 4
LAYOUT = [
    Load(0x2000, b"\xee" * PAGE),  # the text: the same RAM once more
    Load(NOWHERE, b"v" * PAGE, size=1 << 45),  # vmalloc
    Load(0x1000, RAM),
    Load(1 << 32, b"h" * PAGE),
]


@pytest.fixture
def live(tmp_path):
    """An image of a kernel's memory."""
    (tmp_path / "kcore").write_bytes(bytes(Core(LAYOUT)))
    with KcoreImage(os.fspath(tmp_path / "kcore")) as image:
        yield image


def test_ram_is_read_by_its_physical_address(live):
    assert live.regions == ((0x1000, 4 * PAGE), (1 << 32, PAGE))
    assert tuple(live.touched()) == live.regions
    assert live.read(0x1000, 4 * PAGE) == RAM
    assert live.load((1 << 32) + 8) == int.from_bytes(b"h" * 8, "little")
    assert live.load(0x5000) is None
    with pytest.raises(NoMemory):
        live.read(0x4FFC, 8)


def test_each_read_sees_memory_as_it_is_now(live):
    assert live.read(1 << 32, 2) == b"hh"
    with open(live.path, "r+b") as file:
        file.seek(-PAGE, os.SEEK_END)
        file.write(b"now")
    assert live.read(1 << 32, 3) == b"now"


def test_ram_that_went_away_is_no_memory(live):
    os.truncate(live.path, os.path.getsize(live.path) - PAGE)
    assert live.load(1 << 32) is None
    assert live.load(0x1000) is not None


def test_an_image_of_that_name_is_live(live, monkeypatch):
    monkeypatch.setattr(kcore, "PATH", live.path)
    image = opening.open_image(live.path)
    assert image.container == "live memory"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no ELF header"),
        (b"\x7fELF", "4 bytes, an ELF header has 64"),
        (bytes(Core(LAYOUT))[:200], "4 program headers are not there"),
        (bytes(Core(LAYOUT, entry_size=32)), "4 program headers are not there"),
        (bytes(Core(LAYOUT, table=(1 << 64) - 1)), "4 program headers are not there"),
        (bytes(Core([Load(0, b"x", offset=(1 << 64) - 1)])), "this kernel does not say"),
        (bytes(Core(LAYOUT[1:2])), "this kernel does not say where in physical memory anything is"),
    ],
)
def test_what_is_no_live_memory_is_refused(tmp_path, data, message):
    (tmp_path / "kcore").write_bytes(data)
    with pytest.raises(ImageError, match=f"kcore: {message}"):
        KcoreImage(os.fspath(tmp_path / "kcore"))


@given(st.lists(st.tuples(st.integers(0, 287), st.integers(0, 255)), max_size=8))
def test_no_file_does_more_than_fail_in_our_words(tmp_path_factory, flips):
    data = bytearray(bytes(Core(LAYOUT)))
    for at, value in flips:
        data[at] = value
    path = tmp_path_factory.mktemp("live") / "kcore"
    path.write_bytes(data)
    try:
        with KcoreImage(os.fspath(path)) as image:
            for start, size in image.regions:
                image.load(start)
                image.load(start + size)
    except ImageError as error:
        assert "kcore: " in str(error)  # noqa: PT017  # both ends are good ones
