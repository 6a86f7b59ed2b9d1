"""Allocators and policies together: when an address, and when a table page, may be used again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.clock import MILLISECOND, SECOND
from emulator.machine import Machine
from emulator.mapping.addresses import MSI_WINDOW, AddressPlan
from emulator.mapping.domain import NoDomainId
from emulator.mapping.iova.allocator import NotAllocated
from emulator.settings import Settings
from pagetables.address import PAGE_SIZE, source_id
from pagetables.errors import InputError
from pagetables.request import Access, Request, Translation
from tests.emulator.mapping.observer import RW, World

SMALL = (0, 128 << 12)  # a window that fills and wraps
MEDIUM = (0, 4096 << 12)  # room for some runs of 512 pages, the reach of a table
quick = settings(max_examples=40, deadline=None)

scripts = st.lists(
    st.one_of(
        st.tuples(st.just("map"), st.integers(0, 1), st.integers(1, 6), st.integers(0, 3)),
        st.tuples(st.just("map"), st.integers(0, 1), st.just(512), st.integers(0, 3)),
        st.tuples(st.just("unmap"), st.integers(0, 1000), st.integers(0, 3)),
        st.tuples(st.just("unmap"), st.integers(0, 1000), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(1, 6)),
        st.tuples(st.just("flush")),
    ),
    max_size=100,
)

# Policies under which an address waits for its flush, small enough to overflow.
WAITING = {
    "strict": {},
    "list": {"entries": 5},
    "list-of-4.7": {"entries": 3, "per_cpu": 1},
    "list-by-domain": {"entries": 5, "granularity": "domain"},
    "percpu": {"entries": 4, "timeout_ms": 4},
    "single": {"entries": 6, "timeout_ms": 9},
}
ASKING = ("lazy-on-wrap", "stale-bitmap")
SAFE = {
    "gart": {"emergency": 3},
    "gart-lazy": {"emergency": 3},
    "stale-bitmap": {},
    "stale-bitmap-pools": {"pools": 4},
    "stale-bitmap-local": {"pools": 4, "local": 1},
}
HOLED = {"sparc-generic": {"pools": 4}, "sparc-generic-1pool": {}}
ANY = ("rbtree", "rbtree+rcache", "gen-pool", "static-aperture", "gart-lazy", "sparc-generic", "stale-bitmap")


def name_of(form: str) -> str:
    """The registered name of a form above."""
    return form if form in (*ANY, "gart", "sparc-generic-1pool", *WAITING) else form.rsplit("-", 1)[0]


def world(allocator: str, policy: str, window=SMALL, one_window=False, options=None, **flush) -> World:
    return World(AddressPlan(allocator, options or {}, window, one_window=one_window), policy, **flush)


@pytest.mark.parametrize("form", WAITING)
@pytest.mark.parametrize("allocator", ANY)
@quick
@given(script=scripts)
def test_no_allocator_hands_out_what_a_policy_has_not_flushed(allocator: str, form: str, script) -> None:
    policy = {"list-of-4.7": "list", "list-by-domain": "list"}.get(form, form)
    bench = world(allocator, policy, **WAITING[form])
    bench.play(script)
    assert bench.observer.reused == 0
    assert bench.spaces.reused_before_flush == 0
    assert bench.policy.window.reused_before_flush == 0


@pytest.mark.parametrize("policy", ASKING)
@pytest.mark.parametrize("granularity", ["global", "domain"])
@pytest.mark.parametrize("one_window", [True, False])
@pytest.mark.parametrize("form", SAFE)
@quick
@given(script=scripts)
def test_gart_and_stale_bitmap_allocators_never_reuse_before_a_flush(
    form: str, one_window: bool, granularity: str, policy: str, script
) -> None:
    bench = world(name_of(form), policy, one_window=one_window, options=SAFE[form], granularity=granularity)
    bench.play(script)
    assert bench.observer.reused == 0
    assert bench.spaces.reused_before_flush == 0


@pytest.mark.parametrize("one_window", [True, False])
@pytest.mark.parametrize("form", HOLED)
@quick
@given(script=scripts)
def test_what_the_sparc_generic_allocator_reuses_too_early_is_counted_alike_by_everybody(
    form: str, one_window: bool, script
) -> None:
    bench = world(form, "lazy-on-wrap", one_window=one_window, options=HOLED[form])
    bench.play(script)
    assert bench.spaces.reused_before_flush == bench.observer.reused
    assert bench.policy.window.reused_before_flush == bench.observer.reused


@pytest.mark.parametrize("allocator, hazards", [("sparc-generic-1pool", 1), ("gart-lazy", 0), ("stale-bitmap", 0)])
def test_the_hole_of_the_sparc_generic_allocator_is_reproduced_and_others_do_not_have_it(
    allocator: str, hazards: int
) -> None:
    options = {"emergency": 0} if allocator.startswith("gart") else {}
    bench = world(allocator, "lazy-on-wrap", window=(0, 16 << 12), one_window=True, options=options)
    while bench.map(0, 1) is not None:
        pass
    bench.live.sort(key=lambda run: run[1])
    bench.unmap(0)
    bench.unmap(0)
    bench.map(0, 1)  # wraps, and flushes
    top = max(bench.live, key=lambda run: run[1])
    bench.unmap(bench.live.index(top))
    for _ in range(2):  # one entry is free below it
        bench.map(0, 1)
    assert top[1] in {iova for _, iova, _ in bench.live}
    assert bench.observer.reused == hazards
    assert bench.spaces.reused_before_flush == hazards


@pytest.mark.parametrize("form", [*WAITING, *ASKING, "flush-every-map", "none"])
@quick
@given(script=scripts)
def test_no_policy_releases_a_table_page_before_the_flush_that_covers_it(form: str, script) -> None:
    policy = {"list-of-4.7": "list", "list-by-domain": "list"}.get(form, form)
    bench = world("gart-lazy" if form in ASKING else "rbtree", policy, MEDIUM, **WAITING.get(form, {}))
    bench.play(script)
    bench.policy.flush()
    assert bench.observer.too_early == []
    assert bench.policy.window.pages_freed_early == 0
    assert bench.policy.window.pending == 0
    assert bench.layer.pages.freed == bench.supply.statistics.given_back


@pytest.mark.parametrize("policy", ["strict", "list", "percpu"])
@quick
@given(script=scripts)
def test_a_policy_that_frees_before_its_flush_counts_each_page_it_frees_early(policy: str, script) -> None:
    bench = world("rbtree", policy, MEDIUM, free_before_flush=1)
    bench.play(script)
    bench.policy.flush()
    assert bench.policy.window.pages_freed_early == len(bench.observer.too_early)
    assert bench.layer.pages.freed == bench.policy.window.pages_freed_early


def test_the_policy_of_2_6_24_leaves_a_page_in_reach_of_the_unit_while_somebody_else_gets_it() -> None:
    bench = world("rbtree", "strict", MEDIUM, free_before_flush=1)
    bench.map(0, 512, align=512)
    bench.unmap(0)
    (page,) = bench.observer.too_early
    assert bench.supply.take() == page
    psi = bench.unit.of_type(2)[-1]
    assert psi.bits(70, 70) == 0  # the unit is told that a table went, after it went


@quick
@given(script=scripts)
def test_the_flush_every_map_policy_reuses_nothing_with_any_allocator(script) -> None:
    for allocator in ("rbtree", "gart", "gen-pool"):
        bench = world(allocator, "flush-every-map", one_window=True)
        bench.play(script)
        assert bench.observer.reused == 0
        assert bench.policy.window.reused_before_flush == 0


@pytest.mark.parametrize("allocator", ["gart", "rbtree"])
def test_the_flush_every_map_policy_flushes_once_for_each_map_whoever_asks(allocator: str) -> None:
    bench = world(allocator, "flush-every-map", one_window=True)
    for _ in range(5):
        bench.map(0, 1)
        bench.map(1, 1)
        bench.unmap(0)
    assert [d.bits(5, 4) for d in bench.unit.of_type(2)] == [1] * 10


def test_without_any_flush_every_address_that_comes_again_is_counted_by_the_policy() -> None:
    bench = world("gen-pool", "none")
    for _ in range(3):
        bench.map(0, 1)
        bench.unmap(0)
    assert bench.observer.reused == 2
    assert bench.spaces.reused_before_flush == 2
    assert bench.unit.of_type(2) == []
    bench.layer.detach(bench.domain(0), source_id(0, 1, 0))
    assert bench.policy.window.pending == 0


@pytest.mark.parametrize("granularity, hidden", [("global", True), ("domain", False)])
def test_a_flush_for_another_domain_is_told_to_an_allocator_only_if_it_covers_it(
    granularity: str, hidden: bool
) -> None:
    bench = world("sparc-generic-1pool", "lazy-on-wrap", (0, 16 << 12), granularity=granularity)
    bench.map(0, 1)
    bench.unmap(0)  # stale, in the first space
    bench.policy.demand(bench.domain(1))
    bench.spaces.space(0).allocator._pools[0].hint = 0
    bench.map(0, 1)
    assert bench.spaces.reused_before_flush == (0 if hidden else 1)
    assert bench.observer.reused == (0 if hidden else 1)


def test_a_policy_that_waits_to_be_asked_is_refused_with_an_allocator_that_never_asks() -> None:
    bench = world("rbtree", "lazy-on-wrap")
    with pytest.raises(InputError, match=r"rbtree never does; use gart-lazy"):
        bench.map(0, 1)


def test_an_address_of_a_flush_queue_comes_back_with_the_cpu_that_releases_it() -> None:
    bench = world("rbtree+rcache", "percpu")
    first = bench.map(0, 1, cpu=1)
    bench.map(0, 1, cpu=2)
    bench.unmap(1, cpu=2)  # CPU 2 arms the timer
    bench.unmap(0, cpu=1)
    bench.clock.advance(10 * MILLISECOND)
    assert bench.map(0, 1, cpu=2) == first  # both went to the caches of the timer's CPU; the last in is out first


def test_an_address_whose_entry_was_covered_but_not_released_is_not_free() -> None:
    bench = world("gen-pool", "percpu", entries=3)
    first = bench.map(0, 1, cpu=1)
    bench.unmap(0, cpu=1)
    for _ in range(4):
        bench.map(0, 1)
    for _ in range(3):
        bench.unmap(0, cpu=0)  # the third finds its ring full, and flushes
    assert not bench.policy.is_stale(bench.domain(0), first)
    assert bench.map(0, 1) != first
    bench.clock.advance(1 * SECOND)
    assert bench.map(0, 1) == first


# Spaces


@pytest.mark.parametrize("levels, bits", [(3, 39), (4, 48)])
def test_each_domain_has_the_full_width_of_its_tables_to_allocate_from(levels: int, bits: int) -> None:
    bench = World(AddressPlan("rbtree", low_first=False), "strict", levels=levels)
    top = (1 << bits) - PAGE_SIZE
    assert (bench.map(0, 1), bench.map(1, 1)) == (top, top)


def test_one_window_is_one_domain_and_one_allocator_for_every_device() -> None:
    bench = world("gart", "lazy-on-wrap", one_window=True)
    first, second = bench.map(0, 1), bench.map(1, 1)
    assert bench.domain(0) is bench.domain(1)
    assert first != second
    assert len(bench.layer.domains) == 1


def test_allocators_start_below_4_gib_and_say_when_they_leave_it() -> None:
    bench = World(AddressPlan("rbtree", window=((1 << 32) - 4096, 1 << 40)), "strict")
    assert bench.map(0, 1) == (1 << 32) - 4096
    assert bench.map(0, 1) == (1 << 40) - 4096
    assert bench.spaces.space(0).notes == ["Using 40-bit DMA addresses"]


def test_no_allocator_hands_out_page_0_the_msi_window_or_a_reserved_range() -> None:
    kept = (0x8000, 0x1800)  # an RMRR that ends in the middle of a page
    bench = World(AddressPlan("gen-pool", window=(0, 0xB000), reserved=(MSI_WINDOW, kept)), "strict")
    assert [bench.map(0, 1) for _ in range(9)] == [*range(0x1000, 0x8000, 0x1000), 0xA000, None]
    high = World(AddressPlan("rbtree", window=(0, 0xFEF0_1000)), "strict")
    assert (high.map(0, 1), high.map(0, 1)) == (0xFEF0_0000, 0xFEDF_F000)


def test_a_device_with_a_short_reach_is_allocated_addresses_below_it() -> None:
    bench = World(AddressPlan("rbtree"), "strict")
    assert bench.spaces.allocate(0, 2, limit=1 << 24) == (1 << 24) - 0x2000
    assert bench.spaces.allocate(0, 1, limit=0x1000) is None


@pytest.mark.parametrize("window", [(0, 0x1000), (0x800, 0x8000), (1 << 48, 1 << 49)])
def test_a_window_that_tables_cannot_reach_is_refused(window: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="window"):
        World(AddressPlan("rbtree", window=window), "strict").map(0, 1)


def test_a_run_is_freed_once() -> None:
    bench = world("rbtree", "strict")
    iova = bench.map(0, 2)
    bench.unmap(0)
    with pytest.raises(NotAllocated):
        bench.spaces.free(0, iova, 2)


def test_closing_the_spaces_stops_what_their_allocators_run() -> None:
    bench = world("rbtree+rcache", "strict", options={"magazine": 1, "cpus": 1})
    for _ in range(8):
        bench.map(0, 1)
    for _ in range(8):
        bench.unmap(0)
    assert bench.clock.next_due is not None
    bench.spaces.close()
    assert bench.clock.next_due is None


@pytest.mark.parametrize(
    "allocator, policy, steps",
    [
        ("rbtree", "strict", {"iova.tree": 2, "iova.node": 1, "lock.global": 2, "invalidate.submit": 1}),
        ("rbtree+rcache", "strict", {"iova.cache_hit": 1, "iova.tree": 1, "lock.global": 1, "invalidate.wait": 1}),
        ("gen-pool", "percpu", {"iova.bitmap": 1, "invalidate.defer": 1}),
        ("gart-lazy", "lazy-on-wrap", {"iova.bitmap": 2, "lock.global": 2}),
        ("static-aperture", "list", {"iova.slot": 1, "lock.global": 2, "invalidate.defer": 1}),
        ("rbtree", "single", {"iova.tree": 1, "lock.global": 2, "invalidate.defer": 1}),
    ],
)
def test_what_an_allocator_and_a_policy_do_is_paid_for(allocator: str, policy: str, steps: dict[str, int]) -> None:
    bench = world(allocator, policy)
    bench.map(0, 1)
    bench.unmap(0)
    spent = bench.policy.meter.counts
    assert {name: spent[name] for name in steps} == steps
    assert bench.policy.meter.take() > 0


# Tags


def machine(engine, **settings) -> Machine:
    return Machine(Settings(engine=engine.name, kernel_size=16 << 20, **settings), [(0, 1 << 30)], engine)


def test_no_translation_of_one_domain_answers_a_device_of_another(engine) -> None:
    bench = machine(engine, flush="percpu")
    devices = [source_id(0, number, 0) for number in (1, 2, 3)]
    domains = [bench.layer.create_domain() for _ in devices]
    for number, (domain, device) in enumerate(zip(domains, devices, strict=True)):
        bench.layer.attach(domain, device)
        bench.layer.map(domain, 0x5000, 0x10_0000 * (number + 1), PAGE_SIZE, RW)

    def answers() -> list[int | None]:
        got = [bench.unit.translate(Request(device, 0x5000, Access.READ)) for device in devices]
        return [answer.gpa if isinstance(answer, Translation) else None for answer in got]

    assert answers() == [0x10_0000, 0x20_0000, 0x30_0000]
    assert answers() == [0x10_0000, 0x20_0000, 0x30_0000]  # from the IOTLB
    bench.layer.unmap(domains[1], 0x5000, PAGE_SIZE)
    assert answers() == [0x10_0000, 0x20_0000, 0x30_0000]  # stale, and still everybody's own
    bench.driver.invalidate_domain(domains[1].domain_id)
    assert answers() == [0x10_0000, None, 0x30_0000]


def test_domain_ids_run_out_with_an_error_that_says_what_to_do(engine) -> None:
    bench = machine(engine)
    bench.layer.domain_ids.limit = 4
    assert [bench.layer.create_domain().domain_id for _ in range(2)] == [2, 3]
    with pytest.raises(NoDomainId, match=r"all 2 domain-ids are in use .*let devices share a domain"):
        bench.layer.create_domain()


def test_one_window_needs_one_domain_id_for_any_number_of_devices() -> None:
    bench = world("gart", "lazy-on-wrap", one_window=True)
    bench.layer.domain_ids.limit = 3
    assert all(bench.map(key, 1) is not None for key in range(20))
    apart = world("rbtree", "strict")
    apart.layer.domain_ids.limit = 3
    apart.map(0, 1)
    with pytest.raises(NoDomainId):
        apart.map(1, 1)


# On a real unit


@pytest.mark.parametrize("policy", ["strict", "list", "percpu", "single"])
@pytest.mark.parametrize(
    "shape",
    [{}, {"mode": "scalable"}, {"mode": "scalable", "stage": "first"}],
    ids=["legacy", "scalable", "first-stage"],
)
def test_a_unit_forgets_a_translation_when_the_policy_flushes_and_not_before(engine, shape, policy: str) -> None:
    values = {"engine": engine.name, "flush": policy, "kernel.size": "16M", **shape}
    bench = Machine(Settings.of(values), [(0, 1 << 30)], engine)
    domain, device = bench.layer.create_domain(), source_id(0, 1, 0)
    bench.layer.attach(domain, device)
    bench.layer.map(domain, 0x5000, 0x10_0000, PAGE_SIZE, RW)
    request = Request(device, 0x5000, Access.READ)
    assert isinstance(bench.unit.translate(request), Translation)
    bench.layer.unmap(domain, 0x5000, PAGE_SIZE)
    stale = isinstance(bench.unit.translate(request), Translation)
    assert stale == (policy != "strict") == bench.policy.is_stale(domain, 0x5000)
    bench.clock.advance(1 * SECOND)
    assert not isinstance(bench.unit.translate(request), Translation)


@pytest.mark.parametrize("early, reached", [(1, 0x20_0000), (0, None)])
def test_a_table_page_freed_before_its_flush_lets_its_next_owner_say_where_a_device_reads(
    engine, early: int, reached: int | None
) -> None:
    options = (("free_before_flush", early),)
    bench = machine(engine, profile="spec", pool="os", flush_options=options, leaves=frozenset({1}))
    domain, device = bench.layer.create_domain(), source_id(0, 1, 0)
    bench.layer.attach(domain, device)
    bench.layer.map(domain, 2 << 20, 0x40_0000, 2 << 20, RW)
    # The unit has walked through the table once: its paging-structure caches know it.
    assert isinstance(bench.unit.translate(Request(device, 2 << 20, Access.READ)), Translation)
    seen: list[int | None] = []
    give_back = bench.supply.give_back

    def given_back(pages) -> None:
        pages = tuple(pages)
        give_back(pages)
        owned = bench.supply.take()
        assert owned in pages
        bench.memory.write(owned + 8, (0x20_0000 | 3).to_bytes(8, "little"))
        answer = bench.unit.translate(Request(device, (2 << 20) + PAGE_SIZE, Access.READ))
        seen.append(answer.gpa if isinstance(answer, Translation) else None)

    bench.supply.give_back = given_back
    bench.layer.unmap(domain, 2 << 20, 2 << 20)
    assert seen == [reached]
