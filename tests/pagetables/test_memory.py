"""Physical memory: where it is, what it costs, who sees it."""

from __future__ import annotations

import os
import random
import struct

import cffi
import pytest

from pagetables.errors import InputError, NoMemory
from pagetables.memory import PhysicalMemory

TIB = 1 << 40


@pytest.fixture
def split():
    """RAM below a hole at 3 GiB and above 4 GiB."""
    memory = PhysicalMemory([(0, 3 << 30), (4 << 30, 1 << 30)])
    yield memory
    memory.close()


def test_a_qword_is_little_endian(split):
    split.write(0x1000, bytes(range(1, 9)))
    assert split.load(0x1000) == 0x0807060504030201
    assert split.store(0x1008, 0x1122334455667788)
    assert split.read(0x1008, 8) == struct.pack("<Q", 0x1122334455667788)


def test_untouched_memory_reads_as_zero(split):
    assert split.load(4 << 30) == 0
    assert split.read(0x5000, 16) == bytes(16)


@pytest.mark.parametrize("address", [3 << 30, (4 << 30) - 8, 5 << 30, 1 << 60, -8])
def test_a_hole_has_no_memory(split, address):
    assert split.load(address) is None
    assert split.store(address, 1) is False
    with pytest.raises(NoMemory) as error:
        split.read(address, 8)
    assert (error.value.address, error.value.size) == (address, 8)
    with pytest.raises(NoMemory):
        split.write(address, bytes(8))


@pytest.mark.parametrize("address", [(3 << 30) - 4, (4 << 30) - 4, (5 << 30) - 4])
def test_an_access_that_straddles_an_edge_does_nothing(split, address):
    assert split.load(address) is None
    assert not split.store(address, 0xFFFF_FFFF_FFFF_FFFF)
    with pytest.raises(NoMemory):
        split.write(address, b"x" * 8)
    assert list(split.touched()) == []


def test_the_last_qword_of_a_region_is_memory(split):
    assert split.store((5 << 30) - 8, 7)
    assert split.load((5 << 30) - 8) == 7


def test_regions_that_touch_are_one():
    memory = PhysicalMemory([(0x2000, 0x1000), (0x1000, 0x1000), (0x8000, 0x1000)])
    assert memory.regions == ((0x1000, 0x2000), (0x8000, 0x1000))
    memory.write(0x1FFC, b"12345678")
    assert memory.read(0x1FFC, 8) == b"12345678"


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([], "at least one"),
        ([(0, 0)], "multiples"),
        ([(0x10, 0x1000)], "multiples"),
        ([(0, 0x1001)], "multiples"),
        ([(-0x1000, 0x1000)], "multiples"),
        ([(0, 0x2000), (0x1000, 0x1000)], "overlaps"),
        ([(0, 128 * TIB)], "more than a process can map"),
    ],
)
def test_regions_that_make_no_sense_are_refused(regions, message):
    with pytest.raises(InputError, match=message):
        PhysicalMemory(regions)


def test_touched_lists_the_pages_that_were_written_in_order(split):
    split.write((4 << 30) + 0x3000, b"x")
    split.write(0x7FFF, b"xy")
    assert list(split.touched()) == [(0x7000, 0x2000), ((4 << 30) + 0x3000, 0x1000)]


def test_forty_tebibytes_cost_the_pages_that_are_touched():
    memory = PhysicalMemory([(0, 40 * TIB)])
    for address in (0x1000, 7 * TIB, 40 * TIB - 8):
        memory.store(address, address)
    assert os.fstat(memory._file).st_blocks * 512 == 3 * 4096
    assert [memory.load(address) for address in (0x1000, 7 * TIB, 40 * TIB - 8)] == [0x1000, 7 * TIB, 40 * TIB - 8]
    memory.close()


def test_c_sees_the_same_bytes(split):
    ffi = cffi.FFI()
    base = ffi.from_buffer("uint8_t[]", split.buffer, require_writable=True)
    split.store(0x1000, 0x1234)
    assert ffi.cast("uint64_t *", base + 0x1000)[0] == 0x1234
    ffi.cast("uint64_t *", base + (4 << 30))[0] = 0x5678
    assert split.load(4 << 30) == 0x5678
    assert list(split.touched()) == [(0x1000, 0x1000), (4 << 30, 0x1000)]
    ffi.release(base)


def test_closing_while_c_holds_the_buffer_is_safe():
    memory = PhysicalMemory([(0, 0x2000)])
    view = memoryview(memory.buffer)
    memory.store(0, 5)
    memory.close()
    memory.close()
    assert view[0] == 5


def test_closing_frees_the_file_descriptor():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        PhysicalMemory([(0, TIB)]).close()
        PhysicalMemory([(0, TIB)])  # dropped, not closed
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("seed", range(5))
def test_memory_agrees_with_a_dictionary_of_bytes(seed):
    chance = random.Random(seed)
    memory = PhysicalMemory([(0x1000, 0x3000), (0x8000, 0x2000)])
    inside = [*range(0x1000, 0x4000), *range(0x8000, 0xA000)]
    twin = dict.fromkeys(inside, 0)
    for _ in range(500):
        address, size = chance.randrange(0xB000), chance.choice([1, 3, 8, 64, 4096])
        covered = all(byte in twin for byte in range(address, address + size))
        assert memory.contains(address, size) == covered
        if covered and chance.random() < 0.5:
            data = chance.randbytes(size)
            memory.write(address, data)
            twin.update(zip(range(address, address + size), data, strict=True))
        elif covered:
            assert memory.read(address, size) == bytes(twin[byte] for byte in range(address, address + size))


def test_a_fixed_range_refuses_updates_and_takes_plain_writes() -> None:
    memory = PhysicalMemory([(0, 0x4000)], fixed=[(0x1000, 0x1000)])
    assert [memory.store(at, 7) for at in (0xFF8, 0x1000, 0x1FF8, 0x2000)] == [True, False, False, True]
    assert [memory.load(at) for at in (0xFF8, 0x1000, 0x1FF8, 0x2000)] == [7, 0, 0, 7]
    memory.write(0x1000, b"\x09")
    assert memory.load(0x1000) == 9
