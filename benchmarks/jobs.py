"""The jobs: each prepares its inputs, checks once that both sides give the same result, and returns the two to time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Job
from benchmarks.scene import PAGE, READ_WRITE, Scene, Words
from benchmarks.strict import replay
from pagetables.address import Gpa, Iova
from pagetables.errors import VtdError

__all__ = [
    "hit",
    "map_call",
    "map_python",
    "map_random",
    "map_sequential",
    "replay",
    "unmap_random",
    "unmap_sequential",
    "walk",
]

MANY = 1 << 16
CALLS = 4096
NEAR = 1 << 14  # pages that calls choose from: 64 MiB, whose tables stay in the cache
CACHED = 512  # pages: they fit an IOTLB of 1024 entries
ANSWER = np.dtype({"names": ["address", "reason"], "formats": ["<u8", "u1"], "offsets": [0, 8], "itemsize": 16})


def _check(same: bool, what: str) -> None:
    if not same:
        raise VtdError(f"benchmark {what}: the limit and the core do not give the same result")


def _translated(answers: Any, ffi: Any) -> Words:
    found = np.frombuffer(ffi.buffer(answers), dtype=ANSWER)
    _check(not found["reason"].any(), "walk")
    return found["address"]


def walk(scene: Scene) -> Job:
    """Random addresses of the whole window."""
    ffi, lib, _ = scene.engine.ffi, scene.engine.lib, scene.mapper
    iovas = scene.addresses(MANY)
    ours, limit = ffi.new("struct core_answer[]", MANY), np.zeros(MANY, dtype=np.uint64)
    memory, space, request, words = scene.core_memory(), scene.space(), scene.request(), scene.words(iovas)
    bare, out = scene.limit_words(iovas), scene.limit_words(limit)
    job = Job(
        lambda: scene.limit.limit_walk(scene.base, scene.root, bare, MANY, out),
        lambda: lib.core_walk_many(memory, space, request, words, MANY, ours),
        MANY,
    )
    job.limit(), job.ours()
    _check(np.array_equal(limit, _translated(ours, ffi)), "walk")
    return job


def hit(scene: Scene) -> Job:
    """Random addresses of pages that are all cached."""
    ffi, lib, _ = scene.engine.ffi, scene.engine.lib, scene.mapper
    iotlb, bits, domain = scene.iotlb(), 8, scene.source.domain_id
    memory, space, request = scene.core_memory(), scene.space(), scene.request()
    pages = scene.random.permutation(CACHED).astype(np.uint64) * np.uint64(PAGE)
    ours = ffi.new("struct core_answer[]", MANY)
    lib.core_translate_many(iotlb.struct, memory, space, request, scene.words(pages), CACHED, ours)
    slots = np.zeros((256, 4, 2), dtype=np.uint64)
    for entry in iotlb.entries():
        page = entry.iova >> 12
        ways = slots[(page ^ page >> bits ^ domain) & 255]
        ways[int(np.count_nonzero(ways[:, 1]))] = (page | domain << 48, entry.gpa or 1 << 63)
    iovas = scene.addresses(MANY, CACHED)
    limit = np.zeros(MANY, dtype=np.uint64)
    words, bare, out, table = (
        scene.words(iovas),
        scene.limit_words(iovas),
        scene.limit_words(limit),
        scene.limit_words(slots),
    )
    job = Job(
        lambda: scene.limit.limit_probe(table, bits, domain, bare, MANY, out),
        lambda: lib.core_translate_many(iotlb.struct, memory, space, request, words, MANY, ours),
        MANY,
    )
    job.limit(), job.ours()
    _check(np.array_equal(limit & np.uint64((1 << 63) - 1), _translated(ours, ffi)), "hit")
    _check(len(iotlb.entries()) == CACHED, "hit")
    return job


def _mapping(scene: Scene, iovas: Words, unmap: bool) -> Job:
    # Both sides work on the same tables; what one of them removes or writes is put back before its next turn.
    ffi, lib, mapper = scene.engine.ffi, scene.engine.lib, scene.mapper
    count, gpas = len(iovas), iovas[::-1].copy()
    words, frames, next_ = scene.words(iovas), scene.words(gpas), ffi.new("uint64_t *")
    bare, bare_frames = scene.limit_words(iovas), scene.limit_words(gpas)

    def map_() -> None:
        next_[0] = 0
        _check(lib.core_map_many(mapper.struct, words, frames, count, READ_WRITE, next_) == 0, "map")

    def unmap_() -> None:
        next_[0] = 0
        _check(lib.core_unmap_many(mapper.struct, words, count, next_) == 0, "unmap")

    def limit_map() -> None:
        scene.limit.limit_map(scene.base, scene.root, bare, bare_frames, count)

    def limit_unmap() -> None:
        scene.limit.limit_unmap(scene.base, scene.root, bare, count)

    if unmap:
        return Job(limit_unmap, unmap_, count, before_limit=limit_map, before_ours=limit_map)
    return Job(limit_map, map_, count, before_limit=limit_unmap, before_ours=limit_unmap)


def map_random(scene: Scene) -> Job:
    """Random pages of the window, in tables that exist."""
    return _mapping(scene, scene.random.permutation(scene.window)[:MANY], unmap=False)


def unmap_random(scene: Scene) -> Job:
    """Random pages of the window."""
    return _mapping(scene, scene.random.permutation(scene.window)[:MANY], unmap=True)


def map_sequential(scene: Scene) -> Job:
    """Neighbouring pages, in tables that exist."""
    return _mapping(scene, scene.window[:MANY], unmap=False)


def unmap_sequential(scene: Scene) -> Job:
    """Neighbouring pages."""
    return _mapping(scene, scene.window[:MANY], unmap=True)


def _calls(scene: Scene, make: Callable[[list[int]], Callable[[], None]]) -> Job:
    lib = scene.engine.lib
    iovas = scene.random.permutation(scene.window[:NEAR])[:CALLS]
    words = scene.limit_words(iovas)
    ours, nothing = make(iovas.tolist()), lib.core_nothing
    scene.mapper  # noqa: B018  # maps the window

    def empty() -> None:
        for _ in addresses:
            nothing()

    addresses = iovas.tolist()
    return Job(
        empty,
        ours,
        CALLS,
        before_ours=lambda: scene.limit.limit_unmap(scene.base, scene.root, words, CALLS),
    )


def map_call(scene: Scene) -> Job:
    """One page a call, random, into tables that exist: the function in C, called as Python calls it."""

    def make(iovas: list[int]) -> Callable[[], None]:
        mapper, map_, permissions = scene.mapper.struct, scene.engine.lib.core_map, int(READ_WRITE)

        def ours() -> None:
            for iova in iovas:
                map_(mapper, iova, iova, PAGE, permissions)

        return ours

    return _calls(scene, make)


def map_python(scene: Scene) -> Job:
    """The same through `TableMapper.map`, which checks its arguments and raises what is wrong."""

    def make(iovas: list[int]) -> Callable[[], None]:
        map_ = scene.mapper.map

        def ours() -> None:
            for iova in iovas:
                map_(Iova(iova), Gpa(iova), PAGE, READ_WRITE)

        return ours

    return _calls(scene, make)
