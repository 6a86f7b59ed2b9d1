"""Real kernels' traces, replayed: the counts, the bytes that are live, and every leaf against the recorded tables.

The tables are walked here by hand, from the root pointer down, with nothing of ours but the memory they lie in.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
import struct
from collections import Counter
from pathlib import Path

import pytest

from emulator.replay import Replay
from emulator.settings import Settings
from emulator.trace import read_traces
from pagetables.memory import PhysicalMemory

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
    return read_traces([folder / "trace.txt.gz"])


def truth_of(folder: Path) -> dict:
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


def qwords(memory: PhysicalMemory, page: int) -> tuple[int, ...]:
    return struct.unpack("<512Q", memory.read(page, 4096))


def leaves(memory: PhysicalMemory, table: int, level: int, first: bool, iova: int = 0) -> set[Leaf]:
    found: set[Leaf] = set()
    for index, entry in enumerate(qwords(memory, table)):
        at, size = iova + (index << 12 + 9 * (level - 1)), 1 << 12 + 9 * (level - 1)
        if not entry & (1 if first else 3):
            continue
        if level == 1 or entry & 0x80:
            found.add((at, entry & PAGE_MASK, size))
        else:
            found |= leaves(memory, entry & PAGE_MASK, level - 1, first, at)
    return found


def legacy_spaces(run: Replay) -> dict[str, set[Leaf]]:
    memory, root = run.machine.memory, run.machine.unit.read64(0x20) & ~0xFFF
    spaces = {}
    for bus in range(256):
        entry = qwords(memory, root)[2 * bus]
        if not entry & 1:
            continue
        context = qwords(memory, entry & PAGE_MASK)
        for devfn in range(256):
            low, high = context[2 * devfn : 2 * devfn + 2]
            if low & 1:
                name = f"{bus:02x}:{devfn >> 3:02x}.{devfn & 7}"
                spaces[name] = leaves(memory, low & PAGE_MASK, (high & 7) + 2, first=False)
    return spaces


def scalable_spaces(run: Replay) -> dict[str, set[Leaf]]:
    memory, root = run.machine.memory, run.machine.unit.read64(0x20) & ~0xFFF
    spaces = {}
    for half in range(512):
        entry = qwords(memory, root)[half]
        if not entry & 1:
            continue
        for slot in range(128):
            context = qwords(memory, entry & PAGE_MASK)[4 * slot]
            if context & 1:
                directory = qwords(memory, context & PAGE_MASK)[0]
                pasid = qwords(memory, directory & PAGE_MASK)[:8]
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


def replayed(folder: Path, engine_name: str, **values) -> Replay:
    run = Replay(trace_of(folder), Settings.of({"engine": engine_name, **values}))
    run.report = run.run()
    return run


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_real_trace_is_replayed_whole(engine, corpus: Path, variant: str) -> None:
    run = replayed(corpus / variant, engine.name)
    counted = json.loads((corpus / variant / "crosscheck.json").read_text())["events"]
    report = run.report
    assert (report.applied["map"], report.applied["unmap"]) == (counted["map"], counted["unmap"])
    assert report.misuse == []
    assert report.faults == []
    assert not any(report.failed.values())
    assert list(report.skipped) == []
    assert report.live_bytes == sum(
        int(m[2], 16) for table in truth_of(corpus / variant)["tables"] for m in table["maps"] or []
    )
    assert_equal_leaves(run, recorded(corpus / variant), legacy_spaces(run))


def test_trace_a_has_the_numbers_that_were_counted_by_hand(engine, corpus: Path) -> None:
    report = replayed(corpus / "a-legacy-strict", engine.name).report
    assert (report.applied["map"], report.applied["unmap"], report.live_bytes) == (20170, 6625, 5285 * 4096)
    assert (report.invalidations["page"], report.invalidations["wait"]) == (6625, 6625)
    assert report.table_pages == {"peak": 53, "final": 53, "freed": 0}


@pytest.mark.parametrize("values", [{}, {"stage": "first"}], ids=["second-stage", "first-stage"])
def test_a_scalable_recording_replayed_in_scalable_mode_has_its_leaves(engine, corpus: Path, values: dict) -> None:
    folder = corpus / ("i-firststage-k72" if values else "c-scalable")
    run = replayed(folder, engine.name, mode="scalable", **values)
    assert_equal_leaves(run, recorded(folder), scalable_spaces(run))


def test_the_domain_ids_are_those_of_the_recording(engine, corpus: Path) -> None:
    run = replayed(corpus / "a-legacy-strict", engine.name)
    assert all(space.domain_id == space.recorded_domain_id for space in run.report.spaces)


def test_deferred_invalidation_saves_descriptors_and_reports_what_it_risks(engine, corpus: Path) -> None:
    report = replayed(corpus / "h-fault", engine.name, flush="deferred").report
    assert report.invalidations["page"] == 0
    assert report.invalidations["domain"] < 1000 < report.applied["unmap"]
    assert report.stale_window["reused_before_flush"] > 0
    assert report.stale_window["max_ns"] <= 10_000_000


SUBMITTED = re.compile(r"qi_submit: (?:p_)?iotlb_inv dmar0: (\S+) (\S+) ")


@pytest.mark.parametrize(
    "variant, values",
    [
        ("a-legacy-strict", {"levels": 3}),
        ("c-scalable", {"mode": "scalable"}),
        ("f-intremap", {"levels": 3}),
        ("h-fault", {}),
        ("i-firststage-k72", {"mode": "scalable", "stage": "first"}),
        ("t-vfio-superpages", {}),
        ("x-tracecmd", {"levels": 3}),
    ],
)
def test_the_descriptors_are_those_that_the_recorded_kernel_submitted(
    engine, corpus: Path, variant: str, values: dict
) -> None:
    settings = Settings.of({"engine": engine.name, **values})
    run = Replay(trace_of(corpus / variant), settings, fast=False)  # every submission passes through `submit`
    ours: Counter[tuple[int, ...]] = Counter()
    submit = run.machine.driver.queue.submit

    def watch(descriptors) -> None:
        ours.update(d.qwords()[:2] for d in descriptors if d & 0xF in (2, 6))
        submit(descriptors)

    run.machine.driver.queue.submit = watch
    run.run()
    lines = gzip.decompress((corpus / variant / "trace.txt.gz").read_bytes()).decode()
    recorded = Counter((int(low, 16), int(high, 16)) for low, high in SUBMITTED.findall(lines))
    assert ours == Counter({words: n for words, n in recorded.items() if words[0] >> 4 & 3 != 1})
