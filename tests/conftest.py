"""Fixtures shared by the suite: the two engines, the recordings, and loud skips."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emulator.engine import ENGINES, Engine
from tests.required import absent, need_engine

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each behavioural test runs on both engines; which one ran is proved, not assumed."""
    return need_engine(request.param)


def corpus_folder() -> Path | None:
    """The large recordings, or None where VTD_CORPUS does not name them."""
    name = os.environ.get("VTD_CORPUS")
    return Path(name) if name else None


@pytest.fixture
def corpus() -> Path:
    """The folder of the large recordings; skips loudly without VTD_CORPUS."""
    folder = corpus_folder()
    if folder is None:
        absent("corpus", "VTD_CORPUS is not set to the folder of the large recordings")
    if not folder.is_dir():
        pytest.fail(f"VTD_CORPUS={folder} is not a folder")
    return folder
