"""Traces written for tests: lines as kernels print them, and what is live when a trace ends."""

from __future__ import annotations

import lzma
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from emulator.trace import Kind, Trace, read_traces

PAGE = 4096


class Script:
    """Builds ftrace text line by line, as one kernel would print it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._now = 1_000_000

    def line(self, event: str, task: str = "dd-100", cpu: int = 0) -> Script:
        """An event line, one microsecond after the one before."""
        self._now += 1
        seconds, micro = divmod(self._now, 1_000_000)
        self.lines.append(f"{task:>16} [{cpu:03d}] d..1. {seconds:5d}.{micro:06d}: {event}")
        return self

    def map(self, iova: int, gpa: int, size: int = PAGE, **who: object) -> Script:
        """iommu:map in the form of 5.17 and later."""
        text = f"map: IOMMU: iova=0x{iova:016x} - 0x{iova + size:016x} paddr=0x{gpa:016x} size={size}"
        return self.line(text, **who)

    def unmap(self, iova: int, size: int = PAGE, **who: object) -> Script:
        """iommu:unmap in the form of 5.17 and later."""
        text = f"unmap: IOMMU: iova=0x{iova:016x} - 0x{iova + size:016x} size={size} unmapped_size={size}"
        return self.line(text, **who)

    def dma_map(self, device: str, iova: int, gpa: int, size: int = PAGE, way: str = "TO_DEVICE", **who) -> Script:
        """dma_map_page."""
        text = f"dma_map_page: 0000:{device} dir={way} dma_addr={iova:x} size={size} phys_addr={gpa:x} attrs="
        return self.line(text, **who)

    def dma_unmap(self, device: str, iova: int, size: int = PAGE, **who: object) -> Script:
        """dma_unmap_page."""
        return self.line(f"dma_unmap_page: 0000:{device} dir=TO_DEVICE dma_addr={iova:x} size={size} attrs=", **who)

    def attach(self, device: str, did: int | None = None, ref: int = 1, **who: object) -> Script:
        """attach_device_to_domain, with the cache tag that newer kernels assign just before."""
        if did is not None:
            self.line(f"cache_tag_assign: dmar0/dmar0 type iotlb did {did} pasid 0 ref {ref}", **who)
        return self.line(f"attach_device_to_domain: IOMMU: device=0000:{device}", **who)

    def flush(self, did: int, start: int, size: int = PAGE, pages: bool = True, **who: object) -> Script:
        """cache_tag_flush_range."""
        middle = f" pages 0x{size // PAGE:x}" if pages else ""
        text = f"cache_tag_flush_range: dmar0 dmar0[0] type iotlb did {did} [0x{start:x}-0x{start + size - 1:x}]"
        return self.line(f"{text} addr 0x{start:x}{middle} mask 0x0", **who)

    def read(self, folder: Path) -> Trace:
        """The trace that the reader makes of these lines."""
        path = folder / "trace.txt"
        path.write_text("\n".join(["# tracer: nop", *self.lines]) + "\n")
        return read_traces([path])


def live_pages(trace: Trace) -> dict[int, dict[int, int]]:
    """What is live in each space at the end, page by page: computed in the most obvious way."""
    live: dict[int, dict[int, int]] = defaultdict(dict)
    for row in trace.columns.rows():
        pages = range(0, row["size"], PAGE)
        if row["kind"] == Kind.MAP:
            live[row["space"]].update({row["iova"] + page: row["gpa"] + page for page in pages})
        elif row["kind"] == Kind.UNMAP:
            for page in pages:
                live[row["space"]].pop(row["iova"] + page, None)
    return live


def table_pages(maps: Iterable[list[str]]) -> dict[int, int]:
    """The leaves of a table in truth.json as pages: iova -> gpa."""
    pages = {}
    for iova, gpa, size, *_ in maps:
        for page in range(0, int(size, 16), PAGE):
            pages[int(iova, 16) + page] = int(gpa, 16) + page
    return pages


def text_of(path: Path) -> str:
    """The text of a recorded trace among the fixtures."""
    return lzma.decompress(path.read_bytes()).decode()


def with_log(folder: Path, *more: str) -> tuple[Path, Path]:
    """A page that is mapped, used and unmapped: what the guest traced, and what its QEMU logged, with `more` lines."""
    script = Script().attach("00:03.0").map(0x1000, 0x5000).dma_map("00:03.0", 0x1000, 0x5000).unmap(0x1000)
    trace, log = folder / "trace.txt", folder / "qemu.log"
    script.line("qi_submit: iotlb_inv dmar0: 0x100e2 0x1000 0x0 0x0").read(folder)
    used = "vtd_dmar_translate dev 00:03.00 iova 0x1000 -> gpa 0x5000 mask 0xfff"
    invalidated = "vtd_inv_desc invalidate desc type iotlb high 0x1000 low 0x100e2"
    log.write_text("".join(f"{line}\n" for line in (used, invalidated, *more)))
    return trace, log
