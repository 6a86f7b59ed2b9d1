"""The books of what is stale: ranges against a set of addresses, counters against what flushes really covered."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from emulator.mapping.flush.pending import Pending, Waiting
from emulator.mapping.flush.window import Ranges

spans = st.tuples(st.integers(0, 60), st.integers(1, 12))


@given(st.lists(spans, max_size=40), st.lists(spans, min_size=1, max_size=40))
def test_ranges_answer_as_a_set_of_addresses_does(added, asked) -> None:
    ranges, twin = Ranges(), set()
    for start, size in added:
        ranges.add(start, start + size)
        twin |= set(range(start, start + size))
        for at, length in asked:
            assert ranges.meets(at, at + length) == bool(twin & set(range(at, at + length)))
    runs = sum(1 for address in twin if address - 1 not in twin)
    assert len(ranges) == runs
    ranges.clear()
    assert not any(ranges.meets(at, at + length) for at, length in asked)


@dataclass
class _Flush:
    # What the twin knows of a flush: which entries had come when it was started.
    covers: set[int]
    finished: bool = False


@dataclass
class _Bench:
    pending: Pending = field(default_factory=Pending)
    entries: list[Waiting] = field(default_factory=list)
    flushes: list[_Flush] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)

    def really_covered(self) -> set[int]:
        return {number for flush in self.flushes if flush.finished for number in flush.covers}

    def add(self, page: int) -> None:
        entry = Waiting("domain", page << 12, 4096, (), 0)  # type: ignore[arg-type]
        self.pending.add(entry)
        self.entries.append(entry)

    def start(self) -> None:
        self.pending.start()
        self.flushes.append(_Flush(set(range(len(self.entries)))))

    def finish(self, which: int) -> None:
        running = [flush for flush in self.flushes if not flush.finished]
        if running:
            running[which % len(running)].finished = True
            for entry in self.pending.finish():
                (number,) = [n for n, one in enumerate(self.entries) if one is entry]
                assert number not in self.covered
                self.covered.add(number)


scripts = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 9)),
        st.tuples(st.just("start"), st.just(0)),
        st.tuples(st.just("finish"), st.integers(0, 3)),
    ),
    max_size=60,
)


@given(scripts)
def test_the_flush_queue_policy_releases_an_entry_only_if_a_flush_started_after_it_has_finished(script) -> None:
    bench = _Bench()
    for step, number in script:
        match step:
            case "add":
                bench.add(number)
            case "start":
                bench.start()
            case "finish":
                bench.finish(number)  # flushes may overlap, and finish in any order
        assert bench.covered <= bench.really_covered()
        for at, entry in enumerate(bench.entries):
            assert bench.pending.covers(entry) == (at in bench.covered)
        stale = {entry.iova for at, entry in enumerate(bench.entries) if at not in bench.covered}
        for page in range(10):
            assert bench.pending.holds("domain", page << 12, 4096) == (page << 12 in stale)  # type: ignore[arg-type]


@given(scripts)
def test_the_flush_queue_policy_releases_every_entry_that_flushes_covered_if_none_overlap(script) -> None:
    bench = _Bench()
    for step, number in script:
        if step == "add":
            bench.add(number)
        else:
            bench.start()
            bench.finish(0)
        assert bench.covered == bench.really_covered()
