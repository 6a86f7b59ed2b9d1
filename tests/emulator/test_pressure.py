"""The watermark model: who may take the last pages."""

from __future__ import annotations

import pytest

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.pressure import DoubleFree, Gfp, Watermarks, Zone
from pagetables.errors import InputError

PAGE = 4096
START = 0x1_0000_0000


def zone(pages: int = 1000, used: int = 0, min_pages: int = 80, **more) -> Zone:
    return Zone(more.pop("clock", None) or Clock(), START, pages * PAGE, used, min_pages * 4, **more)


def drain(zone: Zone, gfp: Gfp) -> int:
    """How many pages a class of request gets before it is refused."""
    count = 0
    while zone.take(gfp) is not None:
        count += 1
    return count


@pytest.mark.parametrize(
    "managed, minimum_kib",
    [(1 << 18, 4096), (1 << 20, 8192), (1 << 8, 128), (1 << 40, 262144)],
    ids=["1 GiB", "4 GiB", "tiny", "huge"],
)
def test_min_watermark_is_the_root_of_sixteen_times_the_kib_clamped(managed: int, minimum_kib: int) -> None:
    assert Watermarks.of(managed).min == minimum_kib // 4


def test_low_and_high_stand_a_quarter_or_a_thousandth_above_min() -> None:
    small = Watermarks.of(10_000, min_free_kib=4 * 400)
    assert (small.min, small.low, small.high) == (400, 500, 600)
    large = Watermarks.of(1_000_000, min_free_kib=4 * 400)
    assert (large.min, large.low, large.high) == (400, 1400, 2400)


def test_each_class_may_sink_to_its_own_floor() -> None:
    marks = Watermarks.of(10_000, min_free_kib=4 * 400)
    assert [marks.floor(gfp) for gfp in (Gfp.KERNEL, Gfp.NOWAIT, Gfp.ATOMIC, Gfp.MEMALLOC)] == [400, 400, 150, 0]


def test_atomic_requests_get_what_ordinary_ones_are_refused() -> None:
    tight = zone(pages=1000, used=800, min_pages=80)
    assert drain(tight, Gfp.NOWAIT) == 200 - 80
    assert drain(tight, Gfp.ATOMIC) == 80 - 30
    assert drain(tight, Gfp.MEMALLOC) == 30
    refused = {name: count for name, count in tight.statistics.refused.items() if count}
    assert refused == {"nowait": 1, "atomic": 1, "memalloc": 1}
    assert tight.statistics.lowest_free == 0


def test_a_kernel_request_reclaims_and_fails_only_when_nothing_is_left_to_reclaim() -> None:
    tight = zone(pages=1000, used=900, min_pages=80, reclaim_per_ms=0)
    assert drain(tight, Gfp.KERNEL) == 1000 - 80
    assert tight.statistics.reclaimed == 900
    assert tight.statistics.direct_reclaims > 1


def test_the_reclaimer_wakes_below_low_and_frees_up_to_high_at_its_rate() -> None:
    clock = Clock()
    tight = zone(pages=1000, used=880, min_pages=80, clock=clock, reclaim_per_ms=15)
    assert tight.marks.low == 100
    while tight.free >= 100:
        tight.take(Gfp.ATOMIC)
    assert tight.statistics.reclaimer_wakeups == 1
    clock.advance(MILLISECOND)
    assert tight.free == 99 + 15
    clock.advance(10 * MILLISECOND)
    assert tight.free == tight.marks.high
    assert clock.next_due is None


def test_pages_are_the_lowest_first_and_a_freed_one_comes_back_first() -> None:
    memory = zone()
    first, second, third = (memory.take(Gfp.KERNEL) for _ in range(3))
    assert (first, second, third) == (START, START + PAGE, START + 2 * PAGE)
    memory.give_back([first, third])
    assert [memory.take(Gfp.KERNEL) for _ in range(3)] == [third, first, START + 3 * PAGE]


@pytest.mark.parametrize("page", [START, START + 5 * PAGE, 0x1234])
def test_giving_back_what_is_not_out_is_an_error(page: int) -> None:
    memory = zone()
    memory.give_back([memory.take(Gfp.KERNEL)])
    with pytest.raises(DoubleFree, match=f"{page:#x}"):
        memory.give_back([page])


def test_pressure_from_outside_takes_effect_at_once() -> None:
    memory = zone(pages=1000, min_pages=80)
    memory.squeeze(1000 - 30)
    assert memory.take(Gfp.ATOMIC) is None
    memory.squeeze(0)
    assert memory.take(Gfp.ATOMIC) == START
    with pytest.raises(InputError, match="1 handed out"):
        memory.squeeze(1000)
