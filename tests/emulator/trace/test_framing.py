"""What a trace file is recognised by, how it is opened, and what stands around an event."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from emulator.trace import Kind, read_traces
from emulator.trace.framing import FRAME, Format, lost_events, sniff
from emulator.trace.opening import LONGEST_LINE, open_trace, pieces
from emulator.trace.skipped import SkippedLines
from emulator.trace.text import TextReader
from pagetables.errors import TraceError

MAP = "map: IOMMU: iova=0x0000000000001000 - 0x0000000000002000 paddr=0x0000000000005000 size=4096"
LINE = f"          insmod-155     [001] .....     2.396345: {MAP}\n"


def events_of(text: str):
    """Events and skipped lines of ftrace text."""
    skipped = SkippedLines()
    reader = TextReader("t", 0, skipped)
    return list(reader.events([text.encode()])), skipped, reader


@pytest.mark.parametrize(
    "head, task, pid, cpu",
    [
        ("          insmod-155     [001] .....     2.396345: ", "insmod", 155, 1),
        ("   (udev-worker)-532     [010] .....     4.878076: ", "(udev-worker)", 532, 10),
        (" irq/24-AMD-Vi-48    [002] ....   978.554289: ", "irq/24-AMD-Vi", 48, 2),
        ("        qemu-kvm-4575    [008] .......   438.308478: ", "qemu-kvm", 4575, 8),
        (" gem_exec_gttfil-1010    [004] .N...    50.126420: ", "gem_exec_gttfil", 1010, 4),
        ("          <idle>-0       [000] d..2.     0.247446: ", "<idle>", 0, 0),
        ("    kworker/u8:1-34      [000] d.h4.     2.467681: ", "kworker/u8:1", 34, 0),
        ("  Web Content-5-77      [000] d.h4.     2.467681: ", "Web Content-5", 77, 0),
        ("            bash-155   (    155) [001] d..1. ..     2.4: ", None, 0, 0),
        ("            bash-155   (    154) [001] d..1.     2.467681: ", "bash", 155, 1),
        ("            bash-155   (-----) [001] d..1.     2.467681: ", "bash", 155, 1),
        ("            bash-155     [001] d..1.b.N     2.467681: ", "bash", 155, 1),
        ("            bash-155   [001]     2.467681: ", "bash", 155, 1),
        ("           sleep-89142 [001] ...1. 162573.215752: ", "sleep", 89142, 1),
        ("     <...>-155   [001] 1234567890123: ", "<...>", 155, 1),
    ],
)
def test_frame_is_read_whatever_the_task_is_called(head: str, task: str | None, pid: int, cpu: int) -> None:
    match = FRAME.match(head + MAP)
    if task is None:
        assert match is None
        return
    assert match is not None
    assert (match[1].strip(), int(match[2]), int(match[3]), match[7]) == (task, pid, cpu, "map")


@pytest.mark.parametrize(
    "stamp, ns",
    [("2.396345", 2_396_345_000), ("2.396345678", 2_396_345_678), ("2.5", 2_500_000_000), ("77", 77)],
)
def test_time_stamps_of_every_precision_become_nanoseconds(stamp: str, ns: int) -> None:
    (event,), _, _ = events_of(f"  dd-1 [000] ..... {stamp}: {MAP}\n")
    assert event.time_ns == ns


def test_padded_event_name_of_trace_cmd_is_read() -> None:
    line = "          insmod-160   [001]     2.364113: map:                  " + MAP.removeprefix("map: ")
    (event,), skipped, _ = events_of("cpus=2\n" + line + "\n")
    assert (event.kind, event.iova, event.line) == (Kind.MAP, 0x1000, 2)
    assert not skipped


def test_headers_and_buffer_marks_are_no_events_and_not_skipped() -> None:
    text = "# tracer: nop\n#\n##### CPU 1 buffer started ####\n\n" + LINE
    events, skipped, _ = events_of(text)
    assert [event.line for event in events] == [5]
    assert not skipped


@pytest.mark.parametrize(
    "line, lost",
    [
        ("CPU:3 [LOST 123 EVENTS]", (3, 123)),
        ("CPU:0 [LOST EVENTS]", (0, 0)),
        ("CPU:1 [17 EVENTS DROPPED]", (1, 17)),
        ("CPU:1 is empty", None),
    ],
)
def test_lost_events_are_counted(line: str, lost: tuple[int, int] | None) -> None:
    assert lost_events(line) == lost


def test_lost_and_overwritten_events_are_noted(tmp_path) -> None:
    path = tmp_path / "trace"
    path.write_text("# entries-in-buffer/entries-written: 2/9   #P:2\n" + LINE + "CPU:1 [LOST 5 EVENTS]\n")
    trace = read_traces([path])
    assert any("lost" in note and ":3:" in note and "5 on CPU 1" in note for note in trace.notes)
    assert any("overwrote 7 events" in note for note in trace.notes)


def test_carriage_returns_do_not_matter() -> None:
    device = "  dd-1 [000] ..... 1.000001: attach_device_to_domain: IOMMU: device=0000:00:03.0\r\n"
    (event,), _, _ = events_of(device)
    assert event.device == "0000:00:03.0"


def test_trace_with_no_event_of_ours_is_refused_at_its_first_event(tmp_path: Path) -> None:
    other = "  dd-1 [000] ..... 1.000001: sched_switch: prev_comm=dd\n"
    (tmp_path / "sched").write_text("# tracer: nop\n#\n" + other * 2)
    (tmp_path / "mixed").write_text(other + LINE)
    with pytest.raises(TraceError, match="sched:3: not an IOMMU or DMA event, nor is any other; expected events of"):
        read_traces([tmp_path / "sched"])
    assert read_traces([tmp_path / "sched", tmp_path / "mixed"]).events == 4


def test_line_that_is_no_event_is_skipped_with_its_number() -> None:
    _, skipped, _ = events_of(LINE + "hello\n")
    assert [(s.line, s.why) for s in skipped] == [(2, "not an event line")]


def test_event_of_another_subsystem_is_counted_and_listed() -> None:
    other = "  dd-1 [000] ..... 1.000001: sched_switch: prev_comm=dd\n"
    events, skipped, _ = events_of(other * 3)
    assert [event.kind for event in events] == [Kind.OTHER] * 3
    assert skipped.groups() == [("t", "not an IOMMU or DMA event", [1, 2, 3])]


@pytest.mark.parametrize("name", ["map", "unmap"])
def test_map_of_another_subsystem_is_told_by_its_text(name: str) -> None:
    _, skipped, _ = events_of(f"  dd-1 [000] ..... 1.000001: {name}: addr=0x5000\n")
    assert skipped[0].why == "not an IOMMU or DMA event"


PACKERS = {
    "plain": lambda data: data,
    "gz": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data[:50]) + zstandard.ZstdCompressor().compress(data[50:]),
}


@pytest.mark.parametrize("packer", PACKERS)
def test_compression_is_told_by_content(packer: str, tmp_path) -> None:
    path = tmp_path / "no_suffix"
    path.write_bytes(PACKERS[packer](LINE.encode() * 3))
    assert read_traces([path]).applied_counts["map"] == 3


@pytest.mark.parametrize("packer", ["gz", "xz", "zst"])
def test_truncated_archive_is_one_line(packer: str, tmp_path) -> None:
    path = tmp_path / "trace"
    data = "".join(LINE.replace("2.396", f"{n}.396") for n in range(2000))
    path.write_bytes(PACKERS[packer](data.encode())[:-20])
    with pytest.raises(TraceError, match="broken or cut short") as error:
        read_traces([path])
    assert "\n" not in str(error.value)


def test_zstd_bomb_is_unpacked_in_bounded_steps(tmp_path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(zstandard.ZstdCompressor().compress(bytes(64 << 20)))
    with pytest.raises(TraceError, match="binary"):
        read_traces([path])


def test_standard_input_is_read_and_stays_open(monkeypatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(gzip.compress(LINE.encode())))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert read_traces(["-"]).events == 1
    assert not stdin.buffer.closed


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "empty"),
        (b"\x17\x08\x44tracing7\0", "trace-cmd report FILE"),
        (b"\x7fELF\x02\x01", "vtd inspect"),
        (b"PERFILE2....", "run `perf script -i FILE`"),
        (b"ab\0cd", "binary"),
        (b"hello world\n", "begins with 'hello world'"),
        (b"\n\n", "no trace"),
        (b"  dd-1   [000]     1.536796: map:     iova=0x00 paddr=0x00 size=16777216\n", "without -R"),
        (b"  dd-1   [000]     1.536796: qi_submit:     qw0=0x4 qw1=0x0\n", "without -R"),
    ],
)
def test_what_is_no_trace_is_named(content: bytes, says: str, tmp_path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=f"(?s)^{path}: .*{says}") as error:
        read_traces([path])
    assert "\n" not in str(error.value)


def test_directory_and_missing_file_are_one_line(tmp_path) -> None:
    with pytest.raises(TraceError, match="Is a directory"):
        read_traces([tmp_path])
    with pytest.raises(TraceError, match="No such file"):
        read_traces([tmp_path / "none"])


def test_no_trace_at_all_is_an_error() -> None:
    with pytest.raises(TraceError, match="no trace given"):
        read_traces([])


def test_trace_without_events_is_a_trace(tmp_path) -> None:
    path = tmp_path / "f"
    path.write_text("# tracer: nop\n#\n")
    trace = read_traces([path])
    assert (trace.events, len(trace.columns), trace.spaces) == (0, 0, ())


def test_formats_are_told_apart() -> None:
    assert sniff("f", LINE.encode()) is Format.FTRACE
    assert sniff("f", b"cpus=2\n" + LINE.encode()) is Format.TRACE_CMD
    assert sniff("f", b"dd 7 [000] 1.5: iommu:map: IOMMU: iova=\n") is Format.PERF
    assert sniff("f", b"vtd_inv_qi_fetch \n") is Format.QEMU
    assert sniff("f", b"PAR1\x15\0") is Format.PARQUET
    assert sniff("f", b'\n {"event": "map"}') is Format.JSON_LINES
    assert sniff("f", b'# by hand\n{"event": "map"}') is Format.JSON_LINES


def test_pieces_are_whole_lines(tmp_path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc\n" * (1 << 19))
    with open_trace(path) as stream:
        got = list(pieces(stream, "f"))
    assert len(got) > 1
    assert all(piece.endswith(b"\n") for piece in got)
    assert b"".join(got) == path.read_bytes()


def test_line_without_end_is_refused(tmp_path) -> None:
    path = tmp_path / "f"
    path.write_bytes(LINE.encode() + b"x" * (3 * LONGEST_LINE))
    with pytest.raises(TraceError, match="a line longer than"):
        read_traces([path])


@given(st.lists(st.one_of(st.text(), st.just(LINE.strip()), st.from_regex(FRAME))))
def test_every_line_is_event_header_or_skipped(lines: list[str]) -> None:
    text = "\n".join(line.replace("\n", " ") for line in lines)
    events, skipped, reader = events_of(text)
    used = {event.line for event in events} | {s.line for s in skipped} | set(reader.losses)
    for number, line in enumerate(text.encode("utf-8", "replace").decode().split("\n"), 1):
        assert number in used or line.startswith(("#", "cpus=")) or not line.strip()


@given(st.binary())
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    skipped = SkippedLines()
    for event in TextReader("t", 0, skipped).events([LINE.encode() + data]):
        assert event.kind in Kind
