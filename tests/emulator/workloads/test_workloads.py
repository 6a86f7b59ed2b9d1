"""Synthetic traces: clean, in order, reproducible, of bounded pieces, and shaped as the drivers they stand for."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from emulator.replay import Replay
from emulator.settings import Settings
from emulator.trace import Columns, Kind, Trace
from emulator.trace.event import GFP_CLASSES
from emulator.trace.skipped import SkippedLines
from emulator.workloads import WORKLOADS, generate
from emulator.workloads.workload import spaces_of
from pagetables.errors import InputError

EVERY = pytest.mark.parametrize("name", WORKLOADS)


def made(name: str, events: int = 12_000, devices: int = 2, **more) -> Columns:
    """The whole of a workload."""
    parts = list(generate(WORKLOADS[name], events, devices, **more))
    return Columns(*(np.concatenate([part[column] for part in parts]) for column in Columns.names()))


def lifetimes(columns: Columns) -> list[tuple[int, int, int]]:
    """Row of the map, nanoseconds and pages of each mapping that ended, found in the most obvious way."""
    live, found = {}, []
    for number, row in enumerate(columns.rows()):
        key = row["space"], row["iova"]
        if row["kind"] == Kind.MAP:
            live[key] = number, row
        elif row["kind"] == Kind.UNMAP:
            begun, first = live.pop(key)
            assert first["size"] == row["size"]
            found.append((begun, row["time_ns"] - first["time_ns"], row["size"] >> 12))
    return found


@EVERY
def test_no_two_live_mappings_share_an_address_or_a_page(name: str) -> None:
    addresses, pages = defaultdict(dict), {}
    for row in made(name).rows():
        space = addresses[row["space"]]
        inside = range(row["iova"], row["iova"] + row["size"], 4096)
        if row["kind"] == Kind.MAP:
            for offset, page in enumerate(inside):
                gpa = row["gpa"] + offset * 4096
                assert page not in space
                assert gpa not in pages
                space[page], pages[gpa] = gpa, page
        elif row["kind"] == Kind.UNMAP:
            for page in inside:
                del pages[space.pop(page)]


@EVERY
@pytest.mark.parametrize("engine_name", ["native", "python"])
def test_workload_replays_without_misuse(name: str, engine_name: str) -> None:
    if engine_name == "native":
        pytest.importorskip("emulator._core", reason="NOT RUN: the C core is not built")
    columns = made(name, 4000)
    trace = Trace(("made",), columns, spaces_of(2), SkippedLines(), (), len(columns), "7.x", {})
    run = Replay(trace, Settings.of({"engine": engine_name}))
    run.run()
    assert run.applied.total() == 4000
    assert not run.ledger.misuse
    assert not run.ledger.skipped
    assert not run.failed


@EVERY
def test_events_are_numbered_and_in_order_of_time(name: str) -> None:
    columns = made(name)
    assert columns.event.tolist() == columns.line.tolist() == list(range(1, 12_001))
    assert (columns.time_ns[1:] >= columns.time_ns[:-1]).all()
    assert not (columns.iova % 4096).any()
    assert int((columns.iova + columns.size).max()) <= 1 << 32


@EVERY
def test_same_seed_gives_the_same_trace_and_another_one_another(name: str) -> None:
    one, same, other = made(name, 5000, seed=3), made(name, 5000, seed=3), made(name, 5000, seed=4)
    assert all((one[column] == same[column]).all() for column in Columns.names())
    assert (one.time_ns != other.time_ns).any() or (one.gpa != other.gpa).any()


@EVERY
def test_a_longer_trace_begins_like_a_shorter_one(name: str) -> None:
    short, long = made(name, 3000), made(name, 9000)
    assert all((short[column] == long[column][:3000]).all() for column in Columns.names())


def test_pieces_stay_small_however_long_the_trace_is() -> None:
    pieces = [len(part) for part in generate(WORKLOADS["nic-tx"], 400_000)]
    assert sum(pieces) == 400_000
    assert max(pieces) < 200_000


def test_devices_have_spaces_queues_and_pages_of_their_own() -> None:
    columns = made("nvme", 20_000, devices=3)
    assert [str(space.name) for space in spaces_of(3)][2] == "domain 3 (03:00.0)"
    assert set(columns.space.tolist()) == {0, 1, 2}
    attached = columns.kind == Kind.ATTACH
    assert columns.source[attached].tolist() == [0x100, 0x200, 0x300]
    assert len(set(columns.cpu.tolist())) == 8
    maps = columns.kind == Kind.MAP
    share = (columns.gpa - np.uint64(0x1000_0000)) >> np.uint64(29)
    frames = [set(share[maps & (columns.space == space)].tolist()) for space in range(3)]
    assert not frames[0] & frames[1]
    assert not frames[1] & frames[2]


def test_many_devices_pages_avoid_the_hole_below_4_gib() -> None:
    columns = made("usb-storage", 30_000, devices=12)
    gpa, size = columns.gpa[columns.kind == Kind.MAP], columns.size[columns.kind == Kind.MAP]
    assert not ((gpa + size > 0xB000_0000) & (gpa < 1 << 32)).any()
    assert (gpa >= 1 << 32).any()


def test_old_receivers_give_buffers_back_in_order() -> None:
    columns = made("nic-rx-old", 60_000, devices=1)
    for cpu in range(4):
        rows = [begun for begun, _, _ in lifetimes(columns) if columns.cpu[begun] == cpu]
        assert len(rows) > 1000
        assert rows == sorted(rows)


def test_page_pool_maps_far_fewer_pages_than_packets() -> None:
    pooled, old = made("nic-rx", 30_000, 1), made("nic-rx-old", 30_000, 1)
    spans = [int(columns.time_ns[-1] - columns.time_ns[0]) for columns in (pooled, old)]
    assert spans[0] > 20 * spans[1]


def test_sent_buffers_live_for_tens_of_microseconds_and_end_in_groups() -> None:
    columns = made("nic-tx", 40_000, 1)
    lives = np.array([life for _, life, _ in lifetimes(columns)])
    assert 20_000 < np.median(lives) < 120_000
    ends = columns.time_ns[columns.kind == Kind.UNMAP]
    assert len(np.unique(ends)) < len(ends) / 4
    assert set(columns.access[columns.kind == Kind.MAP].tolist()) == {1, 3}


def test_lengths_and_classes_are_those_of_the_drivers() -> None:
    usb, tx, coherent = made("usb-storage"), made("nic-tx"), made("coherent")
    traffic = (usb.kind == Kind.MAP) & (usb.cpu < 2) & (usb.gfp == GFP_CLASSES.index("noio"))
    assert set((usb.size[traffic] >> 12).tolist()) == {1, 8, 30}
    assert {GFP_CLASSES[gfp] for gfp in tx.gfp[tx.kind == Kind.MAP]} == {"kernel", "atomic"}
    assert {GFP_CLASSES[gfp] for gfp in coherent.gfp[coherent.kind == Kind.MAP]} == {"kernel"}
    assert not tx.gfp[tx.kind == Kind.UNMAP].any()


def test_stalled_device_keeps_buffers_longer() -> None:
    lives = np.array([life for _, life, _ in lifetimes(made("pressure", 60_000, 1))])
    assert np.percentile(lives, 99) > 10 * np.median(lives)


def test_rate_makes_time_shorter() -> None:
    slow, fast = made("nvme", 10_000), made("nvme", 10_000, rate=10.0)
    assert slow.time_ns[-1] > 3 * fast.time_ns[-1]


@pytest.mark.parametrize(
    "wrong", [{"events": 0}, {"devices": 0}, {"devices": 65}, {"rate": 0.0}, {"rate": 1e-300}, {"rate": float("nan")}]
)
def test_what_cannot_be_made_is_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match="expected"):
        list(generate(WORKLOADS["nic-tx"], **{"events": 10, **wrong}))
