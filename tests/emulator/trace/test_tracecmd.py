"""What trace-cmd makes of the same events."""

from __future__ import annotations

from emulator.trace import Kind, read_traces
from emulator.trace.event import Segments
from emulator.trace.skipped import SkippedLines
from emulator.trace.text import TextReader

# Verbatim lines of `trace-cmd report` (Debian 12) of a Linux 6.12 guest; arrays shortened by nothing.
REPORT = """\
cpus=2
            init-1     [000]     1.532895: cache_tag_assign:     dmar0/dmar0 type 0x0 did 2 pasid 0 ref 1
            init-1     [000]     1.533018: attach_device_to_domain: IOMMU: device=0000:00:1f.2
            tftp-262   [001]    11.220444: map:                  IOMMU: iova=0x00000000fff3f000 - 0x00000000fff40000 paddr=0x000000000989a000 size=4096
            tftp-262   [001]     3.634043: dma_map_sg:           [FAILED TO PARSE] device=0000:00:1f.2 full_nents=1 full_ents=1 truncated=0 phys_addrs=ARRAY[c0, a8, 89, 09, 00, 00, 00, 00] dma_addrs=ARRAY[c0, f8, f3, ff, 00, 00, 00, 00] lengths=ARRAY[00, 02, 00, 00] dir=2 attrs=0x0
          <idle>-0     [000]     3.634754: dma_unmap_sg:         [FAILED TO PARSE] device=0000:00:1f.2 addrs=ARRAY[c0, a8, 89, 09, 00, 00, 00, 00] dir=2 attrs=0x0
          <idle>-0     [000]     3.634755: unmap:                IOMMU: iova=0x00000000fff3f000 - 0x00000000fff40000 size=4096 unmapped_size=4096
          <idle>-0     [000]    11.220405: cache_tag_flush_range: dmar0 dmar0[0] type 0x0 did 2 [0xfff3f000-0xfff3ffff] addr 0xfff3f000 pages 0x1 mask 0x0
          <idle>-0     [000]    11.220406: qi_submit:            iotlb_inv dmar0: 0x200f2 0xfff3f040 0x0 0x0
"""  # noqa: E501


def test_arrays_that_trace_cmd_cannot_format_are_read_from_their_bytes() -> None:
    events = list(TextReader("t", 0, SkippedLines()).events([REPORT.encode()]))
    mapped, unmapped = events[3], events[4]
    assert (mapped.kind, mapped.device, mapped.access) == (Kind.DMA_MAP_SG, "0000:00:1f.2", 2)
    assert mapped.detail == Segments((0xFFF3_F8C0,), (0x200,), (0x989_A8C0,), False)
    assert (unmapped.kind, unmapped.detail) == (Kind.DMA_UNMAP_SG, Segments((), (), (0x989_A8C0,), False))


def test_allocation_that_trace_cmd_cannot_format_keeps_its_range() -> None:
    line = (
        "  dd-1   [000]     3.634043: dma_alloc_sgt:     [FAILED TO PARSE] device=0000:00:1f.2"
        " phys_addrs=ARRAY[00, 10] dma_addr=fff3f000 size=8192 dir=0 flags=0 attrs=0x0\n"
    )
    (got,) = TextReader("t", 0, SkippedLines()).events([line.encode()])
    assert (got.kind, got.device, got.iova, got.size) == (Kind.DMA_ALLOC, "0000:00:1f.2", 0xFFF3_F000, 8192)


def test_report_is_attributed_like_ftrace(tmp_path) -> None:
    path = tmp_path / "report"
    path.write_text(REPORT)
    trace = read_traces([path])
    (space,) = trace.spaces
    assert (space.domain_id, space.attributed, space.name) == (2, True, "domain 2 of dmar0 (00:1f.2)")
    assert trace.applied_counts == {"map": 1, "unmap": 1, "access": 0, "attach": 1, "detach": 0}
    assert trace.columns.access.tolist() == [0, 2, 0]
    assert not trace.skipped


def test_report_equals_the_ring_buffer_text(corpus) -> None:
    ftrace = read_traces([corpus / "x-tracecmd" / "trace.txt.gz"])
    report = read_traces([corpus / "x-tracecmd" / "trace-cmd-report.txt.gz"])
    assert report.events == ftrace.events == 45034
    assert report.spaces == ftrace.spaces
    for name in ("kind", "space", "iova", "gpa", "size", "access", "cpu", "time_ns", "leaf_levels"):
        assert (report.columns[name] == ftrace.columns[name]).all(), name
    assert not report.skipped
