"""Physical memory through a real drgn program."""

from __future__ import annotations

import pytest

from pagetables import images
from pagetables.errors import NoMemory
from pagetables.images.drgn_memory import DrgnMemory
from pagetables.images.inspection import inspect_unit
from tests.conftest import FIXTURES

drgn = pytest.importorskip("drgn", reason="NOT RUN: pip install drgn")


def program(*segments: tuple[int, bytes]):
    """A drgn program that has these bytes of physical memory."""
    made = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    for start, data in segments:
        made.add_memory_segment(
            start,
            len(data),
            lambda address, count, offset, physical, data=data: data[offset : offset + count],
            physical=True,
        )
    return made


def test_bytes_and_qwords_are_those_of_the_program() -> None:
    memory = DrgnMemory(program((0x1000, bytes(range(64)))))
    assert memory.read(0x1008, 4) == bytes([8, 9, 10, 11])
    assert memory.load(0x1008) == 0x0F0E0D0C0B0A0908


def test_what_the_program_does_not_have_is_no_memory() -> None:
    memory = DrgnMemory(program((0x1000, bytes(64))))
    assert memory.load(0x2000) is None
    with pytest.raises(NoMemory):
        memory.read(0x1038, 16)


def test_tables_read_through_drgn_are_those_of_the_image() -> None:
    folder = FIXTURES / "images" / "t-vfio-superpages"
    with images.open(folder / "image.elf.gz", registers=folder / "registers.json") as image:
        parts = [(start, image.memory.read(start, size)) for start, size in image.memory.regions]
        (found,) = (inspect_unit(DrgnMemory(program(*parts)), page) for page in image.units)
        assert found.spaces == image.scan()[0].spaces
