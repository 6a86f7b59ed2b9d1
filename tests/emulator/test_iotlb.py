"""The IOTLB of both engines: placement, replacement, lookup by size, and what each invalidation removes."""

from __future__ import annotations

import random

import pytest

from emulator.engine import Engine, Iotlb, IotlbEntry, IotlbGeometry
from pagetables.address import DomainId, Gpa, Iova, Pasid, SourceId
from pagetables.request import Access, Permissions, Request
from pagetables.source import Source, TranslationType

RW = Permissions.R | Permissions.W
FIRST, SECOND, NESTED = TranslationType.FIRST_STAGE, TranslationType.SECOND_STAGE, TranslationType.NESTED


def entry(iova: int, did: int = 1, sid: int = 8, pasid: int | None = None, kind=SECOND, shift: int = 12, **more):
    fields = {"privileged": False, "gpa": Gpa(0x4000_0000 + iova), "permissions": RW, **more}
    wanted = None if pasid is None else Pasid(pasid)
    return IotlbEntry(DomainId(did), SourceId(sid), wanted, kind, iova=Iova(iova), page_shift=shift, **fields)


def look(iotlb: Iotlb, iova: int, did: int = 1, sid: int = 8, pasid: int | None = None, kind=SECOND, privileged=False):
    source = Source(kind, DomainId(did), legacy=False)
    wanted = None if pasid is None else Pasid(pasid)
    return iotlb.lookup(source, Request(SourceId(sid), Iova(iova), Access.READ, wanted, privileged))


@pytest.fixture
def iotlb(engine: Engine) -> Iotlb:
    return engine.iotlb(IotlbGeometry(16, 2))


def test_an_entry_is_found_by_any_address_in_its_page(iotlb: Iotlb) -> None:
    iotlb.fill(entry(0x5000))
    assert look(iotlb, 0x5FFF) == entry(0x5000)
    assert look(iotlb, 0x6000) is None


@pytest.mark.parametrize(
    "other", [{"did": 2}, {"sid": 9}, {"pasid": 0}, {"kind": NESTED}, {"privileged": True}], ids=str
)
def test_every_tag_counts(iotlb: Iotlb, other: dict) -> None:
    iotlb.fill(entry(0x5000))
    assert look(iotlb, 0x5000, **other) is None


def test_pasid_0_and_no_pasid_are_two_tags(iotlb: Iotlb) -> None:
    iotlb.fill(entry(0x5000, pasid=0, gpa=Gpa(0x1000)))
    iotlb.fill(entry(0x5000, gpa=Gpa(0x2000)))
    assert look(iotlb, 0x5000, pasid=0).gpa == 0x1000
    assert look(iotlb, 0x5000).gpa == 0x2000


def test_small_pages_are_looked_for_before_large_ones(iotlb: Iotlb) -> None:
    iotlb.fill(entry(0, shift=30, gpa=Gpa(0)))
    iotlb.fill(entry(0x20_0000, shift=21, gpa=Gpa(1 << 30)))
    iotlb.fill(entry(0x20_1000, gpa=Gpa(2 << 30)))
    assert [look(iotlb, iova).page_shift for iova in (0x20_1000, 0x20_2000, 0x40_0000)] == [12, 21, 30]


def test_the_same_tags_replace_in_place(iotlb: Iotlb) -> None:
    iotlb.fill(entry(0x5000, permissions=Permissions.R))
    iotlb.fill(entry(0x5000, dirty=True))
    assert iotlb.entries() == [entry(0x5000, dirty=True)]


def test_a_full_set_loses_its_ways_in_turn(iotlb: Iotlb) -> None:
    same_set = [n << 12 for n in range(1 << 12) if (n ^ n >> 4 ^ 1) & 15 == 3][:5]
    for iova in same_set:
        iotlb.fill(entry(iova))
    assert [e.iova for e in iotlb.entries()] == [same_set[3], same_set[4]]
    iotlb.fill(entry(same_set[0]))
    assert [e.iova for e in iotlb.entries()] == [same_set[0], same_set[4]]


def test_a_freed_way_is_filled_before_a_victim_is_chosen(iotlb: Iotlb) -> None:
    first, second, third = [n << 12 for n in range(1 << 12) if (n ^ n >> 4 ^ 1) & 15 == 3][:3]
    iotlb.fill(entry(first))
    iotlb.fill(entry(second))
    iotlb.invalidate_pages(1, second, 0)
    iotlb.fill(entry(third))
    assert [e.iova for e in iotlb.entries()] == [first, third]


@pytest.fixture
def full(engine: Engine) -> Iotlb:
    """Each kind of entry at 0x5000 in two domains, and neighbours."""
    iotlb = engine.iotlb(IotlbGeometry(64, 32))
    for did in (1, 2):
        for kind in (FIRST, SECOND, NESTED):
            for pasid in (None, 0, 7):
                for iova in (0x5000, 0x6000):
                    iotlb.fill(entry(iova, did, pasid=pasid, kind=kind))
    assert len(iotlb.entries()) == 36
    return iotlb


def kept(iotlb: Iotlb) -> set:
    return {(e.domain_id, e.translation, e.pasid, e.iova) for e in iotlb.entries()}


def everything() -> set:
    return {
        (did, kind, pasid, iova)
        for did in (1, 2)
        for kind in (FIRST, SECOND, NESTED)
        for pasid in (None, 0, 7)
        for iova in (0x5000, 0x6000)
    }


def test_global_removes_everything(full: Iotlb) -> None:
    full.invalidate_all()
    assert full.entries() == []
    assert look(full, 0x5000) is None


def test_domain_selective_removes_the_domain_and_nothing_else(full: Iotlb) -> None:
    full.invalidate_domain(1)
    assert kept(full) == {e for e in everything() if e[0] != 1}


def test_page_selective_removes_second_stage_pages_and_all_else_of_the_domain(full: Iotlb) -> None:
    full.invalidate_pages(1, 0x5000, 0)
    assert kept(full) == {e for e in everything() if e[0] != 1 or (e[1] == SECOND and e[3] != 0x5000)}


def test_pasid_selective_removes_every_kind_and_counts_no_pasid_as_0(full: Iotlb) -> None:
    full.invalidate_pasid(1, 0)
    assert kept(full) == {e for e in everything() if e[0] != 1 or e[2] == 7}
    full.invalidate_pasid(2, 7)
    assert kept(full) == {e for e in everything() if (e[0] == 1 and e[2] == 7) or (e[0] == 2 and e[2] != 7)}


def test_page_in_pasid_leaves_second_stage_entries_alone(full: Iotlb) -> None:
    full.invalidate_pasid_pages(1, 7, 0x5000, 0)
    assert kept(full) == {e for e in everything() if e[0] != 1 or e[1] == SECOND or e[2] != 7 or e[3] != 0x5000}


@pytest.mark.parametrize("shift", [21, 30])
def test_any_address_of_a_large_page_drops_it_whole(iotlb: Iotlb, shift: int) -> None:
    iotlb.fill(entry(0, shift=shift, gpa=Gpa(0)))
    iotlb.invalidate_pages(1, 1 << shift, 0)
    assert len(iotlb.entries()) == 1
    iotlb.invalidate_pages(1, (1 << shift) - 0x1000, 0)
    assert iotlb.entries() == []


def test_low_address_bits_below_the_mask_are_ignored(iotlb: Iotlb) -> None:
    for page in range(3, 9):
        iotlb.fill(entry(page << 12))
    iotlb.invalidate_pages(1, 0x6000, 2)
    assert [e.iova >> 12 for e in iotlb.entries()] == [3, 8]


@pytest.mark.parametrize("mask", [51, 52, 63])
def test_a_mask_as_wide_as_the_address_takes_all_pages(iotlb: Iotlb, mask: int) -> None:
    for iova in (0, 0x7FFF_FFFF_F000, (1 << 57) - 0x1000):
        iotlb.fill(entry(iova, kind=FIRST, pasid=3))
    iotlb.invalidate_pasid_pages(1, 3, 0, mask)
    assert iotlb.entries() == []


def test_entries_are_listed_in_order(engine: Engine) -> None:
    iotlb = engine.iotlb(IotlbGeometry(16, 4))
    wanted = [entry(0x5000), entry(0x6000), entry(0x5000, sid=9), entry(0x5000, did=2), entry(0x5000, did=2, pasid=1)]
    for one in reversed(wanted):
        iotlb.fill(one)
    assert iotlb.entries() == wanted


class Reference:
    """The IOTLB as its contract states it, with nothing clever: a list of every entry that was ever placed."""

    def __init__(self, sets: int, ways: int) -> None:
        self.sets, self.ways = sets, ways
        self.cells: dict[tuple[int, int], IotlbEntry] = {}
        self.victim: dict[int, int] = {}

    def fill(self, new: IotlbEntry) -> None:
        page = new.iova >> new.page_shift
        index = (page ^ page >> (self.sets.bit_length() - 1) ^ new.domain_id) % self.sets
        same = [
            way
            for way in range(self.ways)
            if (old := self.cells.get((index, way)))
            and (old.source_id, old.pasid, old.domain_id, old.translation, old.privileged, old.iova, old.page_shift)
            == (new.source_id, new.pasid, new.domain_id, new.translation, new.privileged, new.iova, new.page_shift)
        ]
        free = [way for way in range(self.ways) if (index, way) not in self.cells]
        way = (same + free + [self.victim.get(index, 0)])[0]
        if not same and not free:
            self.victim[index] = (way + 1) % self.ways
        self.cells[index, way] = new

    def keep(self, wanted) -> None:
        self.cells = {place: e for place, e in self.cells.items() if wanted(e)}

    def invalidate_domain(self, did: int) -> None:
        self.keep(lambda e: e.domain_id != did)

    def invalidate_pages(self, did: int, address: int, mask: int) -> None:
        self.keep(lambda e: e.domain_id != did or (e.translation == SECOND and not overlaps(e, address, mask)))

    def invalidate_pasid(self, did: int, pasid: int) -> None:
        self.keep(lambda e: e.domain_id != did or (e.pasid or 0) != pasid)

    def invalidate_pasid_pages(self, did: int, pasid: int, address: int, mask: int) -> None:
        self.keep(
            lambda e: (
                e.domain_id != did
                or (e.pasid or 0) != pasid
                or e.translation == SECOND
                or not overlaps(e, address, mask)
            )
        )


def overlaps(e: IotlbEntry, address: int, mask: int) -> bool:
    pages = set(range(address >> 12 & ~((1 << mask) - 1), (address >> 12 | (1 << mask) - 1) + 1))
    return not pages.isdisjoint(range(e.iova >> 12, (e.iova >> 12) + (1 << e.page_shift - 12)))


@pytest.mark.parametrize("seed", range(4))
def test_random_work_ends_as_in_the_obvious_model(engine: Engine, seed: int) -> None:
    draw = random.Random(seed)
    iotlb, model = engine.iotlb(IotlbGeometry(4, 3)), Reference(4, 3)
    for _ in range(300):
        did, pasid, kind = draw.randint(0, 2), draw.choice([None, 0, 1]), draw.choice([FIRST, SECOND, NESTED])
        address, mask = draw.randrange(1 << 11) << 12, draw.choice([0, 1, 3, 9])
        shift = draw.choice([12, 12, 12, 21])
        work, *arguments = draw.choice(
            [
                ("invalidate_domain", did),
                ("invalidate_pages", did, address, mask),
                ("invalidate_pasid", did, pasid or 0),
                ("invalidate_pasid_pages", did, pasid or 0, address, mask),
            ]
            + [("fill", entry(address >> shift << shift, did, pasid=pasid, kind=kind, shift=shift, gpa=Gpa(0)))] * 8
        )
        for one in (iotlb, model):
            getattr(one, work)(*arguments)
        assert set(iotlb.entries()) == set(model.cells.values())
