"""Cached entries against the tables in memory: what is the same, what is stale and why, in every cache of a unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from emulator.bus import Bus
from emulator.engine import Engine
from emulator.profile import load_profile
from emulator.unit.cache_contents import cache_contents
from pagetables.address import Iova
from pagetables.cache_check import Freshness, check_caches
from tests.profiles import changed
from tests.units import CONTEXT, IRE, IRTA, NIC, ROOT, SIRTP, Bench, context_global, iotlb_global

INTERRUPTS = 0x30_0000
PASID = 5


def verdicts(bench: Bench, kind: str) -> list[tuple[str, str]]:
    """Freshness and reason of each entry of a kind, such as `CachedContext`."""
    caches = cache_contents(bench.unit)
    checked = check_caches(bench.memory, caches, bench.unit.capabilities)
    return [(one.freshness.value, one.why) for one in checked if type(one.entry).__name__ == kind]


def all_same(bench: Bench) -> bool:
    checked = check_caches(bench.memory, cache_contents(bench.unit), bench.unit.capabilities)
    return bool(checked) and all(one.freshness is Freshness.SAME for one in checked)


def legacy(engine: Engine) -> tuple[Bench, int]:
    """A device in domain 3 that has used 1000h; returns where the leaf lies too."""
    bench = Bench(engine)
    table = bench.table()
    leaf = bench.map(table, 0x1000, 0x5000)
    bench.legacy((NIC, table, 3))
    assert bench.go(0x1000) == 0x5000
    return bench, leaf


def scalable(engine: Engine, pgtt: int) -> Bench:
    """A device with a PASID whose tables map 1000h, which it has used."""
    bench = Bench(engine)
    first, second = bench.table(), bench.table()
    bench.map(second, 0x1000, 0x5000)
    for page in range(0, 0x40_0000, 0x1000):  # where a nested first stage has its tables
        bench.map(second, page, page, 3)
    bench.map(second, 0x1000, 0x5000)
    bench.map_first(first, 0x1000, 0x5000)
    bench.pasid_entry(PASID, pgtt, 3, first if pgtt != 2 else 0, second if pgtt != 1 else 0)
    bench.scalable(NIC)
    assert bench.go(0x1000, pasid=PASID) == 0x5000
    return bench


def test_what_was_just_cached_is_the_same(engine: Engine) -> None:
    bench, _ = legacy(engine)
    assert all_same(bench)
    caches = cache_contents(bench.unit)
    assert [len(one) for one in (caches.contexts, caches.translations, caches.tables)] == [1, 1, 3]


@pytest.mark.parametrize("pgtt", [1, 2])
def test_scalable_entries_are_followed_by_their_pasid(engine: Engine, pgtt: int) -> None:
    bench = scalable(engine, pgtt)
    assert all_same(bench)
    caches = cache_contents(bench.unit)
    assert [len(one) for one in (caches.contexts, caches.pasids, caches.translations)] == [1, 1, 1]


def test_nested_first_stage_tables_cannot_be_told(engine: Engine) -> None:
    bench = scalable(engine, 3)
    told = verdicts(bench, "CachedTable")
    assert {freshness for freshness, _ in told} == {"same", "unknown"}
    assert {why for freshness, why in told if freshness == "unknown"} == {
        "only tables of a first stage alone are followed"
    }


def test_a_leaf_that_is_gone_leaves_a_stale_translation(engine: Engine) -> None:
    bench, leaf = legacy(engine)
    bench.put(leaf, 0)
    ((freshness, why),) = verdicts(bench, "CachedTranslation")
    assert freshness == "stale"
    assert why.startswith("now fault 06h")
    assert {freshness for freshness, _ in verdicts(bench, "CachedTable")} == {"same"}


@pytest.mark.parametrize(
    "word, why", [(0x6003, "now leads to 0x6000"), (0x5001, "now grants r"), (0x5002, "now fault 06h")]
)
def test_a_leaf_that_says_something_else_is_told(engine: Engine, word: int, why: str) -> None:
    bench, leaf = legacy(engine)
    bench.put(leaf, word)
    ((freshness, told),) = verdicts(bench, "CachedTranslation")
    assert (freshness, told[: len(why)]) == ("stale", why)


def test_a_page_of_another_size_is_told(engine: Engine) -> None:
    bench, _ = legacy(engine)
    table = bench.qword(CONTEXT + 16 * NIC) & ~0xFFF
    bench.put(bench.entry_at(table, 0, 2), 0x80 | 3)  # 2 MiB from 0 on, identity but for 1000h
    assert verdicts(bench, "CachedTranslation") == [("stale", "now leads to 0x1000")]
    assert verdicts(bench, "CachedTable")[0] == ("stale", "no table there now")
    bench.put(bench.entry_at(table, 0, 2), 0x80 | 3 | 0x20_0000)
    assert verdicts(bench, "CachedTranslation") == [("stale", "now leads to 0x201000")]


def test_the_same_address_in_a_page_of_another_size_is_stale_too(engine: Engine) -> None:
    bench = Bench(engine)
    table = bench.table()
    bench.map(table, 0x1000, 0x1000)
    bench.legacy((NIC, table, 3))
    assert bench.go(0x1000) == 0x1000
    bench.put(bench.entry_at(table, 0, 2), 0x80 | 3)
    assert verdicts(bench, "CachedTranslation") == [("stale", "now in a page of 2 MiB")]


def test_another_domain_makes_context_and_translations_stale(engine: Engine) -> None:
    bench, _ = legacy(engine)
    table = bench.qword(CONTEXT + 16 * NIC) & ~0xFFF
    bench.legacy_context(NIC, table, 9)
    assert verdicts(bench, "CachedContext") == [("stale", "now DID 0x3 -> 0x9")]
    assert verdicts(bench, "CachedTranslation") == [("stale", "now of domain 9")]
    assert set(verdicts(bench, "CachedTable")) == {("unknown", "no requester of domain 3 is known")}


def test_a_context_entry_that_is_gone_is_told_with_its_fault(engine: Engine) -> None:
    bench, _ = legacy(engine)
    bench.put(ROOT + 16 * (NIC >> 8), 0, 0)
    ((freshness, why),) = verdicts(bench, "CachedContext")
    assert (freshness, why[:13]) == ("stale", "now fault 01h")


def test_a_table_that_moved_is_told(engine: Engine) -> None:
    bench, _ = legacy(engine)
    table = bench.qword(CONTEXT + 16 * NIC) & ~0xFFF
    page = bench.page()
    bench.put(bench.entry_at(table, 0, 2), page | 3)
    assert ("stale", f"now leads to the table at {page:#x}") in verdicts(bench, "CachedTable")


def test_a_pasid_entry_that_changed_is_told_field_by_field(engine: Engine) -> None:
    bench = scalable(engine, 2)
    second = bench.qword(0x12_0000 + 64 * PASID) & ~0xFFF
    bench.pasid_entry(PASID, 2, 7, second=second)
    assert verdicts(bench, "CachedPasid") == [("stale", "now DID 0x3 -> 0x7")]
    bench.put(0x11_0000, 0)
    ((freshness, why),) = verdicts(bench, "CachedPasid")
    assert (freshness, why[:13]) == ("stale", "now fault 51h")


def test_a_root_table_of_the_other_mode_makes_pasids_stale(engine: Engine) -> None:
    bench = scalable(engine, 2)
    second = bench.table()
    bench.put(ROOT, CONTEXT | 1, 0)
    bench.put(CONTEXT + 16 * NIC, second | 1, 3 << 8 | 2)
    caches = dataclasses.replace(cache_contents(bench.unit), root_table=ROOT)
    checked = check_caches(bench.memory, caches, bench.unit.capabilities)
    told = {type(one.entry).__name__: one.why for one in checked}
    assert told["CachedContext"] == "now an entry of legacy mode"
    assert told["CachedPasid"] == "now an entry of legacy mode, which has no PASIDs"


def test_interrupt_entries_are_compared_word_by_word(engine: Engine) -> None:
    bench = Bench(engine)
    bench.put(INTERRUPTS, 3 << 40 | 0x41 << 16 | 1, NIC | 1 << 18)
    bench.write(IRTA, INTERRUPTS | 7, 8)
    bench.command(SIRTP)
    bench.command(IRE)
    assert Bus(bench.unit).write(NIC, 0xFEE0_0010, bytes(4)) is None
    assert verdicts(bench, "CachedInterrupt") == [("same", "")]
    bench.put(INTERRUPTS, 3 << 40 | 0x42 << 16 | 1, NIC | 1 << 18)
    assert verdicts(bench, "CachedInterrupt") == [("stale", "now V 0x41 -> 0x42")]


def absent(engine: Engine) -> tuple[Bench, int]:
    """A unit in caching mode that found 1000h not mapped."""
    profile = changed(load_profile("spec"), cap={"cm": 1}, behaviours={"cache_not_present"})
    bench = Bench(engine, profile)
    table = bench.table()
    bench.map(table, 0x2000, 0x6000)
    bench.legacy((NIC, table, 3))
    assert bench.go(0x1000) == -6
    return bench, table


def test_what_was_not_present_and_is_now_is_stale(engine: Engine) -> None:
    bench, table = absent(engine)
    assert verdicts(bench, "CachedAbsence") == [("same", "")]
    bench.map(table, 0x1000, 0x5000)
    assert verdicts(bench, "CachedAbsence") == [("stale", "now present")]


@pytest.mark.parametrize("invalidate", [iotlb_global, context_global])
def test_an_invalidation_leaves_nothing_stale_of_its_kind(engine: Engine, invalidate: Callable[[], bytes]) -> None:
    bench, leaf = legacy(engine)
    bench.start_queue()
    bench.put(leaf, 0)
    table = bench.qword(CONTEXT + 16 * NIC) & ~0xFFF
    bench.legacy_context(NIC, table, 3, low=2)
    bench.invalidate(invalidate())
    left = {kind for kind in ("CachedContext", "CachedTranslation") if verdicts(bench, kind)}
    assert left == {"CachedContext" if invalidate is iotlb_global else "CachedTranslation"}


def test_capacities_are_those_of_the_profile(engine: Engine) -> None:
    spec, qemu = (cache_contents(Bench(engine, name).unit).capacities for name in ("spec", "qemu-10.0"))
    assert spec == {"contexts": 64, "pasids": 256, "translations": 256, "tables": 64, "interrupts": 256, "absences": 0}
    assert qemu["translations"] == 1024
    assert qemu["tables"] == 0


def test_a_write_only_page_is_asked_for_with_a_write(engine: Engine) -> None:
    bench = Bench(engine)
    table = bench.table()
    bench.map(table, 0x1000, 0x5000, permissions=2)
    bench.legacy((NIC, table, 3))
    assert bench.go(0x1000, "w") == 0x5000
    assert verdicts(bench, "CachedTranslation") == [("same", "")]
    assert [one.iova for one in cache_contents(bench.unit).translations] == [Iova(0x1000)]
