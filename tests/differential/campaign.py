"""Which machines there are to compare with, and what is done about a scene whose answers differ."""

from __future__ import annotations

import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.engine import ENGINES, load_engine
from tests.differential.scene import Scene, differences
from tests.differential.shrink import shrink
from tests.required import need_newer_qemu, need_qemu

__all__ = ["MACHINES", "SEED", "binary_of", "compare"]

SEED = (
    random.SystemRandom().randrange(1 << 32)
    if os.environ.get("VTD_SEED") == "random"
    else int(os.environ.get("VTD_SEED", "1"))
)
MACHINES = (
    ("7.2", ""),
    ("7.2", "aw-bits=48"),
    ("7.2", "aw-bits=48,device-iotlb=on,snoop-control=on,intremap=off"),
    ("7.2", "aw-bits=48,x-scalable-mode=on"),
    ("10.0", ""),
    ("10.0", "x-scalable-mode=on"),
    ("10.0", "x-scalable-mode=on,x-flts=on"),
    ("10.0", "device-iotlb=on,stale-tm=on,caching-mode=on"),
)


def binary_of(version: str) -> str:
    """The path of QEMU `version`; a loud skip where there is none, a failure where it is required."""
    return need_qemu(version) if version == "7.2" else need_newer_qemu(version)


def compare(scene: Scene, binary: str, number: int = 0) -> None:
    """Fail if ours and QEMU's answers differ; the scene is shrunk and kept. Scenes take turns with the engines."""
    engine = load_engine(ENGINES[number % len(ENGINES)])
    found = differences(scene, binary, engine)
    if not found:
        return
    cut = replace(scene, ops=scene.ops[: found[0].number + 1])
    small = shrink(cut, lambda one: bool(differences(one, binary, engine)))
    folder = Path(os.environ.get("VTD_SCENES") or tempfile.mkdtemp(prefix="vtd-scenes-"))
    path = small.save(folder)
    last = differences(small, binary, engine)
    pytest.fail(
        f"{(last or found)[0]}\n{len(small.ops)} operations; replay: python -m tests.differential.replay {path}"
    )
