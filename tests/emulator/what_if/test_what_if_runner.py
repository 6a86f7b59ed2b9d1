"""What-if runs of traces written by hand: addresses, failures, waits, stale hits, and what is counted."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

from emulator.mapping.pressure import Gfp
from emulator.settings import Settings
from emulator.what_if import AS_RECORDED, REALLOCATED, metric_names, run
from emulator.what_if.runner import Runner
from emulator.what_if.summary import summary
from pagetables.address import Iova, parse_source_id
from pagetables.errors import InputError
from pagetables.fault import Fault
from pagetables.request import Access, Request
from tests.conftest import FIXTURES
from tests.scripts import DISK, NIC, Script

PAGE = 4096
MEGA = 1 << 20


def outcome_of(script: Script, engine, **values):
    return run(script.trace(), Settings.of({"engine": engine.name, **values}))


def ran(script: Script, engine, **values) -> Runner:
    runner = Runner(script.trace(), Settings.of({"engine": engine.name, **values}))
    runner.run()
    return runner


def answer(runner: Runner, iova: int, device: str = NIC):
    return runner.machine.unit.translate(Request(parse_source_id(device), Iova(iova), Access.READ))


def churn(maps: int, live: int, script: Script | None = None, gap: int = 0) -> Script:
    """`maps` one-page maps with at most `live` at a time, oldest unmapped first."""
    script = script or Script().attach()
    for number in range(maps):
        if number >= live:
            script.unmap((number - live + 1) * PAGE)
        script.map((number + 1) * PAGE, 0x100000 + number % 256 * PAGE).wait(gap)
    return script


def test_recorded_addresses_are_kept_where_only_costs_are_asked_for(engine):
    runner = ran(Script().attach().map(0x7000, 0x123000), engine, gfp="kernel")
    assert answer(runner, 0x7123).gpa == 0x123123
    assert summary(runner, 1.0).addresses == AS_RECORDED


def test_an_allocator_gives_other_addresses_and_the_mapping_is_still_followed(engine):
    script = Script().attach().map(0x7000, 0x123000).map(0x9000, 0x200000).unmap(0x7000)
    runner = ran(script, engine, iova="rbtree")
    outcome = summary(runner, 1.0)
    assert outcome.addresses == REALLOCATED
    assert isinstance(answer(runner, 0x7000), Fault)
    first, second = runner.buffers.address
    assert isinstance(answer(runner, first), Fault)
    assert answer(runner, second).gpa == 0x200000
    assert (outcome.maps, outcome.maps_ok, outcome.unmaps, outcome.live_mappings) == (2, 2, 1, 1)


def test_each_domain_has_addresses_of_its_own_unless_one_window_is_shared(engine):
    script = Script().attach(NIC).attach(DISK, 1).map(0x7000, 0x123000).map(0x7000, 0x200000, space=1)
    apart = ran(script, engine, iova="rbtree")
    assert apart.buffers.address[0] == apart.buffers.address[1]
    assert answer(apart, apart.buffers.address[1], DISK).gpa == 0x200000
    shared = ran(script, engine, iova="gart-lazy", flush="lazy-on-wrap", window="shared")
    first, second = shared.buffers.address
    assert first != second
    assert answer(shared, first, DISK).gpa == 0x123000  # a window for all isolates nobody


def test_recorded_addresses_cannot_share_one_window():
    with pytest.raises(InputError, match="window=shared needs an address allocator"):
        Settings.of({"window": "shared"})


def test_a_scatter_list_gets_one_run_of_addresses_and_one_latency(engine):
    script = Script().attach().map(0x5000, 0x20000).map(0x6000, 0x40000, 2 * PAGE).unmap(0x5000, 3 * PAGE)
    script.map(0x5000, 0x60000)
    runner = ran(script, engine, iova="rbtree")
    assert len(runner.map_ns) == 2
    assert summary(runner, 1.0).allocator["allocated"] == 2


def test_what_is_mapped_to_itself_for_good_keeps_its_address(engine):
    script = Script().attach().map(0x80000, 0x80000, MEGA).map(0x7000, 0x123000)
    runner = ran(script, engine, iova="rbtree")
    assert runner.buffers.direct == [True, False]
    assert answer(runner, 0x80123).gpa == 0x80123
    assert "mapped to themselves" in " ".join(summary(runner, 1.0).notes)


def test_a_window_that_is_full_fails_for_want_of_addresses_and_only_for_that(engine):
    script = churn(40, 40)
    options = {"iova": "gen-pool", "iova.entries": 16}
    outcome = outcome_of(script, engine, **options)
    assert outcome.failed["address"] == 40 - outcome.maps_ok > 0
    assert outcome.failed["page"] == outcome.failed["bounce"] == 0
    assert outcome.live_mappings == outcome.maps_ok


def test_the_unmap_of_a_map_that_failed_is_counted_and_does_nothing(engine):
    outcome = outcome_of(churn(40, 20), engine, **{"iova": "gen-pool", "iova.entries": 16})
    assert outcome.failed["address"] > 0
    assert outcome.unmaps + outcome.unmaps_of_failed == 20
    assert outcome.unmaps_of_failed > 0
    assert not outcome.refused


def full(script: Script) -> dict[str, object]:
    """Kernel memory in which an atomic request soon finds nothing."""
    return {"kernel.size": "1M", "kernel.reclaim_per_ms": 0, "pool": "os", "kernel.min_free_kib": 128}


def scattered(maps: int) -> Script:
    """Maps of which each needs a table of its own."""
    script = Script().attach()
    for number in range(maps):
        script.map((number + 1) * 2 * MEGA, 0x100000)
    return script


def test_a_list_of_which_a_part_finds_no_page_leaves_nothing_mapped(engine):
    script = scattered(300)
    script.map(0x7000_0000 - PAGE, 0x100000).map(0x7000_0000, 0x300000).unmap(0x7000_0000 - PAGE, 2 * PAGE)
    runner = ran(script, engine, **full(script), accesses="rule")
    assert runner.failed["page"] > 0
    for op, buffer in enumerate(runner.ops.buffer):
        if runner.ops.kind[op] == 1 and not runner.buffers.live_bytes[buffer]:
            for piece in range(runner.ops.first[op], runner.ops.first[op + 1]):
                iova = runner.ops.buffer_start[buffer] + runner.ops.piece_offset[piece]
                assert isinstance(answer(runner, iova), Fault)


def test_a_sleeper_gets_its_page_when_one_comes_back_and_its_wait_is_its_latency(engine):
    # Two tables fit; the third map waits until the whole range of the first is unmapped, 5 ms later.
    script = Script().attach().map(0, 0x20_0000, 2 * MEGA, leaf_levels=1).map(2 * MEGA, 0x40_0000)
    script.map(4 * MEGA, 0x50_0000).wait(5_000_000).unmap(0, 2 * MEGA)
    settings = {
        "pool": "mempool",
        "pool.min_nr": 5,
        "pool.preallocated": 1,
        "reaction": "sleep",
        "gfp": "kernel",
    }
    outcome = outcome_of(script, engine, **settings)
    assert outcome.maps_ok == 3
    assert outcome.waits["late_successes"] == 1
    assert outcome.waits["longest_ns"] == pytest.approx(5_000_000, rel=0.01)
    assert outcome.map_ns["max"] > 5_000_000
    assert not outcome.deadlocks


def test_nobody_to_give_a_page_back_is_a_deadlock_with_names(engine):
    script = scattered(20)
    settings = {"pool": "mempool", "pool.min_nr": 5, "pool.preallocated": 1, "reaction": "sleep", "gfp": "kernel"}
    outcome = outcome_of(script, engine, **settings)
    assert len(outcome.deadlocks) == 1
    assert "for ever waiting" in outcome.deadlocks[0]
    assert "space 0" in outcome.deadlocks[0]
    assert outcome.failed["page"] == outcome.waits["starved"] == 20 - outcome.maps_ok


def test_an_unmap_that_comes_while_its_map_waits_is_done_after_the_buffer_has_lived_as_long(engine):
    script = Script().attach().map(0, 0x20_0000, 2 * MEGA, leaf_levels=1).map(2 * MEGA, 0x40_0000)
    script.map(4 * MEGA, 0x50_0000).wait(1_000_000).unmap(4 * MEGA).wait(4_000_000).unmap(0, 2 * MEGA)
    settings = {"pool": "mempool", "pool.min_nr": 5, "pool.preallocated": 1, "reaction": "sleep", "gfp": "kernel"}
    runner = ran(script, engine, **settings)
    assert (runner.maps_ok, runner.unmaps, runner.unmaps_of_failed) == (3, 1, 0)
    late = runner.machine.clock
    late.advance(2_000_000)
    assert runner.unmaps == 2
    assert not runner.buffers.live_bytes[2]


def test_the_class_of_a_map_is_the_traces_where_it_tells(engine):
    script = Script().attach().map(0x1000, 0x20000, gfp=6).map(0x2000, 0x30000)
    assert ran(script, engine, gfp="nowait").gfp[1:] == [Gfp.KERNEL, Gfp.NOWAIT]


def test_accesses_while_a_buffer_lives_are_answered_by_its_own_entry(engine):
    outcome = outcome_of(churn(60, 8, gap=1_000_000), engine, iova="rbtree+rcache", flush="percpu", accesses="rule")
    assert outcome.accesses["made"] == 60 + 52
    assert outcome.accesses["hits"] == outcome.accesses["blocked"] == 0


def test_a_late_device_is_blocked_when_unmaps_are_strict_and_served_when_they_are_deferred(engine):
    late = {"iova": "rbtree", "accesses": "late", "accesses.late_us": 1}  # before the address is used again
    strict = outcome_of(churn(60, 8, gap=1_000_000), engine, flush="strict", **late)
    assert (strict.accesses["hits"], strict.stale_window["max_ns"]) == (0, 0)
    assert strict.accesses["blocked"] > 40
    lazy = outcome_of(churn(60, 8, gap=1_000_000), engine, flush="percpu", **late)
    assert lazy.accesses["hits"] > 40
    assert lazy.accesses["oldest_ns"] == 1_000
    assert lazy.stale_window["max_ns"] == 10_000_000
    assert lazy.stale_window["accesses"] == lazy.accesses["hits"]


HOLE = {"iova": "sparc-generic-1pool", "iova.entries": 64, "flush": "lazy-on-wrap", "window": "shared"}


def test_the_hole_of_the_generic_pool_sends_devices_to_memory_of_somebody_else(engine):
    generic = outcome_of(churn(2000, 30), engine, accesses="rule", **HOLE)
    assert generic.reused_before_flush > 0
    assert generic.accesses["hits"] > 0
    assert generic.accesses["oldest_ns"] > 0
    for iova, flush in (("stale-bitmap", "stale-bitmap"), ("gart-lazy", "lazy-on-wrap"), ("gart", "flush-every-map")):
        other = HOLE | {"iova": iova, "flush": flush}
        outcome = outcome_of(churn(2000, 30), engine, accesses="rule", **other)
        assert (outcome.reused_before_flush, outcome.accesses["hits"]) == (0, 0)


def test_ranges_that_are_stale_at_the_end_have_an_age_but_cost_no_flush(engine):
    script = churn(10, 4, gap=1_000_000).wait(50_000_000).map(0x800000, 0x100000)
    outcome = outcome_of(script, engine, **(HOLE | {"iova": "stale-bitmap", "flush": "stale-bitmap"}))
    assert outcome.stale_window["pending"] == outcome.stale_window["ranges"] == 6
    assert outcome.stale_window["max_ns"] > 50_000_000
    assert outcome.invalidations["global"] == 0


def test_unmaps_on_several_cpus_at_once_stand_in_line(engine):
    def script(cpus: int) -> Script:
        made = Script().attach()
        for number in range(8):
            made.map((number + 1) * PAGE, 0x100000)
        for number in range(8):
            made.now -= 1000  # all at one time
            made.unmap((number + 1) * PAGE, cpu=number % cpus)
        return made

    alone, together = (outcome_of(script(cpus), engine, iova="rbtree") for cpus in (1, 8))
    assert alone.unmap_ns["max"] < together.unmap_ns["max"]
    assert together.unmap_ns["max"] - alone.unmap_ns["max"] == 7_000  # seven before it, 1 us each


def test_tables_without_a_mapping_are_empty_but_linked(engine):
    script = scattered(10)
    for number in range(10):
        script.unmap((number + 1) * 2 * MEGA)
    script.wait(1000).map(2 * MEGA, 0x100000)
    runner = ran(script, engine, gfp="kernel")
    pages = summary(runner, 1.0).pages
    assert pages["live"]["peak"] == 1 + 2 + 10  # root, one of each higher level, one a map
    assert pages["empty"]["peak"] == 12
    needed = runner.placing.occupancy.needed
    assert needed == 3


def test_a_run_is_the_same_every_time_and_survives_pickling(engine):
    settings = Settings.of({"engine": engine.name, "preset": "sparc-generic", "accesses": "late"})
    trace = churn(300, 20).trace()
    first, second = run(trace, settings), run(trace, settings)
    assert first == second
    assert first.series == second.series
    assert pickle.loads(pickle.dumps(first)) == first


def test_both_engines_have_the_same_outcome():
    trace = churn(400, 20, gap=300_000).trace()
    values = {"preset": "linux-7", "accesses": "late"}
    native, python = (run(trace, Settings.of({**values, "engine": name})).as_dict() for name in ("native", "python"))
    for key in ("engine", "elapsed_s", "events_per_s"):
        del native[key], python[key]
    assert native == python


def test_every_metric_says_what_it_counts_and_is_in_the_document(engine):
    names = metric_names()
    document = outcome_of(churn(5, 2), engine, preset="linux-7").as_dict()
    assert document.keys() == names.keys()
    assert all(len(about) > 10 for about in names.values())
    assert len(document["series"][0]) == len(document["series_columns"])


def test_the_document_on_comparing_lists_every_metric_as_it_is():
    text = (FIXTURES.parent / "docs" / "compare.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    assert {name: about for name, about in rows.items() if name in metric_names()} == metric_names()


def test_latencies_are_percentiles_of_what_was_measured(engine):
    runner = ran(churn(200, 10), engine, iova="rbtree")
    outcome = summary(runner, 1.0)
    values = np.sort(np.array(runner.map_ns))
    assert outcome.map_ns["max"] == values[-1]
    assert outcome.map_ns["p50"] == values[99]
    assert outcome.map_ns["p99"] == values[197]


def test_a_cost_table_of_ones_own_changes_latencies_and_nothing_else(engine, tmp_path):
    table = tmp_path / "costs.yaml"
    table.write_text("map.first: 1000055\n")
    trace = churn(50, 10).trace()
    settings = {"engine": engine.name, "iova": "rbtree"}
    plain, dear = run(trace, Settings.of(settings)), run(trace, Settings.of({**settings, "costs": str(table)}))
    assert dear.map_ns["p50"] - plain.map_ns["p50"] == 1_000_000
    assert dear.unmap_ns == plain.unmap_ns
    assert dear.invalidations == plain.invalidations


def test_a_map_fails_where_no_page_is_left_to_attach_a_stand_in(engine, tmp_path):
    script = "explains: x\nsteps:\n  - {at: 0ms, who: hog, take: all, kind: pinned, gfp: memalloc}\n"
    (tmp_path / "full.yaml").write_text(script)
    trace = Script().attach(NIC).wait(MEGA).map(0x7000, 0x123000, space=1)  # nobody is known to use space 1
    values = {"pool": "mempool", "kernel.size": "4M", "gfp": "kernel"}  # the pool has pages, the unit gets none
    assert outcome_of(trace, engine, **values).failures == 0
    outcome = outcome_of(trace, engine, **values, pressure=str(tmp_path / "full.yaml"))
    assert dict(outcome.failed) == {"page": 1, "address": 0, "bounce": 0, "descriptor": 0}
