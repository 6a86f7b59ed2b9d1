"""Hostile input: every parser from its seeds on, quickly always, and for as long as one likes with atheris.

`VTD_FUZZ_SECONDS=60 VTD_FUZZ_SEED=0 pytest -m slow tests/fuzz -s` is a campaign of a minute for each target, a new
one each time; without a seed of its own it starts the same way each time.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import FIXTURES
from tests.fuzz.targets import TARGETS

SECONDS = os.environ.get("VTD_FUZZ_SECONDS", "5")
MUTATIONS = 60


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` with a few bytes changed, and now and then cut or doubled."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    cut = chance.randrange(len(changed) + 1) if chance.random() < 0.3 else len(changed)
    return bytes(changed[:cut]) * (2 if chance.random() < 0.1 else 1)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_neighbours_break_nothing(name: str) -> None:
    target, chance = TARGETS[name], random.Random(name)
    seeds = list(target.seeds())
    for seed in seeds:
        target(seed)
    for _ in range(MUTATIONS):
        target(mutated(chance.choice(seeds), chance))


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_and_noise_break_nothing(name: str) -> None:
    chance = random.Random(name)
    for size in (0, 1, 7, 8, 64, 4096):
        TARGETS[name](chance.randbytes(size))


@pytest.mark.slow
def test_no_single_damaged_byte_of_a_parquet_file_breaks_anything() -> None:
    # Mutations by chance seldom reach a byte that pyarrow does not check itself: a column's name, a dictionary's index.
    seed = next(iter(TARGETS["parquet"].seeds()))
    for place, byte in enumerate(seed):
        for damaged in (byte ^ 0xFF, byte ^ 0x40):
            TARGETS["parquet"](seed[:place] + bytes([damaged]) + seed[place + 1 :])


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_campaign_breaks_nothing(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("NOT RUN: pip install atheris")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", name, SECONDS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(FIXTURES.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    count = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert count is not None
    assert int(count[1]) > 0
    sys.stdout.write(f"{name}: {int(count[1]):,} inputs\n")
