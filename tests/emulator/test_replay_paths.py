"""The fast path, the plain loop and the readable engine: equal reports, memory, registers and page supplies."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from emulator.replay import Replay
from emulator.replay_fast import FastReplay
from emulator.settings import Settings
from tests.conftest import FIXTURES
from tests.recordings import VARIANTS, trace_of
from tests.required import need_engine
from tests.scripts import Script

PAGE = 4096
MEGA = 1 << 20
GIGA = 1 << 30
DEVICES = ("00:03.0", "00:04.0", "00:1f.2", "3a:00.1")


@pytest.fixture(autouse=True)
def core() -> None:
    need_engine("native")


def outcome(trace, engine: str, fast: bool, values: dict) -> dict:
    """Everything that a replay leaves behind, but for how long it took."""
    run = Replay(trace, Settings.of({"engine": engine, **values}), fast=fast)
    report = run.run().as_dict()
    memory = run.machine.memory
    pages = {
        at: data
        for start, size in memory.touched()
        for at in range(start, start + size, PAGE)
        if any(data := memory.read(at, PAGE))
    }
    for name in ("elapsed_s", "events_per_s", "engine"):
        del report[name]
    return {
        "report": report,
        "pages": pages,
        "registers": bytes(run.machine.unit.registers),
        "idle": list(run.machine.supply.__dict__.get("_pool", ())),
        "now": run.machine.clock.now,
        "statistics": run.machine.layer.statistics,
        "submitted": run.machine.driver.queue.submitted,
    }


def assert_paths_agree(trace, values: dict, engines=(("native", True), ("native", False), ("python", False))) -> None:
    first, *others = [outcome(trace, engine, fast, values) for engine, fast in engines]
    for other, (engine, fast) in zip(others, engines[1:], strict=True):
        for name in first:
            assert first[name] == other[name], f"{name}, {engine}, fast={fast}"


class Life:
    """A random but mostly well-behaved life of a few devices: what is mapped is remembered, to unmap it later."""

    def __init__(self, seed: int, events: int):
        self.random = random.Random(seed)
        self.script = Script(self.random.choice(["6.x", "7.x"]))
        self.live: list[tuple[int, int, int]] = []
        self.attached: set[tuple[str, int]] = set()
        for device, space in zip(DEVICES, (0, 1, 1, 2), strict=True):
            self.attach(device, space)
        for _ in range(events):
            self.step()

    def attach(self, device: str, space: int) -> None:
        self.script.attach(device, space)
        self.attached = {pair for pair in self.attached if pair[0] != device} | {(device, space)}

    def step(self) -> None:
        chance = self.random.random()
        if chance < 0.55:
            self.map()
        elif chance < 0.90 and self.live:
            space, iova, size = self.live.pop(self.random.randrange(len(self.live)))
            self.script.unmap(iova, size, space, cpu=self.random.randrange(4))
        elif chance < 0.93:
            device, space = self.random.choice(sorted(self.attached)), self.random.randrange(5)
            self.attach(device[0], space)
        elif chance < 0.95 and len(self.attached) > 1:
            device, space = self.random.choice(sorted(self.attached))
            self.script.detach(device, space)
            self.attached.discard((device, space))
        elif chance < 0.98:
            self.script.access(self.random.randrange(1 << 40), self.random.randrange(1, 9000), "w")
        else:
            self.script.wait(self.random.randrange(200_000))

    def map(self) -> None:
        size = self.random.choice([PAGE, PAGE, 2 * PAGE, 33 * PAGE, 2 * MEGA, 4 * MEGA + PAGE])
        align = self.random.choice([PAGE, 2 * MEGA, GIGA])
        size = GIGA if align == GIGA and size == PAGE else size
        iova = self.random.choice([self.random.randrange(64 * MEGA), self.random.randrange(1 << 41)]) // align * align
        gpa = self.random.randrange(2 * GIGA) // align * align
        space, access = self.random.randrange(5), self.random.choice(["r", "w", "rw", "-"])
        leaves = 0 if size == GIGA else self.random.choice([0, 0, 1, 3, 7])  # a GiB of 4 KiB leaves takes too long
        self.script.map(iova, gpa, size, access, space, leaf_levels=leaves)
        self.live.append((space, iova, size))


CONFIGURATIONS = (
    {},
    {"levels": 3},
    {"mode": "scalable"},
    {"mode": "scalable", "stage": "first"},
    {"levels": 5},
    {"pool": "os"},
    {"kernel.size": "2M", "kernel.used": 300, "kernel.min_free_kib": 128, "pool.min": 8, "pool.grow": 4},
    {"flush": "deferred"},
    {"flush": "deferred", "flush.entries": 4},
)


@pytest.mark.parametrize("values", CONFIGURATIONS, ids=lambda v: ",".join(f"{a}={b}" for a, b in v.items()) or "plain")
@pytest.mark.parametrize("seed", range(6))
def test_random_lives_leave_the_same_behind(seed: int, values: dict) -> None:
    assert_paths_agree(Life(seed, 150).script.trace(), values)


@pytest.mark.slow
@pytest.mark.parametrize("values", CONFIGURATIONS, ids=lambda v: ",".join(f"{a}={b}" for a, b in v.items()) or "plain")
@pytest.mark.parametrize("seed", range(100, 140))
def test_long_random_lives_leave_the_same_behind(seed: int, values: dict) -> None:
    assert_paths_agree(Life(seed, 600).script.trace(), values)


@pytest.mark.parametrize("variant", VARIANTS)
def test_real_traces_leave_the_same_behind(corpus: Path, variant: str) -> None:
    assert_paths_agree(trace_of(corpus / variant), {}, (("native", True), ("native", False)))


def test_a_shipped_trace_leaves_the_same_behind_with_the_readable_engine() -> None:
    assert_paths_agree(trace_of(FIXTURES / "images" / "t-vfio-superpages"), {})


@pytest.mark.parametrize(
    "values, fast",
    [({}, True), ({"flush": "deferred"}, False), ({"engine": "python"}, False), ({"mode": "scalable"}, True)],
    ids=str,
)
def test_the_fast_path_is_taken_where_it_can_be(values: dict, fast: bool) -> None:
    run = Replay(Script().attach().trace(), Settings.of(values))
    assert (FastReplay.of(run) is not None) == fast
