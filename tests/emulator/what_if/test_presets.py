"""Presets: every system of the threads by name, and what each does with the same trace."""

from __future__ import annotations

import pytest

from emulator.presets import AXES, find_preset, load_presets, with_preset
from emulator.settings import Settings
from emulator.trace import read_traces
from emulator.what_if import run
from pagetables.errors import InputError
from tests.conftest import FIXTURES
from tests.scripts import Script

NAMES = [
    "respool-2007",
    "mempool-2.5",
    "mempool",
    "static",
    "prealloc-worker",
    "lahaise-reserve",
    "per-domain",
    "gart",
    "gart-lazy",
    "sparc-generic",
    "sparc-generic-1pool",
    "stale-bitmap",
    "dma-pool",
    "dmabounce",
    "swiotlb",
    "linux-2.6.24",
    "linux-2.6.25-lazy",
    "linux-4.7",
    "linux-7",
    "linux-7-strict",
]
MEGA = 1 << 20


@pytest.fixture(scope="module")
def recording():
    """The shipped recording of a guest with legacy tables and strict invalidation."""
    return read_traces([FIXTURES / "traces" / "a-legacy-strict.txt.xz"])


def outcome_of(trace, name: str, **values):
    return run(trace, Settings.of({"preset": name, **values}))


def test_the_presets_are_those_of_the_threads_each_with_a_sentence_and_a_seed():
    assert [preset.name for preset in load_presets()] == NAMES
    for preset in load_presets():
        assert preset.explains.endswith(".")
        assert len(preset.seed) > 10
        assert preset.axes.keys() == set(AXES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_machine_that_can_be_built_and_its_settings_are_all_known(name):
    settings = Settings.of({"preset": name})
    assert settings.is_what_if
    axes = find_preset(name).axes
    assert {axis: getattr(settings, axis) for axis in AXES} == axes


def test_what_is_set_goes_over_a_preset_and_takes_that_axis_of_its_options_away():
    values = with_preset({"preset": "linux-4.7", "iova": "gart", "kernel.size": "64M"})
    assert (values["iova"], values["pool"], values["flush.per_cpu"]) == ("gart", "os", 1)
    assert "iova.magazine" not in values
    assert with_preset({"preset": "linux-4.7", "iova": "rbtree+rcache"})["iova.magazine"] == 128


def test_a_size_of_the_pool_goes_over_what_the_preset_calls_it():
    assert dict(Settings.of({"preset": "stale-bitmap", "pool.size": 600}).pool_options) == {"size": 600}
    assert dict(Settings.of({"preset": "stale-bitmap"}).pool_options) == {"window_mib": 512}
    assert with_preset({"preset": "linux-4.7", "pool.size": 1})["iova.magazine"] == 128


def test_without_a_preset_nothing_is_added():
    assert with_preset({"pool": "os"}) == {"pool": "os"}


def test_a_preset_nobody_has_is_told_with_those_that_are_near():
    with pytest.raises(InputError, match="did you mean linux-7"):
        Settings.of({"preset": "linux-77"})


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_takes_the_recording_and_accounts_for_each_map(recording, name):
    outcome = outcome_of(recording, name, accesses="rule")
    assert outcome.maps == outcome.maps_ok + outcome.failures == 7728
    assert outcome.unmaps + outcome.unmaps_of_failed == 6625
    assert not outcome.refused
    assert not outcome.deadlocks
    assert outcome.failed["page"] == outcome.failed["address"] == 0
    assert outcome.accesses["blocked"] == 0
    assert (outcome.failed["bounce"] > 0) == (name == "swiotlb")  # buffers beyond 256 KiB fit no segment
    stale = {"sparc-generic"}  # the only one that hands out what is cached still
    assert (outcome.reused_before_flush > 0, outcome.accesses["hits"] > 0) == (name in stale, name in stale)
    strict = find_preset(name).axes["flush"] == "strict"
    assert (outcome.stale_window["max_ns"] == 0) == strict
    assert (outcome.bytes_copied > 0) == (find_preset(name).axes["bounce"] != "none")


def test_a_full_flush_is_one_for_each_map_and_the_strict_one_for_each_unmap(recording):
    gart, strict = outcome_of(recording, "gart"), outcome_of(recording, "linux-7-strict")
    assert gart.invalidations["global"] == gart.invalidations["wait"] == 7728
    assert strict.invalidations["page"] == strict.invalidations["wait"] == 6625
    lazy = outcome_of(recording, "linux-7")
    assert lazy.invalidations["domain"] == lazy.invalidations["wait"] < 200
    assert lazy.unmap_ns["p50"] < strict.unmap_ns["p50"] / 10


def test_what_waits_for_no_longer_than_the_kernels_time_out(recording):
    for name in ("linux-2.6.25-lazy", "linux-4.7", "linux-7"):
        assert outcome_of(recording, name).stale_window["max_ns"] <= 10_000_000


def chunks(count: int) -> Script:
    """Maps that fill a table each, unmapped as a whole: their tables are freed."""
    script = Script().attach()
    for number in range(count):
        script.map((number + 1) * 2 * MEGA, 0x200000, 2 * MEGA, leaf_levels=1)
        script.unmap((number + 1) * 2 * MEGA, 2 * MEGA)
    return script.wait(20_000_000).map(0x1000, 0x100000)  # every time-out has passed


def test_linux_2_6_24_frees_table_pages_before_the_flush_and_kernels_since_2014_do_not():
    trace = chunks(20).trace()
    for name, early in (("linux-2.6.24", True), ("linux-2.6.25-lazy", True), ("linux-4.7", False), ("linux-7", False)):
        outcome = outcome_of(trace, name, leaves="4k")
        assert outcome.table_pages["freed"] > 0
        assert (outcome.freed_before_flush > 0) == early


def test_under_pressure_a_pool_or_a_reserve_lasts_longer_than_the_system_alone():
    script = Script().attach()
    for number in range(120):
        script.map((number + 1) * 2 * MEGA, 0x100000)
    pressed = {"kernel.size": "2M", "kernel.used": 420, "kernel.reclaim_per_ms": 0, "iova": "recorded"}
    failed = {
        name: outcome_of(script.trace(), name, **pressed).failed["page"]
        for name in ("linux-7", "respool-2007", "linux-2.6.24")
    }
    # PF_MEMALLOC sinks to the last page, GFP_ATOMIC to 3/8 of min (18 of 45); the pool's worker may reclaim.
    assert failed["linux-7"] - failed["linux-2.6.24"] == 18
    assert failed["respool-2007"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["c-scalable", "h-fault", "t-vfio-superpages", "x-tracecmd"])
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_takes_every_recording(corpus, variant, name):
    outcome = outcome_of(read_traces([corpus / variant / "trace.txt.gz"]), name)
    assert outcome.maps == outcome.maps_ok + outcome.failures > 3000
    assert not outcome.deadlocks
