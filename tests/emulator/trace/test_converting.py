"""What is written is what is read again: every format, as far as it can hold a trace, and what it cannot is said."""

from __future__ import annotations

import gc
import lzma
import sys
from pathlib import Path

import numpy as np
import pytest

from emulator.trace import NO_PASID, NO_SOURCE, Kind, read_traces
from emulator.trace.columns import Columns
from emulator.trace.framing import Format
from emulator.trace.kernel_text import framed
from emulator.trace.parquet import ROWS
from emulator.trace.writing import SUFFIXES, TEXT, convert_text, format_of, text_format, trace_writer, write_trace
from emulator.workloads import WORKLOADS, generate
from emulator.workloads.workload import spaces_of
from pagetables.errors import InputError, TraceError
from tests.scripts import Script

SAME = ("time_ns", "kind", "space", "source", "pasid", "iova", "gpa", "size", "access", "leaf_levels", "cpu", "gfp")
IN_TEXT = ("time_ns", "kind", "space", "source", "iova", "gpa", "size", "access", "cpu", "gfp")
VARIANTS = ("a-legacy-strict", "c-scalable", "i-firststage-k72", "t-vfio-superpages")


def assert_same(one, other, names=SAME) -> None:
    """Equal columns, spaces and rule."""
    assert len(one.columns) == len(other.columns)
    for name in names:
        assert (one.columns[name] == other.columns[name]).all(), name
    assert one.kernel_rule == other.kernel_rule


@pytest.fixture
def script():
    """Two devices in two spaces, and everything that columns can say."""
    script = Script()
    script.attach("00:03.0", 0).attach("00:04.0", 1)
    script.map(0x1000, 0x5000, 0x2000, access="r").map(0x1000, 0x8000, space=1, access="w")
    script.map(0x10000, 0x30000, 0x10000, access="rw").unmap(0x1000, 0x2000)
    script.unmap(0x1000, space=1).detach("00:04.0", 1)
    return script


ROUND_TRIPS = [(variant, ".parquet") for variant in VARIANTS]
ROUND_TRIPS += [("t-vfio-superpages", form) for form in (".jsonl", ".parquet.gz", ".jsonl.zst", ".jsonl.xz")]


@pytest.mark.parametrize("variant, suffix", ROUND_TRIPS)
def test_recording_is_equal_after_a_round_trip(variant: str, suffix: str, fixture_traces: Path, tmp_path: Path) -> None:
    trace, out = read_traces([fixture_traces / f"{variant}.txt.xz"]), tmp_path / f"out{suffix}"
    lost = write_trace(trace, str(out), format_of(str(out), None))
    again = read_traces([out])
    assert_same(trace, again)
    assert again.spaces == trace.spaces
    assert not again.skipped
    assert any("qi_submit events" in one for one in lost)


@pytest.mark.parametrize("style", TEXT, ids=lambda style: style.name)
@pytest.mark.parametrize("variant", VARIANTS)
def test_text_in_another_frame_reads_the_same(
    variant: str, style: Format, fixture_traces: Path, tmp_path: Path
) -> None:
    source, out = fixture_traces / f"{variant}.txt.xz", tmp_path / "out"
    written = convert_text(source, text_format(source), str(out), style)
    trace, again = read_traces([source]), read_traces([out])
    assert text_format(out) is style
    assert written == trace.events
    assert (again.events, again.kinds, again.spaces) == (trace.events, trace.kinds, trace.spaces)
    assert_same(trace, again)
    assert again.descriptors.keys() == trace.descriptors.keys()


@pytest.mark.parametrize("style", TEXT, ids=lambda style: style.name)
@pytest.mark.parametrize("rule", ["6.x", "7.x"])
def test_columns_as_text_read_the_same(style: Format, rule: str, script, tmp_path: Path) -> None:
    script.rule = rule
    trace, out = script.trace(), str(tmp_path / "out")
    lost = write_trace(trace, out, style)
    again = read_traces([out])
    assert not again.skipped
    assert_same(trace, again, IN_TEXT)
    assert [space.devices for space in again.spaces] == [space.devices for space in trace.spaces]
    assert lost == ["3 page sizes of maps"]


def test_allocations_keep_their_class_in_text(script, tmp_path: Path) -> None:
    trace, out = script.trace(), str(tmp_path / "out")
    trace.columns.gfp[(trace.columns.kind == Kind.MAP) & (trace.columns.access == 3)] = 6
    write_trace(trace, out, Format.FTRACE)
    assert_same(trace, read_traces([out]), IN_TEXT)
    assert "flags=GFP_KERNEL" in Path(out).read_text()


def test_nanoseconds_survive_text(script, tmp_path: Path) -> None:
    trace, out = script.trace(), str(tmp_path / "out")
    trace.columns.time_ns[:] += np.uint64(123_456_789_007)
    write_trace(trace, out, Format.PERF)
    assert_same(trace, read_traces([out]), IN_TEXT)


def test_what_text_cannot_hold_is_counted(script, tmp_path: Path) -> None:
    script.access(0x10008).access(0x10010)
    trace = script.trace()
    trace.columns.pasid[-1] = 7
    trace.columns.leaf_levels[:] = 7
    assert write_trace(trace, str(tmp_path / "out"), Format.FTRACE) == ["2 device accesses", "1 PASIDs of accesses"]
    assert read_traces([tmp_path / "out"]).applied_counts["access"] == 0


def test_frames_are_those_of_the_tools() -> None:
    event = ("insmod", 155, 1, 2_405_925_000, "map", "IOMMU: x")
    assert framed(Format.FTRACE, *event) == "          insmod-155     [001] .....     2.405925: map: IOMMU: x\n"
    assert (
        framed(Format.TRACE_CMD, *event) == "          insmod-155   [001]     2.405925: map:                 IOMMU: x\n"
    )
    assert framed(Format.PERF, *event) == "          insmod     155 [001]     2.405925: iommu:map: IOMMU: x\n"
    assert ": ftrace:function: " in framed(Format.PERF, *event[:4], "function", "mutex_unlock")


def test_lost_events_stay_lost(tmp_path: Path) -> None:
    source = tmp_path / "in"
    line = framed(Format.FTRACE, "dd", 7, 0, 1000, "attach_device_to_domain", "IOMMU: device=0000:00:03.0")
    source.write_text(f"# tracer: nop\nCPU:1 [LOST 5 EVENTS]\n{line}")
    convert_text(source, Format.FTRACE, str(tmp_path / "out"), Format.TRACE_CMD)
    assert any("5 on CPU 1" in note for note in read_traces([tmp_path / "out"]).notes)


@pytest.mark.parametrize("suffix, name", SUFFIXES.items())
@pytest.mark.parametrize("packed", ["", ".gz", ".xz", ".zst"])
def test_name_of_a_file_says_its_format(suffix: str, name: str, packed: str) -> None:
    assert format_of(f"x{suffix}{packed}", None) is format_of("-", name)


def test_format_that_nobody_named_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"x.dat: the name does not tell the format; end it in .jsonl"):
        format_of("x.dat", None)
    with pytest.raises(InputError, match="did you mean parquet"):
        format_of("x.dat", "parket")


def test_file_stays_as_it_was_if_writing_fails(script, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    trace = script.trace()
    trace.columns.kind[-1] = 77
    with pytest.raises(ValueError, match="77 is not a valid Kind"):
        write_trace(trace, str(out), Format.JSON_LINES)
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


class TestParquet:
    """The table itself."""

    def table(self, tmp_path: Path, **columns):
        """A file of these columns, as another tool would write it."""
        import pyarrow
        import pyarrow.parquet

        path = tmp_path / "t.parquet"
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path

    def test_file_of_another_tool_needs_few_columns(self, tmp_path: Path) -> None:
        path = self.table(tmp_path, kind=["map", "unmap"], iova=[4096, 4096], size=[4096, 4096], gpa=[8192, None])
        trace = read_traces([path])
        assert [space.name for space in trace.spaces] == ["unnamed"]
        row = next(trace.columns.rows())
        assert (row["gpa"], row["source"], row["pasid"], row["leaf_levels"]) == (8192, NO_SOURCE, NO_PASID, 7)
        assert trace.kinds == {Kind.MAP: 1, Kind.UNMAP: 1}

    def test_rows_that_cannot_be_used_are_listed(self, tmp_path: Path) -> None:
        path = self.table(
            tmp_path,
            kind=["map", "mop", None, "map", "unmap", "access", "map"],
            iova=np.array([4096, 4096, 4096, 4097, 4096, 5, 0xFFFF_FFFF_FFFF_F000], np.uint64),
            size=[4096, 4096, 4096, 4096, 0, 1, 8192],
            space=[0, 0, 0, 0, 0, 1 << 21, 0],
        )
        trace = read_traces([path])
        assert len(trace.columns) == 1
        assert {one.line: one.why.partition(":")[0] for one in trace.skipped} == {
            2: "kind", 3: "kind", 4: "not made of whole 4096-byte pages", 5: "size", 6: "space", 7: "size",
        }  # fmt: skip
        assert trace.events == 7

    def test_file_without_a_column_it_needs_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TraceError, match=r"t.parquet: this Parquet file has no column 'size'"):
            read_traces([self.table(tmp_path, kind=["map"], iova=[0])])

    def test_broken_file_is_one_sentence(self, script, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        write_trace(script.trace(), str(path), Format.PARQUET)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(TraceError, match=r"t.parquet: not a usable Parquet file: .*") as error:
            read_traces([path])
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        "told, says", [("[]", "no JSON object"), ("x", "no JSON object"), ('{"version": 9}', "version 9")]
    )
    def test_metadata_that_is_not_ours_is_refused(self, told: str, says: str, tmp_path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"kind": ["map"], "iova": [0], "size": [4096]}).replace_schema_metadata({"vtd": told})
        pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
        with pytest.raises(TraceError, match=says):
            read_traces([tmp_path / "t.parquet"])

    def test_several_files_are_merged_row_by_row(self, script, tmp_path: Path) -> None:
        other = Script().attach("00:05.0", 0).attach("00:06.0", 1).map(0x1000, 0x5000).unmap(0x1000)
        write_trace(script.trace(), str(tmp_path / "a.parquet"), Format.PARQUET)
        write_trace(other.trace(), str(tmp_path / "b.parquet"), Format.PARQUET)
        alone = read_traces([tmp_path / "a.parquet"])
        both = read_traces([tmp_path / "a.parquet", tmp_path / "b.parquet"])
        assert len(both.columns) == len(alone.columns) + 4
        first = both.columns.take(both.columns.file == 0)
        for name in set(SAME) - {"space"} | {"line"}:
            assert (first[name] == alone.columns[name]).all(), name
        assert len(both.spaces) == 2 * len(alone.spaces)
        assert both.kernel_rule == alone.kernel_rule

    def test_long_traces_are_row_groups(self, script, tmp_path: Path) -> None:
        import pyarrow.parquet

        trace = script.trace()
        many = trace.columns.take(np.arange(ROWS + 5) % len(trace.columns))
        path = tmp_path / "t.parquet"
        from emulator.trace.writing import trace_writer

        with trace_writer(str(path), Format.PARQUET, trace.spaces, "7.x") as writer:
            writer.write(many)
        assert pyarrow.parquet.ParquetFile(path).num_row_groups == 2
        again = read_traces([path]).columns
        assert (again.iova == many.iova).all()
        assert again.line.tolist() == list(range(1, ROWS + 6))

    def test_trace_without_rows_is_a_trace(self, script, tmp_path: Path) -> None:
        import dataclasses

        trace = script.trace()
        none = dataclasses.replace(trace, columns=trace.columns.take(slice(0, 0)))
        write_trace(none, str(tmp_path / "t.parquet"), Format.PARQUET)
        again = read_traces([tmp_path / "t.parquet"])
        assert (len(again.columns), len(again.spaces)) == (0, 2)
        assert all(isinstance(again.columns[name], np.ndarray) for name in Columns.names())

    def test_missing_pyarrow_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        import sys

        (tmp_path / "t.parquet").write_bytes(b"PAR1")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(InputError, match=r"pip install 'vtd-emulator\[arrow\]'"):
            read_traces([tmp_path / "t.parquet"])


def test_log_of_qemu_becomes_accesses(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "vtd_dmar_translate dev 00:03.00 iova 0x1000 -> gpa 0x5000 mask 0xfff\n"
        "vtd_reg_write addr 0x88 size 0x4 value 0x0\n"
    )
    lost = write_trace(read_traces([tmp_path / "log"]), str(tmp_path / "out.jsonl"), Format.JSON_LINES)
    again = read_traces([tmp_path / "out.jsonl"])
    assert again.applied_counts == {"map": 0, "unmap": 0, "access": 1, "attach": 1, "detach": 0}
    assert again.columns.gpa.tolist() == [0, 0x5000]
    assert lost == ["1 register_write events"]


def test_compressed_output_is_compressed(script, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.xz"
    write_trace(script.trace(), str(path), Format.JSON_LINES)
    assert lzma.decompress(path.read_bytes()).startswith(b'{"event": "trace"')


def interrupted(path: Path) -> None:
    with trace_writer(str(path), Format.PARQUET, spaces_of(1), "7.x") as writer:
        writer.write(next(generate(WORKLOADS["nic-tx"], 60)))
        raise KeyboardInterrupt


def test_an_interrupted_parquet_file_is_dropped_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="NOT RUN: pip install 'vtd-emulator[arrow]'")
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "out.parquet")
    gc.collect()
    assert said == []
    assert list(tmp_path.iterdir()) == []
