"""One campaign, in a process of its own: `python -m tests.fuzz.run TARGET SECONDS [INPUT...]`.

Coverage guides it, memory and the time of each input are bounded. It ends with the first input that breaks
something, whose bytes it leaves in the working directory; with INPUT files it feeds only these, again.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pagetables", "emulator.trace"]):
    from tests.fuzz.targets import LONGEST, TARGETS

SEED = os.environ.get("VTD_FUZZ_SEED", "1")  # 0: another each time
MEMORY_MIB = 1024
SLOWEST = 10  # seconds one input may take


def main(name: str, seconds: str, *inputs: str) -> None:
    """Runs it; never returns."""
    target = TARGETS[name]
    options = [f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MIB}", f"-timeout={SLOWEST}", f"-seed={SEED}"]
    options += [f"-max_len={LONGEST}", "-print_final_stats=1", "-verbosity=0"]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds()):
            Path(folder, str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, *(inputs or [folder])], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
