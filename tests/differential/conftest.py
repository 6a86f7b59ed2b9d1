"""Counts at the end of a run."""

from __future__ import annotations

import pytest

from tests.differential.campaign import SEED
from tests.differential.counts import COUNTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was compared with QEMU, and from which seed."""
    if COUNTS:
        numbers = ", ".join(f"{number:,} {name}" for name, number in sorted(COUNTS.items()))
        terminalreporter.write_line(f"compared with QEMU (seed {SEED}): {numbers}")
