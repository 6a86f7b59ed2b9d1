"""The text of each event, in the words of each kernel generation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.trace import Kind
from emulator.trace.event import GFP_CLASSES, CacheTag, Descriptor, Event, Segments
from emulator.trace.skipped import SkippedLines
from emulator.trace.text import TextReader
from emulator.trace.tracepoints import PARSERS
from tests.traces import Script

R, W, RW = 1, 2, 3
UNKNOWN = "the text is not what any known kernel prints"
HEAD = "          insmod-155     [001] .....     2.396345: "


def read(line: str) -> Event:
    """The one event of a line."""
    (event,) = TextReader("t", 0, SkippedLines()).events([line.encode()])
    return event


def event(text: str) -> Event:
    """The event that this text is, on a line of its own."""
    return read(HEAD + text)


VERBATIM = """\
(udev-worker)-532     [010] .....     4.878076: map: IOMMU: iova=0x00000000fe980000 - 0x00000000fea00000 paddr=0x000000010ec80000 size=524288
(udev-worker)-532     [010] .....     4.878079: dma_alloc: 0000:c2:00.0 dma_addr=fe980000 size=524288 virt_addr=000000006cadbcb1 flags=GFP_KERNEL attrs=
kworker/u64:0-12      [011] .....   327.747763: dma_free: 0000:c2:00.0 dma_addr=fe980000 size=524288 virt_addr=000000006cadbcb1 attrs=
kworker/u64:0-12      [011] .....   327.747766: unmap: IOMMU: iova=0x00000000fe980000 - 0x00000000fea00000 size=524288 unmapped_size=524288
irq/26-AMD-Vi-154     [006] .....   327.753942: io_page_fault: IOMMU:ath12k_pci 0000:c2:00.0 iova=0x00000000fe980000 flags=0x0001
irq/24-AMD-Vi-48    [002] ....   978.554289: io_page_fault: IOMMU:[drvname] 0000:05:00.0 iova=0x0000000091482640 flags=0x0000
qemu-kvm-4575    [008] .......   438.308478: unmap: IOMMU: iova=0x0000000000000000 - 0x0000000000001000 size=4096 unmapped_size=4096
gem_exec_gttfil-1010    [004] .N...    50.126420: map: IOMMU: iova=0x00003fffffc00000 - 0x0000400000000000 paddr=0x00000001b9400000 size=4194304
insmod-1871    [002] .....   285.655295: swiotlb_bounced: dev_name: 0000:00:0a.0 dma_mask=ffffffff dev_addr=17c407000 size=256 NORMAL
keybroker-app-143     [000] b..2.  1772.607321: swiotlb_bounced: dev_name: 0000:00:00.0 dma_mask=ffffffffffffffff dev_addr=80b6717e size=66 FORCE
"""  # noqa: E501


def test_lines_seen_in_the_wild_are_read() -> None:
    got = [(e.kind, e.device, e.iova, e.gpa, e.size, e.access) for e in (read(line) for line in VERBATIM.splitlines())]
    assert got == [
        (Kind.MAP, None, 0xFE98_0000, 0x1_0EC8_0000, 524288, 0),
        (Kind.DMA_ALLOC, "0000:c2:00.0", 0xFE98_0000, 0, 524288, 0),
        (Kind.DMA_FREE, "0000:c2:00.0", 0xFE98_0000, 0, 524288, 0),
        (Kind.UNMAP, None, 0xFE98_0000, 0, 524288, 0),
        (Kind.FAULT, "0000:c2:00.0", 0xFE98_0000, 0, 0, W),
        (Kind.FAULT, "0000:05:00.0", 0x9148_2640, 0, 0, R),
        (Kind.UNMAP, None, 0, 0, 4096, 0),
        (Kind.MAP, None, 0x3FFF_FFC0_0000, 0x1_B940_0000, 4194304, 0),
        (Kind.BOUNCE, "0000:00:0a.0", 0x1_7C40_7000, 0, 256, 0),
        (Kind.BOUNCE, "0000:00:00.0", 0x80B6_717E, 0, 66, 0),
    ]


def test_map_and_unmap_before_5_17_have_no_end() -> None:
    mapped = event("map: IOMMU: iova=0x0000000ffff36000 paddr=0x00000001164d8000 size=4096")
    assert (mapped.kind, mapped.iova, mapped.gpa, mapped.size) == (Kind.MAP, 0xF_FFF3_6000, 0x1_164D_8000, 4096)
    unmapped = event("unmap: IOMMU: iova=0x0000000ffff36000 size=4096 unmapped_size=4096")
    assert (unmapped.kind, unmapped.iova, unmapped.size) == (Kind.UNMAP, 0xF_FFF3_6000, 4096)


def test_map_up_to_the_top_of_the_address_space_wraps_its_end() -> None:
    text = "map: IOMMU: iova=0xfffffffffffff000 - 0x0000000000000000 paddr=0x0000000000005000 size=4096"
    assert event(text).iova == 0xFFFF_FFFF_FFFF_F000


def test_unmap_counts_what_was_unmapped_and_keeps_what_was_asked() -> None:
    got = event("unmap: IOMMU: iova=0x0000000000001000 - 0x0000000000002000 size=4096 unmapped_size=2097152")
    assert (got.size, got.detail) == (2097152, 4096)


@pytest.mark.parametrize(
    "text, kind",
    [
        ("attach_device_to_domain: IOMMU: device=0000:00:1f.2", Kind.ATTACH),
        ("detach_device_from_domain: IOMMU: device=0000:00:1f.2", Kind.DETACH),
        ("add_device_to_group: IOMMU: groupID=10 device=0000:00:1f.2", Kind.GROUP_ADD),
        ("remove_device_from_group: IOMMU: groupID=10 device=0000:00:1f.2", Kind.GROUP_REMOVE),
    ],
)
def test_device_events_name_their_device(text: str, kind: Kind) -> None:
    got = event(text)
    assert (got.kind, got.device) == (kind, "0000:00:1f.2")


@pytest.mark.parametrize("name", ["dma_map_page", "dma_map_resource", "dma_map_phys"])
@pytest.mark.parametrize(
    "direction, access", [("BIDIRECTIONAL", RW), ("TO_DEVICE", R), ("FROM_DEVICE", W), ("NONE", 0)]
)
def test_dma_map_of_every_generation(name: str, direction: str, access: int) -> None:
    got = event(f"{name}: 0000:00:08.0 dir={direction} dma_addr=ffffb0f8 size=16 phys_addr=96600f8 attrs=")
    want = (Kind.DMA_MAP, "0000:00:08.0", 0xFFFF_B0F8, 0x966_00F8, 16, access)
    assert (got.kind, got.device, got.iova, got.gpa, got.size, got.access) == want
    assert got.detail == ("phys" if name.endswith("phys") else "page")


@pytest.mark.parametrize(
    "text, kind, access",
    [
        ("dma_unmap_page: d dir=TO_DEVICE dma_addr=1000 size=48 attrs=", Kind.DMA_UNMAP, R),
        ("dma_unmap_phys: d dir=FROM_DEVICE dma_addr=1000 size=48 attrs=SKIP_CPU_SYNC|MMIO", Kind.DMA_UNMAP, W),
        ("dma_alloc: d dma_addr=1000 size=48 virt_addr=00000000be480528 flags=GFP_KERNEL attrs=", Kind.DMA_ALLOC, 0),
        (
            "dma_alloc: d dir=BIDIRECTIONAL dma_addr=1000 size=48 virt_addr=00000000be flags=X|Y attrs=",
            Kind.DMA_ALLOC,
            RW,
        ),
        ("dma_alloc_pages: d dir=TO_DEVICE dma_addr=1000 size=48 virt_addr=00 flags=X attrs=", Kind.DMA_ALLOC, R),
        ("dma_alloc_sgt: d dir=TO_DEVICE dma_addr=1000 size=48 phys_addrs={0x1,0x2} flags=X attrs=", Kind.DMA_ALLOC, R),
        ("dma_alloc_sgt_err: d dir=TO_DEVICE dma_addr=1000 size=48 virt_addr=00 flags=X attrs=", Kind.DMA_ERROR, R),
        ("dma_free: d dir=BIDIRECTIONAL dma_addr=1000 size=48 virt_addr=00 attrs=", Kind.DMA_FREE, RW),
        ("dma_free_sgt: d dir=TO_DEVICE dma_addr=1000 size=48 phys_addrs={}", Kind.DMA_FREE, R),
        ("dma_sync_single_for_cpu: d dir=FROM_DEVICE dma_addr=1000 size=48", Kind.DMA_SYNC, W),
        ("dma_sync_single_for_device: d dir=TO_DEVICE dma_addr=1000 size=48", Kind.DMA_SYNC, R),
    ],
)
def test_other_dma_events(text: str, kind: Kind, access: int) -> None:
    got = event(text)
    assert (got.kind, got.device, got.iova, got.size, got.access) == (kind, "d", 0x1000, 48, access)


@pytest.mark.parametrize(
    "counts, truncated",
    [("", False), ("nents=2/2 ents=1/1 ", False), ("nents=128/168 ents=1/1 [TRUNCATED] ", True)],
)
def test_scatterlists_of_every_generation(counts: str, truncated: bool) -> None:
    lists = "dma_addrs={0xffeb0000} sizes={0x2000} phys_addrs={0xa723000,0x1000}"
    got = event(f"dma_map_sg: d dir=FROM_DEVICE {counts}{lists} attrs=")
    assert (got.kind, got.device, got.access) == (Kind.DMA_MAP_SG, "d", W)
    assert got.detail == Segments((0xFFEB_0000,), (0x2000,), (0xA72_3000, 0x1000), truncated)


@pytest.mark.parametrize(
    "text, kind",
    [
        ("dma_unmap_sg: d dir=TO_DEVICE phys_addrs={0x1000,0x2000} attrs=", Kind.DMA_UNMAP_SG),
        ("dma_map_sg_err: d dir=TO_DEVICE dma_addrs={0x1000,0x2000} err=-12 attrs=", Kind.DMA_ERROR),
        ("dma_sync_sg_for_cpu: d dir=TO_DEVICE dma_addrs={0x1000,0x2000} sizes={0x1,0x2}", Kind.DMA_SYNC),
    ],
)
def test_events_with_one_list(text: str, kind: Kind) -> None:
    got = event(text)
    assert (got.kind, got.device, got.access, got.detail.physical) == (kind, "d", R, (0x1000, 0x2000))


@pytest.mark.parametrize("tag", ["iotlb", "devtlb", "0x0"])
def test_cache_tags(tag: str) -> None:
    got = event(f"cache_tag_assign: dmar9/0000:00:01.0 type {tag} did 1 pasid 9 ref 1")
    assert (got.kind, got.device, got.domain) == (Kind.CACHE_TAG_ASSIGN, "0000:00:01.0", 1)
    assert got.detail == CacheTag("dmar9", tag, 9, 1, False)
    assert event(f"cache_tag_unassign: dmar0/dmar0 type {tag} did 5 pasid 0 ref 1").kind is Kind.CACHE_TAG_UNASSIGN


@pytest.mark.parametrize("pages", [True, False])
def test_flush_of_a_range_tells_its_generation(pages: bool) -> None:
    middle = " pages 0x20" if pages else ""
    got = event(
        "cache_tag_flush_range: dmar1 0000:00:1b.0[0] type iotlb did 9 [0xeab00000-0xeab1afff] addr 0xeab00000"
        f"{middle} mask 0x5"
    )
    assert (got.kind, got.domain, got.iova, got.size) == (Kind.CACHE_TAG_FLUSH, 9, 0xEAB0_0000, 0x1_B000)
    assert got.detail == CacheTag("dmar1", "iotlb", 0, 0, pages)


def test_flush_of_everything_is_larger_than_any_range() -> None:
    assert event("cache_tag_flush_all: dmar0/dmar0 type iotlb did 5 pasid 0 ref 1").size == 1 << 64


def test_queue_descriptors_are_words() -> None:
    got = event("qi_submit: dev_tlb_inv dmar1: 0x1000000003 0x7ffffffffffff001 0x0 0x0")
    assert got.detail == Descriptor("dmar1", (0x10_0000_0003, 0x7FFF_FFFF_FFFF_F001, 0, 0))


def test_page_requests_are_kept_as_text() -> None:
    text = "dmar0/0000:00:0a.0 seq# 1: rid=0x50 addr=0x559ef6f97 r---- pasid=0x2 index=0x1"
    assert event(f"prq_report: {text}").detail == text


def test_intel_events_of_5_4_name_the_device_of_each_mapping() -> None:
    got = event("map_single: dev=0000:00:02.0 dev_addr=0xfffff234 phys_addr=0x1164d8234 size=4096")
    assert (got.kind, got.device, got.iova, got.gpa, got.size) == (
        Kind.MAP, "0000:00:02.0", 0xFFFF_F000, 0x1_164D_8000, 0x2000,
    )  # fmt: skip
    part = event("map_sg: dev=0000:00:02.0 [1/3] dev_addr=0xfffe0000 phys_addr=0x5000 size=4096")
    assert (part.kind, part.iova, part.size) == (Kind.MAP, 0xFFFE_0000, 4096)
    for name in ("unmap_single", "unmap_sg", "bounce_unmap_single"):
        got = event(f"{name}: dev=0000:00:02.0 dev_addr=0xfffff000 size=8192")
        assert (got.kind, got.device, got.size) == (Kind.UNMAP, "0000:00:02.0", 8192)


@pytest.mark.parametrize(
    "text, why",
    [
        ("map: IOMMU: iova=0x1000 - 0x3000 paddr=0x5000 size=4096", "map: " + UNKNOWN),
        ("map: IOMMU: iova=0x1000 - 0x2000 paddr=0x5000 size=40", "map: " + UNKNOWN),
        ("map: IOMMU: iova=0x1001 - 0x2001 paddr=0x5000 size=4096", "the map is not made of whole 4 KiB pages"),
        ("map: IOMMU: iova=0x1000 - 0x1000 paddr=0x5000 size=0", "the map failed, it maps nothing"),
        ("map: IOMMU: iova=0xfffffffffffff000 paddr=0x5000 size=8192", "map: " + UNKNOWN),
        ("map: IOMMU: iova=0x0 paddr=0x0 size=18446744073709551616", "map: " + UNKNOWN),
        ("unmap: IOMMU: iova=0x1000 - 0x2000 size=4096 unmapped_size=0", "the unmap found nothing to unmap"),
        ("unmap: IOMMU: iova=0x1000 - 0x2000 size=4096 unmapped_size=1", "the unmap is not made of whole 4 KiB pages"),
        ("unmap: IOMMU: iova=0x1000 - 0x2000 size=40", "unmap: " + UNKNOWN),
        ("attach_device_to_domain: IOMMU:", "attach_device_to_domain: " + UNKNOWN),
        ("dma_map_sg: d dir=X dma_addrs={0x,0} sizes={} phys_addrs={}", "dma_map_sg: " + UNKNOWN),
        ("dma_unmap_sg: d dir=X phys_addrs={x}", "dma_unmap_sg: " + UNKNOWN),
    ],
)  # fmt: skip
def test_event_that_cannot_be_used_says_why(text: str, why: str) -> None:
    skipped = SkippedLines()
    (got,) = TextReader("t", 0, skipped).events([(HEAD + text).encode()])
    assert got.kind is Kind.OTHER
    assert [(s.line, s.why) for s in skipped] == [(1, why)]


@given(st.sampled_from(sorted(PARSERS)), st.text(alphabet="IOMU: =0x123fad-{},[]/devicsznphygrtul._ #", max_size=120))
def test_no_text_crashes_a_parser(name: str, text: str) -> None:
    fields = PARSERS[name](text)
    assert fields is None or isinstance(fields, str) or fields == () or len(fields) == 10


@given(st.integers(0, (1 << 52) - 1), st.integers(0, (1 << 40) - 1), st.integers(1, 1 << 10))
def test_every_map_that_a_kernel_can_print_is_read_back(page: int, frame: int, count: int) -> None:
    iova, gpa, size = page << 12, frame << 12, count << 12
    if iova + size > 1 << 64:
        return
    end = (iova + size) % (1 << 64)
    got = event(f"map: IOMMU: iova=0x{iova:016x} - 0x{end:016x} paddr=0x{gpa:016x} size={size}")
    assert (got.kind, got.iova, got.gpa, got.size) == (Kind.MAP, iova, gpa, size)


def test_class_of_an_allocation_is_that_of_its_maps(tmp_path) -> None:
    script = Script().attach("00:03.0", 3)
    flags = ["GFP_KERNEL|__GFP_ZERO", "GFP_ATOMIC", "GFP_NOIO", "__GFP_ZERO"]
    for at, flag in enumerate(flags, 1):
        script.map(at << 16, at << 16)
        text = f"dma_alloc: 0000:00:03.0 dma_addr={at << 16:x} size=4096 virt_addr=0000000012345678 flags={flag} attrs="
        script.line(text)
    script.map(9 << 16, 9 << 16).dma_map("00:03.0", 9 << 16, 9 << 16)
    columns = script.read(tmp_path).columns
    assert [GFP_CLASSES[gfp] for gfp in columns.gfp[columns.kind == Kind.MAP]] == ["kernel", "atomic", "noio", "", ""]
