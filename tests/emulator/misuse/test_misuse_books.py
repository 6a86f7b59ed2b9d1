"""The books of misuse, event by event: whom they accuse, and above all whom they do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emulator.clock import SECOND
from emulator.misuse.access_book import AccessBook, Mapping
from emulator.misuse.dma_book import FAILED, DmaBook
from emulator.misuse.invalidation_book import ALL, Invalidation, InvalidationBook
from emulator.misuse.sharing import Sharing
from emulator.misuse.verdict import Place, Verdict
from emulator.trace.event import READ, WRITE, Event, Kind, Segments

NIC, DISK = "0000:00:03.0", "0000:00:04.0"
PAGE = 0x1000
BOTH = READ | WRITE


def event(kind: Kind, iova: int = 0x5000, size: int = PAGE, access: int = READ, device: str = NIC, **more) -> Event:
    return Event(0, 1, more.pop("time", 0), 0, 1, "dd", kind, device, None, iova, size=size, access=access, **more)


def rules(verdicts: list[Verdict]) -> list[str]:
    return [verdict.rule for verdict in verdicts]


def said(*events: Event, checks: bool = False) -> list[str]:
    """What the book of the DMA API says of these events, in order."""
    book = DmaBook(checks=checks)
    for number, one in enumerate(events, 1):
        book.see(number, one)
    return rules(book.verdicts)


def place(number: int, role: str = "event") -> Place:
    return Place(role, number, 0, number, number * 1000)


# -- the DMA API


MAP, UNMAP, SYNC = Kind.DMA_MAP, Kind.DMA_UNMAP, Kind.DMA_SYNC
ALLOC, FREE = Kind.DMA_ALLOC, Kind.DMA_FREE


@pytest.mark.parametrize("failure", [FAILED, 0])
def test_a_coherent_allocation_that_failed_leaves_nothing_to_leak(failure: int) -> None:
    assert said(event(ALLOC, failure), event(Kind.GROUP_REMOVE)) == []
    assert said(event(ALLOC), event(Kind.GROUP_REMOVE)) == ["leak"]


def test_freeing_a_coherent_buffer_of_no_bytes_is_allowed() -> None:
    assert said(event(FREE, size=0), checks=True) == []
    assert said(event(FREE), checks=True) == ["never-mapped"]


def test_a_buffer_of_before_the_recording_may_be_unmapped_in_its_first_ten_seconds() -> None:
    def unmapped_at(time: int) -> list[str]:
        return said(event(MAP, 0x9000), event(UNMAP, time=time))

    assert unmapped_at(10 * SECOND) == []
    assert unmapped_at(10 * SECOND + 1) == ["never-mapped"]


def test_an_unmap_closes_the_mapping_of_its_own_kind_before_one_of_its_size_and_direction() -> None:
    page, coherent = event(MAP, size=2 * PAGE, access=WRITE), event(ALLOC, size=PAGE)
    assert said(page, coherent, event(UNMAP, size=PAGE, access=BOTH)) == ["wrong-size", "wrong-direction"]


def test_an_unmap_closes_the_mapping_of_its_size_before_one_of_its_direction() -> None:
    one, other = event(MAP, size=PAGE, access=WRITE), event(MAP, size=2 * PAGE, access=READ)
    assert said(one, other, event(UNMAP, size=PAGE, access=READ)) == ["wrong-direction"]


def test_of_two_mappings_alike_the_older_is_closed_first() -> None:
    book = DmaBook()
    for number, one in enumerate((event(MAP), event(MAP), event(UNMAP)), 1):
        book.see(number, one)
    assert [mapping.made.event for mapping in book.live()] == [2]


@pytest.mark.parametrize("access, expected", [(BOTH, []), (WRITE, ["wrong-direction"]), (READ, [])])
def test_a_mapping_for_both_directions_may_be_synchronised_for_either(access: int, expected: list[str]) -> None:
    assert said(event(MAP, access=access), event(SYNC, access=READ)) == expected


def test_only_what_may_fail_silently_has_to_be_checked() -> None:
    assert said(event(MAP), event(UNMAP), checks=True) == ["unchecked-error"]
    assert said(event(MAP), event(Kind.DMA_CHECK), event(UNMAP), checks=True) == []
    assert said(event(ALLOC, access=BOTH), event(FREE, access=BOTH), checks=True) == []  # None says that it failed
    assert said(event(MAP), event(UNMAP)) == []


def test_a_scatter_list_of_another_device_that_begins_alike_is_not_taken_for_ours() -> None:
    def listed(kind: Kind, device: str, *physical: int) -> Event:
        iovas = tuple(range(0x5000, 0x5000 + PAGE * len(physical), PAGE)) if kind is Kind.DMA_MAP_SG else ()
        return event(kind, device=device, detail=Segments(iovas, (PAGE,) * len(iovas), physical, False))

    theirs = listed(Kind.DMA_MAP_SG, DISK, 0x1000, 0x2000, 0x3000)
    ours = listed(Kind.DMA_MAP_SG, NIC, 0x1000, 0x2000)
    short = listed(Kind.DMA_UNMAP_SG, NIC, 0x1000)
    assert said(theirs, short) == []  # mapped before the recording, as far as this device goes
    assert said(theirs, ours, short) == ["wrong-entries"]


# -- invalidations


def invalidations(*calls: Callable[[InvalidationBook, Place], None]) -> list[str]:
    """The rules broken by these calls, made in order."""
    book = InvalidationBook()
    for number, call in enumerate(calls, 1):
        call(book, place(number))
    return rules(book.verdicts)


def maps(start: int = 0x4000, size: int = 4 * PAGE, gpa: int = 0x10_0000):
    return lambda book, at: book.mapped(1, start, size, gpa, at)


def unmaps(start: int = 0x4000, size: int = 4 * PAGE):
    return lambda book, at: book.unmapped(1, "00:03.0", start, size, at)


def covers(start: int, end: int, domain: int | None = 1):
    return lambda book, at: book.invalidated(Invalidation(domain, start, end), at)


def frees(gpa: int, size: int = PAGE):
    return lambda book, at: book.freed(gpa, size, at)


WHOLE = covers(0x4000, 0x8000)


def test_pages_invalidated_in_two_halves_may_be_mapped_again() -> None:
    assert invalidations(maps(), unmaps(), covers(0x4000, 0x6000), covers(0x6000, 0x8000), maps()) == []
    assert invalidations(maps(), unmaps(), covers(0x4000, 0x6000), maps()) == ["narrow-invalidation"]


def test_an_invalidation_of_the_middle_leaves_both_ends() -> None:
    middle = covers(0x5000, 0x7000)
    for end in (0x4000, 0x7000):
        assert invalidations(maps(), unmaps(), middle, maps(end, PAGE)) == ["narrow-invalidation"]
    assert invalidations(maps(), unmaps(), middle, maps(0x5000, 2 * PAGE)) == []


@pytest.mark.parametrize(
    "then, left",
    [((0x7000, 0x8000), "0x4000-0x4fff, 0x6000-0x6fff"), ((0x4000, 0x5000), "0x6000-0x7fff")],
)
def test_an_invalidation_leaves_what_another_one_left_elsewhere(then: tuple[int, int], left: str) -> None:
    book = InvalidationBook()
    for number, call in enumerate((maps(), unmaps(), covers(0x5000, 0x6000), covers(*then), maps()), 1):
        call(book, place(number))
    (verdict,) = book.verdicts
    assert verdict.says.startswith(f"{left} was not covered")


def test_an_invalidation_of_every_domain_or_of_all_addresses_covers() -> None:
    assert invalidations(maps(), unmaps(), covers(*ALL, domain=None), maps()) == []
    assert invalidations(maps(), unmaps(), covers(*ALL), maps()) == []
    assert invalidations(maps(), unmaps(), covers(*ALL, domain=2), maps()) == ["reuse-before-flush"]


def test_an_invalidation_is_early_only_between_its_map_and_its_unmap() -> None:
    assert invalidations(maps(), WHOLE, unmaps(), maps()) == ["early-invalidation"]
    assert invalidations(maps(), unmaps(), WHOLE, maps(), unmaps(), maps()) == ["reuse-before-flush"]


def test_an_invalidation_of_a_part_while_it_is_mapped_was_not_meant_for_the_unmap() -> None:
    assert invalidations(maps(), covers(0x4000, 0x6000), unmaps(), maps()) == ["reuse-before-flush"]


def test_the_page_behind_a_mapping_may_be_freed() -> None:
    assert invalidations(maps(size=PAGE), frees(0x10_1000)) == []
    assert invalidations(maps(size=PAGE), frees(0x0F_F000)) == []
    assert invalidations(maps(size=PAGE), frees(0x10_0000)) == ["freed-while-mapped"]


def test_the_page_behind_what_was_unmapped_may_be_freed_before_the_flush() -> None:
    assert invalidations(maps(size=PAGE), unmaps(size=PAGE), frees(0x10_1000)) == []
    assert invalidations(maps(size=PAGE), unmaps(size=PAGE), frees(0x10_0000)) == ["freed-before-flush"]


# -- pages and cache lines that two mappings share


def shared(*events: Event) -> Sharing:
    sharing = Sharing()
    for number, one in enumerate(events, 1):
        sharing.see(number, one)
    return sharing


def test_whole_pages_of_two_owners_share_nothing() -> None:
    both = event(MAP, gpa=0x8000), event(MAP, gpa=0x8000, device=DISK)
    assert shared(*both).verdicts == []
    part = event(MAP, gpa=0x8000, size=100), event(MAP, gpa=0x8800, size=100, device=DISK)
    assert rules(shared(*part).verdicts) == ["shared-page"]


def test_a_page_that_two_owners_share_again_is_told_once() -> None:
    disk = event(MAP, 0x7000, gpa=0x8800, size=100, device=DISK)
    once = event(MAP, gpa=0x8000, size=100), event(UNMAP)
    found = shared(disk, *once, *once)
    assert (rules(found.verdicts), found.exposure.shared_pages) == (["shared-page"], 1)


@pytest.mark.parametrize("gpa, overlap", [(0x8040, False), (0x803F, True)])
def test_a_buffer_may_begin_with_the_cache_line_behind_another(gpa: int, overlap: bool) -> None:
    found = shared(
        event(MAP, 0x5000, gpa=0x8000, size=64, access=WRITE), event(MAP, 0x6000, gpa=gpa, size=64, access=WRITE)
    )
    assert rules(found.overlaps) == ["overlapping-lines"] * overlap


@pytest.mark.parametrize("size, gpa, overlap", [(16, 0x8030, True), (64, 0x8040, False)])
def test_which_of_two_buffers_came_first_changes_nothing(size: int, gpa: int, overlap: bool) -> None:
    low = event(MAP, 0x5000, gpa=0x8000, size=size, access=WRITE)
    high = event(MAP, 0x6000, gpa=gpa, size=16, access=WRITE)
    for pair in ((low, high), (high, low)):
        assert rules(shared(*pair).overlaps) == ["overlapping-lines"] * overlap


def test_lines_that_a_device_only_reads_may_be_mapped_twice() -> None:
    found = shared(event(MAP, gpa=0x8000, size=64), event(MAP, 0x6000, gpa=0x8000, size=64, access=WRITE))
    assert found.overlaps == []


def test_an_unmap_takes_the_part_of_its_own_owner() -> None:
    nic = event(MAP, 0x5000, gpa=0x8000, size=100)
    disk = event(MAP, 0x6000, gpa=0x8000, size=100, device=DISK)
    sharing = shared(nic, disk, event(UNMAP, 0x6000, device=DISK))
    other = event(MAP, 0x7000, gpa=0x8800, size=100, device="0000:00:05.0")
    sharing.see(4, other)
    assert [verdict.says for verdict in sharing.verdicts][1:] == [
        "page 0x8000 holds bytes 0x800 to 0x863 of it and 0x0 to 0x63 of 00:03.0"
    ]


# -- accesses


def test_an_access_across_two_mappings_is_judged_by_both() -> None:
    book = AccessBook()
    book.mapped(0, 0x1000, PAGE, Mapping(BOTH, place(1)))
    book.mapped(0, 0x2000, PAGE, Mapping(READ, place(2)))
    book.accessed(0, NIC, 0x1FFC, 8, READ, place(3))
    assert book.verdicts == []
    book.accessed(0, NIC, 0x1FFC, 8, WRITE, place(4))
    (verdict,) = book.verdicts
    assert (verdict.rule, verdict.iova, verdict.size) == ("wrong-access", 0x2000, 4)


def test_of_two_unmaps_of_an_address_the_later_one_counts() -> None:
    book = AccessBook()
    for number in (1, 3):
        book.mapped(0, 0, 4 << 20, Mapping(BOTH, place(number)))
        book.unmapped(0, 0, 4 << 20, place(number + 1))
    book.mapped(0, 0x1000, PAGE, Mapping(BOTH, place(5)))
    book.unmapped(0, 0x1000, PAGE, place(6))
    book.accessed(0, NIC, 0x1000, 4, READ, place(7))
    book.accessed(0, NIC, 0x2000, 4, READ, place(8))
    assert [[one.event for one in verdict.places] for verdict in book.verdicts] == [[5, 6, 7], [3, 4, 8]]
