"""Both engines give the same answers and leave the same bytes: seeded campaigns over random scenes.

The quick ones run every time; the long ones with `-m slow`.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from emulator.engine import Engine, Iotlb, IotlbGeometry, QueueState
from pagetables.address import Gpa, Iova, Pasid
from pagetables.errors import MappingError, NoMemory
from pagetables.mapper import PageTable, Stage, TableMapper
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions, Request
from tests.required import need_engine
from tests.scenes import contents, make_scene

QUICK = range(60)
LONG = range(60, 1500)
PAGE = 4096


@pytest.fixture(scope="module")
def engines() -> tuple[Engine, Engine]:
    return need_engine("python"), need_engine("native")


Campaign = Callable[[tuple[Engine, Engine], int], None]


def walks(engines: tuple[Engine, Engine], seed: int) -> None:
    """Each request walked on its own memory of each engine: the same outcome, then the same bytes."""
    scene = make_scene(seed)
    memories = [scene.memory() for _ in engines]
    for request in scene.requests:
        python, native = (
            engine.walk(memory, scene.source, request, scene.capabilities)
            for engine, memory in zip(engines, memories, strict=True)
        )
        assert python == native, (seed, request)
    assert contents(memories[0]) == contents(memories[1]), seed


def translations(engines: tuple[Engine, Engine], seed: int) -> None:
    """Translations, one by one and many at once, between invalidations: outcomes, bytes and cache contents."""
    rng = random.Random(seed)
    scene = make_scene(seed, requests=60)
    memories = [scene.memory() for _ in engines]
    sets, ways, limit = rng.choice((1, 2, 8)), rng.choice((1, 2, 4)), rng.choice((0, 0, 5))
    geometry = IotlbGeometry(sets, ways, limit, rng.choice((0, 1, 4, 16, 256)), rng.choice((0, 0, 0, 1, 8, 18)))
    caches = [engine.iotlb(geometry) for engine in engines]
    source = replace(scene.source, rid_pasid=Pasid(rng.choice((0, 0, 7))))
    for _ in range(12):
        batch = rng.choices(scene.requests, k=rng.randrange(1, 12))
        python, native = (
            engine.translate_many(cache, memory, source, batch, scene.capabilities)
            for engine, cache, memory in zip(engines, caches, memories, strict=True)
        )
        assert python == native, (seed, batch)
        one = rng.choice(scene.requests)
        python_one, native_one = (
            engine.translate(cache, memory, source, one, scene.capabilities)
            for engine, cache, memory in zip(engines, caches, memories, strict=True)
        )
        assert python_one == native_one, (seed, one)
        same_contents(caches, seed)
        invalidate = _random_invalidation(rng, scene.requests)
        for cache in caches:
            invalidate(cache)
        same_contents(caches, seed)
    assert contents(memories[0]) == contents(memories[1]), seed


def same_contents(caches: list[Iotlb], seed: int) -> None:
    """Translations and tables that both have cached."""
    assert caches[0].entries() == caches[1].entries(), seed
    assert caches[0].tables() == caches[1].tables(), seed


def _random_invalidation(rng: random.Random, requests: list[Request]) -> Callable[[object], None]:
    domain_id, pasid, mask = rng.randrange(1, 5), rng.choice((0, 0, 7)), rng.choice((0, 0, 1, 9, 10, 18, 30, 52, 63))
    address, hint = rng.choice(requests).iova & ~0xFFF, rng.random() < 0.5
    return rng.choice(
        (
            lambda cache: None,
            lambda cache: cache.invalidate_all(),
            lambda cache: cache.invalidate_domain(domain_id),
            lambda cache: cache.invalidate_pages(domain_id, address, mask, hint),
            lambda cache: cache.invalidate_pasid(domain_id, pasid),
            lambda cache: cache.invalidate_pasid_pages(domain_id, pasid, address, mask, hint),
        )
    )


TABLES = range(0x40_0000, 0x60_0000, PAGE)


class Supply:
    """Table pages in an order of their own, now and then none, all of it written down."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.free = list(TABLES)
        self.rng.shuffle(self.free)
        self.log: list[int | None] = []

    def take(self) -> Gpa | None:
        page = None if self.rng.random() < 0.05 or not self.free else self.free.pop()
        self.log.append(page)
        return None if page is None else Gpa(page)


def mappings(engines: tuple[Engine, Engine], seed: int) -> None:
    """Map, unmap and split at random: the same results or refusals, bytes, pages taken and pages freed."""
    rng = random.Random(seed)
    stage = rng.choice(list(Stage))
    levels = rng.choice((3, 4, 5) if stage is Stage.SECOND else (4, 5))
    leaf_levels = frozenset(rng.choice(((1, 2, 3), (1, 2, 3), (1, 2), (1,), (1, 3), (2, 3))))
    table = PageTable(stage, Gpa(TABLES.start - PAGE), levels, leaf_levels, snoop=rng.random() < 0.3)
    memories = [PhysicalMemory([(0, TABLES.stop)]) for _ in engines]
    supplies = [Supply(seed) for _ in engines]
    mappers = [
        engine.mapper(memory, table, supply) for engine, memory, supply in zip(engines, memories, supplies, strict=True)
    ]
    for step in range(rng.choice((10, 60))):
        action = _random_action(rng, table)
        python, native = (_outcome(action, mapper) for mapper in mappers)
        assert python == native, (seed, step)
        assert supplies[0].log == supplies[1].log, (seed, step)
        if rng.random() < 0.1:
            _scribble(rng.randrange(1 << 30), memories, supplies[0])
    assert contents(memories[0])[TABLES.start - PAGE :] == contents(memories[1])[TABLES.start - PAGE :], seed


def _scribble(seed: int, memories: list[PhysicalMemory], supply: Supply) -> None:
    # Empty entries need not be 0: ignored bits stay where they are.
    rng = random.Random(seed)
    taken = [page for page in supply.log if page is not None]
    if taken:
        at = rng.choice(taken) + 8 * rng.choice((0, 1, 2, 511))
        for memory in memories:
            if memory.load(at) == 0:
                memory.store(at, 1 << 63)


def _random_action(rng: random.Random, table: PageTable) -> Callable[[TableMapper], object]:
    step = rng.choice((PAGE, PAGE, 1 << 21, 1 << 21, 1 << 30))
    iova = rng.choice((0, 0, 1 << 30, table.limit - (4 << 30))) + rng.randrange(4) * step
    iova += rng.choice((0, 0, 0, PAGE, 511 * PAGE, 1 << 21))
    gpa = rng.choice((0, 1 << 30)) + rng.choice((iova % (1 << 30), iova % (1 << 21), rng.randrange(1024) * PAGE))
    size = rng.choice((1, 1, 2, 3, 512)) * step + rng.choice((0, 0, PAGE, 3 << 21))
    permissions = rng.choice((Permissions.R, Permissions.W, Permissions.R | Permissions.W))
    kind = rng.random()
    if kind < 0.45:
        return lambda mapper: mapper.map(Iova(iova), Gpa(gpa), min(size, 4 << 30), permissions)
    if kind < 0.9:
        return lambda mapper: mapper.unmap(Iova(iova), size)
    return lambda mapper: mapper.split(Iova(iova))


def _outcome(action: Callable[[TableMapper], object], mapper: TableMapper) -> object:
    try:
        return action(mapper)
    except MappingError as refusal:
        return type(refusal).__name__, refusal.iova
    except NoMemory as refusal:
        return type(refusal).__name__, refusal.address, refusal.size


BASE, STATUS = 0x10_0000, 0x20_0000


def queues(engines: tuple[Engine, Engine], seed: int) -> None:
    """The native engine executes a prefix of the queue exactly as descriptors read, and stops before what is odd."""
    rng = random.Random(seed)
    scene = make_scene(seed)
    native = engines[1]
    slot = rng.choice((16, 32))
    memory = PhysicalMemory([(0, 0x40_0000)])
    geometry = IotlbGeometry(8, 2, tables=rng.choice((0, 16)))
    cache, twin = native.iotlb(geometry), engines[0].iotlb(geometry)
    filler = scene.memory()
    for request in scene.requests:
        for engine, one in ((engines[0], twin), (native, cache)):
            engine.translate(one, filler, scene.source, request, scene.capabilities)
    registers = bytearray(4096)
    size = PAGE
    head = rng.randrange(size // slot) * slot
    state = QueueState(memory, registers, cache, Gpa(BASE), size, slot, scene.capabilities)
    struct.pack_into("<Q", registers, 0x80, head)
    expected = 0
    at = head
    stopped = False
    for _ in range(rng.randrange(1, 20)):
        words, effect = _random_descriptor(rng, slot, scene.requests)
        memory.write(BASE + at, struct.pack("<4Q", *words)[:slot])
        at = (at + slot) % size
        stopped = stopped or effect is None
        if effect is not None and not stopped:
            effect(twin)
            expected += 1
    struct.pack_into("<Q", registers, 0x88, at)
    assert native.run_queue(state) == expected, seed
    assert struct.unpack_from("<Q", registers, 0x80)[0] == (head + expected * slot) % size, seed
    same_contents([cache, twin], seed)


def _random_descriptor(rng: random.Random, slot: int, requests: list[Request]) -> tuple[list[int], Callable | None]:
    domain_id, pasid, mask = rng.randrange(1, 5), rng.choice((0, 7)), rng.choice((0, 1, 9, 18, 19, 40))
    address = rng.choice(requests).iova & ~0xFFF
    drains = rng.choice((0, 0x40, 0xC0))
    kind = rng.randrange(9)
    if kind == 0:
        return [0x12 | drains, 0, 0, 0], lambda cache: cache.invalidate_all()
    if kind == 1:
        return [0x22 | domain_id << 16, 0, 0, 0], lambda cache: cache.invalidate_domain(domain_id)
    if kind in (2, 3):
        hint = rng.choice((0, 0x40))
        words = [0x32 | domain_id << 16, address | mask | hint, 0, 0]
        pages = lambda cache: cache.invalidate_pages(domain_id, address, mask, bool(hint))  # noqa: E731
        return words, pages if mask <= 18 else None
    if kind == 4:
        words = [0x26 | domain_id << 16 | pasid << 32, 0, 0, 0]
        return words, (lambda cache: cache.invalidate_pasid(domain_id, pasid)) if slot == 32 else None
    if kind == 5:
        hint = rng.choice((0, 0x40))
        words = [0x36 | domain_id << 16 | pasid << 32, address | mask | hint, 0, 0]
        pages = lambda cache: cache.invalidate_pasid_pages(domain_id, pasid, address, mask, bool(hint))  # noqa: E731
        return words, pages if slot == 32 else None
    if kind in (6, 7):
        return [0x25 | rng.choice((0, 0x40)) | rng.getrandbits(32) << 32, STATUS, 0, 0], lambda cache: None
    odd = rng.choice(
        ([0x35, STATUS, 0, 0], [0x11, 0, 0, 0], [0x02, 0, 0, 0], [0x112, 0, 0, 0], [0x12, 0x800, 0, 0], [0x65, 0, 0, 0])
    )
    return (odd, None) if odd != [0x65, 0, 0, 0] else ([0x45, STATUS, 0, 0], None)


CAMPAIGNS = (walks, translations, mappings, queues)


@pytest.mark.parametrize("campaign", CAMPAIGNS)
@pytest.mark.parametrize("seed", QUICK)
def test_engines_agree(engines: tuple[Engine, Engine], campaign: Campaign, seed: int) -> None:
    campaign(engines, seed)


@pytest.mark.slow
@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_engines_agree_for_long(engines: tuple[Engine, Engine], campaign: Campaign) -> None:
    for seed in LONG:
        campaign(engines, seed)
