"""Random scenes for differential campaigns: tables as bytes, sources, unit capabilities and requests.

Everything is packed by hand here. A scene is mostly plausible and now and then wrong: reserved bits, loops, tables
outside memory, large pages where there are none, write-only pages, outputs in the interrupt range.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from pagetables.address import Gpa, Iova, Pasid, SourceId
from pagetables.capabilities import Capabilities
from pagetables.layouts.registers import Capability, ExtendedCapability
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, Request
from pagetables.source import Source, TranslationType

PAGE = 4096
RAM = ((0, 48 * PAGE), (64 * PAGE, 32 * PAGE))  # a hole in between
SS_TABLES = [page * PAGE for page in range(1, 20)]
FS_TABLES = [page * PAGE for page in (*range(20, 40), *range(70, 80))]
OUTSIDE = [50 * PAGE, 96 * PAGE, 1 << 40, (1 << 52) - PAGE]
INDICES = (0, 1, 2, 5, 511)
OUTPUTS = (0, 0x1000, 0x8000_0000, 0xFEE0_0000, 0xFEEF_F000, 0xFEF0_0000, 0xC000_0000, 0x1_0000_0000, 0x4000_0000_0000)
IGNORED = (1 << 63, 1 << 61, 1 << 52, 1 << 10)


@dataclass
class Scene:
    """What both engines are given. `memory()` makes the same RAM again."""

    seed: int
    source: Source
    capabilities: Capabilities
    requests: list[Request]
    pages: dict[int, bytes] = field(repr=False)

    def memory(self) -> PhysicalMemory:
        memory = PhysicalMemory(RAM)
        for at, page in self.pages.items():
            memory.write(at, page)
        return memory


def contents(memory: PhysicalMemory) -> bytes:
    """Every byte of the regions."""
    return b"".join(memory.read(start, size) for start, size in memory.regions)


def make_scene(seed: int, requests: int = 40) -> Scene:
    """The scene of `seed`."""
    rng = random.Random(seed)
    translation = rng.choice(list(TranslationType))
    guest = [
        index3 << 30 | index2 << 21 | index1 << 12 for index3 in (0, 1) for index2 in (0, 1) for index1 in (0, 1, 2, 5)
    ]
    nested = translation is TranslationType.NESTED
    fs_targets = guest if nested else FS_TABLES
    wrong = rng.choice((0.0, 0.02, 0.1))
    pages = _nested_second_stage(rng, wrong) if nested else _looping_second_stage(rng, wrong)
    pages |= {at: _table(rng, lambda: _fs_entry(rng, wrong, fs_targets)) for at in FS_TABLES}
    legacy = translation in (TranslationType.SECOND_STAGE, TranslationType.PASS_THROUGH) and rng.random() < 0.5
    capabilities = _capabilities(rng)
    source = _source(rng, translation, legacy, fs_targets)
    return Scene(seed, source, capabilities, [_request(rng, source) for _ in range(requests)], pages)


def _looping_second_stage(rng: random.Random, wrong: float) -> dict[int, bytes]:
    # Every table points to every other: the level at which an entry is read is not known.
    return {at: _table(rng, lambda: _ss_entry(rng, wrong, SS_TABLES)) for at in SS_TABLES}


def _nested_second_stage(rng: random.Random, wrong: float) -> dict[int, bytes]:
    # Each table has its level, so that no first-stage table lies on a second-stage one: a walk that writes its own
    # tables has no answer to compare.
    by_level = {level: SS_TABLES[level - 1 :: 5] for level in range(1, 6)}
    pages = {}
    for level, tables in by_level.items():
        below = FS_TABLES if level == 1 else by_level[level - 1]
        for at in tables:
            pages[at] = _table(rng, lambda: _ss_entry(rng, wrong if level > 1 else 0, below))  # noqa: B023
    return pages


def _table(rng: random.Random, entry: Callable[[], int]) -> bytes:
    words = [0] * 512
    for index in INDICES:
        words[index] = entry()
    return struct.pack("<512Q", *words)


def _often(rng: random.Random, *choices: tuple[int, int]) -> int:
    return rng.choices([value for value, _ in choices], [weight for _, weight in choices])[0]


def _ss_entry(rng: random.Random, wrong: float, targets: list[int]) -> int:
    entry = _often(rng, (3, 10), (1, 2), (2, 2), (7, 4), (4, 1), (0, 1))
    if rng.random() < 0.3:
        entry |= 1 << 7 | rng.choice(OUTPUTS)
    else:
        entry |= rng.choice(targets)
    if rng.random() < 0.3:
        entry |= rng.choice((1 << 8, 1 << 9, 3 << 8, 1 << 11))
    return _spoil(rng, entry, wrong)


def _fs_entry(rng: random.Random, wrong: float, targets: list[int]) -> int:
    entry = _often(rng, (7, 10), (5, 3), (3, 2), (1, 1), (0, 1))
    entry |= 1 << 7 | rng.choice(OUTPUTS) if rng.random() < 0.3 else rng.choice(targets)
    if rng.random() < 0.5:
        entry |= rng.choice((1 << 5, 3 << 5, 1 << 10 | 1 << 5, 1 << 6))
    if rng.random() < 0.1:
        entry |= 1 << 63
    return _spoil(rng, entry, wrong)


def _spoil(rng: random.Random, entry: int, wrong: float) -> int:
    if rng.random() < 0.2:
        entry |= rng.choice(IGNORED)
    if rng.random() < wrong:
        entry |= 1 << rng.randrange(7, 52)
    if rng.random() < wrong:
        entry ^= 1 << rng.randrange(64)
    if rng.random() < wrong:
        entry = entry & 0xFFF | rng.choice(OUTSIDE)
    return entry


def _capabilities(rng: random.Random) -> Capabilities:
    cap = Capability.of(
        sagaw=0b1110,
        mgaw=rng.choice((38, 47, 47, 56, 56)),
        sslps=rng.choice((0, 1, 3, 3, 3)),
        fs1gp=rng.random() < 0.7,
        psi=1,
        mamv=18,
        fs5lp=1,
        nd=6,
    )
    ecap = ExtendedCapability.of(
        qi=1,
        sc=rng.random() < 0.7,
        smts=1,
        smpwcs=rng.random() < 0.9,
        fsts=1,
        ssts=1,
        nest=1,
        ssads=1,
        eafs=1,
        srs=1,
        ers=1,
        pasid=1,
        pss=19,
    )
    return Capabilities(cap, ecap, rng.choice((39, 46, 52, 52)))


def _source(rng: random.Random, translation: TranslationType, legacy: bool, fs_targets: list[int]) -> Source:
    def maybe(chance: float) -> bool:
        return not legacy and rng.random() < chance

    second = translation in (TranslationType.SECOND_STAGE, TranslationType.NESTED)
    first = translation in (TranslationType.FIRST_STAGE, TranslationType.NESTED)
    broken = rng.random() < 0.03
    levels = rng.choice((3, 4, 5))
    roots = SS_TABLES[levels - 1 :: 5] if first else SS_TABLES
    return Source(
        translation,
        rng.randrange(1, 5),
        legacy,
        ss_table=Gpa(rng.choice(OUTSIDE if broken else roots) if second else 0),
        ss_levels=levels if second else 0,
        fs_table=Gpa(rng.choice(OUTSIDE if broken else fs_targets) if first else 0),
        fs_levels=rng.choice((4, 5)) if first else 0,
        fault_processing_disabled=rng.random() < 0.2,
        ss_accessed_dirty=maybe(0.4),
        ss_execute=maybe(0.3),
        write_protect=maybe(0.5),
        no_execute=maybe(0.5),
        supervisor_execute_prevention=maybe(0.5),
        extended_accessed=maybe(0.5),
        supervisor_requests=maybe(0.5),
        execute_requests=maybe(0.5),
        walk_snoop=maybe(0.9),
        privileged=maybe(0.1),
    )


def random_iova(rng: random.Random, levels: int) -> int:
    """An address that meets the entries the tables have, mostly."""
    iova = rng.randrange(PAGE) & ~7
    for level in range(1, levels + 1):
        iova |= rng.choice(INDICES) << 12 + 9 * (level - 1)
    if rng.random() < 0.05:
        iova |= 1 << rng.randrange(38, 64)
    width = 12 + 9 * levels
    if rng.random() < 0.5 and iova >> (width - 1) & 1:  # canonical, for the first stage
        iova |= (1 << 64) - (1 << width)
    return iova


def _request(rng: random.Random, source: Source) -> Request:
    levels = max(source.ss_levels, source.fs_levels, 3)
    if source.translation is TranslationType.PASS_THROUGH:
        iova = rng.choice((0x1000, 0xFEE0_0000, 0xFEEF_FFFF, 1 << 38, 1 << 46, 1 << 51, 1 << 52, (1 << 64) - 1))
    else:
        iova = random_iova(rng, source.fs_levels or levels)
    return Request(
        SourceId(rng.choice((0x10, 0x10, 0x20))),
        Iova(iova),
        rng.choices(list(Access), (5, 5, 2, 2))[0],
        pasid=None if source.legacy else rng.choice((None, Pasid(0), Pasid(7))),
        privileged=not source.legacy and rng.random() < 0.3,
    )
