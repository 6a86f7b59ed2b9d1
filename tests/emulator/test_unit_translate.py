"""Requests through a programmed unit: whose tables, how stale, and what the tags keep apart."""

from __future__ import annotations

import dataclasses

import pytest

from emulator.engine import Engine, IotlbGeometry
from emulator.profile import load_profile
from pagetables.fault import Fault, FaultReason
from pagetables.request import AddressType, Permissions, Translation
from tests.units import (
    CONTEXT,
    DISK,
    FSTS,
    NIC,
    ROOT,
    Bench,
    R,
    W,
    context_device,
    context_domain,
    context_global,
    iotlb_domain,
    iotlb_global,
    iotlb_pages,
    pasid_cache,
    pasid_iotlb,
)


@pytest.fixture
def bench(engine: Engine) -> Bench:
    return Bench(engine)


class Legacy:
    """NIC in domain 5 and DISK in domain 6, each with its own tables: 0x1000 and 0x2000 mapped."""

    def __init__(self, engine: Engine) -> None:
        self.bench = bench = Bench(engine)
        self.leaves: dict[tuple[int, int], int] = {}
        self.tables: dict[int, int] = {}
        for sid, gpa in ((NIC, 0x50_0000), (DISK, 0x60_0000)):
            table = self.tables[sid] = bench.table()
            for iova in (0x1000, 0x2000):
                self.leaves[sid, iova] = bench.map(table, iova, gpa + iova)
        bench.legacy((NIC, self.tables[NIC], 5), (DISK, self.tables[DISK], 6))
        bench.start_queue()

    def touch_all_and_unmap(self) -> None:
        """Everything cached, nothing mapped any more."""
        for (sid, iova), leaf in self.leaves.items():
            assert self.bench.go(iova, sid=sid) > 0
            self.bench.put(leaf, 0)

    def still(self) -> set[tuple[int, int]]:
        """What still translates."""
        return {(sid, iova) for sid, iova in self.leaves if self.bench.go(iova, sid=sid) > 0}


@pytest.fixture
def legacy(engine: Engine) -> Legacy:
    return Legacy(engine)


def test_two_domains_have_their_own_addresses(legacy: Legacy) -> None:
    assert legacy.bench.go(0x1234) == 0x50_1234
    assert legacy.bench.go(0x1234, sid=DISK) == 0x60_1234
    assert legacy.bench.go(0x1FFF, "w") == 0x50_1FFF


def test_a_translation_is_used_until_it_is_invalidated(legacy: Legacy) -> None:
    legacy.touch_all_and_unmap()
    assert legacy.still() == set(legacy.leaves)
    legacy.bench.invalidate(iotlb_pages(5, 0x1000))
    assert legacy.bench.go(0x1000) == -0x6
    assert legacy.still() == {(NIC, 0x2000), (DISK, 0x1000), (DISK, 0x2000)}


@pytest.mark.parametrize(
    "descriptor, left",
    [
        (iotlb_global(), set()),
        (iotlb_domain(5), {(DISK, 0x1000), (DISK, 0x2000)}),
        (iotlb_domain(7), {(NIC, 0x1000), (NIC, 0x2000), (DISK, 0x1000), (DISK, 0x2000)}),
        (iotlb_pages(6, 0x2000), {(NIC, 0x1000), (NIC, 0x2000), (DISK, 0x1000)}),
        (iotlb_pages(6, 0x1000, 2), {(NIC, 0x1000), (NIC, 0x2000)}),
        (context_global(), {(NIC, 0x1000), (NIC, 0x2000), (DISK, 0x1000), (DISK, 0x2000)}),
    ],
    ids=["global", "domain", "other-domain", "page", "four-pages", "context"],
)
def test_each_granularity_removes_what_it_names(legacy: Legacy, descriptor: bytes, left: set) -> None:
    legacy.touch_all_and_unmap()
    legacy.bench.invalidate(descriptor)
    assert legacy.still() == left


def test_two_devices_of_one_domain_are_cached_apart_and_invalidated_together(bench: Bench) -> None:
    table = bench.table()
    leaf = bench.map(table, 0x1000, 0x5000)
    bench.legacy((NIC, table, 5), (DISK, table, 5))
    bench.start_queue()
    assert bench.go(0x1000) == 0x5000
    bench.put(leaf, 0x7000 | R | W)
    assert (bench.go(0x1000), bench.go(0x1000, sid=DISK)) == (0x5000, 0x7000)
    bench.invalidate(iotlb_pages(5, 0x1000))
    assert (bench.go(0x1000), bench.go(0x1000, sid=DISK)) == (0x7000, 0x7000)


def test_a_fault_is_not_cached(legacy: Legacy) -> None:
    assert legacy.bench.go(0x3000) == -0x6
    legacy.bench.map(legacy.tables[NIC], 0x3000, 0x9000)
    assert legacy.bench.go(0x3000) == 0x9000


def test_permissions_that_a_cached_entry_lacks_are_looked_up_again(legacy: Legacy) -> None:
    leaf = legacy.leaves[NIC, 0x1000]
    legacy.bench.put(leaf, 0x50_1000 | R)
    assert legacy.bench.go(0x1000) == 0x50_1000
    assert legacy.bench.go(0x1000, "w") == -0x5
    legacy.bench.put(leaf, 0x50_1000 | R | W)
    assert legacy.bench.go(0x1000, "w") == 0x50_1000
    entries = [entry for entry in legacy.bench.unit.caches().iotlb if entry.iova == 0x1000]
    assert [entry.permissions & 3 for entry in entries] == [R | W]


def test_permissions_taken_away_stay_in_force_until_invalidated(legacy: Legacy) -> None:
    assert legacy.bench.go(0x1000, "w") == 0x50_1000
    legacy.bench.put(legacy.leaves[NIC, 0x1000], 0x50_1000 | R)
    assert legacy.bench.go(0x1000, "w") == 0x50_1000
    legacy.bench.invalidate(iotlb_pages(5, 0x1000))
    assert legacy.bench.go(0x1000, "w") == -0x5
    assert legacy.bench.go(0x1000) == 0x50_1000


# -- context-cache


def test_a_context_entry_is_used_until_it_is_invalidated(legacy: Legacy) -> None:
    bench = legacy.bench
    assert bench.go(0x1000) == 0x50_1000
    bench.put(CONTEXT + 16 * NIC, 0, 0)
    assert bench.go(0x2000) == 0x50_2000  # not in the IOTLB yet: the cached entry led to the tables
    bench.invalidate(iotlb_global())
    assert bench.go(0x1000) == 0x50_1000
    bench.invalidate(context_device(5, NIC), iotlb_domain(5))
    assert bench.go(0x1000) == -0x2


def test_a_context_invalidation_alone_leaves_translations_under_the_old_domain(legacy: Legacy) -> None:
    bench = legacy.bench
    assert bench.go(0x1000) == 0x50_1000
    bench.legacy_context(NIC, legacy.tables[DISK], 6)
    bench.invalidate(context_device(5, NIC))
    assert bench.go(0x1000) == 0x60_1000  # the new domain-id finds nothing in the IOTLB
    assert {entry.domain_id for entry in bench.unit.caches().iotlb} == {5, 6}


@pytest.mark.parametrize(
    "descriptor, left",
    [
        (context_global(), set()),
        (context_domain(5), {DISK}),
        (context_domain(6), {NIC}),
        (context_device(5, NIC), {DISK}),
        (context_device(6, NIC), {NIC, DISK}),
        (context_device(6, DISK), {NIC}),
        (iotlb_global(), {NIC, DISK}),
    ],
    ids=["global", "domain-5", "domain-6", "device", "device-of-another-domain", "other-device", "iotlb"],
)
def test_a_context_invalidation_removes_what_it_names(legacy: Legacy, descriptor: bytes, left: set) -> None:
    legacy.bench.go(0x1000)
    legacy.bench.go(0x1000, sid=DISK)
    assert {entry.source_id for entry in legacy.bench.unit.caches().context} == {NIC, DISK}
    legacy.bench.invalidate(descriptor)
    assert {entry.source_id for entry in legacy.bench.unit.caches().context} == left


@pytest.mark.parametrize(
    "mask, gone", [(0, {0x10}), (1, {0x10, 0x14}), (2, {0x10, 0x12, 0x14, 0x16}), (3, set(range(0x10, 0x18)))]
)
def test_the_function_mask_widens_a_device(bench: Bench, mask: int, gone: set) -> None:
    table = bench.table()
    bench.map(table, 0x1000, 0x5000)
    sids = range(0x10, 0x19)
    bench.legacy(*((sid, table, 5) for sid in sids))
    bench.start_queue()
    for sid in sids:
        bench.go(0x1000, sid=sid)
    bench.invalidate(context_device(5, 0x10, mask))
    assert {entry.source_id for entry in bench.unit.caches().context} == set(sids) - gone


def test_an_entry_that_is_not_present_is_not_cached(bench: Bench) -> None:
    table = bench.table()
    bench.map(table, 0x1000, 0x5000)
    bench.legacy((DISK, table, 5))
    assert bench.go(0x1000) == -0x2
    assert bench.unit.caches().context == ()
    bench.legacy_context(NIC, table, 5)
    assert bench.go(0x1000) == 0x5000


def test_a_full_context_cache_drops_its_oldest_entry(engine: Engine) -> None:
    bench = Bench(engine, dataclasses.replace(load_profile("spec"), context_cache=2))
    table = bench.table()
    bench.map(table, 0x1000, 0x5000)
    bench.legacy(*((sid, table, 5) for sid in (1, 2, 3)))
    for sid in (1, 2, 1, 3):
        assert bench.go(0x1000, sid=sid) == 0x5000
    assert [entry.source_id for entry in bench.unit.caches().context] == [2, 3]
    bench.put(CONTEXT + 16 * 1, 0, 0)
    bench.put(CONTEXT + 16 * 2, 0, 0)
    assert (bench.go(0x1000, sid=2), bench.go(0x1000, sid=1)) == (0x5000, -0x2)


# -- scalable mode


class Scalable:
    """NIC and DISK with first-stage (PASID 0 and 7, DID 1), second-stage (8, DID 2), nested (9, DID 3)."""

    def __init__(self, engine: Engine) -> None:
        roomy = dataclasses.replace(load_profile("spec"), iotlb=IotlbGeometry(64, 32))  # nothing is evicted
        self.bench = bench = Bench(engine, roomy)
        bench.scalable(NIC, DISK)
        self.first, self.second = bench.table(), bench.table()
        self.nested_first, self.nested_second = bench.table(), bench.table()
        for iova in (0x1000, 0x2000):
            bench.map_first(self.first, iova, 0x50_0000 + iova)
            bench.map(self.second, iova, 0x60_0000 + iova)
            bench.map_first(self.nested_first, iova, 0x30_0000 + iova)
            bench.map(self.nested_second, 0x30_0000 + iova, 0x70_0000 + iova)
        self._let_the_walk_through(self.nested_first)
        bench.pasid_entry(0, 1, 1, self.first)
        bench.pasid_entry(7, 1, 1, self.first)
        bench.pasid_entry(8, 2, 2, self.second)
        bench.pasid_entry(9, 3, 3, self.nested_first, second=self.nested_second)
        self.places = [
            (sid, pasid, iova) for sid in (NIC, DISK) for pasid in (None, 7, 8, 9) for iova in (0x1000, 0x2000)
        ]

    def _let_the_walk_through(self, table: int) -> None:
        # The tables of the first stage lie at guest addresses too: map them onto themselves.
        for page in range(table, table + 0x10_000, 0x1000):
            self.bench.map(self.nested_second, page, page)

    def touch_all_and_unmap(self) -> None:
        for sid, pasid, iova in self.places:
            assert self.bench.go(iova, sid=sid, pasid=pasid) > 0, (sid, pasid, iova)
        for table in (self.first, self.second, self.nested_first):
            for iova in (0x1000, 0x2000):
                self.bench.put(self.bench.entry_at(table, iova), 0)

    def still(self) -> set:
        return {place for place in self.places if self.bench.go(place[2], sid=place[0], pasid=place[1]) > 0}


@pytest.fixture
def scalable(engine: Engine) -> Scalable:
    return Scalable(engine)


def test_each_pasid_has_its_own_translation(scalable: Scalable) -> None:
    go = scalable.bench.go
    assert [go(0x1004, pasid=pasid) for pasid in (None, 7, 8, 9)] == [0x50_1004, 0x50_1004, 0x60_1004, 0x70_1004]


@pytest.mark.parametrize(
    "descriptor, gone",
    [
        (iotlb_global(), lambda sid, pasid, iova: True),
        (iotlb_domain(1), lambda sid, pasid, iova: pasid in (None, 7)),
        (iotlb_domain(3), lambda sid, pasid, iova: pasid == 9),
        (iotlb_pages(1, 0x1000), lambda sid, pasid, iova: pasid in (None, 7)),  # every page of a first stage
        (iotlb_pages(2, 0x1000), lambda sid, pasid, iova: pasid == 8 and iova == 0x1000),
        (iotlb_pages(3, 0x30_1000), lambda sid, pasid, iova: pasid == 9),  # every page of a nested domain
        (pasid_iotlb(2, 1, 7), lambda sid, pasid, iova: pasid == 7),
        (pasid_iotlb(2, 1, 0), lambda sid, pasid, iova: pasid is None),
        (pasid_iotlb(2, 2, 8), lambda sid, pasid, iova: pasid == 8),
        (pasid_iotlb(2, 3, 9), lambda sid, pasid, iova: pasid == 9),
        (pasid_iotlb(2, 2, 7), lambda sid, pasid, iova: False),
        (pasid_iotlb(3, 1, 7, 0x2000), lambda sid, pasid, iova: pasid == 7 and iova == 0x2000),
        (pasid_iotlb(3, 1, 0, 0x2000), lambda sid, pasid, iova: pasid is None and iova == 0x2000),
        (pasid_iotlb(3, 3, 9, 0x1000), lambda sid, pasid, iova: pasid == 9 and iova == 0x1000),
        (pasid_iotlb(3, 2, 8, 0x1000), lambda sid, pasid, iova: False),  # second-stage entries stay
        (pasid_iotlb(3, 1, 7, 0, 52), lambda sid, pasid, iova: pasid == 7),  # MAMV does not limit it
        (pasid_cache(3, 0, 0), lambda sid, pasid, iova: False),
        (context_global(), lambda sid, pasid, iova: False),
    ],
    ids=[
        "iotlb-global",
        "domain-first-stage",
        "domain-nested",
        "page-first-stage",
        "page-second-stage",
        "page-nested",
        "pasid-7",
        "pasid-0",
        "pasid-second-stage",
        "pasid-nested",
        "pasid-of-another-domain",
        "page-in-pasid-7",
        "page-in-pasid-0",
        "page-in-pasid-nested",
        "page-in-pasid-second-stage",
        "page-in-pasid-whole-space",
        "pasid-cache",
        "context-cache",
    ],
)
def test_each_command_removes_exactly_what_the_matrix_says(scalable: Scalable, descriptor: bytes, gone) -> None:
    scalable.touch_all_and_unmap()
    assert scalable.still() == set(scalable.places)
    scalable.bench.invalidate(descriptor)
    assert scalable.still() == {place for place in scalable.places if not gone(*place)}


@pytest.mark.parametrize(
    "descriptor, left",
    [
        (pasid_cache(3, 0, 0), set()),
        (pasid_cache(0, 1, 99), {8, 9}),
        (pasid_cache(1, 1, 7), {0, 8, 9}),
        (pasid_cache(1, 2, 7), {0, 7, 8, 9}),
        (context_global(), {0, 7, 8, 9}),
        (iotlb_global(), {0, 7, 8, 9}),
    ],
    ids=["global", "domain", "pasid", "pasid-of-another-domain", "context", "iotlb"],
)
def test_a_pasid_cache_invalidation_removes_what_it_names(scalable: Scalable, descriptor: bytes, left: set) -> None:
    scalable.touch_all_and_unmap()
    scalable.bench.invalidate(descriptor)
    cached = scalable.bench.unit.caches().pasid
    assert {entry.pasid for entry in cached} == left
    assert {entry.source_id for entry in cached} == ({NIC, DISK} if left else set())


def test_a_pasid_entry_is_used_until_it_is_invalidated(scalable: Scalable) -> None:
    bench = scalable.bench
    assert bench.go(0x1000, pasid=7) == 0x50_1000
    bench.pasid_entry(7, 2, 2, scalable.second)
    bench.invalidate(pasid_iotlb(2, 1, 7))
    assert bench.go(0x1000, pasid=7) == 0x50_1000
    bench.invalidate(pasid_cache(1, 1, 7), pasid_iotlb(2, 1, 7))
    assert bench.go(0x1000, pasid=7) == 0x60_1000


def test_a_pasid_entry_survives_the_invalidation_of_its_context_entry(scalable: Scalable) -> None:
    bench = scalable.bench
    assert bench.go(0x1000, pasid=7) == 0x50_1000
    bench.pasid_entry(7, 2, 2, scalable.second)
    bench.invalidate(context_global())
    assert bench.go(0x1000, pasid=7) == 0x50_1000


@pytest.mark.parametrize("descriptor, left", [(context_domain(9), set()), (context_device(9, NIC), {DISK})])
def test_scalable_contexts_name_no_domain(scalable: Scalable, descriptor: bytes, left: set) -> None:
    scalable.touch_all_and_unmap()
    scalable.bench.invalidate(descriptor)
    assert {entry.source_id for entry in scalable.bench.unit.caches().context} == left
    assert all(entry.domain_id is None for entry in scalable.bench.unit.caches().context)


def test_rid_pasid_chooses_the_entry_for_requests_without_pasid(scalable: Scalable) -> None:
    bench = scalable.bench
    bench.scalable_context(NIC, rid_pasid=8)
    assert bench.go(0x1000) == 0x60_1000
    assert [entry.pasid for entry in bench.unit.caches().pasid] == [8]
    assert [entry.pasid for entry in bench.unit.caches().iotlb] == [None]


def test_a_full_pasid_cache_drops_its_oldest_entry(engine: Engine) -> None:
    bench = Bench(engine, dataclasses.replace(load_profile("spec"), pasid_cache=2))
    bench.scalable(NIC)
    table = bench.table()
    bench.map_first(table, 0x1000, 0x5000)
    for pasid in (1, 2, 3):
        bench.pasid_entry(pasid, 1, 1, table)
        assert bench.go(0x1000, pasid=pasid) == 0x5000
    assert [entry.pasid for entry in bench.unit.caches().pasid] == [2, 3]


def test_a_write_through_an_entry_cached_by_a_read_sets_the_dirty_bit(scalable: Scalable) -> None:
    bench = scalable.bench
    leaf = bench.map_first(scalable.first, 0x3000, 0x9000, bits=0x7)  # present, writable, user
    assert bench.go(0x3000) == 0x9000
    assert bench.qword(leaf) == 0x9000 | 0x27
    assert bench.go(0x3000, "w") == 0x9000
    assert bench.qword(leaf) == 0x9000 | 0x67
    bench.put(leaf, 0x9000 | 0x7)
    assert bench.go(0x3000, "w") == 0x9000  # cached with D set: the tables are not touched
    assert bench.qword(leaf) == 0x9000 | 0x7


def test_pass_through_is_not_cached_in_the_iotlb(bench: Bench) -> None:
    bench.legacy_context(NIC, 0, 5, levels=5, low=2 << 2)
    bench.write(0x20, ROOT, 8)
    bench.command(1 << 30)
    bench.command(1 << 31)
    assert bench.go(0x1234_5678, "w") == 0x1234_5678
    assert bench.unit.caches().iotlb == ()
    assert [entry.domain_id for entry in bench.unit.caches().context] == [5]


# -- the interrupt range, request types, batches


def test_reads_of_the_interrupt_range_are_no_interrupts(legacy: Legacy) -> None:
    assert legacy.bench.go(0xFEE0_0000) == -0x29
    assert legacy.bench.go(0xFEEF_FFFC, "rw") == -0x29
    assert legacy.bench.record() == (0, 0x8000_0029_0000_0010)


def test_writes_to_the_interrupt_range_pass_untranslated_in_any_mode(legacy: Legacy, bench: Bench) -> None:
    for unit in (legacy.bench.unit, bench.unit):
        answer = unit.translate(bench.request(0xFEE0_1000, "w"))
        assert answer == Translation(0xFEE0_1000, 12, Permissions.W)


def test_a_unit_that_remaps_nothing_logs_nothing(bench: Bench) -> None:
    assert bench.go(0xFEE0_0000) == -0x29
    assert bench.read(FSTS) == 0


def test_a_request_with_pasid_to_the_interrupt_range_is_dma(scalable: Scalable) -> None:
    scalable.bench.map_first(scalable.first, 0xFEE0_0000, 0x5000)
    assert scalable.bench.go(0xFEE0_0000, "w", pasid=7) == 0x5000


def test_the_page_below_and_above_the_interrupt_range_are_dma(legacy: Legacy) -> None:
    assert legacy.bench.go(0xFEDF_F000) == -0x6
    assert legacy.bench.go(0xFEF0_0000) == -0x6


def test_a_pasid_in_legacy_mode_faults_31h(legacy: Legacy) -> None:
    assert legacy.bench.go(0x1000, pasid=3) == -0x31


@pytest.mark.parametrize("kind", [AddressType.TRANSLATION_REQUEST, AddressType.TRANSLATED])
def test_with_translation_off_only_untranslated_requests_pass(bench: Bench, kind: AddressType) -> None:
    answer = bench.unit.translate(bench.request(0x1000, address_type=kind))
    assert isinstance(answer, Fault)
    assert bench.read(FSTS) == 0


def test_a_batch_answers_and_records_as_single_requests_do(engine: Engine) -> None:
    one, many = Legacy(engine), Legacy(engine)
    requests = [
        one.bench.request(iova, access, sid)
        for sid in (NIC, DISK, NIC, 0x30)
        for iova, access in (
            (0x1000, "r"),
            (0x2008, "w"),
            (0x3000, "w"),
            (0xFEE0_0000, "r"),
            (0xFEE0_0000, "w"),
            (0x1010, "r"),
        )
    ]
    answers = many.bench.unit.translate_many(requests)
    assert answers == [one.bench.unit.translate(request) for request in requests]
    assert many.bench.unit.register_page() == one.bench.unit.register_page()
    assert many.bench.unit.caches() == one.bench.unit.caches()
    assert sum(isinstance(answer, Fault) for answer in answers) == 11
    assert {a.reason for a in answers if isinstance(a, Fault)} == {
        FaultReason.WRITE_DENIED,
        FaultReason.IR_NOT_AN_INTERRUPT,
        FaultReason.CONTEXT_NOT_PRESENT,
    }


def test_a_batch_with_translation_off_passes_unchanged(bench: Bench) -> None:
    requests = [bench.request(iova) for iova in (0x1000, 0x2000)]
    assert [answer.gpa for answer in bench.unit.translate_many(requests)] == [0x1000, 0x2000]


def test_a_small_iotlb_gives_the_same_answers(engine: Engine) -> None:
    bench = Bench(engine, dataclasses.replace(load_profile("spec"), iotlb=IotlbGeometry(1, 1)))
    table = bench.table()
    for page in range(1, 9):
        bench.map(table, page << 12, page << 20)
    bench.legacy((NIC, table, 5))
    for _ in range(2):
        assert [bench.go(page << 12) for page in range(1, 9)] == [page << 20 for page in range(1, 9)]
    assert len(bench.unit.caches().iotlb) == 1
