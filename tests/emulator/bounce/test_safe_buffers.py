"""sa1111 and dmabounce: what is bounced, through which pool, and that the bytes arrive."""

from __future__ import annotations

import pytest

from emulator.clock import Clock
from emulator.mapping.bounce.bouncer import Bounced, NoBounceBuffer, bouncer_names, make_bouncer
from emulator.mapping.bounce.copying import NotBounced
from emulator.mapping.pressure import Zone
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.errors import InputError
from pagetables.memory import PhysicalMemory

START, PAGES = 64 << 20, 4096
R, W = 1, 2
HIGH = 0x0123_4567 & ~1 | 2 << 20  # beyond the low MiB of its bank


@pytest.fixture
def machine():
    """A bouncer over real memory: RAM up to 64 MiB, kernel pages above."""
    clock = Clock()
    zone = Zone(clock, START, PAGES * PAGE_SIZE)
    memory = PhysicalMemory([(0, START), (START, PAGES * PAGE_SIZE)])

    def build(name, **options):
        bouncer = make_bouncer(name, zone, clock, options)
        bouncer.memory = memory
        return bouncer, memory, zone

    return build


@pytest.mark.parametrize("name", ["sa1111", "dmabounce"])
def test_what_the_device_reaches_is_not_copied(machine, name):
    bouncer, _, _ = machine(name)
    assert bouncer.prepare(0x1000, 512, R) is None
    assert (bouncer.statistics.maps, bouncer.statistics.bounced, bouncer.statistics.bytes_copied) == (1, 0, 0)


@pytest.mark.parametrize("gpa, size, reached", [(0, 1 << 20, True), ((1 << 20) - 4, 8, False), (1 << 20, 1, False)])
def test_sa1111_reaches_the_low_mebibyte_of_a_bank(machine, gpa, size, reached):
    bouncer, _, _ = machine("sa1111", large=1 << 20)
    for bank in (0, 32 << 20):
        assert (bouncer.prepare(bank + gpa, size, W) is None) is reached


@pytest.mark.parametrize(
    "gpa, size, mask, reached",
    [
        ((1 << 24) - 8, 8, (1 << 24) - 1, True),
        ((1 << 24) - 8, 9, (1 << 24) - 1, False),  # the last byte is beyond
        (1 << 24, 8, (1 << 24) - 1, False),
        ((16 << 20) - 8, 8, (1 << 64) - 1, True),
        (16 << 20, 8, (1 << 64) - 1, False),  # the platform's window
    ],
)
def test_dmabounce_looks_at_the_first_and_the_last_byte(machine, gpa, size, mask, reached):
    bouncer, _, _ = machine("dmabounce", reach_mib=16)
    assert (bouncer.prepare(gpa, size, R, mask) is None) is reached


@pytest.mark.parametrize("access, copied_in, copied_back", [(R, True, False), (W, False, True), (R | W, True, True)])
@pytest.mark.parametrize("name", ["sa1111", "dmabounce"])
def test_data_is_copied_in_for_a_device_that_reads_and_out_for_one_that_wrote(
    machine, name, access, copied_in, copied_back
):
    bouncer, memory, _ = machine(name, **({"reach_mib": 1} if name == "dmabounce" else {}))
    memory.write(Gpa(HIGH), b"from cpu")
    bounced = bouncer.prepare(HIGH, 8, access)
    assert bounced.gpa >= START
    assert (memory.read(Gpa(bounced.gpa), 8) == b"from cpu") is copied_in
    memory.write(Gpa(bounced.gpa), b"from dev")
    bouncer.finish(bounced)
    assert (memory.read(Gpa(HIGH), 8) == b"from dev") is copied_back
    assert bouncer.statistics.bytes_copied == 8 * (copied_in + copied_back)
    assert bouncer.statistics.used == 0


@pytest.mark.parametrize("size, pool", [(1, "small"), (1024, "small"), (1025, "large"), (4096, "large")])
def test_the_smallest_pool_that_is_large_enough_gives_the_room(machine, size, pool):
    bouncer, _, _ = machine("sa1111")
    bouncer.prepare(HIGH, size, R)
    assert bouncer.statistics.details == {pool: 1}


def test_sa1111_refuses_what_is_larger_than_a_large_buffer(machine):
    bouncer, _, _ = machine("sa1111")
    with pytest.raises(NoBounceBuffer, match="no safe buffer of 4097 bytes: the pools have blocks of up to 4096"):
        bouncer.prepare(HIGH, 4097, R)
    assert bouncer.statistics.failed == 1


def test_dmabounce_takes_pages_of_its_own_for_what_fits_no_pool(machine):
    bouncer, _, zone = machine("dmabounce", reach_mib=1)
    free = zone.free
    bounced = bouncer.prepare(HIGH, 10_000, R)
    assert (bouncer.statistics.details, free - zone.free) == ({"other": 1}, 3)
    bouncer.finish(bounced)
    assert zone.free == free


def test_dmabounce_refuses_a_range_that_no_buffer_could_hold(machine):
    bouncer, _, _ = machine("dmabounce")
    with pytest.raises(NoBounceBuffer, match="70000 bytes are more than a device with mask 0xffff reaches"):
        bouncer.prepare(HIGH, 70_000, R, 0xFFFF)
    assert bouncer.prepare(HIGH, 0x1_0000, R, 0xFFFF) is not None
    with pytest.raises(NoBounceBuffer, match="65537 bytes are more"):
        bouncer.prepare(HIGH, 0x1_0001, R, 0xFFFF)


@pytest.mark.parametrize("size", [64, 20_000])
def test_no_memory_is_no_buffer(machine, size):
    bouncer, _, zone = machine("dmabounce", reach_mib=1)
    zone.squeeze(PAGES)
    with pytest.raises(NoBounceBuffer):
        bouncer.prepare(HIGH, size, R)


def test_an_unmap_of_another_size_or_direction_is_a_bug(machine):
    bouncer, _, _ = machine("sa1111")
    bounced = bouncer.prepare(HIGH, 64, R)
    with pytest.raises(NotBounced, match="mapped 64 bytes, access 1; unmapped 65 bytes"):
        bouncer.finish(Bounced(bounced.gpa, 65))
    with pytest.raises(NotBounced, match="access 2"):
        bouncer.finish(bounced, W)
    with pytest.raises(NotBounced, match="no bounced buffer is at 0x5000"):
        bouncer.finish(Bounced(0x5000, 64))
    bouncer.finish(bounced, R)
    with pytest.raises(NotBounced):
        bouncer.finish(bounced)


def test_a_sync_copies_one_way_and_may_be_shorter(machine):
    bouncer, memory, _ = machine("sa1111")
    bounced = bouncer.prepare(HIGH, 64, R | W)
    memory.write(Gpa(HIGH), b"abcdefgh")
    bouncer.sync(Bounced(bounced.gpa, 4), to_device=True)
    assert memory.read(Gpa(bounced.gpa), 8) == b"abcd\0\0\0\0"
    memory.write(Gpa(bounced.gpa), b"12345678")
    bouncer.sync(Bounced(bounced.gpa, 2), to_device=False)
    assert memory.read(Gpa(HIGH), 8) == b"12cdefgh"
    with pytest.raises(NotBounced, match="64 bytes are mapped, 65 are synchronised"):
        bouncer.sync(Bounced(bounced.gpa, 65), to_device=True)


def test_finding_a_record_costs_what_the_list_is_long(machine):
    bouncer, _, _ = machine("sa1111")
    first = bouncer.prepare(HIGH, 8, W)
    for _ in range(9):
        bouncer.prepare(HIGH, 8, W)
    bouncer.meter.counts.clear()
    bouncer.finish(first)
    assert bouncer.meter.counts["bounce.lookup"] == 10


def test_systems_are_chosen_by_name_and_refuse_what_they_do_not_know(machine):
    assert {"none", "sa1111", "dmabounce", "swiotlb", "swiotlb-dynamic"} <= set(bouncer_names())
    for name, options, why in (
        ("sa1111", {"smal": 1}, "bounce sa1111 has no option 'smal'; did you mean small"),
        ("sa1111", {"reach_kib": 1 << 20}, "reaches 1073741824 bytes of a bank"),
        ("swiotlb", {"slots": "many"}, "bounce.slots=many: swiotlb wants a number"),
        ("none", {"slots": 1}, "bounce=none has no option 'slots'"),
        ("switlb", {}, "did you mean swiotlb"),
    ):
        with pytest.raises(InputError, match=why):
            machine(name, **options)
