"""Recordings of real guests, replayed: the trace, the truth beside it, and our tables walked by hand.

The walk starts at the root pointer and uses nothing of ours but the memory that the tables lie in.
"""

from __future__ import annotations

import functools
import gzip
import json
import struct
from collections import Counter
from pathlib import Path

from emulator.replay import Replay
from emulator.settings import Settings
from emulator.trace import read_traces
from pagetables.memory import PhysicalMemory
from tests.conftest import FIXTURES

VARIANTS = (
    "a-legacy-strict",
    "c-scalable",
    "f-intremap",
    "h-fault",
    "i-firststage-k72",
    "t-vfio-superpages",
    "x-tracecmd",
)
PAGE_MASK = 0x000F_FFFF_FFFF_F000
Leaf = tuple[int, int, int]  # iova, gpa, size


@functools.lru_cache(maxsize=8)
def trace_of(folder: Path):
    """The trace of a recording: of the corpus, or of those that are shipped."""
    shipped = FIXTURES / "traces" / f"{folder.name}.txt.xz"
    return read_traces([shipped if folder.parent == FIXTURES / "images" else folder / "trace.txt.gz"])


def truth_of(folder: Path) -> dict:
    """What an independent walker found in the guest's memory."""
    path = folder / "truth.json"
    if path.exists():
        return json.loads(path.read_text())
    return json.loads(gzip.decompress((folder / "truth.json.gz").read_bytes()))


def recorded(folder: Path) -> dict[str, set[Leaf]]:
    """The leaves of each device, as an independent walk of the guest's memory found them."""
    truth = truth_of(folder)
    tables = {
        table["id"]: {(int(m[0], 16), int(m[1], 16), int(m[2], 16)) for m in table["maps"] or []}
        for table in truth["tables"]
    }
    return {found["bdf"]: tables[found["table"]] for found in truth["attachments"]}


def _qwords(memory: PhysicalMemory, page: int) -> tuple[int, ...]:
    return struct.unpack("<512Q", memory.read(page, 4096))


def leaves(memory: PhysicalMemory, table: int, level: int, first: bool, iova: int = 0) -> set[Leaf]:
    """Every leaf below `table`."""
    found: set[Leaf] = set()
    for index, entry in enumerate(_qwords(memory, table)):
        at, size = iova + (index << 12 + 9 * (level - 1)), 1 << 12 + 9 * (level - 1)
        if not entry & (1 if first else 3):
            continue
        if level == 1 or entry & 0x80:
            found.add((at, entry & PAGE_MASK, size))
        else:
            found |= leaves(memory, entry & PAGE_MASK, level - 1, first, at)
    return found


def legacy_spaces(run: Replay) -> dict[str, set[Leaf]]:
    """The leaves of each device that legacy root and context tables lead to."""
    memory, root = run.machine.memory, run.machine.unit.read64(0x20) & ~0xFFF
    spaces = {}
    for bus in range(256):
        entry = _qwords(memory, root)[2 * bus]
        if not entry & 1:
            continue
        context = _qwords(memory, entry & PAGE_MASK)
        for devfn in range(256):
            low, high = context[2 * devfn : 2 * devfn + 2]
            if low & 1:
                name = f"{bus:02x}:{devfn >> 3:02x}.{devfn & 7}"
                spaces[name] = leaves(memory, low & PAGE_MASK, (high & 7) + 2, first=False)
    return spaces


def scalable_spaces(run: Replay) -> dict[str, set[Leaf]]:
    """The leaves of each device that scalable root, context and PASID tables lead to."""
    memory, root = run.machine.memory, run.machine.unit.read64(0x20) & ~0xFFF
    spaces = {}
    for half in range(512):
        entry = _qwords(memory, root)[half]
        if not entry & 1:
            continue
        for slot in range(128):
            context = _qwords(memory, entry & PAGE_MASK)[4 * slot]
            if context & 1:
                directory = _qwords(memory, context & PAGE_MASK)[0]
                pasid = _qwords(memory, directory & PAGE_MASK)[:8]
                first = pasid[0] >> 6 & 7 == 1
                table = pasid[2 if first else 0] & PAGE_MASK
                sid = half << 7 | slot
                name = f"{sid >> 8:02x}:{sid >> 3 & 31:02x}.{sid & 7}"
                spaces[name] = leaves(memory, table, 4, first)
    return spaces


def assert_equal_leaves(run: Replay, truth: dict[str, set[Leaf]], ours: dict[str, set[Leaf]]) -> None:
    """Every device has its recorded leaves, but for those no event ascribes to it; stand-ins have exactly these."""
    missing: Counter[Leaf] = Counter()
    apart: Counter[Leaf] = Counter()
    for space in run.report.spaces:
        for device in space.devices:
            if space.attributed and device in truth:
                assert ours[device] <= truth[device], device
        if space.attributed:
            missing.update(truth[space.devices[0]] - ours[space.devices[0]])
        else:
            apart.update(ours[space.devices[0]])
    assert missing == apart
    assert not missing or "i-firststage-k72" in run.trace.files[0]  # Linux 7.2 maps for NVMe without a dma event


def replayed(folder: Path, engine_name: str, fast: bool = True, **values) -> Replay:
    """A recording replayed; `report` is what it found."""
    run = Replay(trace_of(folder), Settings.of({"engine": engine_name, **values}), fast=fast)
    run.report = run.run()
    return run
