"""What a run counts, held against who only looks: descriptors read bit by bit, addresses, the clock, page by page."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from emulator.settings import Settings
from emulator.trace.event import Kind
from emulator.what_if.runner import Runner
from emulator.what_if.summary import summary
from tests.scripts import DISK, MAP, NIC, Script

PAGE = 4096
MS = 1_000_000
MSI = range(0xFEE00, 0xFEF00)
FIRST = {"mode": "scalable", "stage": "first"}
PRESETS = ["per-domain", "linux-2.6.25-lazy", "linux-7", "linux-7-strict", "gart-lazy", "stale-bitmap"]


def two_devices(turns: int = 300) -> Script:
    """A card that maps three times as often as a disk; each keeps its newest maps."""
    script = Script().attach(NIC).attach(DISK, 1)
    for number in range(turns):
        space = int(number % 4 == 3)
        old = number - 40
        if old >= 0:
            script.unmap((old + 1) * PAGE, space=int(old % 4 == 3), cpu=old % 3)
        script.map((number + 1) * PAGE, 0x100000 + number * PAGE, space=space, cpu=number % 3).wait(60_000)
    return script


class Looking:
    """A run, and every descriptor that went through the queue, by its bits alone."""

    def __init__(self, script: Script, engine, **values) -> None:
        self.runner = Runner(script.trace(), Settings.of({"engine": engine.name, **values}))
        self.words: list[int] = []
        self.submissions = 0  # of the IOTLB alone: no device comes or goes
        submit = self.runner.machine.driver.queue.submit

        def look(descriptors) -> None:
            words = [int(word) for word in descriptors]
            self.submissions += all(word & 0xF in (2, 6) for word in words)
            self.words += words
            submit(descriptors)

        self.runner.machine.driver.queue.submit = look
        self.runner.run()
        seen, submissions = list(self.words), self.submissions
        self.outcome = summary(self.runner, 1.0)  # which flushes what still waits
        self.words, self.submissions = seen, submissions

    def of_domain(self) -> dict[int, Counter[str]]:
        """IOTLB descriptors of one domain, by its id (bits 31:16) and granularity (bits 5:4)."""
        found: dict[int, Counter[str]] = {}
        for word in self.words:
            granularity, of_pasid = word >> 4 & 3, word & 0xF == 6
            if word & 0xF in (2, 6) and granularity != 1:
                kind = "page" if granularity == 3 else "pasid" if of_pasid else "domain"
                found.setdefault(word >> 16 & 0xFFFF, Counter())[kind] += 1
        return found


@pytest.mark.parametrize(
    "preset, tables",
    [*[(preset, {}) for preset in PRESETS], *[(preset, FIRST) for preset in ("linux-7", "linux-7-strict")]],
)
def test_invalidations_are_those_in_the_queue_domain_by_domain(engine, preset, tables):
    small = {"iova.entries": 64} if preset in ("gart-lazy", "stale-bitmap") else {}
    looked = Looking(two_devices(), engine, preset=preset, **small, **tables)
    told = {one["domain_id"]: one for one in looked.outcome.by_domain}
    seen = looked.of_domain()
    for number, one in told.items():
        counts = seen.get(number, Counter())
        assert one["invalidations"] == {kind: counts[kind] for kind in ("domain", "page", "pasid")}
    assert seen.keys() <= told.keys()
    for kind in ("domain", "page", "pasid"):
        assert looked.outcome.invalidations[kind] == sum(counts[kind] for counts in seen.values())
    assert looked.outcome.locks["queue"] == looked.submissions > 0


def test_each_domain_has_its_own_line_and_the_shared_window_one_for_all(engine):
    apart = Looking(two_devices(), engine, preset="per-domain").outcome
    assert [one["spaces"] for one in apart.by_domain] == [["space 0"], ["space 1"]]
    assert [one["maps_ok"] for one in apart.by_domain] == [225, 75]
    assert [one["unmaps"] for one in apart.by_domain] == [195, 65]
    assert [one["invalidations"]["page"] for one in apart.by_domain] == [195, 65]
    (one,) = Looking(two_devices(), engine, preset="gart-lazy").outcome.by_domain
    assert one["spaces"] == ["space 0", "space 1"]
    assert (one["maps_ok"], one["unmaps"]) == (300, 260)


def test_a_run_with_recorded_addresses_has_no_window_and_the_swap_disk_a_line_of_its_own(engine, tmp_path):
    looked = Looking(two_devices(), engine, gfp="kernel")
    assert [one["window"] for one in looked.outcome.by_domain] == [None, None]
    runner = Runner(two_devices().trace(), Settings.of({"engine": engine.name, "preset": "linux-7"}))
    runner.spaces.own("swap disk")
    runner.run()
    assert [one["spaces"] for one in summary(runner, 1.0).by_domain] == [["swap disk"], ["space 0"], ["space 1"]]


@pytest.mark.parametrize("preset", PRESETS)
def test_table_pages_of_the_domains_are_all_that_are_linked(engine, preset):
    looked = Looking(two_devices(), engine, preset=preset)
    pages = looked.runner.machine.layer.pages
    waiting = looked.outcome.series[-1][looked.outcome.series_columns.index("waiting_for_flush")]
    linked = sum(one["table_pages"] for one in looked.outcome.by_domain)
    assert linked == looked.outcome.table_pages["final"] - waiting
    assert pages.live == linked


def test_ages_of_stale_ranges_are_counted_by_the_domain_they_were_in(engine):
    # The ring of each domain is flushed 10 ms after the first unmap that found its timer off.
    script = Script().attach(NIC).attach(DISK, 1)
    for space in (0, 1):
        for number in range(3):
            script.map((number + 1) * PAGE, 0x100000, space=space)
    first = script.now
    script.unmap(PAGE).wait(MS).unmap(2 * PAGE).unmap(PAGE, space=1).wait(20 * MS).unmap(3 * PAGE, space=1)
    script.wait(30 * MS).map(0x9000, 0x100000)
    unmaps = [row["time_ns"] for row in script.rows if row["kind"] == Kind.UNMAP]
    assert unmaps[0] == first + 1000
    one, other = Looking(script, engine, preset="linux-7").outcome.by_domain
    ages = [10 * MS, 10 * MS - (unmaps[1] - unmaps[0])]
    assert one["stale_window"] == {"ranges": 2, "max_ns": ages[0], "mean_ns": sum(ages) // 2}
    assert other["stale_window"] == {"ranges": 2, "max_ns": 10 * MS, "mean_ns": 10 * MS}


def test_stale_hits_of_all_domains_are_those_of_the_run(engine):
    looked = Looking(two_devices(), engine, preset="linux-7", accesses="late")
    hits = [one["stale_hits"] for one in looked.outcome.by_domain]
    assert sum(hits) == looked.outcome.accesses["hits"] > 0
    assert hits[0] > hits[1] > 0, "the card unmaps three times as often"


@pytest.mark.parametrize("pool", ["os", "respool", "mempool"])
def test_calls_of_the_system_are_counted_by_class_as_it_hears_them(engine, pool, monkeypatch):
    runner = Runner(two_devices().trace(), Settings.of({"engine": engine.name, "pool": pool, "iova": "rbtree"}))
    heard: Counter[str] = Counter()
    take = runner.machine.zone.take

    def listen(gfp, *rest, **more):
        heard[gfp.name.lower()] += 1
        return take(gfp, *rest, **more)

    monkeypatch.setattr(runner.machine.zone, "take", listen)
    runner.run()
    assert {name: count for name, count in summary(runner, 1.0).os_calls.items() if count} == dict(heard)
    assert heard


def test_the_largest_free_run_is_the_widest_gap_between_what_is_live(engine):
    looked = Looking(two_devices(), engine, preset="per-domain")
    runner = looked.runner
    for key, told in ((0, looked.outcome.by_domain[0]), (1, looked.outcome.by_domain[1])):
        window = runner.spaces.window(key).allocator.window
        taken = set(MSI) | {window.first - 1, window.end}
        for op, kind in enumerate(runner.ops.kind):
            buffer = runner.ops.buffer[op]
            if kind == MAP and runner.ops.space[op] == key and runner.buffers.live_bytes[buffer]:
                first = runner.buffers.address[buffer] // PAGE
                taken |= set(range(first, first + runner.ops.size[op] // PAGE))
        known = sorted(taken)
        widest = max(after - before - 1 for before, after in itertools.pairwise(known))
        assert told["window"]["largest_free_run"] == widest
        assert told["window"]["occupied"] == len(taken) - 2


def test_time_below_the_watermarks_is_the_time_that_a_script_keeps_memory_there(engine, tmp_path):
    script = Script().attach().map(0x4000, 0x100000).wait(30 * MS).map(0x5000, 0x101000)
    path = tmp_path / "pressure.yaml"
    path.write_text(
        "steps:\n  - {at: 5ms, who: others, leave: 0, kind: pinned, gfp: memalloc}\n"
        "  - {at: 9ms, who: others, give back: all}\n",
        encoding="utf-8",
    )
    values = {"kernel.size": "4M", "kernel.reclaim_per_ms": 0, "pool": "os", "iova": "rbtree", "pressure": str(path)}
    outcome = Looking(script, engine, **values).outcome
    assert outcome.below_ns == dict.fromkeys(("min", "low", "high"), 4 * MS)
    assert outcome.lowest_free == 0
