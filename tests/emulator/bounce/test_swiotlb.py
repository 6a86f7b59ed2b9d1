"""swiotlb: slots, segments, areas, growth, and that nothing of an earlier user comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.bounce.bouncer import Bounced, NoBounceBuffer, make_bouncer
from emulator.mapping.bounce.copying import NotBounced
from emulator.mapping.bounce.slots import SEGMENT, Area
from emulator.mapping.pressure import Zone
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.errors import InputError, VtdError
from pagetables.memory import PhysicalMemory

START, PAGES = 64 << 20, 8192
R, W = 1, 2


def make(name="swiotlb", **options):
    clock = Clock()
    zone = Zone(clock, START, PAGES * PAGE_SIZE)
    bouncer = make_bouncer(name, zone, clock, {"slots": 1024, "areas": 1, **options})
    bouncer.memory = PhysicalMemory([(0, START), (START, PAGES * PAGE_SIZE)])
    return bouncer, zone, clock


def runs(taken, slots):
    """What `free` must be, worked out from the slots that are taken: an obvious twin."""
    expected = [0] * slots
    for slot in reversed(range(slots)):
        after = expected[slot + 1] if (slot + 1) % SEGMENT else 0
        expected[slot] = 0 if slot in taken else after + 1
    return expected


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 140), st.sampled_from([1, 2, 4])), max_size=60))
def test_free_runs_are_counted_right_whatever_comes_and_goes(steps):
    area, live = Area(3 * SEGMENT), []
    for takes, number, stride in steps:
        if takes:
            slot = area.take(number, stride)
            if slot is not None:
                assert slot % stride == 0
                assert slot // SEGMENT == (slot + number - 1) // SEGMENT, "a mapping lies in one segment"
                live.append((slot, number))
            else:
                starts = range(0, 3 * SEGMENT, stride)
                assert all(area.free[at] < number for at in starts), "refused though a run was there"
        elif live:
            area.give_back(*live.pop(number % len(live)))
        taken = {at for slot, count in live for at in range(slot, slot + count)}
        assert area.free == runs(taken, 3 * SEGMENT)
        assert area.used == len(taken) == sum(count for _, count in live)


def test_free_slots_are_not_given_back_twice():
    area = Area(SEGMENT)
    slot = area.take(4)
    area.give_back(slot, 4)
    with pytest.raises(VtdError, match="slots 0\\+4 are given back"):
        area.give_back(slot, 4)
    with pytest.raises(VtdError, match="whole segments"):
        Area(100)


def test_the_search_goes_on_where_the_last_one_ended():
    area = Area(2 * SEGMENT)
    assert [area.take(8) for _ in range(3)] == [0, 8, 16]
    area.give_back(0, 8)
    assert area.take(8) == 24
    area.give_back(24, 8)
    assert area.take(8) == 32, "what came back last is not what goes out next"


def test_a_free_run_ends_with_its_segment_though_the_next_one_is_free_too():
    area = Area(2 * SEGMENT)
    assert area.take(SEGMENT) == 0
    area.give_back(0, SEGMENT)
    assert area.free == runs(set(), 2 * SEGMENT)
    assert area.largest_run() == SEGMENT


@pytest.mark.parametrize("access", [R, W, R | W])
def test_data_is_copied_in_always_so_that_nothing_of_an_earlier_user_comes_back(access):
    bouncer, _, _ = make()
    memory = bouncer.memory
    memory.write(Gpa(0x5000), b"secret!!")
    bouncer.finish(bouncer.prepare(0x5000, 8, R))
    memory.write(Gpa(0x9000), b"mine....")
    bounced = bouncer.prepare(0x9000, 8, access)
    assert memory.read(Gpa(bounced.gpa), 8) == b"mine...."
    memory.write(Gpa(bounced.gpa), b"dev")
    bouncer.finish(bounced)
    assert memory.read(Gpa(0x9000), 8) == (b"deve...." if access & W else b"mine....")


@pytest.mark.parametrize("size, slots", [(1, 2), (4096, 2), (4097, 4), (256 << 10, 128)])
def test_whole_granules_are_occupied(size, slots):
    bouncer, _, _ = make()
    bounced = bouncer.prepare(0x5000, size, R)
    assert (bouncer.used, bouncer.statistics.used, bounced.gpa % PAGE_SIZE) == (slots, slots * 2048, 0)


def test_without_an_iommu_a_single_slot_is_enough():
    bouncer, _, _ = make(align=2048)
    bouncer.prepare(0x5000, 1, R)
    assert bouncer.used == 1


def test_a_mapping_beyond_256_kib_has_no_room_however_empty_the_pool_is():
    bouncer, _, _ = make()
    with pytest.raises(NoBounceBuffer, match="no 130 slots in a row for 262145 bytes: 0 of 1024 are in use"):
        bouncer.prepare(0x5000, (256 << 10) + 1, R)
    assert bouncer.statistics.failed == 1


def test_a_pool_can_be_full_with_few_slots_used():
    bouncer, _, _ = make(slots=1024, align=2048)
    held = [bouncer.prepare(0x5000, 2048, R) for _ in range(1024)]
    for number, bounced in enumerate(held):
        if number % 64:
            bouncer.finish(bounced)
    assert bouncer.used == 16
    with pytest.raises(NoBounceBuffer, match="16 of 1024 are in use"):
        bouncer.prepare(0x5000, 64 * 2048, R)


def test_each_cpu_begins_in_its_own_area_and_spills_into_the_others():
    bouncer, _, _ = make(slots=512, areas=4)
    first = [bouncer.prepare(0x5000, 4096, R, cpu=cpu).gpa for cpu in range(4)]
    assert [(at - START) // (128 * 2048) for at in first] == [0, 1, 2, 3]
    for _ in range(63):
        bouncer.prepare(0x5000, 4096, R, cpu=2)
    assert (bouncer.prepare(0x5000, 4096, R, cpu=2).gpa - START) // (128 * 2048) == 3


@pytest.mark.parametrize("force, gpa, bounced", [(1, 0x5000, True), (0, 0x5000, False), (0, 17 << 20, True)])
def test_what_is_reached_is_bounced_only_if_forced(force, gpa, bounced):
    bouncer, _, _ = make(force=force, reach_mib=16)
    assert (bouncer.prepare(gpa, 64, R) is not None) is bounced


@pytest.mark.parametrize("size, bounced", [(0x1000, False), (0x1001, True)])
def test_a_buffer_whose_last_byte_is_out_of_reach_is_bounced(size, bounced):
    bouncer, _, _ = make(force=0, reach_mib=16)
    assert (bouncer.prepare((16 << 20) - 0x1000, size, R) is not None) is bounced


def test_a_dynamic_one_bridges_the_time_until_it_has_grown():
    bouncer, zone, clock = make("swiotlb-dynamic", slots=128)
    held = [bouncer.prepare(0x5000, 4096, R) for _ in range(64)]
    free = zone.free
    over = bouncer.prepare(0x5000, 4096, R)
    assert (free - zone.free, bouncer.statistics.details["transient_pools"]) == (1, 1)
    clock.advance(MILLISECOND)
    assert (bouncer.total, bouncer.statistics.details["worker_runs"]) == (256, 1)
    bouncer.finish(over)
    assert bouncer.statistics.details["transient_slots"] == 0
    bouncer.prepare(0x5000, 4096, R)
    assert bouncer.statistics.details["transient_pools"] == 1, "the new pool serves it"
    for bounced in held:
        bouncer.finish(bounced)


def test_a_static_one_never_grows():
    bouncer, _, clock = make(slots=128)
    for _ in range(64):
        bouncer.prepare(0x5000, 4096, R)
    with pytest.raises(NoBounceBuffer):
        bouncer.prepare(0x5000, 4096, R)
    clock.advance(MILLISECOND)
    assert bouncer.total == 128


def test_under_pressure_a_dynamic_one_fails_and_grows_later():
    bouncer, zone, clock = make("swiotlb-dynamic", slots=128)
    for _ in range(64):
        bouncer.prepare(0x5000, 4096, R)
    zone.squeeze(PAGES - 64)
    with pytest.raises(NoBounceBuffer):
        bouncer.prepare(0x5000, 4096, R)
    clock.advance(MILLISECOND)
    assert bouncer.statistics.details["worker_runs"] == 1


def test_sync_and_finish_want_a_live_buffer():
    bouncer, _, _ = make()
    bounced = bouncer.prepare(0x5000, 64, R | W)
    bouncer.memory.write(Gpa(bounced.gpa), b"new")
    bouncer.sync(bounced, to_device=False)
    assert bouncer.memory.read(Gpa(0x5000), 3) == b"new"
    bouncer.memory.write(Gpa(0x5000), b"cpu")
    bouncer.sync(bounced, to_device=True)
    assert bouncer.memory.read(Gpa(bounced.gpa), 3) == b"cpu"
    with pytest.raises(NotBounced, match="64 bytes are mapped, 128"):
        bouncer.sync(Bounced(bounced.gpa, 128), to_device=True)
    bouncer.finish(bounced)
    with pytest.raises(NotBounced, match="no bounced buffer"):
        bouncer.finish(bounced)


@pytest.mark.parametrize(
    "options, why",
    [
        ({"areas": 3}, "bounce.areas=3: expected a power of two"),
        ({"slots": 100}, "bounce.slots=100: expected a multiple of 128"),
        ({"align": 3000}, "bounce.align=3000"),
        ({"slots": 1 << 20}, "no 2048 MiB of memory in a row"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(options, why):
    with pytest.raises(InputError, match=why):
        make(**options)


def test_a_transient_pool_has_segments_too_so_that_no_mapping_is_longer_than_one():
    bouncer, zone, clock = make("swiotlb-dynamic", slots=128)
    free = zone.free
    with pytest.raises(NoBounceBuffer, match="at most 128"):
        bouncer.prepare(0x5000, (256 << 10) + 1, R)
    clock.advance_to(MILLISECOND)
    assert zone.free == free, "growing would not help it"


def test_full_while_nearly_empty_when_no_run_is_long_enough():
    bouncer, _, _ = make(slots=128, align=2048)
    every = [bouncer.prepare(0x10000 * number, 2048, R) for number in range(1, 129)]
    for number, bounced in enumerate(every):
        if number % 8:
            bouncer.finish(bounced)
    assert bouncer.used == 16
    with pytest.raises(NoBounceBuffer, match="16 of 128 are in use"):
        bouncer.prepare(0x5000, 8 * 2048, R)
    assert bouncer.prepare(0x5000, 7 * 2048, R)


def test_whoever_waits_for_room_hears_of_a_new_pool():
    bouncer, _, clock = make("swiotlb-dynamic", slots=128)
    heard = []
    bouncer.on_available.append(lambda: heard.append(clock.now))
    for number in range(3):
        bouncer.prepare(0x100000 * number, 256 << 10, R)
    clock.advance_to(MILLISECOND)
    assert heard == [100_000]
