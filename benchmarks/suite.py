"""The benchmarks by name, with what each is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks import jobs, listing, reading
from benchmarks.measure import Job, interleaved
from benchmarks.scene import Scene
from pagetables.errors import InputError, near

__all__ = ["BENCHMARKS", "Benchmark", "Outcome", "run"]

ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One ratio: what is measured, against what, and how far apart they may be. `target` None: reported only."""

    name: str
    about: str
    make: Callable[[Scene], Job]
    target: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one benchmark measured: nanoseconds for one operation, and their ratio."""

    name: str
    about: str
    limit_ns: float
    ours_ns: float
    target: float | None

    @property
    def ratio(self) -> float:
        """Ours over the limit."""
        return self.ours_ns / self.limit_ns

    @property
    def met(self) -> bool | None:
        """Whether the target holds; None where there is none."""
        return None if self.target is None else self.ratio <= self.target


_ALL = (
    Benchmark("walk", "IOTLB miss, batch : bare four-load walk", jobs.walk, 1.5),
    Benchmark("hit", "IOTLB hit, batch : bare 4-way hash probe", jobs.hit, 2.0),
    Benchmark("map", "map 4 KiB, batch, random : bare entry stores", jobs.map_random, 2.0),
    Benchmark("unmap", "unmap 4 KiB, batch, random : bare entry stores", jobs.unmap_random, 2.0),
    Benchmark("map-sequential", "map 4 KiB, batch, in order : bare entry stores", jobs.map_sequential, 2.0),
    Benchmark("unmap-sequential", "unmap 4 KiB, batch, in order : bare entry stores", jobs.unmap_sequential, 2.0),
    Benchmark("map-call", "one raw map through cffi : an empty cffi call", jobs.map_call, 3.0),
    Benchmark("map-python", "one map by the Python wrapper : an empty cffi call", jobs.map_python, None),
    Benchmark("replay", "strict replay, descriptors as bytes : bare loads and stores", jobs.replay, 4.0),
    Benchmark("list-image", "a million 4 KiB mappings of a 256 GiB image : bare scan", listing.list_pages, 3.0),
    Benchmark("list-runs", "the same, of neighbours in runs : bare scan", listing.list_runs, 3.0),
    Benchmark("read-ftrace", "a line of ftrace text : gawk, the same fields", reading.read_ftrace, None),
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def run(names: Iterable[str] = (), progress: Callable[[int], None] = lambda done: None) -> list[Outcome]:
    """The outcomes of the benchmarks named, or of all; `progress` hears of each that is done."""
    chosen = list(names) or list(BENCHMARKS)
    for name in chosen:
        if name not in BENCHMARKS:
            raise InputError(f"no benchmark is called {name!r}; {near(name, BENCHMARKS)}")
    scene = Scene()
    outcomes = []
    for name in chosen:
        benchmark = BENCHMARKS[name]
        timing = interleaved(benchmark.make(scene), ROUNDS)
        outcomes.append(Outcome(name, benchmark.about, timing.limit_ns, timing.ours_ns, benchmark.target))
        progress(1)
    return outcomes
