"""Transfers mapped piece by piece, as lists, or reserved and linked: what becomes of operations, tables and flushes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.compare import candidates, grid_points
from emulator.machine import Machine
from emulator.mapping.addresses import AddressPlan, AddressSpaces
from emulator.mapping.reserve_link import ReservedRanges
from emulator.profile import load_profile
from emulator.replay import needed_ram
from emulator.settings import Settings
from emulator.trace.event import Kind
from emulator.what_if import run
from emulator.what_if.operations import operations
from emulator.what_if.runner import Runner
from emulator.what_if.transfers import WAYS, with_transfers
from pagetables.address import Iova, parse_source_id
from pagetables.errors import InputError
from pagetables.request import Access, Permissions, Request
from tests.scripts import DISK, MAP, NIC, UNMAP, Script

PAGE = 4096
GAP = 10_000
PLACES = (0x10_0000, 0x50_0000, 0x30_0000)
SIZES = (PAGE, 2 * PAGE, PAGE)


def one_by_one(**more: int) -> Script:
    """Three buffers mapped one after another, and unmapped likewise a millisecond later."""
    script = Script().attach()
    for number, (gpa, size) in enumerate(zip(PLACES, SIZES, strict=True)):
        script.map(0x7_0000 + number * 0x1_0000, gpa, size, **more)
    script.wait(1_000_000)
    for number, size in enumerate(SIZES):
        script.unmap(0x7_0000 + number * 0x1_0000, size)
    return script


def one_list() -> Script:
    """The same as one scatter list."""
    script = Script().attach().map(0x7_0000, PLACES[0]).map(0x7_1000, PLACES[1], 2 * PAGE).map(0x7_3000, PLACES[2])
    return script.wait(1_000_000).unmap(0x7_0000, 4 * PAGE)


def ran(script: Script, engine, way: str, **values) -> Runner:
    settings = Settings.of({"engine": engine.name, "iova": "rbtree", "flush": "strict", "transfers": way, **values})
    return Runner(script.trace(), settings)


def outcome(script: Script, engine, way: str, **values):
    chosen = {"engine": engine.name, "iova": "rbtree", "flush": "strict", "transfers": way, **values}
    return run(script.trace(), Settings.of(chosen))


@pytest.fixture
def caching(monkeypatch):
    """A unit that has to hear of every map."""
    default = load_profile("default")
    heard = replace(default.capabilities, cap=default.capabilities.cap.replace(cm=1))
    monkeypatch.setattr("emulator.machine.load_profile", lambda name: replace(default, capabilities=heard))


def transfers_of(script: Script, way: str, gap: int = GAP) -> list[tuple[int, int, list[int]]]:
    """Kind, size and targets of each map and unmap, written anew."""
    trace = script.trace()
    ops = operations(trace.columns)
    new = with_transfers(ops, way, gap, trace.columns.gfp[ops.row].tolist())
    rows = range(len(new))
    assert len(new.piece_gpa) == len(ops.piece_gpa) == new.first[-1], "each row of the trace is there, once"
    return [
        (new.kind[op], new.size[op], new.piece_gpa[new.first[op] : new.first[op + 1]] if new.kind[op] == MAP else [])
        for op in rows
        if new.kind[op] in (MAP, UNMAP)
    ]


def test_what_is_mapped_and_unmapped_piece_after_piece_becomes_one_range():
    assert transfers_of(one_by_one(), "linked") == [(MAP, 4 * PAGE, list(PLACES)), (UNMAP, 4 * PAGE, [])]


def test_a_list_taken_apart_is_its_pieces_each_with_an_unmap():
    pieces = list(zip(SIZES, PLACES, strict=True))
    maps = [(MAP, size, [gpa]) for size, gpa in pieces]
    assert transfers_of(one_list(), "apart") == [*maps, *[(UNMAP, size, []) for size in SIZES]]


@pytest.mark.parametrize("way, script", [("linked", one_list), ("apart", one_by_one)])
def test_what_is_so_already_stays_as_it_is(way, script):
    assert transfers_of(script(), way) == transfers_of(script(), "recorded")


def between(what) -> Script:
    """Two buffers of a page that would be one transfer, but for what `what` does to the script in between."""
    script = Script().attach(NIC).attach(DISK, 1).map(0x7_0000, PLACES[0])
    what(script)
    script.map(0x9_0000, PLACES[1]).wait(1_000_000)
    return script.unmap(0x7_0000).unmap(0x9_0000)


NOT_LINKED = {
    "a gap": lambda script: script.wait(GAP),
    "another map": lambda script: script.map(0x7_0000, PLACES[2], space=1),
    "an unmap": lambda script: script.map(0xB_0000, PLACES[2], cpu=2).unmap(0xB_0000),
}


@pytest.mark.parametrize("name", NOT_LINKED)
def test_what_does_not_follow_at_once_is_no_piece_of_the_same_transfer(name):
    sizes = [size for kind, size, _ in transfers_of(between(NOT_LINKED[name]), "linked") if kind == MAP]
    assert set(sizes) == {PAGE}


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda script: None,
        lambda script: script.map(0x7_0000, PLACES[2], space=1, cpu=3),
        lambda script: script.access(0x7_0000),
    ],
    ids=["nothing", "another CPU", "a device"],
)
def test_what_others_do_meanwhile_parts_no_transfer(meanwhile):
    assert 2 * PAGE in [size for kind, size, _ in transfers_of(between(meanwhile), "linked") if kind == MAP]


def test_pieces_of_two_domains_in_another_order_or_of_coherent_memory_are_not_linked():
    two = Script().attach(NIC).attach(DISK, 1).map(0x7_0000, PLACES[0]).map(0x7_0000, PLACES[1], space=1)
    two.unmap(0x7_0000).unmap(0x7_0000, space=1)
    reversed_ = Script().attach().map(0x7_0000, PLACES[0]).map(0x9_0000, PLACES[1]).unmap(0x9_0000).unmap(0x7_0000)
    kept = Script().attach().map(0x7_0000, PLACES[0]).map(0x9_0000, PLACES[1]).unmap(0x7_0000)
    halves = Script().attach().map(0x7_0000, PLACES[0], 2 * PAGE).map(0x9_0000, PLACES[1])
    halves.unmap(0x7_0000).unmap(0x7_1000).unmap(0x9_0000)
    for script in (two, reversed_, kept, halves, one_by_one(gfp=6)):
        assert transfers_of(script, "linked") == transfers_of(script, "recorded")


def test_a_transfer_that_begins_to_end_before_it_is_whole_is_two():
    # CPU 1 unmaps the first piece while CPU 0 still maps: no range could have held both.
    script = Script().attach().map(0x7_0000, PLACES[0]).unmap(0x7_0000, cpu=1).map(0x9_0000, PLACES[1])
    script.unmap(0x9_0000, cpu=1)
    assert [size for _, size, _ in transfers_of(script, "linked")] == [PAGE] * 4


def test_a_list_that_is_coherent_memory_is_not_taken_apart():
    script = Script().attach().map(0x7_0000, PLACES[0], gfp=6).map(0x7_1000, PLACES[1], gfp=6).unmap(0x7_0000, 2 * PAGE)
    assert transfers_of(script, "apart") == transfers_of(script, "recorded")


@pytest.mark.parametrize("way, ranges, page", [("apart", 3, 3), ("recorded", 3, 3), ("linked", 1, 1)])
def test_a_linked_transfer_takes_one_address_and_one_invalidation(engine, way, ranges, page):
    told = outcome(one_by_one(), engine, way)
    assert (told.transfers, told.maps, told.unmaps, told.live_bytes) == (way, ranges, ranges, 0)
    assert told.lists == ({"ranges": 1, "pieces": 3} if way == "linked" else {"ranges": 0, "pieces": 0})
    assert (told.allocator["allocated"], told.invalidations["page"]) == (ranges, page)
    assert told.events == 7


@pytest.mark.parametrize("way, syncs", [("apart", 3), ("recorded", 1), ("linked", 1)])
def test_a_unit_that_has_to_hear_of_maps_hears_of_a_list_once_unless_it_is_taken_apart(engine, caching, way, syncs):
    runner = ran(one_list(), engine, way)
    before = runner.machine.driver.counts.page
    runner.run()
    assert runner.machine.driver.counts.page - before == 2 * syncs, "maps and unmaps"


def test_who_maps_waits_for_what_a_caching_unit_has_to_hear(engine, caching):
    costs = ran(one_list(), engine, "recorded").meter.costs.ns
    runner = ran(one_by_one(), engine, "recorded")
    runner.run()
    heard = costs["invalidate.submit"] + costs["invalidate.wait"]
    assert all(taken > heard for taken in runner.map_ns)
    assert runner.meter.counts["invalidate.wait"] == 6


@pytest.mark.parametrize("cm", [0, 1])
def test_a_linked_run_leaves_the_memory_that_the_interface_leaves_called_by_hand(engine, request, cm):
    if cm:
        request.getfixturevalue("caching")
    runner = ran(one_by_one(), engine, "linked")
    runner.run()
    machine = Machine(runner.settings, needed_ram(runner.trace.columns))
    spaces = AddressSpaces(machine.layer, machine.clock, AddressPlan("rbtree"))
    ranges = ReservedRanges(machine.layer, spaces)
    machine.layer.attach(spaces.space(0).domain, parse_source_id(NIC))
    reserved = ranges.try_reserve(0, PLACES[0], sum(SIZES))
    offset = 0
    for gpa, size in zip(PLACES, SIZES, strict=True):
        ranges.link(reserved, gpa, offset, size, Permissions.R | Permissions.W)
        offset += size
    ranges.sync(reserved, 0, offset)
    ranges.destroy(reserved, offset)
    assert image(machine) == image(runner.machine)


def image(machine: Machine) -> dict[int, bytes]:
    """Every byte of memory that is not 0: tables, and the queue with its descriptors."""
    touched = ((start, machine.memory.read(start, size)) for start, size in machine.memory.touched())
    return {start: data for start, data in touched if any(data)}


@pytest.mark.parametrize("script", [one_by_one, one_list])
@pytest.mark.parametrize("way", WAYS)
def test_devices_find_every_piece_whatever_the_way(engine, script, way):
    written = script()
    runner = ran(written, engine, way)
    found = []

    def look() -> None:
        for op, kind in enumerate(runner.ops.kind):
            if kind == Kind.MAP:
                start = runner.buffers.address[runner.ops.buffer[op]]
                for piece in range(runner.ops.first[op], runner.ops.first[op + 1]):
                    request = Request(parse_source_id(NIC), Iova(start + runner.ops.piece_offset[piece]), Access.READ)
                    found.append(runner.machine.unit.translate(request).gpa)

    runner.machine.clock.after(500_000, look)
    runner.run()
    assert found == list(PLACES)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [one_by_one, one_list])
def test_recorded_accesses_meet_the_piece_they_met(engine, way, make):
    script = make()
    last = [row for row in script.rows if row["kind"] == MAP][-1]
    unmaps = [row for row in script.rows if row["kind"] == UNMAP]
    script.rows = script.rows[: -len(unmaps)]
    script.now = last["time_ns"]
    script.access(last["iova"] + 8)
    script.rows += unmaps
    runner = ran(script, engine, way)
    asked = []
    check = runner.devices.check
    runner.devices.check = lambda domain, source, iova, access: (
        asked.append(runner.machine.unit.translate(Request(source, Iova(iova), Access.READ)).gpa)
        or check(domain, source, iova, access)
    )
    runner.run()
    assert asked == [PLACES[-1] + 8]
    assert runner.devices.counts.others == 1


def test_ways_need_an_allocator_and_have_no_boundary():
    with pytest.raises(InputError, match="transfers=linked needs an address allocator"):
        Settings.of({"transfers": "linked"})
    with pytest.raises(InputError, match="transfers=apart meets no boundary"):
        Settings.of({"iova": "rbtree", "transfers": "apart", "sg.boundary": "64K"})
    with pytest.raises(InputError, match="transfers"):
        Settings.of({"iova": "rbtree", "transfers": "together"})
    assert Settings.of({"iova": "rbtree", "transfers.gap_us": "0"}).transfers_gap_us == 0


def test_a_grid_compares_the_ways(engine):
    found = candidates(["linux-7-strict"], grid_points(["transfers=recorded,apart,linked"]))
    flushes = [run(one_list().trace(), one.settings(engine=engine.name)).invalidations["page"] for one in found]
    assert [one.label for one in found] == [f"linux-7-strict transfers={way}" for way in WAYS]
    assert flushes == [1, 3, 1]


maps = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 1), st.integers(0, 1), st.booleans(), st.booleans()), max_size=12
)


@settings(max_examples=80, deadline=None)
@given(maps, st.sampled_from(WAYS), st.randoms(use_true_random=False))
def test_every_way_maps_each_piece_once_and_unmaps_what_it_mapped(wanted, way, random):
    # Lists of one to three runs in two spaces on two CPUs; some coherent, some left mapped, unmapped in any order.
    script = Script().attach(NIC).attach(DISK, 1)
    left = []
    for number, (runs, space, cpu, coherent, stays) in enumerate(wanted):
        start = (number + 1) * 0x10_0000
        for run_ in range(runs):
            gpa = 0x100_0000 * (number + 1) + run_ * 0x10_0000
            script.map(start + run_ * PAGE, gpa, space=space, cpu=cpu, gfp=6 * coherent)
        if not stays:
            left.append((start, runs * PAGE, space, cpu))
    if random.random() < 0.5:
        random.shuffle(left)
    for start, size, space, cpu in left:
        script.unmap(start, size, space=space, cpu=cpu)
    trace = script.trace()
    old = operations(trace.columns)
    new = with_transfers(old, way, GAP, trace.columns.gfp[old.row].tolist())
    assert sorted(zip(new.piece_gpa, new.piece_size, strict=True)) == sorted(
        zip(old.piece_gpa, old.piece_size, strict=True)
    )
    assert new.time_ns == sorted(new.time_ns)
    live: dict[int, int] = {}
    for op, (kind, buffer) in enumerate(zip(new.kind, new.buffer, strict=True)):
        if kind == MAP:
            pieces = range(new.first[op], new.first[op + 1])
            ends = [new.piece_offset[piece] + new.piece_size[piece] for piece in pieces]
            assert [new.piece_offset[piece] for piece in pieces] == [0, *ends[:-1]], "one behind the other"
            assert ends[-1] == new.size[op] == new.buffer_size[buffer]
            assert buffer not in live
            live[buffer] = new.end_ns[op]
        elif kind == UNMAP:
            assert (new.offset[op], new.size[op]) == (0, new.buffer_size[buffer])
            assert live.pop(buffer) == new.time_ns[op]
    assert set(live.values()) <= {-1}, "the rest is never unmapped"
    assert len(live) == sum(runs for runs, *_, stays in wanted if stays), "no unmap says what was one list"
