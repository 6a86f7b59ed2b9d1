"""Units that remove more than an invalidation asks for, and an IOTLB that is emptied when it is full."""

from __future__ import annotations

import dataclasses

import pytest

from emulator.engine import Engine, IotlbGeometry
from emulator.profile import Profile, load_profile
from tests.units import CCMD, DISK, IOTLB, IVA, NIC, Bench, context_domain, iotlb_pages, pasid_iotlb

HINT = 0x40


def profile(*behaviours: str, **changed: object) -> Profile:
    return dataclasses.replace(load_profile("spec"), behaviours=frozenset(behaviours), **changed)


def cached(bench: Bench) -> None:
    """Two pages each of domains 5 (the NIC) and 6 (the disk) in all caches, and the queue on."""
    root = bench.table()
    for iova in (0x1000, 0x2000):
        bench.map(root, iova, 0x5000)
    bench.legacy((NIC, root, 5), (DISK, root, 6))
    bench.start_queue()
    fill(bench)


def fill(bench: Bench) -> None:
    for device in (NIC, DISK):
        for iova in (0x1000, 0x2000):
            assert bench.go(iova, sid=device) == 0x5000


def pages(bench: Bench) -> list[tuple[int, int]]:
    return [(entry.domain_id, entry.iova) for entry in bench.unit.caches().iotlb]


ALL = [(5, 0x1000), (5, 0x2000), (6, 0x1000), (6, 0x2000)]


@pytest.mark.parametrize("behaviours, left", [((), ALL[1:]), (("widen_page_invalidation",), ALL[2:])])
def test_pages_may_take_their_domain_with_them(engine: Engine, behaviours: tuple[str, ...], left: list) -> None:
    bench = Bench(engine, profile(*behaviours))
    cached(bench)
    assert pages(bench) == ALL
    bench.invalidate(iotlb_pages(5, 0x1000))
    assert pages(bench) == left


@pytest.mark.parametrize("behaviours, granted, left", [((), 3, ALL[1:]), (("widen_page_invalidation",), 2, ALL[2:])])
def test_the_register_says_what_was_done(engine: Engine, behaviours: tuple[str, ...], granted: int, left: list) -> None:
    bench = Bench(engine, profile(*behaviours))
    cached(bench)
    bench.command(1 << 26, on=False)
    bench.write(IVA, 0x1000, 8)
    bench.write(IOTLB, 1 << 63 | 3 << 60 | 5 << 32, 8)
    assert bench.read(IOTLB, 8) >> 57 & 3 == granted
    assert pages(bench) == left


def test_a_mask_that_is_too_large_is_refused_however_much_is_removed(engine: Engine) -> None:
    bench = Bench(engine, profile("widen_page_invalidation"))
    cached(bench)
    bench.submit(iotlb_pages(5, 0x1000, 19))
    assert bench.read(0xB0, 8) & 0xF == 4
    assert pages(bench) == ALL


@pytest.mark.parametrize("behaviours, left", [((), {2}), (("widen_page_invalidation",), set())])
def test_pages_of_a_pasid_may_take_the_pasid_with_them(
    engine: Engine, behaviours: tuple[str, ...], left: set[int]
) -> None:
    bench = Bench(engine, profile(*behaviours))
    root = bench.table()
    for iova in (0x1000, 0x2000):
        bench.map_first(root, iova, 0x5000)
    bench.pasid_entry(0, 1, 5, root)
    bench.scalable(NIC)
    assert [bench.go(iova) for iova in (0x1000, 0x2000)] == [0x5000, 0x5000]
    bench.invalidate(pasid_iotlb(3, 5, 0, 0x1000))
    assert {entry.iova >> 12 for entry in bench.unit.caches().iotlb} == left


@pytest.mark.parametrize(
    "behaviours, granted, left", [((), 2, [DISK]), (("widen_context_invalidation",), 1, [])], ids=["least", "widened"]
)
def test_a_domains_contexts_may_take_all_others_with_them(
    engine: Engine, behaviours: tuple[str, ...], granted: int, left: list[int]
) -> None:
    bench = Bench(engine, profile(*behaviours))
    cached(bench)
    bench.invalidate(context_domain(5))
    assert [entry.source_id for entry in bench.unit.caches().context] == left
    fill(bench)
    bench.command(1 << 26, on=False)
    bench.write(CCMD, 1 << 63 | 2 << 61 | 5, 8)
    assert bench.read(CCMD, 8) >> 59 & 3 == granted
    assert [entry.source_id for entry in bench.unit.caches().context] == left


@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize(
    "behaviours, hint, left",
    [((), 0, {6}), ((), HINT, {5, 6}), (("ignore_invalidation_hint",), HINT, {6})],
    ids=["no hint", "hint", "hint ignored"],
)
def test_the_hint_keeps_entries_that_lead_to_tables(
    engine: Engine, behaviours: tuple[str, ...], hint: int, left: set[int], queued: bool
) -> None:
    bench = Bench(engine, profile(*behaviours))
    cached(bench)
    assert {entry.domain_id for entry in bench.unit.caches().tables} == {5, 6}
    if queued:
        bench.invalidate(iotlb_pages(5, 0x1000 | hint))
    else:
        bench.command(1 << 26, on=False)
        bench.write(IVA, 0x1000 | hint, 8)
        bench.write(IOTLB, 1 << 63 | 3 << 60 | 5 << 32, 8)
    assert {entry.domain_id for entry in bench.unit.caches().tables} == left
    assert pages(bench) == ALL[1:]


def test_an_iotlb_with_a_limit_is_emptied_when_it_is_full_and_its_tables_stay(engine: Engine) -> None:
    bench = Bench(engine, profile(iotlb=IotlbGeometry(64, 8, limit=3, tables=64)))
    root = bench.table()
    for page in range(1, 6):
        bench.map(root, page << 12, 0x5000)
    bench.legacy((NIC, root, 5))
    counts = []
    for page in range(1, 6):
        bench.go(page << 12)
        counts.append(len(bench.unit.caches().iotlb))
    assert counts == [1, 2, 3, 1, 2]
    assert len(bench.unit.caches().tables) == 3


def test_what_qemu_does_is_switched_on_in_its_profiles(engine: Engine) -> None:
    for name in ("qemu-7.2", "qemu-10.0", "qemu-11.1"):
        bench = Bench(engine, name)
        assert bench.unit.iotlb.geometry.limit == 1024
        assert bench.unit.iotlb.geometry.tables == 0
        assert bench.unit.profile.behaves("widen_context_invalidation")
