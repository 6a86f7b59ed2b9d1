"""JSON Lines: pleasant to write, errors that name line and field, and equal after a round trip."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.trace import NO_PASID, Columns, Kind, Trace, read_traces, write_json_lines
from emulator.trace.event import GFP_CLASSES
from emulator.trace.jsonl import JsonReader, upgrade
from emulator.trace.skipped import SkippedLines
from pagetables.address import parse_source_id
from pagetables.errors import TraceError
from tests.traces import Script, live_pages

NIC = "00:03.0"
MAP = {"event": "map", "device": NIC, "iova": "0x1000", "gpa": "0x5000", "size": 4096}


def read(folder: Path, *records: dict | str, name: str = "t.jsonl") -> Trace:
    """The trace of these records."""
    path = folder / name
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n")
    return read_traces([path])


def rows(trace: Trace) -> list[dict[str, int]]:
    """All rows."""
    return list(trace.columns.rows())


def test_trace_written_by_hand(tmp_path) -> None:
    trace = read(
        tmp_path,
        "# a device maps, accesses, unmaps",
        {"event": "attach", "device": NIC, "domain": 5},
        {**MAP, "access": "r", "time": "1.5s", "cpu": 3},
        {
            "event": "access",
            "device": NIC,
            "iova": "0x1008",
            "size": 8,
            "access": "w",
            "pasid": 7,
            "time": 1_600_000_000,
        },
        {"event": "access", "device": NIC, "iova": 4096},
        {"event": "unmap", "device": NIC, "iova": 4096, "size": "0x1000"},
        "",
        {"event": "detach", "device": NIC},
    )
    got = [
        (Kind(r["kind"]).name, r["time_ns"], r["iova"], r["gpa"], r["size"], r["access"], r["line"])
        for r in rows(trace)
    ]
    assert got == [
        ("ATTACH", 0, 0, 0, 0, 0, 2),
        ("MAP", 1_500_000_000, 0x1000, 0x5000, 4096, 1, 3),
        ("ACCESS", 1_600_000_000, 0x1008, 0, 8, 2, 4),
        ("ACCESS", 1_600_000_000, 0x1000, 0, 1, 1, 5),
        ("UNMAP", 1_600_000_000, 0x1000, 0, 4096, 0, 6),
        ("DETACH", 1_600_000_000, 0, 0, 0, 0, 8),
    ]
    assert [r["pasid"] for r in rows(trace)][2:4] == [7, NO_PASID]
    assert rows(trace)[1]["cpu"] == 3
    (space,) = trace.spaces
    assert (space.devices, space.domain_id, space.name) == ((parse_source_id(NIC),), 5, "domain 5 (00:03.0)")
    assert trace.kernel_rule == "7.x"
    assert trace.events == 6


def test_device_needs_no_attach_and_access_is_both_by_default(tmp_path) -> None:
    trace = read(tmp_path, MAP)
    assert [(Kind(r["kind"]), r["access"], r["leaf_levels"]) for r in rows(trace)] == [
        (Kind.ATTACH, 0, 7),
        (Kind.MAP, 3, 7),
    ]


def test_devices_of_one_domain_share_a_space(tmp_path) -> None:
    trace = read(
        tmp_path,
        {"event": "attach", "device": NIC, "domain": 5},
        {"event": "attach", "device": "0000:00:04.0", "domain": 5},
        {**MAP, "device": None, "domain": 5},
        {**MAP, "device": "00:04.0", "iova": 0, "page_sizes": [4096, 1 << 30]},
    )
    assert len(trace.spaces) == 1
    assert [r["leaf_levels"] for r in rows(trace)] == [7, 7, 7, 5]


def test_map_without_device_is_kept_apart(tmp_path) -> None:
    trace = read(tmp_path, {**MAP, "device": None}, {**MAP, "device": None})
    assert [space.attributed for space in trace.spaces] == [False, False]


def test_unmap_of_nothing_stays_for_the_replay_to_judge(tmp_path) -> None:
    trace = read(tmp_path, {"event": "unmap", "device": NIC, "iova": 0, "size": 4096})
    assert trace.applied_counts["unmap"] == 1
    assert not trace.skipped


def test_kernel_rule_can_be_said(tmp_path) -> None:
    assert read(tmp_path, {"event": "trace", "version": 2, "kernel_rule": "6.x"}, MAP).kernel_rule == "6.x"


def test_names_of_version_1_are_upgraded(tmp_path) -> None:
    old = {"op": "map", "bdf": NIC, "iova": 0, "paddr": 4096, "size": 4096}
    assert upgrade(old) == {"event": "map", "device": NIC, "iova": 0, "gpa": 4096, "size": 4096}
    assert upgrade(upgrade(old)) == upgrade(old)
    assert upgrade({"bdf": 1, "device": 2}) == {"bdf": 1, "device": 2}
    assert read(tmp_path, {"event": "trace", "version": 1}, old).applied_counts["map"] == 1


@pytest.mark.parametrize(
    "record, why",
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "a line must be a JSON object"),
        ({}, "event: None is none; known: access, attach"),
        ({"event": ["map"]}, "event: .* is none"),
        ({**MAP, "event": "mapp"}, "event: 'mapp' is none; did you mean map or unmap"),
        ({**MAP, "iovaa": 1}, "iovaa: map has no such field; did you mean iova?"),
        ({**MAP, "iova": None}, "iova: map needs it"),
        ({"event": "map", "device": NIC, "iova": 0, "size": 4096}, "gpa: map needs it"),
        ({**MAP, "iova": "0x1001"}, "iova: 0x1001 is not a multiple of 4096"),
        ({**MAP, "gpa": 5}, "gpa: 0x5 is not a multiple of 4096"),
        ({**MAP, "size": 5}, "size: 0x5 is not a multiple of 4096"),
        ({**MAP, "size": 0}, "size: 0x0 bytes at 0x1000 are no range"),
        ({**MAP, "iova": "0xfffffffffffff000", "size": 8192}, "size: .* are no range"),
        ({**MAP, "size": 1 << 64}, "size: 0x10000000000000000 does not fit into 64 bits"),
        ({**MAP, "size": -1}, "size: -0x1 does not fit"),
        ({**MAP, "size": 1.5}, "size: 1.5 is not a number"),
        ({**MAP, "size": True}, "size: True is not a number"),
        ({**MAP, "size": "many"}, "size: 'many' is not a number"),
        ({**MAP, "access": "x"}, "access: 'x' is none; known: r, w, rw"),
        ({**MAP, "access": 3}, "access: 3 is none"),
        ({**MAP, "time": 1.5}, "time: 1.5 is none: expected nanoseconds"),
        ({**MAP, "time": "soon"}, "time: 'soon' is none"),
        ({**MAP, "device": "nic"}, "device: 'nic' is not a device"),
        ({**MAP, "device": 3}, "device: 3 is not a device"),
        ({**MAP, "domain": 1 << 40}, "domain: .* is too large"),
        ({**MAP, "cpu": 1 << 20}, "cpu: .* is too large"),
        ({**MAP, "page_sizes": [8192]}, "page_sizes: .* is no list of 4096, 2097152, 1073741824"),
        ({**MAP, "page_sizes": 4096}, "page_sizes: 4096 is no list"),
        ({"event": "attach"}, "device: attach needs it"),
        ({"event": "access", "iova": 0}, "device: access needs it"),
        ({"event": "access", "device": NIC, "iova": 0, "pasid": 1 << 20}, "pasid: .* is too large"),
        ({"event": "space"}, "space: a space needs its number"),
        ({"event": "trace", "version": 99}, "version: 99 is newer"),
        ({"event": "trace", "kernel_rule": "5.x"}, "kernel_rule: '5.x' is none; "),
    ],
)
def test_line_that_cannot_be_used_names_its_field(record: dict | str, why: str, tmp_path) -> None:
    trace = read(tmp_path, MAP, record, MAP)
    assert trace.applied_counts["map"] == 2
    (skipped,) = trace.skipped
    assert skipped.line == 2
    assert re.match(why, skipped.why), skipped.why


def test_file_without_a_usable_line_is_no_trace(tmp_path) -> None:
    with pytest.raises(TraceError, match=r"t.jsonl:1: iova: map needs it$"):
        read(tmp_path, {"event": "map", "device": NIC})


def written(trace: Trace, folder: Path, name: str = "again.jsonl") -> Trace:
    """The trace as read from what the writer wrote."""
    out = io.StringIO()
    write_json_lines(trace, out)
    path = folder / name
    path.write_text(out.getvalue())
    return read_traces([path])


def assert_equal(one: Trace, other: Trace) -> None:
    """Equal in everything but where the lines stand."""
    for name in set(Columns.names()) - {"event", "file", "line"}:
        assert one.columns[name].tolist() == other.columns[name].tolist(), name
    assert one.spaces == other.spaces
    assert one.kernel_rule == other.kernel_rule
    assert one.applied_counts == other.applied_counts


def test_recorded_trace_is_equal_after_a_round_trip(tmp_path) -> None:
    script = Script().map(0, 0, 1 << 24, task="init-1").attach(NIC, 2, task="init-1").attach("00:04.0", 2, ref=2)
    script.map(0x100_0000, 0x5000).dma_map(NIC, 0x100_0000, 0x5000, way="FROM_DEVICE").map(0x1000, 0x7000).attach(
        NIC, 3
    )
    script.unmap(0x100_0000).flush(2, 0x100_0000)
    script.map(0x2000, 0x6000).line("dma_map_page: i8042 dir=NONE dma_addr=2000 size=1 phys_addr=6000 attrs=")
    trace = script.read(tmp_path)
    assert {space.attributed for space in trace.spaces} == {True, False}
    assert_equal(written(trace, tmp_path), trace)


def test_trace_written_by_hand_is_equal_after_a_round_trip(tmp_path) -> None:
    trace = read(
        tmp_path,
        {"event": "attach", "device": NIC, "domain": 5},
        {**MAP, "access": "w", "time": "3ms"},
        {"event": "access", "device": NIC, "iova": 1, "pasid": 3, "access": "rw"},
        {"event": "attach", "device": NIC, "domain": 6},
    )
    assert_equal(written(trace, tmp_path), trace)


def test_json_lines_and_ftrace_merge(tmp_path) -> None:
    script = Script().attach(NIC, 2).map(0x1000, 0x5000).dma_map(NIC, 0x1000, 0x5000)
    script.read(tmp_path)
    (tmp_path / "a.jsonl").write_text(json.dumps({"event": "access", "device": f"0000:{NIC}", "iova": 0, "time": "9s"}))
    trace = read_traces([tmp_path / "a.jsonl", tmp_path / "trace.txt"])
    assert trace.columns.file.tolist() == [1, 1, 0]
    assert len(trace.spaces) == 1


def test_recording_is_equal_after_a_round_trip(fixture_traces, tmp_path) -> None:
    trace = read_traces([fixture_traces / "t-vfio-superpages.txt.xz"])
    again = written(trace, tmp_path)
    assert_equal(again, trace)
    assert live_pages(again) == live_pages(trace)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=3
)
names = st.sampled_from(["event", "device", "domain", "space", "iova", "gpa", "size", "access", "time", "pasid", "cpu"])


@given(
    st.sampled_from(["map", "unmap", "access", "attach", "detach", "space", "trace"]),
    st.dictionaries(names, json_values),
)
def test_no_record_crashes_the_reader(kind: str, record: dict) -> None:
    skipped = SkippedLines()
    text = json.dumps(MAP) + "\n" + json.dumps({**record, "event": kind})
    for event in JsonReader("t", 0, skipped).events([text.encode()]):
        assert event.kind in Kind


def test_gfp_class_and_the_goal_of_an_access_are_kept(tmp_path: Path) -> None:
    path, again = tmp_path / "t.jsonl", tmp_path / "again.jsonl"
    path.write_text(
        '{"event": "map", "device": "00:03.0", "iova": 4096, "gpa": 8192, "size": 4096, "gfp": "kernel"}\n'
        '{"event": "access", "device": "00:03.0", "iova": 4100, "gpa": 8196}\n'
        '{"event": "map", "device": "00:03.0", "iova": 0, "gpa": 0, "size": 4096, "gfp": "kernal"}\n'
    )
    trace = read_traces([path])
    assert [GFP_CLASSES[gfp] for gfp in trace.columns.gfp] == ["", "kernel", ""]
    assert trace.columns.gpa.tolist() == [0, 8192, 8196]
    assert "gfp: 'kernal' is none; did you mean kernel" in trace.skipped[0].why
    with again.open("w") as out:
        write_json_lines(trace, out)
    assert (read_traces([again]).columns.gfp == trace.columns.gfp).all()
    assert (read_traces([again]).columns.gpa == trace.columns.gpa).all()
