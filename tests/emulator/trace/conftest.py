"""Where the recorded traces among the fixtures are."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def fixture_traces() -> Path:
    """The folder of the recorded traces that everyone has."""
    return Path(__file__).resolve().parents[3] / "fixtures" / "traces"
