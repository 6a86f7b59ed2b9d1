"""Fixtures shared by the suite: the two engines, the recordings, and loud skips."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emulator.engine import ENGINES, Engine, MissingCore, load_engine

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
REQUIRED = os.environ.get("VTD_REQUIRE", "").split()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each behavioural test runs on both engines; which one ran is proved, not assumed."""
    try:
        engine = load_engine(request.param)
    except MissingCore as missing:
        if "native" in REQUIRED:
            raise
        pytest.skip(f"NOT RUN: {missing}")
    assert engine.name == request.param
    return engine


def corpus_folder() -> Path | None:
    """The large recordings, or None where VTD_CORPUS does not name them."""
    name = os.environ.get("VTD_CORPUS")
    return Path(name) if name else None


@pytest.fixture
def corpus() -> Path:
    """The folder of the large recordings; skips loudly without VTD_CORPUS."""
    folder = corpus_folder()
    if folder is None:
        if "corpus" in REQUIRED:
            pytest.fail("VTD_REQUIRE names the corpus, but VTD_CORPUS is not set")
        pytest.skip("NOT RUN: set VTD_CORPUS to the folder of the large recordings")
    if not folder.is_dir():
        pytest.fail(f"VTD_CORPUS={folder} is not a folder")
    return folder
