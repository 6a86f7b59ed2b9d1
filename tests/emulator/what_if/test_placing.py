"""Where a what-if run puts special buffers: reserved memory of two devices, bounced pieces, unknown directions."""

from __future__ import annotations

import pytest

from emulator.settings import Settings
from emulator.what_if import run
from emulator.what_if.runner import Runner
from tests.scripts import DISK, Script

PAGE = 4096
HIGH = 128 << 20  # beyond the first 64 MiB, which is all that dmabounce's devices reach


def ran(script: Script, engine, **values) -> Runner:
    runner = Runner(script.trace(), Settings.of({"engine": engine.name, **values}))
    runner.run()
    return runner


def test_two_devices_in_one_window_may_have_the_same_reserved_memory(engine) -> None:
    script = Script().attach().attach(DISK, 1)
    for space in (0, 1):
        script.map(0x80000, 0x80000, 16 * PAGE, space=space)
    outcome = run(script.trace(), Settings.of({"engine": engine.name, "preset": "gart"}))
    assert (outcome.maps_ok, sum(outcome.failed.values()), outcome.refused) == (2, 0, {})


@pytest.mark.parametrize("access, copies", [("r", 1), ("w", 1), ("rw", 2), ("-", 2)])
def test_a_bounced_buffer_of_unknown_direction_is_copied_both_ways(engine, access: str, copies: int) -> None:
    script = Script().attach().map(0x7000, HIGH, access=access).unmap(0x7000)
    outcome = run(script.trace(), Settings.of({"engine": engine.name, "preset": "dmabounce"}))
    assert (outcome.maps_ok, outcome.bytes_copied) == (1, copies * PAGE)


def test_a_list_of_which_a_piece_finds_no_bounce_buffer_gives_back_those_of_the_others(engine) -> None:
    # swiotlb: a mapping has at most 256 KiB.
    script = Script().attach().map(0x10_0000, HIGH, 2 * PAGE).map(0x10_2000, 2 * HIGH, 1 << 20)
    script.map(0x7000, 3 * HIGH).unmap(0x10_0000, (1 << 20) + 2 * PAGE)
    values = {"bounce": "swiotlb", "bounce.force": 1, "iova": "rbtree", "kernel.size": "1G"}
    runner = ran(script, engine, **values)
    assert (runner.failed["bounce"], runner.unmaps_of_failed) == (1, 1)
    assert runner.bouncer.used == 2, "the page of the map that came after"


LAZY = {
    "bounce": "swiotlb",
    "bounce.force": 1,
    "kernel.size": "1G",
    "flush": "deferred",
    "iova": "rbtree",
    "iova.size_aligned": 0,
}
TOO_MUCH = 1 << 20  # for a bounce buffer


def test_an_address_of_which_nothing_was_mapped_is_free_at_once(engine) -> None:
    # An unmap is on its way to be flushed: what has to wait would wait with it.
    script = Script().attach().map(0x5000, HIGH).unmap(0x5000)
    script.map(0x10_0000, HIGH, TOO_MUCH).map(0x20_0000, 2 * HIGH, 2 * PAGE)
    script.map(0x7000, 3 * HIGH).unmap(0x10_0000, TOO_MUCH + 2 * PAGE)
    runner = ran(script, engine, **LAZY)
    assert (runner.failed["bounce"], runner.buffers.address[2]) == (1, (1 << 32) - 2 * PAGE)


def test_an_address_of_which_a_part_was_mapped_waits_for_the_invalidation(engine) -> None:
    script = Script().attach().map(0x10_0000, HIGH, 2 * PAGE).map(0x10_2000, 2 * HIGH, TOO_MUCH)
    script.map(0x7000, 3 * HIGH).unmap(0x10_0000, TOO_MUCH + 2 * PAGE)
    runner = ran(script, engine, **LAZY)
    assert (runner.failed["bounce"], runner.buffers.address[1]) == (1, (1 << 32) - (TOO_MUCH + 3 * PAGE))


def test_a_list_that_is_mapped_in_two_goes_keeps_the_bounces_of_the_first_if_the_second_fails(engine) -> None:
    script = Script().attach().map(0x10_0000, HIGH, 2 * PAGE).map(0x7000, 2 * HIGH, cpu=1)
    script.map(0x10_2000, 3 * HIGH, TOO_MUCH).map(0x9000, 4 * HIGH, 4 * PAGE).unmap(0x10_0000, TOO_MUCH + 2 * PAGE)
    runner = ran(script, engine, **LAZY)
    statistics = runner.bouncer.statistics
    assert (statistics.failed, statistics.used_highest, statistics.used) == (1, 7 * PAGE, 5 * PAGE)
