"""Settings and what is built from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.machine import Machine
from emulator.mapping.driver import Mode
from emulator.settings import KEYS, Settings, assignments, machine_file
from pagetables.errors import InputError, VtdError
from pagetables.mapper import Stage


def test_the_default_machine_is_what_plain_replay_promises() -> None:
    settings = Settings.of({})
    assert (settings.engine, settings.mode, settings.levels, settings.stage) == ("native", Mode.LEGACY, 4, Stage.SECOND)
    assert (settings.pool, settings.flush, settings.iova, settings.ram) == ("respool", "strict", "recorded", None)


def test_keys_and_values_are_read_as_people_write_them() -> None:
    values = assignments(["mode=scalable", "levels = 5", "leaves=4k,2m", "kernel.size=64M", "flush.timeout_ms=3"])
    settings = Settings.of(values)
    assert (settings.mode, settings.levels, settings.leaves) == (Mode.SCALABLE, 5, {1, 2})
    assert (settings.kernel_size, settings.flush_options) == (64 << 20, (("timeout_ms", 3),))


def test_options_of_a_pool_go_to_the_pool() -> None:
    settings = Settings.of({"pool": "respool", "pool.min": "0x10", "pool.grow": 8})
    assert dict(settings.pool_options) == {"min": 16, "grow": 8}


def test_ram_is_ranges_or_a_size() -> None:
    assert Settings.of({"ram": "0-3G, 4G-6G"}).ram == ((0, 3 << 30), (4 << 30, 2 << 30))
    assert Settings.of({"ram": "512M"}).ram == ((0, 512 << 20),)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"mod": "scalable"}, "did you mean mode"),
        ({"poool.min": 3}, "did you mean pool.min"),
        ({"mode": "scalabel"}, "mode=scalabel: expected legacy or scalable"),
        ({"levels": "6"}, "expected 3 or 4 or 5"),
        ({"pool": "respol"}, "did you mean respool"),
        ({"flush": "lazy"}, "known: deferred"),
        ({"iova": "rbtreee"}, "did you mean rbtree"),
        ({"flush": "stale-bitmap"}, "waits until an address allocator asks"),
        ({"ram": "4G-3G"}, "'4G-3G' is empty"),
        ({"ram": "much"}, "is not a size"),
        ({"kernel.size": "100"}, "multiple of 0x1000"),
        ({"kernel.used": "-1"}, "at least 0"),
        ({"kernel.used": "few"}, "is not a number"),
        ({"leaves": "2m"}, "must have 4k"),
        ({"leaves": "4k,8k"}, "'8k' is no page size"),
        ({"stage": "first"}, "needs mode=scalable"),
        ({"mode": "scalable", "stage": "first", "levels": "3"}, "levels=3 needs stage=second"),
    ],
)
def test_a_wrong_setting_teaches(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings.of(values)


@pytest.mark.parametrize("text", ["mode", "=legacy"])
def test_an_assignment_without_both_sides_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="KEY=VALUE"):
        assignments([text])


def test_a_machine_file_may_nest_or_not(tmp_path: Path) -> None:
    path = tmp_path / "machine.yaml"
    path.write_text("mode: scalable\nlevels: 5\npool: {name: respool, min: 16}\nkernel.size: 64M\nram: [0-1G, 4G-5G]\n")
    settings = Settings.of(machine_file(path))
    assert (settings.mode, settings.levels, settings.pool_options) == (Mode.SCALABLE, 5, (("min", 16),))
    assert (settings.kernel_size, settings.ram) == (64 << 20, ((0, 1 << 30), (4 << 30, 1 << 30)))


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [", "\x00", "plain words"])
def test_what_is_no_machine_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "machine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"machine\.yaml"):
        machine_file(path)


def test_every_key_says_what_it_is_about() -> None:
    assert all(key.about for key in KEYS.values())
    assert {key.attribute for key in KEYS.values()} <= set(Settings.__dataclass_fields__)


def test_a_machine_is_up_when_it_is_built(engine) -> None:
    machine = Machine(Settings.of({"engine": engine.name}))
    assert machine.unit.read32(0x1C) & 0xC400_0000 == 0xC400_0000  # TES, RTPS, QIES
    assert machine.engine.name == engine.name


def test_kernel_memory_lies_above_ram(engine) -> None:
    machine = Machine(Settings.of({"engine": engine.name, "ram": "0-3G,4G-6G"}))
    assert machine.zone.start == 6 << 30
    assert machine.memory.contains(machine.zone.start, machine.zone.size)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"profile": "qemu-72"}, "did you mean qemu-7.2"),
        ({"profile": "qemu-7.2", "mode": "scalable", "stage": "first"}, "no first-stage translation"),
        ({"profile": "qemu-7.2", "levels": 5}, "profile qemu-7.2 has"),
        ({"profile": "qemu-7.2", "ram": "0-32T"}, "address bits of profile"),
        ({"pool.minimum": 3}, "did you mean min"),
        ({"kernel.size": "8k", "kernel.min_free_kib": 4}, "."),
    ],
)
def test_a_machine_that_cannot_be_is_refused(engine, values: dict, message: str) -> None:
    with pytest.raises(VtdError, match=message):
        Machine(Settings.of({"engine": engine.name, **values}))


def test_leaves_are_those_that_both_settings_and_unit_allow(engine) -> None:
    machine = Machine(Settings.of({"engine": engine.name, "leaves": "4k,2m"}))
    assert machine.layer.shape.leaf_levels == {1, 2}
