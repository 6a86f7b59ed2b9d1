"""Traces replayed: what is mapped, what devices meet, what is counted."""

from __future__ import annotations

import json
import random

import pytest

from emulator.replay import Replay, needed_ram, replay
from emulator.settings import Settings
from pagetables.address import Iova, parse_source_id
from pagetables.errors import InputError
from pagetables.fault import Fault
from pagetables.request import Access, Request, Translation
from tests.scripts import DISK, NIC, Script

PAGE = 4096
MEGA = 1 << 20
GIGA = 1 << 30


def run(engine, script: Script, **values) -> Replay:
    done = Replay(script.trace(), Settings.of({"engine": engine.name, **values}))
    done.report = done.run()
    return done


def ask(done: Replay, iova: int, access: Access = Access.READ, device: str = NIC) -> Translation | Fault:
    return done.machine.unit.translate(Request(parse_source_id(device), Iova(iova), access))


def test_what_the_trace_maps_a_device_can_reach(engine) -> None:
    done = run(engine, Script().attach().map(0x1_2345_6000, 0x789000))
    assert ask(done, 0x1_2345_6123).gpa == 0x789123
    assert done.report.applied == {"map": 1, "unmap": 0, "access": 0, "attach": 1, "detach": 0}


def test_what_it_unmaps_a_device_cannot_reach(engine) -> None:
    done = run(engine, Script().attach().map(0x1000, 0x789000).access(0x1000).unmap(0x1000))
    assert isinstance(ask(done, 0x1000), Fault)
    assert done.report.invalidations["page"] == 1
    assert done.report.invalidations["wait"] == 1


def test_only_attached_devices_reach_a_space(engine) -> None:
    done = run(engine, Script().attach(NIC).attach(DISK).map(0x1000, 0x5000).detach(NIC))
    assert isinstance(ask(done, 0x1000, device=NIC), Fault)
    assert ask(done, 0x1000, device=DISK).gpa == 0x5000
    assert done.report.applied["detach"] == 1


def test_a_device_that_moves_to_another_space_leaves_the_first(engine) -> None:
    script = Script().attach(NIC, 0).map(0x1000, 0x5000).map(0x1000, 0x6000, space=1).attach(NIC, 1)
    assert ask(run(engine, script), 0x1000).gpa == 0x6000


def test_events_are_replayed_in_the_order_of_the_program(engine) -> None:
    script = Script().attach().map(0x1000, 0x5000).map(0x1000, 0x9000, cpu=1).unmap(0x1000)
    done = run(engine, script)
    assert ask(done, 0x1000).gpa == 0x9000
    assert done.report.reordered == 1
    assert done.report.misuse == []


@pytest.mark.parametrize("rule, readable", [("6.x", True), ("7.x", False)])
def test_a_write_only_mapping_is_readable_by_the_rule_of_kernel_6(engine, rule: str, readable: bool) -> None:
    done = run(engine, Script(rule).attach().map(0x1000, 0x5000, access="w"))
    assert isinstance(ask(done, 0x1000, Access.WRITE), Translation)
    assert isinstance(ask(done, 0x1000, Access.READ), Translation) == readable
    assert done.report.rule.startswith(rule)


def test_a_map_of_unknown_access_is_for_both_and_said_so(engine) -> None:
    done = run(engine, Script().attach().map(0x1000, 0x5000, access="-"))
    assert isinstance(ask(done, 0x1000, Access.WRITE), Translation)
    assert "1 map of unknown access" in done.report.notes[0]


def test_large_pages_are_used_unless_the_trace_says_they_were_not(engine) -> None:
    assert run(engine, Script().attach().map(2 * MEGA, 2 * MEGA, 2 * MEGA)).report.table_pages["final"] == 3
    small = Script().attach().map(2 * MEGA, 2 * MEGA, 2 * MEGA, leaf_levels=1)
    assert run(engine, small).report.table_pages["final"] == 4


def test_an_access_is_translated_page_by_page_and_its_faults_are_listed(engine) -> None:
    script = Script().attach().map(0x1000, 0x5000).access(0x1FF0, 0x20).access(0x1000, 8, "w")
    fault, *more = run(engine, script).report.faults
    assert not more
    assert (fault["source_id"], fault["iova"], fault["access"], fault["reason"]) == (NIC, "0x2000", "r", 6)
    assert (fault["event"], fault["file"], fault["line"]) == (3, "script", 12)
    assert fault["condition"]
    assert fault["meaning"]


def test_an_access_ends_at_its_first_fault_and_goes_by_the_page_it_meets(engine) -> None:
    script = Script().attach().map(0x4000_0000, 0, GIGA).map(0x8000_0000, 0, GIGA).access(0x4000_0000, 1 << 60)
    faults = run(engine, script).report.faults
    assert [fault["iova"] for fault in faults] == ["0xc0000000"]


@pytest.mark.parametrize("seed", range(20))
def test_wild_numbers_are_counted_and_never_fatal(engine, seed: int) -> None:
    chance = random.Random(seed)
    edges = [0, 1, PAGE, 1 << 38, 1 << 47, (1 << 48) - PAGE, 1 << 52, 1 << 63, (1 << 64) - PAGE, (1 << 64) - 1]
    script = Script().attach()
    for _ in range(30):
        iova, gpa = chance.choice([*edges, chance.getrandbits(64)]), chance.choice([*edges, chance.getrandbits(40)])
        size = chance.choice([0, 1, PAGE, 3 * PAGE, 1 << 62, (1 << 64) - 1])
        what = chance.choice([script.map, script.unmap, script.access])
        if what == script.map:
            script.map(iova, gpa, size)
        else:
            what(iova, size)
    report = run(engine, script).report
    used = sum(report.applied.values()) + sum(report.failed.values()) + len(report.skipped) + len(report.misuse)
    assert used + len(report.faults) > 0


def test_each_fault_is_recorded_by_a_unit_whose_records_are_cleared(engine) -> None:
    done = run(engine, Script().attach().access(0x1000).access(0x2000))
    assert len(done.report.faults) == 2
    assert done.machine.unit.read32(0x34) & 0b11 == 0


def test_an_unattributed_space_gets_a_stand_in_requester(engine) -> None:
    done = run(engine, Script().map(0x1000, 0x5000).access(0x1000, device=None))
    assert done.report.faults == []
    assert done.report.spaces[0].devices == ("fe:00.0",)
    assert not done.report.spaces[0].attributed
    assert any("fe:00.0" in note for note in done.report.notes)


def test_a_double_map_is_reported_with_both_events_and_not_applied(engine) -> None:
    done = run(engine, Script().attach().map(0x1000, 0x5000).map(0x1000, 0x9000))
    (finding,) = done.report.misuse
    assert (finding["kind"], finding["event"], finding["line"], finding["iova"]) == ("double-map", 3, 12, "0x1000")
    first, second = finding["events"]
    assert (first["role"], first["event"], first["file"], first["line"]) == ("mapped", 2, "script", 11)
    assert (second["role"], second["event"], second["line"]) == ("mapped", 3, 12)
    assert [line.why for line in done.report.skipped] == ["double-map"]
    assert ask(done, 0x1000).gpa == 0x5000


def test_what_is_live_at_the_end_is_no_misuse(engine) -> None:
    report = run(engine, Script().attach().map(0x1000, 0x5000).map(0x8000, 0x9000, 4 * PAGE)).report
    assert (report.live_mappings, report.live_bytes, report.misuse) == (2, 5 * PAGE, [])


def test_an_address_beyond_the_tables_is_a_failed_map_with_a_hint(engine) -> None:
    script = Script().attach().map(1 << 47, 0x5000).unmap(1 << 47).map(0x1000, 0x5000)
    report = run(engine, script, levels=3).report
    assert report.failed == {"page": 0, "address": 1, "bounce": 0}
    assert report.applied["map"] == 1
    assert report.applied["unmap"] == 0
    assert (report.live_mappings, report.misuse) == (1, [])
    assert any("beyond 3-level tables" in note for note in report.notes)
    assert run(engine, script, levels=4).report.failed["address"] == 0


def test_an_unmap_of_more_than_was_let_through_unmaps_the_rest(engine) -> None:
    limit = 1 << 39
    script = Script().attach().map(limit - PAGE, 0x5000).map(limit, 0x6000).unmap(limit - PAGE, 2 * PAGE)
    done = run(engine, script, levels=3)
    assert done.report.applied["unmap"] == 1
    assert (done.report.live_mappings, done.report.live_bytes) == (0, 0)
    assert isinstance(ask(done, limit - PAGE), Fault)


def test_a_map_without_a_page_fails_and_is_not_live(engine) -> None:
    script = Script().attach()
    for n in range(40):
        script.map(n * GIGA, 0x5000)
    values = {"kernel.size": 64 * PAGE, "kernel.min_free_kib": 16, "pool": "os", "kernel.used": 30}
    report = run(engine, script, **values).report
    assert report.failed["page"] > 0
    assert report.live_mappings == 40 - report.failed["page"] == report.applied["map"]
    assert report.supply["failures"] >= report.failed["page"]


def test_table_pages_stand_above_everything_the_trace_touches(engine) -> None:
    done = run(engine, Script().attach().map(0x1000, 6 * GIGA))
    assert done.domains[0].table.root >= 7 * GIGA
    assert done.machine.memory.contains(6 * GIGA, PAGE)


def test_ram_covers_what_is_mapped_with_the_hole_below_4_gib_left_out() -> None:
    low = Script().map(0x1000, 0x1234000).trace().columns
    assert needed_ram(low) == ((0, 0x1300000),)
    high = Script().map(0x1000, 0x1234000).map(0x2000, 5 * GIGA).map(0x3000, 0xFED0_0000).trace().columns
    assert needed_ram(high) == ((0, 0x1300000), (4 * GIGA, GIGA + MEGA))
    assert needed_ram(Script().trace().columns) == ((0, MEGA),)


def test_what_lies_far_out_is_no_ram() -> None:
    far = Script().map(0x1000, 0x5000).map(0x2000, 56 << 40).map(0x3000, (1 << 64) - PAGE, 2 * PAGE)
    assert needed_ram(far.trace().columns) == ((0, MEGA),)


def test_an_address_of_another_device_is_mapped_though_it_is_no_ram(engine) -> None:
    done = run(engine, Script().attach().map(0x1000, 56 << 40).map(0x2000, 0xFED0_0000))
    assert ask(done, 0x1000).gpa == 56 << 40
    assert ask(done, 0x2000).gpa == 0xFED0_0000


def test_ram_is_no_more_than_the_unit_can_address(engine) -> None:
    script = Script().attach().map(0x1000, 600 * GIGA).map(0x2000, 0x5000)
    done = run(engine, script, profile="qemu-7.2", levels=3)
    assert done.report.failed["address"] == 1
    assert done.machine.memory.span <= 512 * GIGA


def test_deferred_invalidation_leaves_a_window_that_accesses_can_hit(engine) -> None:
    script = Script().attach().map(0x1000, 0x5000).access(0x1000).unmap(0x1000).access(0x1000)
    script.wait(20_000_000).access(0x1000)
    report = run(engine, script, flush="deferred").report
    assert report.stale_window["accesses"] == 1
    assert report.stale_window["max_ns"] == 10_000_000
    assert len(report.faults) == 1
    strict = run(engine, script).report
    assert (strict.stale_window["accesses"], len(strict.faults)) == (0, 2)


def test_a_range_that_is_used_again_before_its_flush_is_counted(engine) -> None:
    script = Script().attach().map(0x1000, 0x5000).unmap(0x1000).map(0x1000, 0x6000)
    assert run(engine, script, flush="deferred").report.stale_window["reused_before_flush"] == 1
    assert run(engine, script).report.stale_window["reused_before_flush"] == 0


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "scalable"},
        {"mode": "scalable", "stage": "first"},
        {"mode": "scalable", "stage": "first", "levels": 5},
        {"levels": 3},
        {"levels": 5},
        {"flush": "deferred"},
        {"pool": "os"},
        {"leaves": "4k"},
        {"profile": "spec"},
    ],
    ids=lambda values: ",".join(f"{key}={value}" for key, value in values.items()),
)
def test_every_way_to_build_the_machine_translates_alike(engine, values: dict) -> None:
    script = Script().attach(NIC).attach(DISK).map(0x4000_0000, GIGA, GIGA).map(0x1000, 0x5000)
    script.map(0x20_0000, 0x60_0000, 2 * MEGA).unmap(0x1000).detach(DISK)
    done = run(engine, script, **values)
    assert ask(done, 0x4000_1234).gpa == GIGA + 0x1234
    assert ask(done, 0x20_0042).gpa == 0x60_0042
    assert isinstance(ask(done, 0x1000), Fault)
    assert isinstance(ask(done, 0x4000_0000, device=DISK), Fault)
    assert done.report.live_bytes == GIGA + 2 * MEGA


def test_the_report_is_one_json_document(engine) -> None:
    report = run(engine, Script().attach().map(0x1000, 0x5000).map(0x1000, 0x6000).access(0x9000)).report
    shown = json.loads(json.dumps(report.as_dict()))
    assert shown["engine"] == engine.name
    promised = "events applied skipped faults misuse live_mappings live_bytes table_pages supply invalidations"
    promised += " stale_window elapsed_s events_per_s engine rule failed"
    assert set(promised.split()) <= set(shown)
    assert shown["skipped"] == [{"file": "script", "line": 12, "why": "double-map"}]
    assert set(shown["table_pages"]) == {"peak", "final", "freed"}
    assert shown["settings"]["mode"] == "legacy"


def test_progress_tells_how_many_events_are_done(engine) -> None:
    script = Script().attach()
    for n in range(1, 1500):
        script.map(n * PAGE, n * PAGE)
    done: list[int] = []
    replay(script.trace(), Settings.of({"engine": engine.name}), done.append)
    assert sum(done) in range(1000, 1501)


def test_an_empty_trace_is_replayed_in_no_time(engine) -> None:
    report = run(engine, Script()).report
    assert report.applied["map"] == 0
    assert report.table_pages == {"peak": 0, "final": 0, "freed": 0}


def test_ram_that_leaves_no_room_is_refused(engine) -> None:
    with pytest.raises(InputError, match="more than a process can map"):
        run(engine, Script(), ram="0-64T")
