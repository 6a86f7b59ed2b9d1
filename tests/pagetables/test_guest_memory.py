"""Guest addresses as a memory, behind second-stage tables written by struct."""

from __future__ import annotations

import struct

import pytest

from pagetables.errors import NoMemory
from pagetables.guest_memory import GuestMemory
from pagetables.images.inspection import inspect_unit
from pagetables.images.registers import RegisterPage
from pagetables.memory import PhysicalMemory
from tests.builders import FULL

PAGE = 4096


def memory_with_tables() -> PhysicalMemory:
    """Three levels at 1000h, which map guest pages 5 and 6 to pages 9 and 8."""
    memory = PhysicalMemory([(0, 16 * PAGE)])
    for at, entry in ((0x1000, 0x2003), (0x2000, 0x3003), (0x3028, 0x9003), (0x3030, 0x8003)):
        memory.write(at, struct.pack("<Q", entry))
    memory.write(0x9FF8, b"the last")
    memory.write(0x8000, b"the next")
    return memory


def test_bytes_are_read_where_the_tables_say_across_pages() -> None:
    guest = GuestMemory(memory_with_tables(), 0x1000, 3, FULL)
    assert guest.read(0x5FF8, 16) == b"the lastthe next"
    assert guest.load(0x5FF8) == int.from_bytes(b"the last", "little")
    assert guest.translate(0x6123) == 0x8123


def test_what_is_not_mapped_is_not_there() -> None:
    guest = GuestMemory(memory_with_tables(), 0x1000, 3, FULL)
    assert guest.load(0x7000) is None
    with pytest.raises(NoMemory) as refused:
        guest.read(0x6FF8, 16)
    assert refused.value.address == 0x7000


@pytest.mark.parametrize("levels", [0, 2, 6, 9])
def test_behind_a_width_that_does_not_exist_is_nothing(levels: int) -> None:
    guest = GuestMemory(memory_with_tables(), 0x1000, levels, FULL)
    assert guest.load(0x5000) is None


@pytest.mark.parametrize("width", [0, 4, 7])
def test_nested_entry_with_a_width_that_does_not_exist_is_a_finding(width: int) -> None:
    memory = PhysicalMemory([(0, 16 * PAGE)])
    for at, *words in ((0x1000, 0x2001), (0x2000, 0x3001), (0x3000, 0x4001), (0x4000, 0x5001 | 3 << 6 | width << 2)):
        memory.write(at, struct.pack(f"<{len(words)}Q", *words))
    report = inspect_unit(memory, RegisterPage.of_root_table(0x1400))
    assert "bad-entry" in {finding.kind for finding in report.findings}
