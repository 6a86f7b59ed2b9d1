"""Caching mode: what was not present or bad may be kept, until software invalidates exactly that."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from emulator.engine import Engine
from emulator.profile import Profile, load_profile
from emulator.unit.not_present import NotPresentCache
from pagetables.address import SourceId
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault, FaultReason
from pagetables.memory import PhysicalMemory
from pagetables.request import Request
from tests.units import (
    CONTEXT,
    DISK,
    NIC,
    Bench,
    context_device,
    context_domain,
    context_global,
    iotlb_domain,
    iotlb_global,
    iotlb_pages,
    pasid_cache,
    pasid_iotlb,
)

OTHER = SourceId(0x0011)  # function 1 of the NIC


def caching(cm: int = 1, behaviour: bool = True) -> Profile:
    spec = load_profile("spec")
    can = Capabilities(spec.capabilities.cap.replace(cm=cm), spec.capabilities.ecap, spec.capabilities.haw)
    behaviours = frozenset({"cache_not_present"} if behaviour else ())
    return dataclasses.replace(spec, capabilities=can, behaviours=behaviours)


@pytest.fixture
def bench(engine: Engine) -> Bench:
    return Bench(engine, caching())


def mapped(bench: Bench) -> int:
    """The NIC in domain 5 with 1000h mapped, and the queue on; the root of its tables."""
    root = bench.table()
    bench.map(root, 0x1000, 0x5000)
    bench.legacy((NIC, root, 5))
    bench.start_queue()
    return root


def missing_page(bench: Bench) -> int:
    """A page that was asked for before it was mapped; the root."""
    root = mapped(bench)
    assert bench.go(0x2000) == -0x06
    bench.map(root, 0x2000, 0x6000)
    return root


def missing_context(bench: Bench) -> None:
    """A device that asked before it was attached."""
    root = mapped(bench)
    assert bench.go(0x1000, sid=OTHER) == -0x02
    bench.legacy_context(OTHER, root, 6)


@pytest.mark.parametrize("cm, behaviour", [(0, True), (1, False), (0, False)])
def test_nothing_not_present_is_kept_without_caching_mode_or_by_a_unit_that_does_not(
    engine: Engine, cm: int, behaviour: bool
) -> None:
    bench = Bench(engine, caching(cm, behaviour))
    missing_page(bench)
    assert bench.go(0x2000) == 0x6000
    missing_context(bench)
    assert bench.go(0x1000, sid=OTHER) == 0x5000
    assert bench.unit.caches().not_present == ()


def test_a_page_mapped_later_stays_blocked_and_each_fault_names_its_own_request(bench: Bench) -> None:
    missing_page(bench)
    assert (bench.go(0x2008), bench.go(0x2000, "w")) == (-0x06, -0x05)
    many = bench.unit.translate_many([bench.request(0x1000), bench.request(0x2010)])
    assert isinstance(many[1], Fault)
    assert many[1].request.iova == 0x2010
    assert bench.go(0x1000) == 0x5000
    (known,) = bench.unit.caches().not_present
    assert (known.domain_id, known.address, known.page_shift) == (5, 0x2000, 12)


@pytest.mark.parametrize(
    "descriptor, gone",
    [
        (iotlb_pages(5, 0x2000), True),
        (iotlb_pages(5, 0x0000, 2), True),
        (iotlb_pages(5, 0x3000), False),
        (iotlb_pages(0, 0x2000), False),
        (iotlb_domain(5), True),
        (iotlb_domain(0), False),  # only contexts are kept under domain 0
        (iotlb_global(), True),
        (context_global(), False),
    ],
)
def test_what_removes_a_page_that_was_not_present(bench: Bench, descriptor: bytes, gone: bool) -> None:
    missing_page(bench)
    bench.invalidate(descriptor)
    assert bench.go(0x2000) == (0x6000 if gone else -0x06)


def test_a_missing_table_covers_all_that_it_would_have_mapped(bench: Bench) -> None:
    root = mapped(bench)
    assert bench.go(0x4000_0000) == -0x06  # level 3
    bench.map(root, 0x7000_0000, 0x7000)
    assert bench.go(0x7000_0000) == -0x06
    bench.invalidate(iotlb_pages(5, 0x5000_0000))
    assert bench.go(0x7000_0000) == 0x7000


def test_a_missing_right_is_not_remembered(bench: Bench) -> None:
    root = mapped(bench)
    bench.map(root, 0x2000, 0x6000, permissions=1)
    assert bench.go(0x2000, "w") == -0x05
    bench.map(root, 0x2000, 0x6000)
    assert bench.go(0x2000, "w") == 0x6000
    assert bench.unit.caches().not_present == ()


def test_bad_entries_are_kept_as_well(bench: Bench) -> None:
    root = mapped(bench)
    at = bench.map(root, 0x2000, 0x6000)
    bench.put(at, 0x6003 | 1 << 62)
    assert bench.go(0x2000) == -0x0C
    bench.put(at, 0x6003)
    assert bench.go(0x2000) == -0x0C
    bench.invalidate(iotlb_pages(5, 0x2000))
    assert bench.go(0x2000) == 0x6000


@pytest.mark.parametrize(
    "descriptor, gone",
    [
        (context_device(0, OTHER), True),
        (context_device(0, NIC), False),
        (context_device(0, NIC & ~7, 3), True),
        (context_device(6, OTHER), False),  # it is kept under domain 0, whatever it says by now
        (context_domain(0), True),
        (context_domain(6), False),
        (context_global(), True),
        (iotlb_global(), False),
    ],
)
def test_what_removes_a_context_that_was_not_present(bench: Bench, descriptor: bytes, gone: bool) -> None:
    missing_context(bench)
    bench.invalidate(descriptor)
    assert bench.go(0x1000, sid=OTHER) == (0x5000 if gone else -0x02)


def absent_pasid(bench: Bench, pasid: int) -> None:
    """A PASID of the NIC that was asked for before its entry was written, with first-stage tables behind it."""
    root = bench.table()
    bench.map_first(root, 0x1000, 0x5000)
    bench.pasid_entry(0, 1, 5, root)
    bench.scalable(NIC)
    assert bench.go(0x1000, pasid=pasid) == -0x59
    bench.pasid_entry(pasid, 1, 5, root)


@pytest.mark.parametrize(
    "descriptor, gone",
    [
        (pasid_cache(1, 5, 3), True),
        (pasid_cache(1, 5, 4), False),
        (pasid_cache(0, 9, 0), True),  # its domain-id is not known
        (pasid_cache(3, 0, 0), True),
        (pasid_iotlb(2, 5, 3), False),
    ],
)
def test_what_removes_a_pasid_entry_that_was_not_present(bench: Bench, descriptor: bytes, gone: bool) -> None:
    absent_pasid(bench, 3)
    bench.invalidate(descriptor)
    assert bench.go(0x1000, pasid=3) == (0x5000 if gone else -0x59)


def test_first_stage_entries_are_never_kept(bench: Bench) -> None:
    root = bench.table()
    bench.map_first(root, 0x1000, 0x5000)
    bench.pasid_entry(0, 1, 5, root)
    bench.scalable(NIC)
    assert bench.go(0x2000) == -0x71
    bench.map_first(root, 0x2000, 0x6000)
    assert bench.go(0x2000) == 0x6000


@pytest.mark.parametrize(
    "descriptor, gone",
    [
        (pasid_iotlb(2, 5, 0), True),
        (pasid_iotlb(2, 5, 1), False),
        (pasid_iotlb(3, 5, 0, 0x2000), False),  # by PASID, pages of the second stage stay
        (iotlb_pages(5, 0x2000), True),
    ],
)
def test_scalable_second_stage_pages_go_with_all_of_their_pasid(bench: Bench, descriptor: bytes, gone: bool) -> None:
    root = bench.table()
    bench.map(root, 0x1000, 0x5000)
    bench.pasid_entry(0, 2, 5, root)
    bench.scalable(NIC)
    assert bench.go(0x2000) == -0x79
    bench.map(root, 0x2000, 0x6000)
    assert bench.go(0x2000) == -0x79
    bench.invalidate(descriptor)
    assert bench.go(0x2000) == (0x6000 if gone else -0x79)


def test_scalable_contexts_go_with_any_domain(bench: Bench) -> None:
    absent_pasid(bench, 3)
    assert bench.go(0x1000, sid=DISK) == -0x41
    bench.scalable_context(DISK)
    assert bench.go(0x1000, sid=DISK) == -0x41
    bench.invalidate(context_device(44, DISK))
    assert bench.go(0x1000, sid=DISK) == 0x5000


def test_setting_the_root_table_again_forgets_all(bench: Bench) -> None:
    missing_page(bench)
    bench.command(1 << 30)
    assert bench.unit.caches().not_present == ()
    assert bench.go(0x2000) == 0x6000


def test_native_code_is_not_given_a_queue_that_has_more_to_remove(bench: Bench, engine: Engine) -> None:
    mapped(bench)
    assert bench.unit.queue_state is None
    plain = Bench(engine, caching(cm=0))
    mapped(plain)
    assert plain.unit.queue_state is not None


def test_a_full_cache_forgets_its_oldest_entry() -> None:
    cache = NotPresentCache(PhysicalMemory([(0, 4096)]), capacity=2)
    for number in range(3):
        cache.keep_context(Fault(FaultReason.CONTEXT_NOT_PRESENT, Request(SourceId(number), 0), CONTEXT))
    assert [entry.source_id for entry in cache.entries()] == [1, 2]
    assert cache.context(Request(SourceId(0), 0)) is None


def test_a_wait_is_still_executed(bench: Bench) -> None:
    mapped(bench)
    bench.invalidate(iotlb_global())
    assert struct.unpack("<I", bench.memory.read(0x10_8000, 4))[0] == 1
