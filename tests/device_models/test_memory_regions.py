"""Memory regions and address spaces: overlap, aliases, sizes of accesses, and nothing where nothing is."""

from __future__ import annotations

import random

import pytest

from device_models.address_space import AddressSpace
from device_models.memory_region import MemoryRegion, Operations, Ram, Sizes
from device_models.memory_tree import flat_view_lines, memory_tree_lines
from pagetables.errors import InputError
from pagetables.memory import PhysicalMemory


class Recorder:
    """Registers that note every access; a read yields 11h, 22h, ... by offset."""

    def __init__(self, valid: Sizes | None = None, implemented: Sizes | None = None) -> None:
        self.log: list[tuple[object, ...]] = []
        self.operations = Operations(self.read, self.write, valid or Sizes(), implemented or Sizes())

    def read(self, offset: int, size: int) -> int:
        self.log.append(("r", offset, size))
        return int.from_bytes(bytes(0x11 * (offset + n + 1) & 0xFF for n in range(size)), "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.log.append(("w", offset, size, value))

    def region(self, size: int = 0x10) -> MemoryRegion:
        return MemoryRegion("registers", size, self.operations)


def space_of(*placed: tuple[MemoryRegion, int, int], size: int = 0x1000) -> AddressSpace:
    root = MemoryRegion("root", size)
    for region, address, priority in placed:
        root.add(region, address, priority)
    return AddressSpace("test", root)


def named(name: str, size: int) -> MemoryRegion:
    return MemoryRegion(name, size, Recorder().operations)


def view(space: AddressSpace) -> list[tuple[int, int, str]]:
    return [(flat.start, flat.end, flat.region.name) for flat in space.ranges()]


def test_nothing_reads_as_zeros_in_memory_and_as_ones_in_ports() -> None:
    root = MemoryRegion("root", 0x1000)
    assert AddressSpace("memory", root).load(0x10, 2) == (b"\0\0", False)
    assert AddressSpace("ports", root, unassigned=0xFF).load(0x10, 2) == (b"\xff\xff", False)
    assert AddressSpace("memory", root).store(0x10, b"ab") is False


def test_the_higher_priority_wins_and_the_rest_shows_around_it() -> None:
    space = space_of((named("low", 0x100), 0, 0), (named("high", 0x20), 0x40, 1))
    assert view(space) == [(0, 0x40, "low"), (0x40, 0x60, "high"), (0x60, 0x100, "low")]
    assert space.ranges()[2].offset == 0x60


def test_of_equal_priorities_the_one_added_last_wins() -> None:
    space = space_of((named("first", 0x20), 0, 0), (named("second", 0x20), 0x10, 0))
    assert view(space) == [(0, 0x10, "first"), (0x10, 0x30, "second")]


def test_a_region_reaches_no_further_than_its_container() -> None:
    box = MemoryRegion("box", 0x20)
    box.add(named("wide", 0x100), 0x10)
    assert view(space_of((box, 0x100, 0))) == [(0x110, 0x120, "wide")]


def test_priorities_count_within_a_container_only() -> None:
    box = MemoryRegion("box", 0x20)
    box.add(named("inner", 0x20), 0, 5)
    space = space_of((box, 0, 0), (named("outer", 0x10), 0, 1))
    assert view(space) == [(0, 0x10, "outer"), (0x10, 0x20, "inner")]


def test_an_alias_shows_a_part_of_its_target() -> None:
    recorder = Recorder()
    target = recorder.region(0x10)
    space = space_of((MemoryRegion.of(target, "window", 4, 8), 0x100, 0))
    assert view(space) == [(0x100, 0x108, "registers")]
    space.read(0x102, 2)
    assert recorder.log == [("r", 6, 2)]


def test_changes_behind_an_alias_are_seen() -> None:
    target = MemoryRegion("target", 0x10)
    alias = MemoryRegion.of(target, "window", 0, 0x10)
    space = space_of((alias, 0, 0))
    assert view(space) == []
    inner = named("inner", 8)
    target.add(inner, 4)
    assert view(space) == [(4, 12, "inner")]
    alias.retarget(4, 4)
    assert view(space) == [(0, 4, "inner")]
    inner.move(0)
    assert view(space) == [(0, 4, "inner")]
    target.remove(inner)
    assert view(space) == []


def test_an_alias_that_ended_is_not_told_any_more() -> None:
    target = MemoryRegion("target", 0x10)
    alias = MemoryRegion.of(target, "window", 0, 0x10)
    space = space_of((alias, 0, 0))
    assert view(space) == []
    alias.forget()
    target.add(named("late", 4), 0)
    assert view(space) == []


def test_a_hidden_region_is_not_there() -> None:
    region = named("region", 0x10)
    space = space_of((region, 0, 0))
    region.enabled = False
    assert view(space) == []
    region.enabled = True
    assert view(space) == [(0, 0x10, "region")]


def test_a_region_is_in_one_container_only() -> None:
    region = named("region", 0x10)
    space_of((region, 0, 0))
    with pytest.raises(InputError, match="is in root already"):
        MemoryRegion("other", 0x10).add(region, 0)


def test_overlaps_are_rendered_as_painting_by_priority_renders_them() -> None:
    # The twin paints every byte, the lowest priority and the earliest first.
    for seed in range(50):
        draw = random.Random(seed)
        placed = [(named(f"r{n}", draw.randrange(1, 40)), draw.randrange(100), draw.randrange(-2, 3)) for n in range(8)]
        painted: dict[int, str] = {}
        for region, address, _ in sorted(placed, key=lambda item: item[2]):
            painted.update(dict.fromkeys(range(address, min(address + region.size, 0x80)), region.name))
        space = space_of(*placed, size=0x80)
        found = {at: flat.region.name for flat in space.ranges() for at in range(flat.start, flat.end)}
        assert found == {at: name for at, name in painted.items() if at < 0x80}, f"seed {seed}"


def test_ram_is_read_and_written_at_once() -> None:
    memory = PhysicalMemory([(0, 0x2000)])
    space = space_of((MemoryRegion("ram", 0x1000, ram=Ram(memory, 0x1000)), 0, 0), size=0x2000)
    assert space.store(0xFF0, b"0123456789abcdef") is True
    assert memory.read(0x1FF0, 16) == b"0123456789abcdef"
    assert space.load(0xFF8, 16) == (b"89abcdef" + bytes(8), False)
    assert space.store(0xFFC, b"WXYZ????") is False
    assert memory.read(0x1FFC, 4) == b"WXYZ"


def test_ram_beyond_its_memory_is_nothing() -> None:
    space = space_of((MemoryRegion("ram", 0x1000, ram=Ram(PhysicalMemory([(0, 0x1000)]), 0x1000)), 0, 0))
    assert space.load(0, 4) == (bytes(4), False)
    assert space.store(0, b"abcd") is False


def test_large_accesses_are_split_at_what_the_bus_lets_through() -> None:
    recorder = Recorder()
    space = space_of((recorder.region(), 0, 0))
    assert space.read(0, 8) == bytes(0x11 * n for n in range(1, 9))
    assert recorder.log == [("r", 0, 4), ("r", 4, 4)]


def test_unaligned_accesses_are_split_into_aligned_ones() -> None:
    recorder = Recorder()
    space = space_of((recorder.region(), 0, 0))
    space.write(1, b"abcdefg")
    assert [(entry[1], entry[2]) for entry in recorder.log] == [(1, 1), (2, 2), (4, 4)]


def test_accesses_smaller_than_valid_find_nothing() -> None:
    recorder = Recorder(Sizes(4, 8), Sizes(4, 8))
    space = space_of((recorder.region(), 0, 0))
    assert space.load(0, 2) == (b"\0\0", False)
    assert space.store(2, b"ab") is False
    assert recorder.log == []
    assert space.load(0, 8)[1] is True
    assert recorder.log == [("r", 0, 8)]


def test_what_is_implemented_narrower_gets_several_accesses() -> None:
    recorder = Recorder(Sizes(1, 8), Sizes(1, 2))
    space = space_of((recorder.region(), 0, 0))
    assert space.read_number(0, 4) == 0x44332211
    space.write_number(4, 4, 0xAABBCCDD)
    assert recorder.log == [("r", 0, 2), ("r", 2, 2), ("w", 4, 2, 0xCCDD), ("w", 6, 2, 0xAABB)]


def test_what_is_implemented_wider_gets_one_access_that_is_cut() -> None:
    recorder = Recorder(Sizes(1, 4), Sizes(4, 4))
    space = space_of((recorder.region(), 0, 0))
    assert space.read(4, 1) == b"\x55"
    space.write(4, b"\x99")
    assert recorder.log == [("r", 4, 4), ("w", 4, 4, 0x99)]


def test_registers_take_accesses_by_their_address_alone() -> None:
    first, second = Recorder(), Recorder()
    space = space_of((first.region(4), 0, 0), (second.region(1), 1, 1))
    space.write_number(0, 4, 0x8000_0001)
    space.write_number(1, 1, 7)
    assert first.log == [("w", 0, 4, 0x8000_0001)]
    assert second.log == [("w", 0, 1, 7)]


def test_an_access_crosses_from_nothing_into_something() -> None:
    recorder = Recorder()
    space = space_of((recorder.region(), 0x10, 0))
    assert space.read(0xE, 4) == b"\0\0\x11\x22"


def test_the_tree_names_aliases_and_the_flat_view_what_is_left() -> None:
    target = MemoryRegion("pci", 0x100)
    target.add(named("bar", 0x10), 0x20, 1)
    space = space_of((MemoryRegion.of(target, "window", 0x20, 0x10), 0x40, 1))
    assert memory_tree_lines(space) == [
        "address-space: test",
        "  0000000000000000-0000000000000fff (prio 0, i/o): root",
        "    0000000000000040-000000000000004f (prio 1, i/o): alias window @pci 0000000000000020-000000000000002f",
        "",
        "memory-region: pci",
        "  0000000000000000-00000000000000ff (prio 0, i/o): pci",
        "    0000000000000020-000000000000002f (prio 1, i/o): bar",
    ]
    assert flat_view_lines(space)[2:] == ["  0000000000000040-000000000000004f (prio 1, i/o): bar"]
    assert flat_view_lines(space_of())[-1] == "  No rendered FlatView"
