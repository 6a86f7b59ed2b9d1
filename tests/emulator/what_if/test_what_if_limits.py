"""What-if runs at the limits of a system: domain-ids, lists of pieces, recorded accesses, elements of a pool."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emulator.profile import load_profile
from emulator.replay import Replay
from emulator.settings import Settings
from emulator.what_if import run
from emulator.what_if.boundary import with_boundary
from emulator.what_if.operations import operations
from emulator.what_if.runner import Runner
from emulator.what_if.summary import summary
from pagetables.address import Iova, format_source_id, parse_source_id
from pagetables.errors import InputError
from pagetables.request import Access, Request
from tests.scripts import DISK, MAP, NIC, UNMAP, Script

PAGE = 4096
LATER = 1_000_000
FEW_IDS = "alder-lake"  # CAP.ND of 2: 256 domain-ids, two of them reserved


def crowd(devices: int) -> Script:
    """So many devices, each with a domain and a mapping of its own, that is unmapped again."""
    script = Script()
    for number in range(devices):
        script.attach(format_source_id(0x100 + number), number)
    for number in range(devices):
        script.map(0x7000, 0x100000 + number * PAGE, space=number)
    for number in range(devices):
        script.unmap(0x7000, space=number)
    return script


@pytest.mark.parametrize("preset", ["per-domain", "linux-7"])
def test_devices_beyond_the_last_domain_id_stay_without_a_domain_and_their_maps_are_refused(engine, preset):
    values = {"engine": engine.name, "preset": preset, "profile": FEW_IDS, "pool": "os"}
    if preset == "per-domain":
        values["levels"] = 4  # all that this unit has
    outcome = run(crowd(256).trace(), Settings.of(values))
    assert (outcome.maps_ok, outcome.unmaps, outcome.unmaps_of_failed) == (254, 254, 2)
    assert outcome.refused == {"no-domain": 4}, "two attached, two mapped"
    assert not outcome.failures


def test_a_plain_replay_refuses_what_has_no_domain_id(engine):
    replay = Replay(crowd(256).trace(), Settings.of({"engine": engine.name, "profile": FEW_IDS, "pool": "os"}))
    report = replay.run()
    assert report.as_dict()["failed"]["no-domain"] == 4
    assert len(replay.domains) == 254


def listed() -> Script:
    """A list of three pieces, with another device's accesses between them, unmapped as a whole."""
    script = Script().attach().attach(DISK, 1).map(0x2_0000, 0x50_0000, space=1)
    script.map(0x7000, 0x10_0000).access(0x2_0000, space=1, device=DISK).map(0x8000, 0x30_0000)
    script.access(0x2_0000, space=1, device=DISK).map(0x9000, 0x20_0000).access(0x7000, device=NIC)
    return script.unmap(0x7000, 3 * PAGE)


def test_a_list_is_one_operation_whatever_other_devices_do_meanwhile():
    ops = operations(listed().trace().columns)
    maps = [index for index, kind in enumerate(ops.kind) if kind == MAP]
    assert [ops.size[index] for index in maps] == [PAGE, 3 * PAGE]
    assert [ops.buffer[index] for index in maps] == [0, 1]
    assert ops.end_ns[maps[1]] == max(ops.time_ns)
    assert ops.time_ns == sorted(ops.time_ns)
    assert ops.piece_gpa[ops.first[maps[1]] : ops.first[maps[1] + 1]] == [0x10_0000, 0x30_0000, 0x20_0000]


def test_recorded_accesses_find_their_buffers_at_new_addresses(engine):
    runner = Runner(listed().trace(), Settings.of({"engine": engine.name, "preset": "linux-7"}))
    runner.run()
    assert runner.devices.counts.as_dict() == {"made": 3, "hits": 0, "oldest_ns": 0, "blocked": 0, "others": 3}
    assert runner.maps_ok == 2


def test_a_unit_that_must_hear_of_maps_hears_once_of_a_list(engine, monkeypatch):
    default = load_profile("default")
    caching = replace(default.capabilities, cap=default.capabilities.cap.replace(cm=1))
    monkeypatch.setattr("emulator.machine.load_profile", lambda name: replace(default, capabilities=caching))
    runner = Runner(listed().trace(), Settings.of({"engine": engine.name, "flush": "strict", "iova": "rbtree"}))
    before = runner.machine.driver.counts.as_dict()["page"]
    runner.run()
    assert runner.machine.driver.counts.as_dict()["page"] - before == 3, "two maps, one unmap"


def long_list() -> Script:
    """Three runs of 40 KiB each, one list, then a page of its own; all unmapped."""
    script = Script().attach()
    for number in range(3):
        script.map(0x10_0000 + number * 10 * PAGE, 0x100_0000 * (number + 1), 10 * PAGE)
    return script.map(0x4000, 0x900_0000).wait(LATER).unmap(0x10_0000, 30 * PAGE).unmap(0x4000)


def test_a_list_for_a_boundary_starts_behind_it_and_maps_what_nobody_passed():
    ops, padding = with_boundary(operations(long_list().trace().columns), 64 << 10)
    (op,) = padding
    assert padding == {op: (6 + 6) * PAGE}
    first = ops.first[op]
    assert ops.piece_size[first : first + 3] == [16 * PAGE, 16 * PAGE, 10 * PAGE]
    assert ops.piece_offset[first : first + 3] == [0, 16 * PAGE, 32 * PAGE]
    assert [ops.size[index] for index in range(len(ops)) if ops.kind[index] in (MAP, UNMAP)] == [
        42 * PAGE,
        PAGE,
        42 * PAGE,
        PAGE,
    ]
    assert ops.buffer_size == [42 * PAGE, PAGE]


def test_a_list_that_meets_its_boundary_or_is_taken_apart_stays_as_recorded():
    recorded = operations(long_list().trace().columns)
    assert with_boundary(recorded, 0) == (recorded, {})
    assert with_boundary(recorded, 1 << 20) == (recorded, {})
    apart = Script().attach().map(0x1_0000, 0x100_0000, 10 * PAGE).map(0x1_A000, 0x200_0000, 10 * PAGE)
    apart.unmap(0x1_0000, 20 * PAGE).map(0x9_0000, 0x300_0000)
    halves = Script().attach().map(0x1_0000, 0x100_0000, 20 * PAGE).unmap(0x1_0000, PAGE).unmap(0x1_1000, 19 * PAGE)
    for script, lists in ((apart, 1), (halves, 0)):
        assert len(with_boundary(operations(script.trace().columns), 64 << 10)[1]) == lists


@pytest.mark.parametrize("preset", ["linux-7", "prealloc-worker", "gart"])
def test_no_run_of_a_list_crosses_the_boundary_on_the_unit(engine, preset):
    values = {"engine": engine.name, "preset": preset, "sg.boundary": "64K"}
    runner = Runner(long_list().trace(), Settings.of(values))
    found: list[int] = []

    def look() -> None:
        start = runner.buffers.address[0]
        assert start % (64 << 10) == 0
        for offset in (9 * PAGE, 10 * PAGE, 25 * PAGE, 41 * PAGE):
            request = Request(parse_source_id(NIC), Iova(start + offset), Access.READ)
            found.append(runner.machine.unit.translate(request).gpa)

    runner.machine.clock.after(LATER // 2, look)
    runner.run()
    ends = [0x100_0000 + 9 * PAGE, 0x200_0000 + 9 * PAGE, 0x300_0000 + 9 * PAGE]
    assert found == [ends[0], ends[0] + PAGE, *ends[1:]], "the second is memory behind the run, which nobody passed"
    outcome = summary(runner, 1.0)
    assert (outcome.bytes_padded, outcome.unmaps, outcome.live_bytes) == (12 * PAGE, 2, 0)


def test_a_boundary_needs_an_allocator_and_is_a_power_of_two():
    with pytest.raises(InputError, match=r"sg\.boundary needs an address allocator"):
        Settings.of({"sg.boundary": "64K"})
    with pytest.raises(InputError, match="expected a power of two"):
        Settings.of({"iova": "rbtree", "sg.boundary": "48K"})
    assert Settings.of({"iova": "rbtree", "sg.boundary": "0"}).sg_boundary == 0


def transfers(number: int) -> Script:
    """Transfers of 16 KiB, each unmapped before the next, and a ring that stays."""
    script = Script().attach(DISK).map(0x4000, 0x900_0000)
    for turn in range(number):
        script.map(0x10_0000, 0x100_0000 * (turn + 1), 4 * PAGE).wait(1_000_000).unmap(0x10_0000, 4 * PAGE)
    return script


def under_pressure(tmp_path, give_back: str = ""):
    path = tmp_path / "full.yaml"
    path.write_text(
        "steps:\n  - {at: 0ms, who: others, leave: 0, kind: pinned, gfp: memalloc}\n" + give_back, encoding="utf-8"
    )
    return str(path)


def test_a_request_takes_a_descriptor_for_each_packet_and_frees_them_when_it_is_unmapped(engine):
    outcome = run(transfers(3).trace(), Settings.of({"engine": engine.name, "requests": "uhci"}))
    assert outcome.maps_ok == 4
    assert outcome.requests == {
        "submitted": 3, "failed": 0, "undone": 0, "live": 0, "live_highest": 256, "descriptors": 256, "pages": 4,
    }  # fmt: skip


@pytest.mark.parametrize(("reserve", "submitted"), [(0, 0), (192, 0), (256, 3)])
def test_under_pressure_requests_live_on_the_descriptors_in_reserve(engine, tmp_path, reserve, submitted):
    values = {"engine": engine.name, "requests": "uhci", "requests.reserve": reserve, "pool": "respool"}
    runner = Runner(transfers(3).trace(), Settings.of(values | {"pressure": under_pressure(tmp_path)}))
    runner.run()
    outcome = summary(runner, 1.0)
    assert (outcome.requests["submitted"], outcome.failed["descriptor"]) == (submitted, 3 - submitted)
    assert outcome.requests["undone"] == (0 if submitted else 3 * reserve)
    assert (outcome.failed["page"], outcome.live_bytes) == (0, PAGE), "what failed is unmapped again"


def test_a_driver_that_polls_gets_its_descriptors_when_memory_is_back(engine, tmp_path):
    script = under_pressure(tmp_path, "  - {at: 5ms, who: others, give back: all}\n")
    values = {"engine": engine.name, "requests": "uhci", "reaction": "requeue", "pressure": script}
    outcome = run(transfers(1).trace(), Settings.of(values))
    assert outcome.maps_ok == 2
    assert outcome.waits["late_successes"] == 1
    assert 6_000_000 <= outcome.map_ns["max"] <= 6_100_000, "the second turn of 3 ms"


def test_who_waits_for_descriptors_for_ever_is_named(engine, tmp_path):
    values = {"engine": engine.name, "requests": "uhci", "reaction": "poll", "pressure": under_pressure(tmp_path)}
    (circle,) = run(transfers(1).trace(), Settings.of(values)).deadlocks
    assert circle.startswith("1 map for ever waiting for transfer descriptors")


def test_packets_have_the_sizes_of_usb():
    with pytest.raises(InputError, match=r"requests\.packet=2000: expected 1 to 1023"):
        Settings.of({"requests.packet": 2000})
    values = {"requests": "uhci", "requests.reserve": 1_000_000, "kernel.size": "16M"}
    with pytest.raises(InputError, match="memory does not hold 1000000 descriptors"):
        run(transfers(1).trace(), Settings.of(values))
