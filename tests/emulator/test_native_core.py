"""The C core seen from Python: fresh or refused, the stub equal to it, memory shared, batches as one by one."""

from __future__ import annotations

import ast
import builtins
import gc
import random
import re
import weakref
from array import array
from pathlib import Path

import pytest

import emulator
from emulator import native_memory
from emulator.core import generate
from emulator.engine import IotlbGeometry, MissingCore, StaleCore, load_engine
from pagetables.address import Gpa, Iova, SourceId
from pagetables.errors import AlreadyMapped, MappingError, NotMapped, OutOfPages, VtdError
from pagetables.fault import Fault, FaultReason
from pagetables.mapper import PageTable, Stage
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, Permissions, Request, Translation
from pagetables.source import Source, TranslationType
from tests.required import need_engine
from tests.scenes import contents, make_scene

PAGE = 4096
READ_WRITE = Permissions.R | Permissions.W
PACKAGE = Path(emulator.__file__).parent


@pytest.fixture
def engine():
    return need_engine("native")


class Pages:
    """Table pages from 1 MiB up; None after `limit` of them."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.taken: list[int] = []
        self.limit = limit

    def take(self) -> Gpa | None:
        if len(self.taken) >= self.limit:
            return None
        self.taken.append(0x10_0000 + len(self.taken) * PAGE)
        return Gpa(self.taken[-1])


def make_mapper(engine, limit: int = 1 << 20, levels: int = 4, stage: Stage = Stage.SECOND, leaf_levels=(1, 2, 3)):
    memory = PhysicalMemory([(0, 0x80_0000)])
    pages = Pages(limit)
    return memory, pages, engine.mapper(memory, PageTable(stage, Gpa(PAGE), levels, frozenset(leaf_levels)), pages)


def test_a_core_of_other_layouts_is_refused(engine, monkeypatch) -> None:
    monkeypatch.setattr(native_memory, "layout_digest", lambda: "0" * 64)
    with pytest.raises(StaleCore, match=r"run `pip install -e \.`"):
        load_engine("native")


def test_a_core_that_is_not_built_is_one_sentence(monkeypatch) -> None:
    load = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "emulator._core":
            raise ImportError("No module named 'emulator._core'")
        return load(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingCore, match="C core is not built"):
        load_engine("native")


def test_a_changed_mask_changes_the_digest(monkeypatch) -> None:
    before = generate.layout_digest()
    monkeypatch.setattr(generate, "OFFSETS", ("GSTS", "FSTS", "IQH"))
    assert generate.layout_digest() != before
    assert generate.layout_digest() in generate.header()


def test_the_stub_names_what_the_core_has(engine) -> None:
    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    lib = next(node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "Lib")
    constants = {node.target.id for node in lib.body if isinstance(node, ast.AnnAssign)}
    functions = {node.name: len(node.args.posonlyargs) - 1 for node in lib.body if isinstance(node, ast.FunctionDef)}
    assert constants | functions.keys() == set(dir(engine.lib))
    for name, arguments in functions.items():
        assert len(engine.ffi.typeof(getattr(engine.lib, name)).args) == arguments, name


def test_the_header_is_the_only_text_with_prototypes() -> None:
    header = (PACKAGE / "core" / "core.h").read_text()
    declared = set(re.findall(r"\b(core_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
    defined: dict[str, int] = {}
    for path in (PACKAGE / "core").glob("*.c"):
        for name in re.findall(r"^(?!static)\w[\w *]*?\b(core_\w+)\([^;]*?\)\n\{", path.read_text(), re.M | re.S):
            defined[name] = defined.get(name, 0) + 1
    assert declared == defined.keys()
    assert set(defined.values()) == {1}


def test_the_core_sees_what_python_writes_and_the_other_way(engine) -> None:
    memory, pages, mapper = make_mapper(engine)
    mapper.map(Iova(0x5000), Gpa(0x7000), PAGE, READ_WRITE)
    leaf = memory.load(pages.taken[-1] + 8 * 5)
    assert leaf == 0x7003
    memory.store(pages.taken[-1] + 8 * 5, 0)
    with pytest.raises(NotMapped):
        mapper.unmap(Iova(0x5000), PAGE)


def test_a_closed_memory_stays_mapped_while_the_core_holds_it(engine) -> None:
    memory, _, mapper = make_mapper(engine)
    memory.close()
    mapper.map(Iova(0), Gpa(0), PAGE, READ_WRITE)
    assert mapper.unmap(Iova(0), PAGE).size == PAGE


def test_the_core_does_not_keep_a_memory_alive(engine) -> None:
    memory, _, mapper = make_mapper(engine)
    gone = weakref.ref(memory)
    del memory
    mapper.map(Iova(0), Gpa(0), PAGE, READ_WRITE)
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("seed", range(8))
def test_a_batch_of_walks_is_the_walks_one_by_one(engine, seed) -> None:
    scene = make_scene(seed + 7000, requests=100)
    memory, twin = scene.memory(), scene.memory()
    for request in scene.requests[:10]:
        iovas = [other.iova for other in scene.requests]
        answers = engine.ffi.new("struct core_answer[]", len(iovas))
        space, words = engine.space(scene.source, scene.capabilities), engine.ffi.new("uint64_t[]", iovas)
        where = native_memory.bind(engine.ffi, memory).struct
        engine.lib.core_walk_many(where, space, engine.request(request), words, len(iovas), answers)
        for iova, answer in zip(iovas, answers, strict=True):
            one = Request(request.source_id, iova, request.access, request.pasid, request.privileged)
            expected = engine.walk(twin, scene.source, one, scene.capabilities)
            if isinstance(expected, Fault):
                assert (answer.reason, answer.level) == (expected.reason, expected.level)
                assert (answer.address if answer.level else None) == expected.at
            else:
                assert not answer.reason
                assert (answer.address, answer.page_shift) == (expected.gpa, expected.page_shift)
                assert answer.permissions == expected.permissions
    assert contents(memory) == contents(twin)


@pytest.mark.parametrize("levels", [3, 4, 5])
@pytest.mark.parametrize("seed", range(6))
def test_a_batch_of_maps_and_unmaps_is_the_same_one_by_one(engine, seed, levels) -> None:
    rng = random.Random(seed)
    (memory, pages, mapper), (twin, twin_pages, one_by_one) = (make_mapper(engine, levels=levels) for _ in range(2))
    start = rng.choice((0, 0x1F0_0000, 0x3FF0_0000))
    iovas = array("Q", [start + page * PAGE for page in range(700)])
    if seed % 2:
        rng.shuffle(iovas)
    gpas = array("Q", [rng.randrange(1 << 39) * PAGE for _ in iovas])
    mapper.map_many(iovas, gpas, READ_WRITE)
    for iova, gpa in zip(iovas, gpas, strict=True):
        one_by_one.map(Iova(iova), Gpa(gpa), PAGE, READ_WRITE)
    assert (contents(memory), pages.taken) == (contents(twin), twin_pages.taken)
    some = iovas[: rng.randrange(1, 700)]
    assert mapper.unmap_many(some) == len(some) * PAGE
    assert [one_by_one.unmap(Iova(iova), PAGE).freed for iova in some] == [()] * len(some)
    assert contents(memory) == contents(twin)


def test_a_batch_stops_at_the_page_that_is_mapped_already(engine) -> None:
    _, _, mapper = make_mapper(engine)
    mapper.map(Iova(50 * PAGE), Gpa(0), PAGE, READ_WRITE)
    iovas = array("Q", [page * PAGE for page in range(100)])
    with pytest.raises(AlreadyMapped) as refused:
        mapper.map_many(iovas, iovas, READ_WRITE)
    assert refused.value.iova == 50 * PAGE
    assert mapper.unmap_many(iovas[:50]) == 50 * PAGE
    with pytest.raises(NotMapped) as refused:
        mapper.unmap_many(iovas[49:])
    assert refused.value.iova == 49 * PAGE


@pytest.mark.parametrize("wrong", [1, 1 << 48, (1 << 64) - PAGE])
def test_a_batch_stops_at_what_is_no_page_of_the_tables(engine, wrong) -> None:
    _, _, mapper = make_mapper(engine)
    pages = [page * PAGE for page in range(40)]
    with pytest.raises(MappingError) as refused:
        mapper.map_many(array("Q", [*pages, wrong]), array("Q", [0] * 41), READ_WRITE)
    assert refused.value.iova == wrong
    with pytest.raises(MappingError):
        mapper.unmap_many(array("Q", [wrong]))


def test_a_batch_whose_arrays_differ_in_length_is_refused(engine) -> None:
    _, _, mapper = make_mapper(engine)
    with pytest.raises(VtdError, match="cannot be mapped"):
        mapper.map_many(array("Q", [0]), array("Q", [0, PAGE]), READ_WRITE)


def test_a_batch_without_pages_for_tables_says_where(engine) -> None:
    _, _, mapper = make_mapper(engine, limit=3)
    iovas = array("Q", [page * PAGE for page in range(600)])
    with pytest.raises(OutOfPages) as refused:
        mapper.map_many(iovas, iovas, READ_WRITE)
    assert refused.value.iova == 512 * PAGE


def test_a_batch_needs_the_small_page_size(engine) -> None:
    _, _, mapper = make_mapper(engine, leaf_levels=(2, 3))
    with pytest.raises(MappingError, match="no page size"):
        mapper.map_many(array("Q", [0]), array("Q", [0]), READ_WRITE)


def test_an_unmap_of_many_tables_lists_them_all(engine) -> None:
    _, pages, mapper = make_mapper(engine, leaf_levels=(1,))
    mapper.map(Iova(0), Gpa(0), 1 << 28, READ_WRITE)
    unmapped = mapper.unmap(Iova(0), 1 << 28)
    assert unmapped.size == 1 << 28
    assert unmapped.freed == tuple(pages.taken[2:])


def test_many_requests_of_several_kinds_are_answered_in_order(engine) -> None:
    memory, _, mapper = make_mapper(engine)
    mapper.map(Iova(0x1000), Gpa(0x9000), PAGE, Permissions.R)
    source = Source(TranslationType.SECOND_STAGE, 3, True, ss_table=Gpa(PAGE), ss_levels=4)
    reads = [Request(SourceId(1), Iova(0x1010)), Request(SourceId(2), Iova(0x1020))]
    requests = [reads[0], Request(SourceId(1), Iova(0x1030), Access.WRITE), *reads]
    cache = engine.iotlb(IotlbGeometry(4, 2))
    first, denied, again, other = engine.translate_many(cache, memory, source, requests, make_scene(0).capabilities)
    assert first == again == Translation(0x9010, 12, Permissions.R | Permissions.X)
    assert isinstance(denied, Fault)
    assert denied.reason is FaultReason.WRITE_DENIED
    assert other.gpa == 0x9020
    assert {entry.source_id for entry in cache.entries()} == {1, 2}


def test_an_iotlb_of_the_other_engine_is_refused(engine) -> None:
    scene = make_scene(0)
    cache = load_engine("python").iotlb(IotlbGeometry(2, 2))
    with pytest.raises(VtdError, match=r"engine\.iotlb"):
        engine.translate(cache, scene.memory(), scene.source, scene.requests[0], scene.capabilities)


def test_what_does_not_fit_the_core_is_refused(engine) -> None:
    scene = make_scene(0)
    wide = Request(SourceId(1), Iova(1 << 64))
    with pytest.raises(VtdError, match="64 bits"):
        engine.walk(scene.memory(), scene.source, wide, scene.capabilities)
    deep = Source(TranslationType.SECOND_STAGE, 1, True, ss_table=Gpa(PAGE), ss_levels=6)
    with pytest.raises(VtdError, match="1 to 5"):
        engine.walk(scene.memory(), deep, scene.requests[0], scene.capabilities)
    with pytest.raises(MappingError, match="aligned"):
        engine.mapper(scene.memory(), PageTable(Stage.SECOND, Gpa(8), 4), Pages())
