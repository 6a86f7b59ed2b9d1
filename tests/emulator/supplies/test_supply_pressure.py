"""Pressure scripts, and swapping to a disk that needs the memory it is to free."""

from __future__ import annotations

import pytest

from emulator.clock import MICROSECOND, MILLISECOND, SECOND, Clock
from emulator.mapping.dma_pool import DmaPool
from emulator.mapping.pressure import Gfp, Held, Zone
from emulator.mapping.pressure_run import PressureRun
from emulator.mapping.pressure_script import Action, Amount, SwapDisk, load_script, read_script
from emulator.mapping.supply import make_supply
from emulator.mapping.swap_out import SwapOut
from emulator.mapping.uhci import Uhci
from pagetables.errors import InputError
from tests.conftest import FIXTURES
from tests.emulator.supplies.model import PAGE, START, new_zone

SCRIPTS = sorted((FIXTURES / "pressure").glob("*.yaml"))


def run(text: str, pages: int = 400, reclaim_per_ms: int = 20, map_for_dma=None):
    """A script that has begun, its zone and its clock."""
    clock = Clock()
    zone = new_zone(pages, clock=clock, reclaim_per_ms=reclaim_per_ms)
    script = PressureRun(read_script(text, "x.yaml"), zone, clock, map_for_dma)
    script.start()
    return script, zone, clock


def test_a_script_of_pressure_on_a_supply_reads_times_amounts_and_classes() -> None:
    script = read_script(
        """
explains: an example
steps:
  - {at: 1.5ms, who: a, take: 60%, kind: anonymous, gfp: atomic, rate: 7}
  - {at: 250us, who: b, leave: 40}
  - at: 1s
    who: a
    give back: all
  - {at: 3ms, reclaim per ms: 0, every: 10ms, times: 2}
swap out: {disk: usb, packet: 8, descriptors: noio, reserve: 64, pages per write: 2, bytes per s: 1000}
"""
    )
    assert script.explains == "an example"
    assert [(step.at, step.action, step.who, step.line) for step in script.steps] == [
        (250 * MICROSECOND, Action.LEAVE, "b", 5),
        (1500 * MICROSECOND, Action.TAKE, "a", 4),
        (3 * MILLISECOND, Action.RECLAIM, "", 9),
        (13 * MILLISECOND, Action.RECLAIM, "", 9),
        (SECOND, Action.GIVE_BACK, "a", 6),
    ]
    taken = script.steps[1]
    assert (taken.amount, taken.kind, taken.gfp, taken.rate) == (Amount(percent=60), Held.ANONYMOUS, Gfp.ATOMIC, 7)
    assert taken.amount.of(400) == 240
    assert script.swap == SwapDisk(8, Gfp.NOIO, 64, 2, 1000)


@pytest.mark.parametrize(
    "text, message",
    [
        ("steps:\n - {at: 1ms, who: a, tak: 5}", "x.yaml, line 2: no key is called 'tak'; did you mean take"),
        ("steps:\n - {at: 10, who: a, take: 5}", "x.yaml, line 2: at: '10' is no time: expected 10ms"),
        ("steps:\n - {who: a, take: 5}", "line 2: a step has a time"),
        ("steps:\n - {at: 1ms, take: 5}", "line 2: a step says who"),
        ("steps:\n - {at: 1ms, who: a}", "line 2: a step has one of take, leave, give back, reclaim per ms"),
        ("steps:\n - {at: 1ms, who: a, take: 5, leave: 3}", "line 2: a step has one of"),
        ("steps:\n - {at: 1ms, who: a,\n    take: 5x}", "line 3: take: '5x': expected a number of pages"),
        ("steps:\n - {at: 1ms, who: a, take: 101%}", "take: '101%'"),
        ("steps:\n - {at: 1ms, who: a, leave: all}", "leave: 'all'"),
        ("steps:\n - {at: 1ms, reclaim per ms: 5%}", "reclaim per ms: '5%'"),
        ("steps:\n - {at: 1ms, who: a, take: 5, kind: claen}", "kind: 'claen': did you mean clean"),
        ("steps:\n - {at: 1ms, who: a, take: 5, gfp: atomc}", "gfp: 'atomc': did you mean atomic"),
        ("steps:\n - {at: 1ms, who: a, take: 5, rate: 0}", "rate: '0': expected a number, 1 or more"),
        ("steps:\n - {at: 1ms, who: a, take: 5, every: 1ms}", "`every` and `times` go together"),
        ("steps:\n - {at: 1ms, who: a, take: 5, times: 3}", "`every` and `times` go together"),
        ("steps:\n - {at: 1ms, at: 2ms, who: a, take: 5}", "'at' stands here twice"),
        ("steps:\n - {at: 1ms, who: '', take: 5}", "who: expected a text"),
        ("steps:\n - {at: [1], who: a, take: 5}", "at: expected a text"),
        ("steps:\n - 5", "line 2: expected `key: value`"),
        ("steps: 5", "line 1: expected a list"),
        ("stpes: []", "did you mean steps"),
        ("explains: nothing", "has no `steps:`"),
        ("- 5", "expected `steps:`"),
        ("", "expected `steps:`"),
        ("steps: [", "x.yaml: not YAML"),
        ("steps: []\nswap out: 5", "line 2: expected `key: value`"),
        ("steps: []\nswap out: {disk: floppy}", "disk: 'floppy': known: usb"),
        ("steps: []\nswap out: {pakcet: 5}", "did you mean packet"),
    ],
)
def test_a_wrong_script_teaches_with_file_and_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read_script(text, "x.yaml")


def test_a_script_that_is_no_text_is_refused(tmp_path) -> None:
    path = tmp_path / "noise.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"noise.yaml: not YAML: not text"):
        load_script(path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_scripts_that_come_with_us_make_pressure_on_a_supply(path) -> None:
    clock = Clock()
    zone = Zone(clock, START, 16384 * PAGE, reclaim_per_ms=32)
    supply = make_supply("os", zone, clock, {})
    script = PressureRun(load_script(path), zone, clock)
    script.start()
    refused = 0
    for _ in range(700):
        clock.advance(MILLISECOND)
        refused += supply.take() is None
    assert script.script.explains
    assert script.counts.steps == len(script.script.steps)
    assert zone.statistics.lowest_free < zone.marks.low
    assert (refused > 0) == (path.stem != "bursts")


def test_steps_happen_at_their_times() -> None:
    script, zone, clock = run(
        "steps: [{at: 2ms, who: a, take: 100}, {at: 3ms, who: b, leave: 90}, {at: 4ms, who: a, give back: 30},"
        "{at: 5ms, who: a, give back: all}, {at: 6ms, reclaim per ms: 3}]"
    )
    seen = []
    for _ in range(6):
        clock.advance(MILLISECOND)
        seen.append(zone.holders())
    assert seen[:5] == [
        {},
        {"a": {"clean": 100}},
        {"a": {"clean": 100}, "b": {"clean": 210}},
        {"a": {"clean": 70}, "b": {"clean": 210}},
        {"b": {"clean": 210}},
    ]
    assert zone.reclaim_per_ms == 3
    assert (script.counts.taken, script.counts.given_back) == (310, 100)


def test_a_rate_spreads_what_is_taken_over_milliseconds() -> None:
    _, zone, clock = run("steps: [{at: 0ms, who: a, take: 100, rate: 30, kind: pinned}]")
    held = []
    for _ in range(5):
        clock.advance(MILLISECOND - 1)
        held.append(zone.holding("a"))
        clock.advance(1)
    assert held == [30, 60, 90, 100, 100]


def test_who_may_sleep_waits_for_the_rest_and_who_may_not_goes_without() -> None:
    text = (
        "steps: [{at: 0ms, who: first, take: 300, kind: pinned}, {at: 1ms, who: kernel, take: 50, kind: pinned},"
        "{at: 1ms, who: atomic, take: 90, gfp: atomic, kind: pinned}, {at: 5ms, who: first, give back: 45}]"
    )
    script, zone, clock = run(text)
    clock.advance(2 * MILLISECOND)
    assert zone.holders() == {"first": {"pinned": 300}, "kernel": {"pinned": 20}, "atomic": {"pinned": 50}}
    assert script.waiting == {"kernel": 30}
    assert script.counts.refused == 40
    clock.advance(10 * MILLISECOND)
    assert zone.holding("kernel") == 20  # 75 free: below min still
    zone.vacate("atomic")
    assert zone.holding("kernel") == 50
    assert script.waiting == {}


def test_a_stopped_script_does_nothing_more() -> None:
    text = "steps: [{at: 0ms, who: a, take: 999}, {at: 5ms, who: b, take: 10}]"
    script, zone, clock = run(text, reclaim_per_ms=0)
    clock.advance(MILLISECOND)
    script.stop()
    script.stop()
    assert clock.next_due is None
    zone.vacate("a")
    clock.advance(SECOND)
    assert zone.free == 400


FULL = (
    "steps: [{at: 0ms, who: processes, leave: 0, kind: anonymous},"
    "{at: 1ms, who: network, leave: LEFT, gfp: memalloc, kind: pinned},"
    "{at: 5ms, who: shell, take: 100, kind: pinned}]\n"
    "swap out: {packet: 64, descriptors: atomic, reserve: RESERVE, pages per write: 4}"
)


def swapping(left: int, reserve: int, **more):
    """Everything is anonymous, and the network has taken all but `left` pages."""
    return run(FULL.replace("LEFT", str(left)).replace("RESERVE", str(reserve)), **more)


def test_swapping_frees_pages_while_its_descriptors_can_be_had() -> None:
    script, zone, clock = swapping(left=60, reserve=0)
    clock.advance(SECOND)
    statistics = script.swap_out.statistics
    assert script.circle() is None
    assert (statistics.failed_submissions, statistics.stalls) == (0, 0)
    assert 4 * (statistics.writes - 1) < statistics.pages <= 4 * statistics.writes
    assert zone.holding("shell") == 100
    assert script.swap_out.host.statistics.live == 0


def test_a_write_takes_the_time_of_its_bytes() -> None:
    script, _, clock = swapping(left=60, reserve=0)
    clock.advance(2 * MILLISECOND)
    assert script.swap_out.host.statistics.live == 4 * 64 + 2
    clock.advance(4 * PAGE * MICROSECOND - 2 * MILLISECOND)
    assert script.swap_out.statistics.writes == 0
    clock.advance(2 * MILLISECOND)
    assert script.swap_out.statistics.writes == 1


def test_swapping_that_needs_the_memory_it_is_to_free_is_a_deadlock_with_a_name() -> None:
    script, _, clock = swapping(left=10, reserve=0)
    clock.advance(10 * SECOND)
    assert clock.next_due is None, "somebody still polls"
    circle = script.circle()
    assert circle is not None
    shell, memory, disk = circle.chain
    assert shell == "shell waits for 100 pages of memory"
    assert "waits for swap-out: processes holds 320 pages" in memory
    assert "258 descriptors of pool uhci_td, which has 0 and asks for pages in class atomic: 10 are free" in disk
    assert script.swap_out.statistics.writes == 0
    assert script.swap_out.statistics.retries >= 5
    assert script.as_dict()["deadlock"] == circle.as_dict()


def test_descriptors_in_reserve_keep_swapping_out_of_the_deadlock() -> None:
    script, zone, clock = swapping(left=10, reserve=258)
    clock.advance(10 * SECOND)
    assert script.circle() is None
    assert zone.holding("shell") == 100


def test_one_descriptor_too_few_in_reserve_is_the_deadlock_again() -> None:
    script, _, clock = swapping(left=0, reserve=192)  # three pages of descriptors, and 66 are missing
    clock.advance(10 * SECOND)
    assert script.circle() is not None
    assert script.swap_out.host.statistics.undone > 0
    assert script.swap_out.host.pool.active == 0


def test_a_deadlock_is_over_when_somebody_outside_gives_pages_back() -> None:
    script, zone, clock = swapping(left=10, reserve=0)
    clock.advance(SECOND)
    assert script.circle() is not None
    zone.vacate("network", 30)
    clock.advance(SECOND)
    assert script.circle() is None
    assert zone.holding("shell") == 100
    assert script.swap_out.statistics.longest_stall_ns > 900 * MILLISECOND


def test_no_deadlock_stands_while_clean_pages_are_left_to_drop() -> None:
    zone = new_zone(reclaim_per_ms=0)
    swap = SwapOut(zone, Clock(), Uhci(DmaPool("p", zone, 64, 16)), lambda pages: None)
    zone.occupy("processes", 200, Held.ANONYMOUS, Gfp.MEMALLOC)
    zone.occupy("cache", 195, Held.CLEAN, Gfp.MEMALLOC)
    assert swap.write(8) == 0
    assert swap.deadlock() is None
    zone.vacate("cache")
    zone.occupy("others", 195, Held.PINNED, Gfp.MEMALLOC)
    swap.write(8)
    assert swap.deadlock() is not None


def test_who_gives_back_what_it_has_no_longer_asks_for_the_rest() -> None:
    script, zone, clock = run(
        "steps: [{at: 0ms, who: a, take: 500, kind: pinned}, {at: 2ms, who: a, give back: 100}]", reclaim_per_ms=0
    )
    clock.advance(MILLISECOND)
    assert script.waiting == {"a": 180}
    clock.advance(MILLISECOND)
    assert script.waiting == {}
    assert zone.holding("a") == 220


def test_a_write_that_cannot_be_mapped_takes_no_descriptors_and_is_named() -> None:
    script, _, clock = swapping(left=60, reserve=0, map_for_dma=lambda pages: None)
    clock.advance(SECOND)
    assert script.swap_out.statistics.failed_maps > 0
    assert script.swap_out.host.statistics.submitted == 0
    assert "swap-out waits for a DMA map of 4 pages" in str(script.circle())


def test_a_map_for_a_write_is_undone_when_the_write_ends_or_cannot_begin() -> None:
    mapped: list[int] = []

    def map_for_dma(pages: int):
        mapped.append(pages)
        return lambda: mapped.remove(pages)

    _, _, clock = swapping(left=60, reserve=0, map_for_dma=map_for_dma)
    clock.advance(2 * MILLISECOND)
    assert mapped == [4]
    clock.advance(SECOND)
    assert mapped == []
    stuck, _, clock = swapping(left=10, reserve=0, map_for_dma=map_for_dma)
    clock.advance(SECOND)
    assert mapped == []
    assert stuck.swap_out.statistics.failed_submissions > 0


def test_swapping_stalls_no_more_once_nobody_needs_memory() -> None:
    script, zone, clock = swapping(left=10, reserve=0)
    clock.advance(2 * MILLISECOND)
    assert script.circle() is not None
    zone.vacate("network")
    zone.vacate("processes", 100)
    assert script.circle() is None


@pytest.mark.parametrize("batch, speed", [(0, 1), (1, 0)])
def test_a_disk_that_writes_nothing_is_refused(batch: int, speed: int) -> None:
    zone = new_zone()
    with pytest.raises(InputError, match="a page or more"):
        SwapOut(zone, Clock(), Uhci(DmaPool("p", zone, 64, 16)), lambda pages: None, batch, bytes_per_s=speed)


def test_a_reserve_that_memory_does_not_hold_is_refused() -> None:
    with pytest.raises(InputError, match="does not hold 99999 descriptors"):
        run("steps: []\nswap out: {reserve: 99999}")
