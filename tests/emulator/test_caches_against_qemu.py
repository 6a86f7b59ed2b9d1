"""What QEMU's caches hold and lose, beside a unit of its profile: capacity, and invalidations that remove more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from tests.both import MEGABYTES, PAGES, Both, running
from tests.profiles import changed
from tests.qemu import Qemu
from tests.required import need_newer_qemu
from tests.units import context_domain, iotlb_domain, iotlb_pages

PAGE = 0x1000
CAPACITY = 1024


@pytest.fixture(params=["qemu-7.2", "qemu-10.0"])
def both(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Both]:
    if request.param == "qemu-7.2":
        yield from running(engine, "aw-bits=39", load_profile("qemu-7.2"))
        return
    with Qemu("aw-bits=39", MEGABYTES, binary=need_newer_qemu("10.0")) as qemu:
        yield Both(qemu, changed(load_profile("qemu-10.0"), {"sagaw": 0b10, "mgaw": 38}, haw=39), engine)


def test_the_iotlb_is_emptied_when_it_holds_1024_entries_and_another_comes(both: Both) -> None:
    root = both.space(3)
    first = both.map(root, 3, 0, PAGES)
    for page in range(1, CAPACITY + 1):
        both.map(root, 3, page * PAGE, PAGES + page * PAGE)
    for page in range(CAPACITY):
        assert both.pull(page * PAGE) == 0
    both.put(first, 0)
    assert both.pull(0) == 0  # still cached
    assert len(both.unit.caches().iotlb) == CAPACITY
    assert both.pull(CAPACITY * PAGE) == 0
    assert both.pull(0) == 6
    assert len(both.unit.caches().iotlb) == 1


@pytest.mark.parametrize("domain", [5, 6])
def test_a_domains_context_invalidation_removes_those_of_every_domain(both: Both, domain: int) -> None:
    root = both.space(3)
    for iova in (0, PAGE, 2 * PAGE):
        both.map(root, 3, iova, PAGES)
    both.start_queue()
    assert both.pull(0) == 0
    both.context(0, 0)
    assert both.pull(PAGE) == 0  # the context entry is cached
    both.submit(context_domain(domain))
    assert both.pull(2 * PAGE) == 2


@pytest.mark.parametrize("domain", [5, 6])
def test_pages_and_domains_leave_other_domains_alone(both: Both, domain: int) -> None:
    root = both.space(3)
    entries = [both.map(root, 3, iova, PAGES) for iova in (0, PAGE)]
    both.start_queue()
    assert [both.pull(0), both.pull(PAGE)] == [0, 0]
    for entry in entries:
        both.put(entry, 0)
    both.submit(iotlb_pages(domain, 0))
    assert [both.pull(0), both.pull(PAGE)] == [6 if domain == 5 else 0, 0]
    both.submit(iotlb_domain(domain))
    assert both.pull(PAGE) == (6 if domain == 5 else 0)


# QEMU 7.2 compares 8 bits of page numbers: what lies a multiple of 1 MiB away goes too, and with 256 pages everything.
@pytest.mark.parametrize(
    "address, mask, within, alike",
    [
        (0, 0, False, True),
        (0x1000, 0, False, False),
        (0x10_0000, 0, False, True),
        (0x1F_F000, 0, False, False),
        (0x20_0000, 0, True, True),
        (0x3F_F000, 0, True, True),
        (0x40_1000, 0, False, False),
        (0x40_1000, 1, False, True),
        (0x70_0000, 7, False, True),
        (0x78_0000, 7, False, False),
        (0x78_0000, 8, False, True),
        (0x40_0000, 9, False, True),
        (0, 10, True, True),
    ],
)
def test_a_large_page_goes_with_its_pages_and_with_those_that_look_like_its_first(
    both: Both, address: int, mask: int, within: bool, alike: bool
) -> None:
    root = both.space(3)
    entry = both.map(root, 3, 0x20_0000, 0x80_0000, level=2)
    both.start_queue()
    assert both.pull(0x20_1000) == 0
    both.put(entry, 0)
    both.submit(iotlb_pages(5, address, mask))
    gone = within or (alike and both.unit.profile.name == "qemu-7.2")
    assert both.pull(0x20_1000) == (6 if gone else 0)


@pytest.mark.parametrize(
    "address, within, alike",
    [
        (0x20_5000, True, True),
        (0x20_4000, False, False),
        (0x5000, False, True),
        (0x10_5000, False, True),
        (0x4000_5000, False, True),
    ],
)
def test_a_small_page_goes_with_those_a_multiple_of_1_mib_away(
    both: Both, address: int, within: bool, alike: bool
) -> None:
    root = both.space(3)
    entry = both.map(root, 3, 0x20_5000, 0x80_0000)
    both.start_queue()
    assert both.pull(0x20_5000) == 0
    both.put(entry, 0)
    both.submit(iotlb_pages(5, address))
    gone = within or (alike and both.unit.profile.name == "qemu-7.2")
    assert both.pull(0x20_5000) == (6 if gone else 0)
