"""Real kernels' traces, replayed: the counts, the bytes that are live, the descriptors, and every leaf."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from emulator.replay import Replay
from emulator.settings import Settings
from tests.conftest import FIXTURES
from tests.recordings import (
    VARIANTS,
    assert_equal_leaves,
    legacy_spaces,
    recorded,
    replayed,
    scalable_spaces,
    trace_of,
    truth_of,
)

# What takes the readable engine long; shorter and shipped recordings are replayed on both each time.
LONG = pytest.mark.parametrize("engine", [pytest.param("python", marks=pytest.mark.slow), "native"], indirect=True)


@LONG
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


@pytest.mark.parametrize("variant", ["a-legacy-strict", "i-firststage-k72", "t-vfio-superpages"])
def test_a_shipped_trace_is_replayed_to_the_leaves_of_its_image(engine, variant: str) -> None:
    folder = FIXTURES / "images" / variant
    run = replayed(folder, engine.name)
    assert (run.report.misuse, list(run.report.skipped), run.report.faults) == ([], [], [])
    assert_equal_leaves(run, recorded(folder), legacy_spaces(run))


def test_the_shipped_cut_of_c_is_replayed_to_the_leaves_of_the_devices_it_is_about(engine) -> None:
    folder = FIXTURES / "images" / "c-scalable"
    run = replayed(folder, engine.name, mode="scalable")
    truth, ours = recorded(folder), scalable_spaces(run)
    for device in ("00:03.0", "00:04.0", "00:06.0", "00:1f.0", "00:1f.2", "00:1f.3", "02:00.0", "03:01.0", "04:00.0"):
        assert ours[device] == truth[device], device


@LONG
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


@LONG
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
