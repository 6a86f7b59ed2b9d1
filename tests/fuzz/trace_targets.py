"""Traces in their other formats, and the files that say what a run happens under: what is fed, and its seeds."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import emulator.mapping.costs
from emulator.compare import grid_points
from emulator.mapping.costs import Costs
from emulator.mapping.pressure_script import read_script
from emulator.settings import Settings, machine_file
from emulator.trace import read_traces
from emulator.trace.writing import format_of, trace_writer
from emulator.workloads import WORKLOADS, generate
from emulator.workloads.workload import spaces_of
from tests.conftest import FIXTURES

__all__ = ["TRACE_FEEDS"]

Feed = Callable[[bytes], None]
Seeds = Callable[[], Iterator[bytes]]
COSTS = Path(emulator.mapping.costs.__file__).with_name("costs.yaml")


class _Folder:
    # Costs and traces are read by path; Parquet wants a file that can be sought.
    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None

    def holding(self, data: bytes, name: str) -> str:
        self._folder = self._folder or TemporaryDirectory()
        path = Path(self._folder.name, name)
        path.write_bytes(data)
        return os.fspath(path)


_folder = _Folder()


def _trace(data: bytes) -> None:
    trace = read_traces([_folder.holding(data, "trace")])
    list(itertools.islice(trace.columns.rows(), 1000))
    _ = trace.applied_counts, trace.skipped.groups()


def _costs(data: bytes) -> None:
    Costs.load(_folder.holding(data, "costs.yaml"))


def _settings(data: bytes) -> None:
    Settings.of(machine_file(Path(_folder.holding(data, "settings.yaml"))))


def _grid(data: bytes) -> None:
    for point in itertools.islice(grid_points(data.decode("utf-8", "replace").splitlines()), 50):
        Settings.of(point)


def _pressure(data: bytes) -> None:
    read_script(data.decode("utf-8", "replace"))


def _written(suffix: str) -> Seeds:
    def seeds() -> Iterator[bytes]:
        for workload in ("nic-tx", "usb-storage"):
            path = _folder.holding(b"", f"seed{suffix}")
            with trace_writer(path, format_of(path, None), spaces_of(2), "7.x") as writer:
                for columns in generate(WORKLOADS[workload], 60, devices=2):
                    writer.write(columns)
            yield Path(path).read_bytes()

    return seeds


def _qemu_seeds() -> Iterator[bytes]:
    lines = (
        b"vtd_inv_desc invalidate desc type iotlb high 0xffe59040 low 0xe00f2",
        b"vtd_inv_desc invalidate desc type wait high 0x10debfdc low 0x200000025",
        b"vtd_dmar_translate dev 03:00.00 iova 0xfffff000 -> gpa 0x10450000 mask 0xfff",
        b"vtd_iotlb_page_hit IOTLB page hit sid 0x300 iova 0xfffff010 slpte 0x10450003 domain 0xe",
        b"vtd_reg_dmar_root addr 0x7f09000 scalable 0",
    )
    yield b"\n".join(lines)
    yield b"".join(b"4242@1700000000.%06d:%s\n" % (number, line) for number, line in enumerate(lines))
    yield b"".join(b"2026-11-21T09:10:%02d.5Z %s\n" % (number, line) for number, line in enumerate(lines))


def _misuse_seeds() -> Iterator[bytes]:
    # Every event that the native format has.
    for path in sorted((FIXTURES / "misuse").glob("*.jsonl")):
        yield path.read_bytes()


def _pressure_seeds() -> Iterator[bytes]:
    for path in sorted((FIXTURES / "pressure").glob("*.yaml")):
        yield path.read_bytes()


def _costs_seeds() -> Iterator[bytes]:
    yield b"map.first: 55\n"
    yield COSTS.read_bytes()


def _settings_seeds() -> Iterator[bytes]:
    yield b"mode: scalable\nlevels: 4\npool: mempool\npool.min_nr: 64\nram: 0x0-0x40000000\n"
    yield b"preset: linux-7\nkernel: {size: 64M, used: 1M}\nleaves: 4k,2m\nflush: {entries: 16}\n"


def _grid_seeds() -> Iterator[bytes]:
    yield b"pool=os,mempool,flush=strict,percpu\nkernel.size=64M,1G"
    yield b"iova=all,window=shared\npool.size=1,2"


TRACE_FEEDS: dict[str, tuple[Feed, Seeds]] = {
    "parquet": (_trace, _written(".parquet")),
    "perf": (_trace, _written(".perf")),
    "trace-cmd": (_trace, _written(".report")),
    "qemu-log": (_trace, _qemu_seeds),
    "misuse": (_trace, _misuse_seeds),
    "pressure": (_pressure, _pressure_seeds),
    "costs": (_costs, _costs_seeds),
    "settings": (_settings, _settings_seeds),
    "grid": (_grid, _grid_seeds),
}
"""Name of a target -> what it is fed to, and what a campaign starts from."""
