"""What a trace says its software did: misuse, order, what is live."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from emulator.ledger import Ledger, book_by_book, clean_ledger, keep_ledger
from tests.scripts import Script

PAGE = 4096
LATE = 10_001_000_000  # ns: after this, nothing can be from before the recording


def ledger(script: Script):
    return keep_ledger(script.trace().columns)


def findings(script: Script) -> list[tuple]:
    return [(found.kind, found.row, found.other) for found in ledger(script).misuse]


def test_what_is_mapped_and_not_unmapped_is_live() -> None:
    kept = ledger(Script().map(0x1000, 0).map(0x10000, 0, 8 * PAGE).unmap(0x1000))
    assert (kept.live_mappings, kept.live_bytes) == (1, 8 * PAGE)
    assert kept.misuse == []
    assert kept.order.tolist() == [0, 1, 2]


def test_one_unmap_may_close_several_maps() -> None:
    kept = ledger(Script().map(0x1000, 0).map(0x2000, 0x9000, 2 * PAGE).unmap(0x1000, 3 * PAGE))
    assert (kept.live_mappings, kept.live_bytes, kept.misuse) == (0, 0, [])


def test_spaces_do_not_collide() -> None:
    assert findings(Script().map(0x1000, 0, space=0).map(0x1000, 0, space=1)) == []


def test_mapping_what_is_live_is_misuse_and_not_applied() -> None:
    script = Script().map(0x1000, 0, 4 * PAGE).map(0x2000, 0x9000)
    assert findings(script) == [("double-map", 1, 0)]
    kept = ledger(script)
    assert kept.order.tolist() == [0]
    assert kept.skipped == [(1, "double-map")]
    assert (kept.live_mappings, kept.live_bytes) == (1, 4 * PAGE)


def test_a_map_that_overtook_the_unmap_of_another_cpu_is_put_behind_it() -> None:
    kept = ledger(Script().map(0x1000, 0, cpu=0).map(0x1000, 0x9000, cpu=1).unmap(0x1000, cpu=0))
    assert kept.misuse == []
    assert kept.order.tolist() == [0, 2, 1]
    assert kept.reordered == 1
    assert kept.live_mappings == 1


def test_overtaking_takes_another_cpu_and_a_short_time() -> None:
    same_cpu = Script().map(0x1000, 0).map(0x1000, 0x9000).unmap(0x1000)
    assert findings(same_cpu) == [("double-map", 1, 0)]
    late = Script().map(0x1000, 0).map(0x1000, 0x9000, cpu=1).wait(2_000_000).unmap(0x1000)
    assert findings(late) == [("double-map", 1, 0)]


def test_overtaking_needs_an_unmap_of_all_that_is_in_the_way() -> None:
    script = Script().map(0x1000, 0, 2 * PAGE, cpu=0).map(0x2000, 0x9000, 2 * PAGE, cpu=1).unmap(0x2000, cpu=0)
    assert findings(script)[0] == ("double-map", 1, 0)


def test_unmapping_twice_is_misuse_and_names_the_first_unmap() -> None:
    assert findings(Script().map(0x1000, 0).unmap(0x1000).unmap(0x1000)) == [("double-unmap", 2, 1)]


def test_unmapping_what_was_never_mapped_is_misuse_once_the_recording_is_old() -> None:
    script = Script().map(0x1000, 0).wait(LATE).unmap(0x5000)
    assert findings(script) == [("never-mapped", 1, None)]
    assert ledger(script).order.tolist() == [0]


def test_at_the_start_an_unknown_range_may_be_from_before_the_recording() -> None:
    kept = ledger(Script().unmap(0x5000))
    assert kept.misuse == []
    assert kept.skipped == [(0, "unmap of what was mapped before the recording began")]


@pytest.mark.parametrize("size", [PAGE, 3 * PAGE])
def test_unmapping_another_size_than_the_dma_api_mapped_is_misuse(size: int) -> None:
    assert findings(Script().map(0x1000, 0, 2 * PAGE).unmap(0x1000, size)) == [("wrong-size", 1, 0)]


def test_the_iommu_api_may_unmap_parts_of_a_map() -> None:
    script = Script().map(0x1000, 0, 2 * PAGE, access="-").unmap(0x1000).unmap(0x2000)
    assert findings(script) == []
    assert ledger(script).live_mappings == 0


def test_a_mapping_of_which_a_part_is_unmapped_is_still_one_mapping() -> None:
    kept = ledger(Script().map(0x1000, 0, 3 * PAGE, access="-").unmap(0x2000))
    assert (kept.live_mappings, kept.live_bytes) == (1, 2 * PAGE)


def test_events_that_map_nothing_keep_their_place() -> None:
    kept = ledger(Script().attach().map(0x1000, 0).access(0x1000).unmap(0x1000).detach())
    assert kept.order.tolist() == [0, 1, 2, 3, 4]


def test_a_range_of_no_bytes_is_skipped() -> None:
    kept = ledger(Script().map(0x1000, 0, 0).unmap(0x1000, 0))
    assert kept.skipped == [(0, "a range of no bytes"), (1, "a range of no bytes")]
    assert kept.misuse == []


def test_an_empty_trace_has_an_empty_ledger() -> None:
    assert ledger(Script()).order.tolist() == []


def same(one: Ledger, other: Ledger) -> bool:
    plain = one.order.tolist() == other.order.tolist()
    return plain and replace(one, order=None) == replace(other, order=None)


@pytest.mark.parametrize("seed", range(60))
def test_a_clean_ledger_equals_the_one_kept_event_by_event(seed: int) -> None:
    chance = random.Random(seed)
    script, live = Script(), []
    for _ in range(80):
        if chance.random() < 0.6:
            space, iova, size = chance.randrange(2), chance.randrange(200) * PAGE, chance.choice([1, 1, 2, 5]) * PAGE
            clear = all(s != space or iova + size <= at or at + n <= iova for s, at, n in live)
            if clear or chance.random() < 0.005:
                script.map(iova, 0, size, chance.choice(["rw", "-"]), space)
                live.append((space, iova, size))
        elif live:
            space, iova, size = live.pop(chance.randrange(len(live)))
            part = chance.random() < 0.02
            script.unmap(iova, PAGE if part else size, space)
    columns = script.trace().columns
    clean, kept = clean_ledger(columns), book_by_book(columns)
    assert (clean is None) == bool(kept.misuse or kept.skipped or kept.reordered)
    if clean is not None:
        assert same(clean, kept)


def test_a_clean_trace_is_recognised_and_a_broken_one_is_not() -> None:
    clean = Script().attach().map(0x1000, 0).map(0x2000, 0).unmap(0x1000, 2 * PAGE).map(0x1000, 0, space=1)
    assert same(clean_ledger(clean.trace().columns), book_by_book(clean.trace().columns))
    for broken in (
        Script().map(0x1000, 0).map(0x1000, 0),
        Script().unmap(0x1000),
        Script().map(0x1000, 0).unmap(0x1000).unmap(0x1000),
        Script().map(0x1000, 0, 2 * PAGE).unmap(0x1000),
        Script().map(0x1000, 0, 2 * PAGE).unmap(0x1000).unmap(0x2000),
        Script().map(0x1000, 0).unmap(0x1000, 2 * PAGE),
        Script().map(0x1001, 0).unmap(0x1001),
        Script().map(0x1000, 0, 0),
        Script().map(1 << 60, 0, PAGE),
    ):
        assert clean_ledger(broken.trace().columns) is None


def test_parts_that_the_iommu_api_unmapped_are_clean_and_one_mapping() -> None:
    columns = Script().map(0x1000, 0, 3 * PAGE, access="-").unmap(0x2000).trace().columns
    clean = clean_ledger(columns)
    assert same(clean, book_by_book(columns))
    assert (clean.live_mappings, clean.live_bytes) == (1, 2 * PAGE)


def test_what_has_too_many_pages_is_kept_event_by_event() -> None:
    columns = Script().map(0, 0, 1 << 40).trace().columns
    assert clean_ledger(columns) is None
    assert ledger(Script().map(0, 0, 1 << 40)).live_bytes == 1 << 40
