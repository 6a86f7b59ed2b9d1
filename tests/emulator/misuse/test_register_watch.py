"""What only the registers tell: lost causes, an overrun queue, waits that nobody hears of, errors that come back."""

from __future__ import annotations

import struct

import pytest

from emulator.machine import Machine
from emulator.mapping.driver import UnitDriver
from emulator.mapping.pools.os import SystemSupply
from emulator.misuse.register_watch import WatchedMmio
from emulator.settings import Settings
from emulator.unit import RemappingUnit
from tests.units import FSTS, GCMD, IQA, IQH, IQT, QIE, QUEUE, STATUS, Bench, iotlb_global

IQE, PFO = 1 << 4, 1
BAD = struct.pack("<QQ", 0x3F, 0)  # a type nobody knows
WAIT = struct.pack("<QQ", 0x25 | 1 << 32, STATUS)
IDLE = struct.pack("<QQ", 0x5, 0)
SLOTS = 256


@pytest.fixture
def watched(engine):
    """A unit whose queue is on, and what watches it."""
    bench = Bench(engine)
    watch = WatchedMmio(bench.unit, bench.memory)
    watch.write64(IQA, QUEUE)
    watch.write32(GCMD, QIE)
    return bench, watch


def put(bench, *descriptors, at=0):
    for number, descriptor in enumerate(descriptors, at):
        bench.memory.write(QUEUE + number * 16, descriptor)


def rules(watch):
    return [finding.rule for finding in watch.findings]


def test_a_driver_that_looks_first_breaks_no_rule(watched):
    bench, watch = watched
    put(bench, iotlb_global(), WAIT, BAD)
    watch.write64(IQT, 48)
    assert watch.read32(FSTS) & IQE
    put(bench, iotlb_global(), at=2)
    watch.write32(FSTS, IQE)
    assert watch.read64(IQH) == 48
    assert watch.findings == []
    assert watch.accesses == 6


def test_clearing_an_error_that_nobody_read_loses_it(watched):
    bench, watch = watched
    put(bench, BAD)
    watch.write64(IQT, 16)
    put(bench, iotlb_global())
    watch.write32(FSTS, PFO | IQE)
    (finding,) = watch.findings
    assert finding == ("status-lost", 4, "writing 0x11 to FSTS clears IQE, which nobody had read")


@pytest.mark.parametrize("width", [32, 64])
def test_reading_the_status_in_either_width_is_looking(watched, width):
    bench, watch = watched
    put(bench, BAD)
    watch.write64(IQT, 16)
    getattr(watch, f"read{width}")(FSTS if width == 32 else FSTS - 4)
    put(bench, iotlb_global())
    watch.write32(FSTS, IQE)
    assert watch.findings == []


def test_a_wide_write_over_the_status_is_judged_too(watched):
    bench, watch = watched
    put(bench, BAD)
    watch.write64(IQT, 16)
    put(bench, iotlb_global())
    watch.write64(FSTS - 4, IQE << 32)
    assert rules(watch) == ["status-lost"]


def test_an_error_whose_cause_is_kept_comes_back(watched):
    bench, watch = watched
    put(bench, iotlb_global(), BAD)
    watch.write64(IQT, 32)
    watch.read32(FSTS)
    watch.write32(FSTS, IQE)
    (finding,) = watch.findings
    assert finding.rule == "cause-kept"
    assert f"{QUEUE + 16:#x}" in finding.says


def test_a_tail_that_passes_the_head_overwrites_what_was_not_fetched(watched):
    bench, watch = watched
    put(bench, BAD)
    watch.write64(IQT, 16 * 200)  # stopped at 0
    assert rules(watch) == []
    watch.write64(IQT, 16 * 100)  # 156 more, where 55 fit
    (finding,) = watch.findings
    assert finding.says == "156 descriptors are added where 55 fit"


def test_the_last_slot_stays_empty_and_all_others_may_be_used(watched):
    bench, watch = watched
    put(bench, BAD)
    watch.write64(IQT, 16 * (SLOTS - 1))
    assert rules(watch) == []


def test_a_wait_that_tells_nobody_is_found(watched):
    bench, watch = watched
    put(bench, WAIT, IDLE)
    watch.write64(IQT, 32)
    (finding,) = watch.findings
    assert finding.rule == "idle-wait"
    assert f"{QUEUE + 16:#x}" in finding.says


def test_a_tail_written_before_the_queue_is_on_is_not_judged(engine):
    bench = Bench(engine)
    watch = WatchedMmio(bench.unit, bench.memory)
    watch.write64(IQA, QUEUE)
    watch.write64(IQT, 16 * 4)
    assert watch.findings == []


def test_a_watched_unit_serves_a_driver(engine):
    machine = Machine(Settings.of({"engine": engine.name, "ram": "0-64M", "kernel.size": "16M"}))
    unit = RemappingUnit(machine.memory, machine.profile, machine.engine)
    watch = WatchedMmio(unit, machine.memory)
    driver = UnitDriver(machine.memory, watch, SystemSupply(machine.zone), machine.settings.mode)
    driver.enable()
    for number in range(600):  # round the queue more than twice
        driver.invalidate_domain(5, machine.layer.shape.stage)
        assert watch.findings == [], number
