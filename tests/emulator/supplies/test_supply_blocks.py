"""Blocks out of pages: dma_pool, the coherent pools, and the descriptors that a UHCI request takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.coherent_pools import CoherentPools, initial_pages
from emulator.mapping.dma_pool import DmaPool
from emulator.mapping.pressure import Gfp, Held, Zone
from emulator.mapping.uhci import ENOMEM, Transfer, Uhci, Urb
from pagetables.address import Gpa
from pagetables.errors import InputError, VtdError
from pagetables.memory import PhysicalMemory
from tests.emulator.supplies.model import PAGE, START, new_zone

quick = settings(max_examples=40, deadline=None)


@quick
@given(
    size=st.integers(1, 13000),
    align=st.sampled_from([1, 4, 16, 64, 256]),
    boundary=st.sampled_from([0, 64, 1024, 2048, 4096]),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), max_size=60),
)
def test_blocks_of_a_supply_never_overlap_and_keep_size_alignment_and_boundary(size, align, boundary, steps) -> None:
    zone = new_zone()
    try:
        pool = DmaPool("blocks", zone, size, align, boundary)
    except InputError:
        assert 0 < boundary < max(size, 16) + align
        return
    live: list[int] = []
    for take, seed in steps:
        if take and (block := pool.allocate(Gfp.ATOMIC)) is not None:
            live.append(block)
        elif not take and live:
            assert pool.free(live.pop(seed % len(live)))
        assert (pool.active, zone.held) == (len(live), pool.pages)
    for block, after in zip(sorted(live), sorted(live)[1:], strict=False):
        assert block + pool.size <= after
    for block in live:
        assert block % align == 0
        assert pool.size >= max(size, 16)
        assert not boundary or block // boundary == (block + pool.size - 1) // boundary


def test_a_page_holds_64_descriptors_and_the_pools_file_tells_a_supply_line_of_them() -> None:
    pool = DmaPool("uhci_td", new_zone(), 64, 16)
    blocks = [pool.allocate(Gfp.ATOMIC) for _ in range(65)]
    assert pool.pages == 2
    pool.free(blocks[3])
    assert pool.pools_line() == "uhci_td            64  128   64  2"


def test_the_pools_line_of_a_large_supply_is_that_of_a_real_machine() -> None:
    pool = DmaPool("chain pool", Zone(Clock(), START, 13000 * PAGE, 0, 4), 128, 16)
    assert pool.preallocate(386048)
    for _ in range(373959):
        pool.allocate(Gfp.ATOMIC)
    assert pool.pools_line() == "chain pool       373959 386048  128 12064"


def test_the_block_freed_last_is_taken_first_and_the_first_is_the_lowest() -> None:
    pool = DmaPool("p", new_zone(), 64)
    one, two = pool.allocate(Gfp.ATOMIC), pool.allocate(Gfp.ATOMIC)
    assert two == one + 64
    pool.free(one)
    pool.free(two)
    assert [pool.allocate(Gfp.ATOMIC), pool.allocate(Gfp.ATOMIC)] == [two, one]


def test_a_block_supply_fails_in_the_class_that_is_forced_on_it() -> None:
    zone = new_zone()
    zone.occupy("others", 340, Held.CLEAN, Gfp.MEMALLOC)  # 60 free: below min, above what atomic requests must leave
    forced, passed = DmaPool("forced", zone, 4096, coherent_gfp=Gfp.NOWAIT), DmaPool("passed", zone, 4096)
    assert forced.allocate(Gfp.KERNEL) is None
    assert passed.allocate(Gfp.ATOMIC) is not None
    assert passed.allocate(Gfp.KERNEL) is not None
    assert (forced.statistics.failed, zone.statistics.direct_reclaims) == (1, 1)


def test_a_block_that_would_cross_a_boundary_moves_behind_it() -> None:
    pool = DmaPool("p", new_zone(), 1000, 8, 2048)
    blocks = [pool.allocate(Gfp.ATOMIC) - START for _ in range(5)]
    assert blocks == [0, 1000, 2048, 3048, 4096]
    assert pool.per_chunk == 4


def test_misuse_of_blocks_is_reported_and_changes_nothing() -> None:
    pool = DmaPool("p", new_zone(), 64)
    block = pool.allocate(Gfp.ATOMIC)
    assert not pool.free(Gpa(block + 8))
    assert pool.free(block)
    assert not pool.free(block)
    assert [report.kind for report in pool.reports] == ["bad dma", "already free"]
    assert pool.active == 0


def test_a_freed_block_is_poisoned_and_a_write_after_that_is_found() -> None:
    zone = new_zone()
    memory = PhysicalMemory([(START, zone.size)])
    pool = DmaPool("p", zone, 64, memory=memory)
    block = pool.allocate(Gfp.ATOMIC)
    memory.write(block, bytes(64))
    pool.free(block)
    assert memory.read(block, 64) == b"\xa7" * 64
    memory.write(Gpa(block + 8), b"\1")  # where the list runs through it: no evidence
    pool.allocate(Gfp.ATOMIC)
    assert not pool.reports
    pool.free(block)
    memory.write(Gpa(block + 40), b"\1")
    pool.allocate(Gfp.ATOMIC)
    assert [(report.kind, report.block) for report in pool.reports] == [("corrupted", block)]


def test_a_destroyed_pool_gives_back_what_is_free_and_reports_what_is_not() -> None:
    zone = new_zone()
    pool = DmaPool("p", zone, 2048)
    first, *_ = (pool.allocate(Gfp.ATOMIC) for _ in range(4))
    for block in (first, Gpa(first + 2048)):
        pool.free(block)
    assert pool.destroy() == 1
    assert zone.held == 1
    assert [report.kind for report in pool.reports] == ["busy"]


@pytest.mark.parametrize(
    "size, align, boundary, message",
    [(0, 1, 0, "blocks of 0"), (64, 3, 0, "power of two"), (64, 16, 3000, "a boundary"), (64, 16, 32, "a boundary")],
)
def test_blocks_that_cannot_be_are_refused(size: int, align: int, boundary: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DmaPool("p", new_zone(), size, align, boundary)


@pytest.mark.parametrize(
    "urb, descriptors",
    [
        (Urb(Transfer.BULK, 4096), 64),
        (Urb(Transfer.BULK, 4097), 65),
        (Urb(Transfer.BULK, 4096, zero_packet=True), 65),
        (Urb(Transfer.BULK, 4000, zero_packet=True), 63),
        (Urb(Transfer.BULK, 0), 1),
        (Urb(Transfer.BULK, 0, zero_packet=True), 1),
        (Urb(Transfer.CONTROL, 18, 8), 1 + 3 + 1),
        (Urb(Transfer.CONTROL, 0), 2),
        (Urb(Transfer.BULK, 120 << 10), 1920),
    ],
)
def test_a_request_takes_a_descriptor_for_each_packet(urb: Urb, descriptors: int) -> None:
    host = Uhci(DmaPool("uhci_td", new_zone(), 64, 16))
    taken = host.submit(urb)
    assert urb.descriptors == len(taken) == len(set(taken)) == descriptors
    host.complete(taken)
    assert host.pool.active == host.statistics.live == 0


@quick
@given(free_pages=st.integers(0, 5), length=st.integers(0, 30000))
def test_a_request_whose_kth_descriptor_fails_a_supply_frees_those_before_it(free_pages: int, length: int) -> None:
    zone = new_zone()
    zone.occupy("others", zone.free - 30 - free_pages, Held.PINNED, Gfp.MEMALLOC)
    host = Uhci(DmaPool("uhci_td", zone, 64, 16))
    urb = Urb(Transfer.BULK, length)
    outcome = host.submit(urb)
    if urb.descriptors <= 64 * free_pages:
        assert len(outcome) == urb.descriptors
    else:
        assert outcome == ENOMEM
        assert host.statistics.undone == 64 * free_pages
        assert host.pool.active == 0
    assert zone.free >= 30


@pytest.mark.parametrize(
    "make",
    [
        lambda: Urb(Transfer.BULK, -1),
        lambda: Urb(Transfer.BULK, 64, 0),
        lambda: Uhci(DmaPool("small", new_zone(), 32, 16)),
        lambda: Uhci(DmaPool("crooked", new_zone(), 64, 8)),
    ],
)
def test_a_request_that_no_controller_takes_is_refused(make) -> None:
    with pytest.raises(InputError):
        make()


def coherent(initial: int = 32) -> tuple[CoherentPools, dict[str, Zone], Clock]:
    clock = Clock()
    zones = {
        "KERNEL": Zone(clock, START, 4096 * PAGE, 0, 4),
        "DMA32": Zone(clock, 1 << 30, 1024 * PAGE, 0, 4),
        "DMA": Zone(clock, 1 << 20, 256 * PAGE, 0, 4),
    }
    return CoherentPools(zones, clock, initial, MILLISECOND), zones, clock


@pytest.mark.parametrize("gib, pages", [(0, 32), (1, 32), (2, 64), (8, 256), (32, 1024), (64, 1024)])
def test_a_coherent_supply_starts_with_128_kib_for_each_gib(gib: int, pages: int) -> None:
    assert initial_pages(gib << 18) == pages


def test_coherent_pools_are_tried_from_the_best_downwards_and_only_in_reach_of_the_device() -> None:
    pools, _, _ = coherent()
    assert pools.allocate() >= START
    assert 1 << 30 <= pools.allocate(limit=1 << 32) < 1 << 32
    assert pools.allocate(limit=1 << 24) < 1 << 24
    assert pools.allocate(limit=1 << 12) is None
    assert pools.messages == ["DMA pool exhausted for device"]
    for _ in range(32 - 1):
        assert pools.allocate(best="DMA") < 1 << 24
    assert pools.allocate(best="DMA") is None  # nothing lies below the first choice


def test_runs_of_a_coherent_pool_are_aligned_to_the_power_of_two_that_holds_them() -> None:
    pools, _, _ = coherent()
    one, three = pools.allocate(1), pools.allocate(3)
    assert three == one + 4 * PAGE
    pools.free(one, 1)
    pools.free(three, 3)
    with pytest.raises(VtdError, match="not out"):
        pools.free(three, 3)
    with pytest.raises(VtdError, match="no coherent pool"):
        pools.free(Gpa(0x5000))


def test_a_coherent_pool_with_less_than_it_began_with_doubles_in_the_background() -> None:
    pools, zones, clock = coherent()
    first = pools.allocate()
    clock.advance(MILLISECOND - 1)
    assert pools.sizes["pool_size_kernel"] == 32 * PAGE
    clock.advance(1)
    assert pools.sizes == {"pool_size_kernel": 64 * PAGE, "pool_size_dma32": 32 * PAGE, "pool_size_dma": 32 * PAGE}
    pools.free(first)
    clock.advance(10 * MILLISECOND)
    assert pools.sizes["pool_size_kernel"] == 64 * PAGE
    pools.close()
    assert all(zone.held == 0 for zone in zones.values())


def test_a_coherent_pool_asks_for_smaller_blocks_when_large_ones_are_not_to_be_had() -> None:
    zone = Zone(Clock(), START, 20 * PAGE, 0, 4)
    pools = CoherentPools({"KERNEL": zone}, Clock(), 32, MILLISECOND)
    assert pools.sizes == {"pool_size_kernel": 16 * PAGE}
    none = CoherentPools({"DMA": Zone(Clock(), 0, PAGE, 1, 4, 0)}, Clock(), 32, MILLISECOND)
    assert none.allocate() is None
    assert none.messages[0] == "DMA: failed to allocate 128 KiB DMA pool for atomic allocation"
