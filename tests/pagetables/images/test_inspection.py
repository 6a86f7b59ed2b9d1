"""The Python face of `vtd inspect` and `vtd walk`: what a harness asks of an image."""

from __future__ import annotations

import struct

import pytest

from pagetables.errors import ImageError
from pagetables.fault import Fault, FaultReason
from pagetables.images.inspection import answer, inspect_unit, register_pages
from pagetables.images.interrupts import interrupts, missing_pages
from pagetables.images.opening import open_image
from pagetables.images.registers import RegisterPage
from pagetables.layouts.registers import InterruptRemappingTableAddress
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, Permissions, Request, Translation
from tests.conftest import FIXTURES

IMAGES = FIXTURES / "images"


@pytest.fixture
def vfio():
    """Tables of a VFIO user, and the registers of their unit."""
    with open_image(IMAGES / "t-vfio-superpages/image.elf.gz") as image:
        yield image, register_pages(image)


def test_a_unit_is_reported_as_values(vfio):
    image, (page,) = vfio
    report = inspect_unit(image, page, source_id=0x28)
    assert (report.mode, report.translation_enabled, report.root_table) == ("legacy", True, 0x7F09000)
    (space,) = report.spaces
    assert space.pages == {1 << 12: 285, 1 << 21: 7, 1 << 30: 1}
    assert (report.interrupts, report.findings) == ((), ())


def test_a_live_memory_is_inspected_like_an_image():
    memory = PhysicalMemory([(0, 0x10000)])
    memory.write(0x1000, struct.pack("<QQ", 0x2001, 0))
    memory.write(0x2000 + 16 * 0x18, struct.pack("<QQ", 0x3001, 9 << 8 | 1))
    memory.write(0x3000, struct.pack("<Q", 0x4003))
    memory.write(0x4000, struct.pack("<Q", 0x5003))
    memory.write(0x5000 + 8 * 5, struct.pack("<QQ", 0x7001, 0x8001))
    report = inspect_unit(memory, RegisterPage.of_root_table(0x1000))
    (space,) = report.spaces
    assert (space.source_id, space.domain_id, space.levels) == (0x18, 9, 3)
    (mapping,) = space.mappings
    assert (mapping.iova, mapping.gpa, mapping.size, mapping.access) == (0x5000, 0x7000, 0x2000, Permissions.R)


def test_an_answer_holds_request_outcome_and_steps(vfio):
    image, pages = vfio
    request = Request(0x28, 0x1010_0000, Access.WRITE)
    found = answer(image, pages, request)
    assert found.outcome == Fault(FaultReason.WRITE_DENIED, request, 0x9FF91800, 1)
    assert [step.level for step in found.steps] == [0, 0, 4, 3, 2, 1]
    readable = Permissions.R | Permissions.X  # nothing says otherwise of execution in legacy mode
    assert answer(image, pages, Request(0x28, 0x1010_0000)).outcome == Translation(0xE564000, 12, readable)


def test_units_come_from_one_place(vfio):
    image, pages = vfio
    registers = str(IMAGES / "t-vfio-superpages/registers.json")
    assert register_pages(image, registers)[0].data == pages[0].data
    assert register_pages(image, rtaddr=0x7F09000)[0].root_table == 0x7F09000
    with pytest.raises(ImageError, match="exclude each other"):
        register_pages(image, registers, 0x7F09000)


def test_an_image_without_registers_says_what_to_give(tmp_path):
    (tmp_path / "raw").write_bytes(bytes(4096))
    with (
        open_image(tmp_path / "raw") as image,
        pytest.raises(ImageError, match="no registers in this raw memory; give"),
    ):
        register_pages(image)


def test_interrupt_entries_are_found_on_every_page_of_the_table():
    memory = PhysicalMemory([(0, 0x8000)])
    for index in (0, 255, 256, 1023):
        memory.write(0x2000 + 16 * index, struct.pack("<QQ", index << 16 & 0xFF0000 | 1, index))
    table = InterruptRemappingTableAddress(0x2000 | 9)  # 1024 entries
    assert [(one.index, one.at, one.entry.sid) for one in interrupts(memory, table)] == [
        (index, 0x2000 + 16 * index, index) for index in (0, 255, 256, 1023)
    ]
    assert missing_pages(memory, table) == []
    assert missing_pages(memory, InterruptRemappingTableAddress(0x6000 | 9)) == [0x8000, 0x9000]


def test_a_table_smaller_than_a_page_ends_where_it_ends():
    memory = PhysicalMemory([(0, 0x4000)])
    for index in range(4):
        memory.write(0x2000 + 16 * index, struct.pack("<QQ", 1, 0))
    assert [one.index for one in interrupts(memory, InterruptRemappingTableAddress(0x2000))] == [0, 1]
