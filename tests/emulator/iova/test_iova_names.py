"""Choosing an address allocator by name, and what its books refuse."""

from __future__ import annotations

import pytest

from emulator.clock import Clock
from emulator.mapping.iova.allocator import LIMIT_32BIT, NotAllocated, Window, allocator_names, make_allocator
from emulator.mapping.iova.low_first import LowFirst
from pagetables.errors import InputError

WINDOW = Window(1, 1 << 36)
NAMES = {
    "static-aperture",
    "gart",
    "gart-lazy",
    "sparc-generic",
    "sparc-generic-1pool",
    "powerpc",
    "stale-bitmap",
    "rbtree",
    "rbtree+rcache",
    "gen-pool",
}


def test_allocators_are_found_by_name() -> None:
    assert set(allocator_names()) >= NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_allocator_answers_to_its_name_and_works_with_its_defaults(name: str) -> None:
    allocator = make_allocator(name, WINDOW, Clock())
    assert allocator.name == name
    page = allocator.allocate(3)
    assert page is not None
    assert page >= 1
    allocator.free(page, 3)
    assert allocator.statistics.as_dict()["freed"] == 1


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("rbtre", {}, "did you mean rbtree"),
        ("rbtree+rcache", {"magazines": 3}, "did you mean magazine"),
        ("rbtree+rcache", {"magazine": 0}, "magazine >= 1"),
        ("rbtree", {"size_aligned": "yes"}, "wants a number"),
        ("sparc-generic", {"pools": 3}, "power of two"),
        ("sparc-generic", {"entries": 16}, "too few"),
        ("powerpc", {"block": 3}, "power of two"),
        ("static-aperture", {"slot": 3}, "power of two"),
        ("static-aperture", {"entries": 4, "slot": 8}, "no slot"),
        ("gart", {"entries": 8, "emergency": 32}, "emergency"),
    ],
)
def test_a_wrong_name_or_option_teaches(name: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_allocator(name, WINDOW, Clock(), options)


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(InputError, match="first < end"):
        Window(5, 5)


@pytest.mark.parametrize("pages, align", [(0, 1), (1, 3), (1, 0)])
def test_a_request_that_makes_no_sense_is_refused(pages: int, align: int) -> None:
    with pytest.raises(InputError, match="power of two"):
        make_allocator("rbtree", WINDOW, Clock()).allocate(pages, align=align)


def test_a_run_is_freed_once_and_whole() -> None:
    allocator = make_allocator("gen-pool", WINDOW, Clock())
    page = allocator.allocate(4)
    with pytest.raises(NotAllocated, match="handed out as 4 pages"):
        allocator.free(page, 2)
    allocator.free(page, 4)
    with pytest.raises(NotAllocated, match="never handed out"):
        allocator.free(page, 4)


def test_nothing_is_reserved_once_addresses_are_out() -> None:
    allocator = make_allocator("rbtree", WINDOW, Clock())
    allocator.allocate(1)
    with pytest.raises(NotAllocated, match="too late"):
        allocator.reserve(100, 2)


def test_the_msi_window_can_be_kept_out() -> None:
    allocator = make_allocator("rbtree", Window(1, LIMIT_32BIT), Clock())
    allocator.reserve(0xFEE00, 256)
    out = {allocator.allocate(1) for _ in range(LIMIT_32BIT - 0xFEE00)}
    assert min(out) < 0xFEE00
    assert not out & set(range(0xFEE00, 0xFEF00))


class _Plugged:
    name, value, group = "mine", "nowhere:make", "vtd.iova"

    def load(self):
        return lambda window, clock, options: make_allocator("gen-pool", window, clock)


def test_an_allocator_of_another_distribution_is_found_by_its_entry_point(monkeypatch) -> None:
    monkeypatch.setattr("emulator.mapping.registry.entry_points", lambda group: [_Plugged()])
    assert "mine" in allocator_names()
    assert make_allocator("mine", WINDOW, Clock()).name == "gen-pool"


def test_a_device_gets_32_bit_addresses_until_there_are_none_and_then_never_again() -> None:
    allocator = make_allocator("rbtree+rcache", Window(LIMIT_32BIT - 2, 1 << 36), Clock())
    device = LowFirst(allocator)
    low = [device.allocate(1) for _ in range(2)]
    assert all(page < LIMIT_32BIT for page in low)
    assert device.notes == []
    high = device.allocate(1)
    assert high >= LIMIT_32BIT
    assert device.notes == ["Using 48-bit DMA addresses"]
    for page in low:
        allocator.free(page, 1)
    allocator.empty_caches()
    assert device.allocate(1) >= LIMIT_32BIT
    assert len(device.notes) == 1


def test_the_32_bit_attempt_does_not_empty_the_caches() -> None:
    allocator = make_allocator("rbtree+rcache", Window(LIMIT_32BIT - 4, 1 << 36), Clock())
    for page in [allocator.allocate(1, LIMIT_32BIT) for _ in range(4)]:
        allocator.free(page, 1)
    assert LowFirst(allocator).allocate(2) >= LIMIT_32BIT
    assert allocator.statistics.reclaims == 0


def test_forcedac_and_devices_of_32_bits_skip_the_attempt() -> None:
    allocator = make_allocator("rbtree", Window(1, 1 << 36), Clock())
    assert LowFirst(allocator, forcedac=True).allocate(1) == (1 << 36) - 1
    device = LowFirst(allocator)
    assert device.allocate(1, LIMIT_32BIT) == LIMIT_32BIT - 1
    assert device.low_first
