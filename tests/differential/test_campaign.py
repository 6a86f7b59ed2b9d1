"""A real QEMU and our unit with its profile, in step: registers, tables, invalidations, the queue, reserved bits."""

from __future__ import annotations

import pytest

from tests.differential import invalidations, queues, registers, sweeps, tables
from tests.differential.campaign import MACHINES, SEED, binary_of, compare
from tests.differential.counts import count
from tests.differential.scene import Ours, Scene
from tests.differential.shrink import shrink

pytestmark = pytest.mark.qemu

machines = pytest.mark.parametrize("version, options", MACHINES)


@machines
def test_registers_read_what_qemus_do_whatever_is_written(version: str, options: str) -> None:
    binary = binary_of(version)
    for number in range(2):
        scene = registers.scene(version, options, f"{SEED}/{number}")
        compare(scene, binary, number)
        count(scene)


@machines
def test_dma_through_random_tables_ends_where_qemus_does(version: str, options: str) -> None:
    binary = binary_of(version)
    for number in range(26):
        scene = tables.scene(version, options, f"{SEED}/{number}")
        compare(scene, binary, number)
        count(scene, table_scenes=tables.ROUNDS)


@machines
def test_what_is_stale_for_qemu_is_stale_for_us(version: str, options: str) -> None:
    binary = binary_of(version)
    for number in range(26):
        scene = invalidations.scene(version, options, f"{SEED}/{number}")
        compare(scene, binary, number)
        count(scene, invalidation_sequences=invalidations.SEQUENCES)


@machines
def test_the_queue_stops_and_goes_on_where_qemus_does(version: str, options: str) -> None:
    binary = binary_of(version)
    for number in range(12):
        scene = queues.scene(version, options, f"{SEED}/{number}")
        compare(scene, binary, number)
        count(scene, queue_scenes=1)


@machines
def test_each_bit_of_each_table_entry_counts_as_qemus_does(version: str, options: str) -> None:
    binary = binary_of(version)
    for number, scene in enumerate(sweeps.entries(version, options)):
        compare(scene, binary, number)
        count(scene, entry_bits=sum(op[0] == "pull" for op in scene.ops))


@machines
def test_each_bit_of_each_descriptor_counts_as_qemus_does(version: str, options: str) -> None:
    binary = binary_of(version)
    for number, scene in enumerate(sweeps.descriptors(version, options)):
        compare(scene, binary, number)
        count(scene, descriptor_bits=sum(op[:2] == ["write", 0x88] for op in scene.ops) // 2)


def test_a_difference_is_found_shrunk_and_kept(tmp_path, monkeypatch) -> None:
    # The harness can fail: a unit whose registers read something else is told from QEMU's.
    binary = binary_of("7.2")
    monkeypatch.setenv("VTD_SCENES", str(tmp_path))
    run = Ours.run

    def spoiled(self, ops):
        return [one ^ 1 if op == ["read", 0x40, 4] else one for op, one in zip(ops, run(self, ops), strict=True)]

    monkeypatch.setattr(Ours, "run", spoiled)
    scene = registers.scene("7.2", "", 0)
    with pytest.raises(pytest.fail.Exception, match="read 0x40 0x4"):
        compare(scene, binary)
    [kept] = tmp_path.iterdir()
    assert Scene.from_json(kept.read_text()).ops == [["read", 0x40, 4]]


def test_shrinking_keeps_what_the_difference_needs() -> None:
    ops = [["read", offset, 4] for offset in range(64)]
    small = shrink(Scene("7.2", "", ops), lambda one: ["read", 9, 4] in one.ops and ["read", 50, 4] in one.ops)
    assert small.ops == [["read", 9, 4], ["read", 50, 4]]
