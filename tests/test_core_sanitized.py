"""The C core under AddressSanitizer and UndefinedBehaviorSanitizer: it never leaves the memory it was given.

The core is compiled again with sanitizers, and another Python runs the campaigns of test_engines_agree.py on it, on
memory from malloc, so that one byte beyond its end is seen. That Python is this file, run as a script.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import struct
import subprocess
import sys
import sysconfig
from array import array
from pathlib import Path

import pytest

from tests.required import need_program

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "emulator" / "core"
FLAGS = ("-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SEEDS = 40
PAGE = 4096


def _compiler() -> str:
    return os.environ.get("CC") or need_program("native", "gcc", "cc", package="gcc")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The sanitized extension, and the environment in which Python can load it."""
    from emulator.core.build import SOURCES, builder

    compiler, folder = _compiler(), tmp_path_factory.mktemp("core")
    builder.emit_c_code(str(folder / "_core.c"))
    extension = folder / "_core.abi3.so"
    include = sysconfig.get_paths()["include"]
    sources = [folder / "_core.c", *(CORE / name for name in SOURCES)]
    command = [compiler, *FLAGS, f"-I{CORE}", f"-I{include}", *map(str, sources), "-o", str(extension)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    runtimes = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    options = {
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(ROOT),
    }
    return extension, {**os.environ, **options}


def _run(sanitized: tuple[Path, dict[str, str]], what: str) -> subprocess.CompletedProcess[str]:
    extension, environment = sanitized
    command = [sys.executable, str(Path(__file__).resolve()), str(extension), what]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", ["walks", "translations", "mappings", "queues", "edges", "replays"])
def test_the_core_stays_inside_its_memory(sanitized: tuple[Path, dict[str, str]], what: str) -> None:
    done = _run(sanitized, what)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == ["done", what]


def test_a_read_beyond_the_memory_would_be_seen(sanitized: tuple[Path, dict[str, str]]) -> None:
    done = _run(sanitized, "overrun")
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr


# -- what the other Python runs --------------------------------------------------------------------------------------


def _load(path: str) -> None:
    spec = importlib.util.spec_from_file_location("emulator._core", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["emulator._core"] = module


def _use_heap() -> type:
    from pagetables import memory

    class HeapMemory(memory.PhysicalMemory):
        """Memory in one block of malloc, which ends where the last region ends."""

        def __init__(self, regions) -> None:
            super().__init__(regions)
            self.buffer.close()
            self.buffer = bytearray(self.span)

    return HeapMemory


def _edges(memory_type: type) -> None:
    """Tables, queues and pages at the very end of memory, one beyond it, and far away."""
    from emulator.engine import IotlbGeometry, QueueState, load_engine
    from pagetables.errors import VtdError
    from pagetables.mapper import PageTable, Stage
    from pagetables.request import Access, Permissions, Request
    from pagetables.source import Source, TranslationType
    from tests.scenes import make_scene

    engine, rng = load_engine("native"), random.Random(1)
    size = 16 * PAGE
    ends = (size - PAGE, size, size + PAGE, 1 << 51, (1 << 52) - PAGE)
    for case in range(120):
        memory = memory_type([(0, 4 * PAGE), (8 * PAGE, 8 * PAGE)])
        for at in range(0, 4 * PAGE, 8):
            memory.store(at, rng.choice(ends) | rng.choice((3, 0x83, 7, 0x27)))
        for at in range(size - PAGE, size, 8):
            memory.store(at, rng.choice((*ends, 0)) | rng.choice((3, 0x83, 7)))
        root = rng.choice((0, PAGE, *ends))
        first = case % 3 == 0
        kind = (
            rng.choice((TranslationType.FIRST_STAGE, TranslationType.NESTED)) if first else TranslationType.SECOND_STAGE
        )
        source = Source(kind, 1, not first, ss_table=root, ss_levels=4, fs_table=root, fs_levels=4, walk_snoop=True)
        capabilities = make_scene(case).capabilities
        requests = [Request(0x10, rng.getrandbits(47) & ~7, rng.choice(list(Access))) for _ in range(80)]
        cache = engine.iotlb(IotlbGeometry(2, 2))
        engine.translate_many(cache, memory, source, requests, capabilities)

        class Pages:
            def take(self):
                return rng.choice((None, size - PAGE, *ends))

        mapper = engine.mapper(memory, PageTable(Stage.SECOND, root, 4), Pages())
        for _ in range(20):
            iova, pages = rng.getrandbits(36) << 12, rng.choice((1, 600, 1 << 18))
            with contextlib.suppress(VtdError):
                mapper.map(iova, iova & (1 << 51) - 1, pages * PAGE, Permissions.R)
            with contextlib.suppress(VtdError):
                mapper.unmap(iova, pages * PAGE)
            with contextlib.suppress(VtdError):
                mapper.split(iova)
            with contextlib.suppress(VtdError):
                mapper.map_many(array("Q", [iova] * 40), array("Q", [0] * 40), Permissions.R)
            with contextlib.suppress(VtdError):
                mapper.unmap_many(array("Q", [iova] * 40))
        registers = bytearray(PAGE)
        struct.pack_into("<QQ", registers, 0x80, rng.getrandbits(64), rng.getrandbits(64))
        base, length, slot = rng.choice((0, *ends)), rng.choice((PAGE, 1 << 19)), rng.choice((16, 32))
        engine.run_queue(QueueState(memory, registers, cache, base, length, slot, capabilities))


def _overrun(memory_type: type) -> None:
    """A region one page longer than its memory: what a missing check would do."""
    from emulator.engine import load_engine
    from pagetables.request import Request
    from pagetables.source import Source, TranslationType
    from tests.scenes import make_scene

    memory = memory_type([(0, 4 * PAGE)])
    memory.regions = ((0, 5 * PAGE),)
    source = Source(TranslationType.SECOND_STAGE, 1, True, ss_table=4 * PAGE, ss_levels=4)
    load_engine("native").walk(memory, source, Request(0x10, 0), make_scene(0).capabilities)


def _replays() -> None:
    from tests.emulator import test_native_replay as replays

    for settings in replays.MODES:
        for seed in range(2):
            replays.Side(settings).replay_natively(replays.random_events(seed, 300))


def _campaign(what: str, memory_type: type) -> None:
    from emulator.engine import load_engine
    from tests import scenes, test_engines_agree

    scenes.PhysicalMemory = test_engines_agree.PhysicalMemory = memory_type
    engines = load_engine("python"), load_engine("native")
    for seed in range(SEEDS):
        getattr(test_engines_agree, what)(engines, seed)


def _main(path: str, what: str) -> None:
    _load(path)
    heap = _use_heap()
    if what == "edges":
        _edges(heap)
    elif what == "overrun":
        _overrun(heap)
    elif what == "replays":
        _replays()
    else:
        _campaign(what, heap)
    sys.stdout.write(f"done {what}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
