"""Static tables of a run: those of every domain there will be, and of what lies outside all windows."""

from __future__ import annotations

import pytest

from emulator.axes import effective
from emulator.presets import load_presets
from emulator.settings import Settings
from emulator.sizing import new_tables, tables_outside
from emulator.what_if import run
from tests.conftest import FIXTURES
from tests.scripts import DISK, Script

MIB = 1 << 20
FIRMWARE = 0x7B80_0000  # where a firmware puts the memory of a graphics device


def a_buffer_in_each_table_of_the_window() -> Script:
    # Slots of 64 KiB are handed out from the lowest on: 4096 of them fill the window.
    script = Script().attach()
    script.map(FIRMWARE, FIRMWARE, 8 * MIB)
    for number in range(4095):
        script.map(0x1_0000_0000 + (number << 16), 0x100_0000 + (number << 12))
    return script


def test_a_region_mapped_to_itself_does_not_take_the_tables_of_the_window(engine):
    values = {"engine": engine.name, "preset": "static", "kernel.size": "16M", "leaves": "4k"}
    outcome = run(a_buffer_in_each_table_of_the_window().trace(), Settings.of(values))
    assert (outcome.maps_ok, outcome.failures) == (4096, 0)
    # root, one of level 3, one of level 2, 128 of level 1; outside: 4 of level 1, and one of level 2
    assert outcome.supply["fixed"] == 131 + 5
    assert outcome.supply["idle"] == 0


def test_who_says_how_many_tables_there_are_gets_so_many(engine):
    values = {"engine": engine.name, "preset": "static", "kernel.size": "16M", "pool.outside": 0}
    outcome = run(a_buffer_in_each_table_of_the_window().trace(), Settings.of(values))
    assert outcome.supply["fixed"] == 131
    assert outcome.failed["page"] > 0


def test_a_window_of_another_size_has_other_tables_outside(engine):
    script = Script().attach().map(300 * MIB, 300 * MIB)
    values = {"engine": engine.name, "preset": "static"}
    fixed = [run(script.trace(), Settings.of({**values, "pool.size": size})).supply["fixed"] for size in (256, 512)]
    assert fixed == [131 + 1, 259]


@pytest.mark.parametrize(("window", "domains"), [("per-domain", 3), ("shared", 1)])
def test_the_disk_that_pressure_swaps_to_has_static_tables_too(engine, window, domains):
    script = Script().attach().attach(DISK, 1)
    script.map(0x7000, 0x10_0000).map(0x7000, 0x20_0000, space=1)
    pressure = str(FIXTURES / "pressure" / "usb-swap.yaml")
    values = {"engine": engine.name, "preset": "static", "kernel.size": "16M", "window": window}
    trace = script.trace()
    assert run(trace, Settings.of({**values, "pressure": pressure})).supply["fixed"] == 131 * domains
    without = run(trace, Settings.of(values))
    assert without.supply["fixed"] == 131 * max(domains - 1, 1)


def test_tables_outside_are_those_the_window_has_not():
    window = 256 * MIB
    assert tables_outside([], window, 3) == 0
    assert tables_outside([(0, 16 * MIB)], window, 3) == 0
    assert tables_outside([(window - 2 * MIB, 4 * MIB)], window, 3) == 1
    assert tables_outside([(1 << 30, 2 * MIB)], window, 3) == 2, "a table of level 1, one of level 2"
    assert tables_outside([(1 << 30, 2 * MIB)] * 2, window, 3) == 4, "each in a domain of its own"
    assert tables_outside([(0, 2 * MIB)], window, 3, base=1 << 30) == 2
    assert tables_outside([(0x1000, 6 * MIB)], MIB * 2, 4, base=1 << 40) == new_tables(1, 6 * MIB >> 12, 4)


def test_static_tables_are_for_the_window_that_the_allocator_has():
    for preset in load_presets():
        if preset.axes["pool"] == "static":
            options = effective(preset)
            assert int(options["pool"]["window_mib"]) << 8 == options["iova"]["entries"]
