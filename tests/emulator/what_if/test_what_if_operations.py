"""Operations and buffers: what one unmap takes away is one buffer, whatever maps made it."""

from __future__ import annotations

import numpy as np

from emulator.trace.event import Kind
from emulator.what_if import operations as module
from emulator.what_if.operations import operations, pair_up
from tests.scripts import Script

PAGE = 4096


def of(script: Script):
    return operations(script.trace().columns)


def test_a_map_and_its_unmap_are_one_buffer():
    ops = of(Script().attach().map(0x5000, 0x9000, 2 * PAGE).unmap(0x5000, 2 * PAGE))
    assert ops.kind == [Kind.ATTACH, Kind.MAP, Kind.UNMAP]
    assert ops.buffer == [-1, 0, 0]
    assert (ops.buffer_start, ops.buffer_size, ops.offset[1:]) == ([0x5000], [2 * PAGE], [0, 0])
    assert ops.end_ns[1] == ops.time_ns[2]


def test_an_address_that_is_used_again_is_another_buffer():
    script = Script().map(0x5000, 0x9000).unmap(0x5000).map(0x5000, 0xA000)
    assert of(script).buffer == [0, 0, 1]
    assert of(script).end_ns == [2000, -1, -1]


def test_the_same_address_in_another_space_is_another_buffer():
    script = Script().map(0x5000, 0x9000).map(0x5000, 0xA000, space=1).unmap(0x5000, space=1).unmap(0x5000)
    assert of(script).buffer == [0, 1, 1, 0]


def test_the_maps_of_a_scatter_list_are_one_operation_of_several_pieces():
    script = Script().map(0x5000, 0x20000).map(0x6000, 0x40000, 2 * PAGE).map(0x8000, 0x60000).unmap(0x5000, 4 * PAGE)
    ops = of(script)
    assert (ops.kind, ops.size) == ([Kind.MAP, Kind.UNMAP], [4 * PAGE, 4 * PAGE])
    assert ops.first == [0, 3, 4]
    assert ops.piece_gpa[:3] == [0x20000, 0x40000, 0x60000]
    assert ops.piece_offset[:3] == [0, PAGE, 3 * PAGE]


def test_a_list_whose_maps_another_cpu_interrupts_is_one_buffer_of_two_operations():
    script = Script().map(0x5000, 0x20000).map(0x100000, 0x30000, cpu=1).map(0x6000, 0x40000).unmap(0x5000, 2 * PAGE)
    ops = of(script)
    assert ops.buffer == [0, 1, 0, 0]
    assert ops.offset == [0, 0, PAGE, 0]
    assert ops.buffer_size == [2 * PAGE, PAGE]


def test_neighbours_that_are_unmapped_apart_are_two_buffers():
    ops = of(Script().map(0x5000, 0x20000).map(0x6000, 0x21000).unmap(0x5000).unmap(0x6000))
    assert ops.buffer == [0, 1, 0, 1]


def test_what_is_unmapped_in_parts_stays_one_buffer():
    ops = of(Script().map(0x5000, 0x20000, 4 * PAGE).unmap(0x6000).unmap(0x5000).unmap(0x7000, 2 * PAGE))
    assert ops.buffer == [0, 0, 0, 0]
    assert ops.offset == [0, PAGE, 0, 2 * PAGE]
    assert ops.end_ns[0] == ops.time_ns[1]  # the first unmap that takes some of it


def test_an_access_belongs_to_the_buffer_it_meets():
    script = Script().map(0x5000, 0x20000, 2 * PAGE).access(0x6010).access(0x9000).unmap(0x5000, 2 * PAGE)
    ops = of(script)
    assert ops.buffer == [0, 0, -1, 0]
    assert ops.offset[1] == 0x1010


def test_misuse_that_the_ledger_leaves_out_is_no_operation():
    ops = of(Script().map(0x5000, 0x20000).map(0x5000, 0x30000).unmap(0x5000))
    assert ops.kind == [Kind.MAP, Kind.UNMAP]
    assert ops.row == [0, 2]


def test_a_trace_of_nothing_has_no_operations():
    assert len(of(Script())) == 0


def test_pairing_at_once_and_event_by_event_agree_on_clean_traces():
    rng = np.random.default_rng(7)
    script, live = Script(), []
    for step in range(600):
        if live and rng.random() < 0.48:
            space, iova, size = live.pop(int(rng.integers(len(live))))
            script.unmap(iova, size, space=space)
        else:
            iova, size, space = (step + 1) * 0x10000, int(rng.integers(1, 5)) * PAGE, int(rng.integers(3))
            script.map(iova, 0x100000 + step * PAGE, size, space=space)
            live.append((space, iova, size))
    columns = script.trace().columns
    quick, slow = module._exact_pairs(columns), module._Pairing(columns).run()
    assert quick is not None
    for name in ("buffer", "closer"):
        assert getattr(quick, name).tolist() == getattr(slow, name).tolist()
    own = np.unique(slow.buffer)
    assert quick.start[own].tolist() == slow.start[own].tolist()
    assert quick.end[own].tolist() == slow.end[own].tolist()
    assert pair_up(columns).buffer.tolist() == slow.buffer.tolist()
