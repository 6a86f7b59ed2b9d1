"""Recordings of real kernels: what our reading leaves live is what an independent walk of the tables found."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from emulator.trace import Kind, Trace, read_traces
from pagetables.address import format_source_id, parse_source_id
from tests.traces import live_pages, table_pages, text_of

FIXTURES = ("a-legacy-strict", "c-scalable", "i-firststage-k72", "t-vfio-superpages")
CORPUS = (*FIXTURES, "f-intremap", "h-fault", "x-tracecmd")
CUT = {"c-scalable": {"00:03.0", "00:04.0", "00:06.0", "00:1f.0", "02:00.0", "03:01.0", "04:00.0"}}
UNTOLD = {"i-firststage-k72": {"00:03.0", "01:00.0"}}  # the NVMe driver of 7.2 maps without dma events


def load(path: Path) -> dict:
    """A JSON document, compressed or not."""
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_text())


def latest_space(trace: Trace, device: str) -> int:
    """The space that a device was attached to last."""
    columns = trace.columns
    attaches = (columns.kind == Kind.ATTACH) & (columns.source == parse_source_id(device))
    return int(columns.space[attaches][-1])


def check(variant: str, trace: Trace, truth: dict, whole: bool) -> None:
    """Each attributed device's live pages are its table's; together, all tables' pages are live, and no others."""
    live = live_pages(trace)
    tables = [table_pages(table["maps"]) for table in truth["tables"]]
    attached = {format_source_id(source) for space in trace.spaces for source in space.devices}
    devices = {entry["bdf"]: entry for entry in truth["attachments"] if entry["bdf"] in attached}
    for device, entry in devices.items():
        if not whole and device not in CUT[variant]:
            continue
        space = latest_space(trace, device)
        table = tables[entry["table"]]
        assert trace.spaces[space].domain_id == entry["did"], device
        if device in UNTOLD.get(variant, ()):
            assert live[space].items() <= table.items(), device
        else:
            assert live[space] == table, device
    if whole:
        ours = Counter(page for space in live.values() for page in space.items())
        theirs = Counter(page for table in tables for page in table.items())
        assert ours == theirs


@pytest.mark.parametrize("variant", FIXTURES)
def test_what_is_live_at_the_end_of_a_fixture_is_what_its_image_holds(variant: str, fixture_traces: Path) -> None:
    trace = read_traces([fixture_traces / f"{variant}.txt.xz"])
    truth = load(fixture_traces.parent / "images" / variant / "truth.json.gz")
    check(variant, trace, truth, whole=variant not in CUT)
    assert not trace.skipped


@pytest.mark.parametrize("variant", CORPUS)
def test_what_is_live_at_the_end_of_a_recording_is_what_its_tables_hold(variant: str, corpus: Path) -> None:
    folder = corpus / variant
    trace = read_traces([folder / "trace.txt.gz"])
    check(variant, trace, load(folder / "truth.json"), whole=True)
    counted = load(folder / "crosscheck.json")["events"]
    assert trace.events == sum(counted.values())
    assert trace.applied_counts["map"] == counted["map"]
    assert trace.applied_counts["unmap"] == counted["unmap"]
    assert not trace.skipped
    assert trace.kernel_rule == ("7.x" if variant == "i-firststage-k72" else "6.x")


def access_by_page(trace: Trace) -> dict[tuple[int, int], int]:
    """The access of each live page whose event tells it."""
    access: dict[tuple[int, int], int] = {}
    for row in trace.columns.rows():
        for page in range(row["iova"], row["iova"] + row["size"], 4096):
            if row["kind"] == Kind.MAP:
                access[row["space"], page] = row["access"]
            elif row["kind"] == Kind.UNMAP:
                access.pop((row["space"], page), None)
    return access


def test_direction_of_a_mapping_is_the_access_of_its_leaf(fixture_traces: Path) -> None:
    variant = "i-firststage-k72"
    trace = read_traces([fixture_traces / f"{variant}.txt.xz"])
    truth = load(fixture_traces.parent / "images" / variant / "truth.json.gz")
    found = access_by_page(trace)
    checked = 0
    for entry in truth["attachments"]:
        space = latest_space(trace, entry["bdf"])
        for iova, _, size, permissions, *_ in truth["tables"][entry["table"]]["maps"]:
            for page in range(int(iova, 16), int(iova, 16) + int(size, 16), 4096):
                access = found.get((space, page), 0)
                checked += access != 0
                # A first-stage leaf can always be read; it is written if the device writes.
                assert access == 0 or ("W" in permissions) == bool(access & 2)
    assert checked > 2500


def test_direct_map_of_6_x_is_made_of_4k_pages_and_of_7_x_of_any(fixture_traces: Path) -> None:
    for variant, levels in (("a-legacy-strict", 1), ("i-firststage-k72", 7)):
        columns = read_traces([fixture_traces / f"{variant}.txt.xz"]).columns
        (large,) = [row for row in columns.rows() if row["kind"] == Kind.MAP and row["size"] == 1 << 24]
        assert large["leaf_levels"] == levels


def test_recording_without_dma_and_tags_is_kept_apart_but_complete(fixture_traces: Path, tmp_path: Path) -> None:
    text = text_of(fixture_traces / "a-legacy-strict.txt.xz")
    path = tmp_path / "as-6.1.txt"
    path.write_text("".join(line for line in text.splitlines(True) if ": dma_" not in line and ": cache_" not in line))
    trace = read_traces([path])
    assert trace.applied_counts == {"map": 20170, "unmap": 6625, "access": 0, "attach": 17, "detach": 0}
    assert sum(map(len, live_pages(trace).values())) == 5285
    assert not trace.skipped


@pytest.mark.parametrize("variant", CORPUS)
def test_every_recording_stays_complete_without_dma_and_tags(variant: str, corpus: Path, tmp_path: Path) -> None:
    text = gzip.decompress((corpus / variant / "trace.txt.gz").read_bytes()).decode()
    path = tmp_path / "as-6.1.txt"
    path.write_text("".join(line for line in text.splitlines(True) if ": dma_" not in line and ": cache_" not in line))
    trace = read_traces([path])
    counted = load(corpus / variant / "crosscheck.json")
    assert trace.applied_counts["map"] == counted["events"]["map"]
    assert trace.applied_counts["unmap"] == counted["events"]["unmap"]
    live = sum(map(len, live_pages(trace).values()))
    assert live == sum(int(size) // 4096 * number for size, number in counted["leaf_sizes"].items())
    assert not trace.skipped


def test_recording_without_tags_is_attributed_by_dma_events(fixture_traces: Path, tmp_path: Path) -> None:
    text = text_of(fixture_traces / "a-legacy-strict.txt.xz")
    path = tmp_path / "no-tags.txt"
    path.write_text("".join(line for line in text.splitlines(True) if ": cache_" not in line))
    trace = read_traces([path])
    truth = load(fixture_traces.parent / "images" / "a-legacy-strict" / "truth.json.gz")
    live = live_pages(trace)
    for entry in truth["attachments"]:
        if entry["bdf"] != "03:00.0":  # an alias, named by no event
            assert live[latest_space(trace, entry["bdf"])] == table_pages(truth["tables"][entry["table"]]["maps"])


def test_late_recording_skips_what_it_did_not_see_mapped(fixture_traces: Path, tmp_path: Path) -> None:
    lines = text_of(fixture_traces / "a-legacy-strict.txt.xz").splitlines(True)
    path = tmp_path / "late.txt"
    path.write_text("".join(lines[20_000:]))
    trace = read_traces([path])
    assert trace.events == len(lines) - 20_000
    assert 0 < len(trace.skipped) < 200
    assert all("before the recording began" in skipped.why for skipped in trace.skipped)
    whole = read_traces([fixture_traces / "a-legacy-strict.txt.xz"])
    ends = {page for space in live_pages(whole).values() for page in space.items()}
    assert {page for space in live_pages(trace).values() for page in space.items()} <= ends
