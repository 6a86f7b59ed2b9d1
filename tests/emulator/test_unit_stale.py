"""Nothing that was cached outlives the invalidation that software owes after a change of tables.

Seeded campaigns: tables change, what the specification's guidance asks for is submitted (never more than that), and
every answer must be that of tables read afresh, by a lookup and a walk without caches. The caches are small, so that
everything is replaced too; with caching mode they keep absent entries.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from emulator.engine import Engine, IotlbGeometry
from emulator.profile import Profile, load_profile
from pagetables.fault import Fault
from pagetables.request import Request, Translation
from pagetables.source import lookup
from pagetables.walk import walk
from tests.profiles import changed
from tests.units import (
    PASID_TABLE,
    ROOT,
    RTADDR,
    SRTP,
    TE,
    Bench,
    context_device,
    context_global,
    iotlb_domain,
    iotlb_global,
    pasid_cache,
    pasid_iotlb,
)

QUICK, LONG = range(15), range(15, 80)
CONTEXTS = 0x13_0000
SIDS = (0x0010, 0x0018, 0x0110)
FIRST, SECOND, NESTED, PASS_THROUGH = 1, 2, 3, 4
PASIDS = (3, 70)  # of two tables
PAGES = (0, 0x1000, 0x2000, 0x1F_F000, 0x20_0000, 0x20_1000, 0x4000_0000, 0x4020_0000, 0x80_0000_0000)
FEW = (0x1000, 0x2000, 0x20_0000)
HIGH = 0xFFFF_8000_0000_1000
BEHIND = 0x1000_0000  # guest addresses whose second-stage entries change: FEW lie here too


def pages_of(did: int, address: int, am: int, ih: int) -> bytes:
    """Descriptor 2, pages, with IH."""
    return struct.pack("<QQ", 0x32 | did << 16, address | ih << 6 | am)


def pasid_pages(did: int, pasid: int, address: int, am: int, ih: int) -> bytes:
    """Descriptor 6, pages, with IH."""
    return struct.pack("<QQQQ", 0x36 | did << 16 | pasid << 32, address | ih << 6 | am, 0, 0)


def cramped(rng: random.Random, caching: bool) -> Profile:
    """`spec` with caches of a few entries."""
    return changed(
        load_profile("spec"),
        {"cm": int(caching)},
        iotlb=IotlbGeometry(rng.choice((1, 4, 64)), 2, 0, rng.choice((0, 8, 64))),
        context_cache=rng.choice((1, 2, 64)),
        pasid_cache=rng.choice((1, 2, 64)),
        behaviours=frozenset({"cache_not_present"} if caching else ()),
    )


def outcome(answer: Translation | Fault) -> int:
    return -int(answer.reason) if isinstance(answer, Fault) else answer.gpa


def afresh(bench: Bench, request: Request) -> int:
    """What the tables say, without a cache."""
    unit = bench.unit
    source = lookup(bench.memory, unit.root, request, unit.capabilities).outcome
    if isinstance(source, Fault):
        return outcome(source)
    return outcome(walk(bench.memory, source, request, unit.capabilities).outcome)


class Legacy:
    """Three devices in two domains of second-stage tables; each device may move to the other domain."""

    def __init__(self, rng: random.Random, engine: Engine, caching: bool) -> None:
        self.rng, self.caching = rng, caching
        self.bench = bench = Bench(engine, cramped(rng, caching))
        self.roots = [bench.table(rng.choice((3, 4, 5))) for _ in range(2)]
        self.domain = dict.fromkeys(SIDS, 0)
        for sid in SIDS:
            bench.put(ROOT + 16 * (sid >> 8), CONTEXTS + 0x1000 * (sid >> 8) | 1, 0)
            self.attach(sid, rng.randrange(2))
        bench.write(RTADDR, ROOT, 8)
        bench.command(SRTP)
        bench.start_queue()
        bench.command(TE)

    def attach(self, sid: int, index: int, present: int = 1) -> None:
        root = self.roots[index]
        at = CONTEXTS + 0x1000 * (sid >> 8) + 16 * (sid & 0xFF)
        self.bench.put(at, root | present, 5 + index << 8 | self.bench._levels[root] - 2)
        self.domain[sid] = index

    def change(self) -> None:
        if self.rng.random() < 0.2:
            self.move(self.rng.choice(SIDS))
        else:
            index = self.rng.randrange(2)
            page = self.rng.choice(PAGES[: 8 if self.bench._levels[self.roots[index]] == 3 else 9])
            self.bench.invalidate(self.table(index, page) if self.rng.random() < 0.2 else self.leaf(index, page))

    def leaf(self, index: int, page: int) -> bytes:
        rng, did = self.rng, 5 + index
        new = rng.choice((0, 1 << 62 | 3, 0x500_0000 + 0x1000 * rng.randrange(64) | rng.choice((1, 2, 3))))
        self.bench.put(self.bench.entry_at(self.roots[index], page), new)
        am = rng.choice((0, 0, 1, 3, 9))
        return rng.choice((pages_of(did, page >> 12 + am << 12 + am, am, 1), iotlb_domain(did), iotlb_global()))

    def table(self, index: int, page: int) -> bytes:
        new = self.rng.choice((0, self.bench.page() | 3, self.bench.page() | 1, 0x60_0000 | 0x83))
        self.bench.put(self.bench.entry_at(self.roots[index], page, 2), new)
        return self.rng.choice((pages_of(5 + index, page >> 21 << 21, 9, 0), iotlb_domain(5 + index)))

    def move(self, sid: int) -> None:
        did = 5 + self.domain[sid]
        self.attach(sid, self.rng.randrange(2), self.rng.choice((0, 1, 1)))
        if self.rng.random() < 0.3:
            self.bench.invalidate(context_global(), iotlb_global())
            return
        absent = [context_device(0, sid)] if self.caching else []
        self.bench.invalidate(context_device(did, sid), *absent, iotlb_domain(did))

    def requests(self) -> Iterator[Request]:
        rng = self.rng
        for _ in range(4):
            yield self.bench.request(
                rng.choice(PAGES) + rng.randrange(4096), rng.choice(("r", "w", "rw")), rng.choice(SIDS)
            )


class Scalable:
    """Two devices, each with a RID_PASID, that share PASIDs of every type over two tables of each stage."""

    def __init__(self, rng: random.Random, engine: Engine, caching: bool) -> None:
        self.rng, self.caching = rng, caching
        self.bench = bench = Bench(engine, cramped(rng, caching))
        self.second = [bench.table(rng.choice((3, 4, 5))) for _ in range(2)]
        for root in self.second:
            for large in range(8):  # where the first stage's tables lie
                bench.map(root, large << 21, large << 21, level=2)
            for page in FEW:
                bench.map(root, BEHIND + page, 0x90_0000 + page)
        self.first = [bench.table(rng.choice((4, 5))) for _ in range(2)]
        for index, root in enumerate(self.first):
            for page in FEW:
                bench.map_first(root, page, BEHIND + FEW[index])
        self.entries: dict[int, tuple[int, int, int | None]] = {}  # by PASID: type, domain-id, which first stage
        for pasid in PASIDS:
            self.program(pasid)
        for sid in SIDS[:2]:
            bench.scalable_context(sid, rid_pasid=rng.choice(PASIDS))
        bench.slot = 32
        bench.start_queue()
        bench.write(RTADDR, ROOT | 1 << 10, 8)
        bench.command(SRTP)
        bench.command(TE)

    def program(self, pasid: int) -> None:
        rng = self.rng
        pgtt, first, second = (
            rng.choice((FIRST, SECOND, NESTED, NESTED, PASS_THROUGH)),
            rng.randrange(2),
            rng.randrange(2),
        )
        did = 10 + second if pgtt in (SECOND, NESTED) else 1
        table = self.first[first] if pgtt in (FIRST, NESTED) else 0
        self.bench.pasid_entry(pasid, pgtt, did, table, self.second[second] if did > 1 else 0, more=1)
        self.entries[pasid] = (pgtt, did, first if table else None)

    def change(self) -> None:
        chosen = self.rng.random()
        if chosen < 0.4:
            self.change_first(self.rng.randrange(2))
        elif chosen < 0.8:
            self.change_second(self.rng.randrange(2))
        elif chosen < 0.9:
            self.change_pasid(self.rng.choice(PASIDS))
        else:
            self.bench.scalable_context(self.rng.choice(SIDS[:2]), self.rng.choice((8, 8, 0)), self.rng.choice(PASIDS))
            everywhere = [context_device(0, sid) for sid in SIDS[:2]]
            self.bench.invalidate(*everywhere, pasid_cache(3, 0, 0), iotlb_global())

    def change_first(self, index: int) -> None:
        rng, bench, root = self.rng, self.bench, self.first[index]
        page = HIGH if bench._levels[root] == 4 and rng.random() < 0.2 else rng.choice(FEW)
        table = bench.entry_at(root, page, 2, link=0x27)
        leaves_only = rng.random() < 0.6 and not bench.qword(table) & 0x80
        if leaves_only:
            new = BEHIND + rng.choice(FEW) | rng.choice((0x67, 0x65, 0x61, 0x25))
            bench.put(bench.entry_at(root, page, link=0x27), rng.choice((0, new, new)))
        else:
            bench.put(table, rng.choice((0, self.filled() | 0x27, 0x60_0000 | 0xE7)))
        page, am = (page, 0) if leaves_only else (page >> 21 << 21, 9)
        for pasid, (_, did, first) in self.entries.items():
            if first == index:
                exact = pasid_pages(did, pasid, page, am, int(leaves_only))
                bench.invalidate(rng.choice((exact, exact, pasid_iotlb(2, did, pasid))))

    def filled(self) -> int:
        """A first-stage table of level 1 that maps its first pages."""
        table = self.bench.page()
        self.bench.put(table, *(0x70_0000 + 0x1000 * number | 0x67 for number in self.rng.sample(range(64), 3)))
        return table

    def change_second(self, index: int) -> None:
        rng, bench, root, did = self.rng, self.bench, self.second[index], 10 + index
        page = BEHIND + rng.choice(FEW)  # apart from the first stage's tables
        table = bench.entry_at(root, page, 2)
        if rng.random() < 0.3 or bench.qword(table) & 0x80:
            bench.put(table, rng.choice((0, bench.page() | 3, 0x80_0000 | 0x83)))
            bench.invalidate(rng.choice((pages_of(did, page >> 21 << 21, 9, 0), iotlb_domain(did))))
        else:
            new = 0x90_0000 + 0x1000 * rng.randrange(64) | rng.choice((1, 2, 3))
            bench.put(bench.entry_at(root, page), rng.choice((0, new, new)))
            exact = pages_of(did, page, 0, 1)
            bench.invalidate(rng.choice((exact, exact, iotlb_domain(did))))

    def change_pasid(self, pasid: int) -> None:
        bench, (pgtt, did, _) = self.bench, self.entries[pasid]
        self.program(pasid)
        if self.rng.random() < 0.2:
            at = PASID_TABLE + 0x1000 * (pasid >> 6) + 64 * (pasid & 63)
            bench.put(at, bench.qword(at) & ~1)
        of_pasid = pgtt in (FIRST, PASS_THROUGH)
        bench.invalidate(pasid_cache(1, did, pasid), pasid_iotlb(2, did, pasid) if of_pasid else iotlb_domain(did))
        if self.caching:
            now = self.entries[pasid][1]
            bench.invalidate(pasid_cache(1, now, pasid), pasid_iotlb(2, now, pasid))

    def requests(self) -> Iterator[Request]:
        rng = self.rng
        for _ in range(6):
            iova = rng.choice((*FEW, *FEW, HIGH, BEHIND + 0x1000)) + rng.randrange(4096)
            access, pasid = rng.choice(("r", "w", "rw")), rng.choice((None, None, *PASIDS))
            yield self.bench.request(iova, access, rng.choice(SIDS[:2]), pasid)


def campaign(scene: type[Legacy] | type[Scalable], engine: Engine, caching: bool, seeds: range) -> None:
    """Changes and requests, with the seed in what is said of a failure."""
    for seed in seeds:
        machine = scene(random.Random(seed), engine, caching)
        for step in range(60):
            machine.change()
            for request in machine.requests():
                expected = afresh(machine.bench, request)
                assert outcome(machine.bench.unit.translate(request)) == expected, (seed, step, str(request))


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("scene", [Legacy, Scalable])
def test_answers_are_those_of_the_tables_after_what_software_owes(
    engine: Engine, scene: type[Legacy] | type[Scalable], caching: bool
) -> None:
    campaign(scene, engine, caching, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("scene", [Legacy, Scalable])
def test_many_answers_are_those_of_the_tables(
    engine: Engine, scene: type[Legacy] | type[Scalable], caching: bool
) -> None:
    campaign(scene, engine, caching, LONG)


@pytest.mark.parametrize("scene", [Legacy, Scalable])
def test_without_invalidations_answers_are_stale(engine: Engine, scene: type[Legacy] | type[Scalable]) -> None:
    machine = scene(random.Random(1), engine, False)
    machine.bench.invalidate = lambda *descriptors: None  # type: ignore[method-assign]
    stale = 0
    for _ in range(60):
        machine.change()
        for request in machine.requests():
            stale += outcome(machine.bench.unit.translate(request)) != afresh(machine.bench, request)
    assert stale
