"""What holds of every page supply, whatever it is asked and however little memory there is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.mapping.pressure import Gfp, Held
from emulator.mapping.supply import supply_names
from tests.emulator.supplies.model import FORMS, MIN, OPERATIONS, Life, new_zone

quick = settings(max_examples=30, deadline=None)
KEEPS_NOTHING = ("os", "os-caller", "os+memalloc", "reservation")


def test_every_built_in_supply_is_tried() -> None:
    assert {name for name, _ in FORMS.values()} == set(supply_names())


@pytest.mark.parametrize("form", FORMS)
@quick
@given(script=OPERATIONS)
def test_no_page_of_a_supply_is_listed_and_live_and_none_is_lost(form: str, script) -> None:
    Life(form).play(script)


@pytest.mark.parametrize("form", FORMS)
@quick
@given(script=OPERATIONS)
def test_a_closed_supply_leaves_every_page_with_the_zone(form: str, script) -> None:
    life = Life(form).play(script)
    life.give(len(life.live))
    life.supply.close()
    assert life.zone.held == 0
    assert life.zone.promised == 0


@pytest.mark.parametrize("form", FORMS)
def test_a_supply_tells_who_waits_that_a_page_came_back(form: str) -> None:
    life = Life(form)
    life.take()
    told = []
    life.supply.on_available.append(lambda: told.append(life.zone.free))
    life.give(1)
    assert len(told) == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_supply_spends_what_a_page_costs_on_the_meter(form: str) -> None:
    life = Life(form)
    life.supply.meter.take()
    life.take()
    taken = life.supply.meter.take()
    assert taken > 0
    life.give(1)
    assert life.supply.meter.take() > 0


@pytest.mark.parametrize("form", KEEPS_NOTHING)
@quick
@given(script=OPERATIONS)
def test_a_supply_without_a_pool_keeps_nothing_idle(form: str, script) -> None:
    life = Life(form).play(script)
    assert life.supply.statistics.idle_highest == 0
    assert life.zone.held == len(life.live)


FLOORS = {Gfp.KERNEL: MIN, Gfp.NOFS: MIN, Gfp.NOIO: MIN, Gfp.NOWAIT: MIN, Gfp.HIGH: 40, Gfp.ATOMIC: 30, Gfp.MEMALLOC: 0}


@pytest.mark.parametrize("gfp", FLOORS)
@quick
@given(used=st.integers(0, 400), kind=st.sampled_from(list(Held)), asked=st.integers(1, 450))
def test_supply_requests_of_a_class_never_sink_below_its_floor(gfp: Gfp, used: int, kind: Held, asked: int) -> None:
    zone = new_zone()
    zone.occupy("others", used, kind, Gfp.MEMALLOC)
    before = zone.free
    for _ in range(asked):
        page = zone.take(gfp)
        assert page is None or zone.free >= FLOORS[gfp]
    if page is None:
        assert zone.free == min(before, FLOORS[gfp]) or zone.free == FLOORS[gfp]


def test_the_mapping_of_classes_to_floors_leaves_out_no_class_of_supply_request() -> None:
    assert set(FLOORS) == set(Gfp)


REACH = {  # pages that each supply hands out to one class when 400 are free: by hand, from its ladder and its floors
    ("os", Gfp.KERNEL): 370,
    ("os", Gfp.ATOMIC): 370,
    ("os-caller", Gfp.KERNEL): 320,
    ("os-caller", Gfp.ATOMIC): 370,
    ("os+memalloc", Gfp.ATOMIC): 400,
    ("respool", Gfp.ATOMIC): 370,
    ("mempool-2.5", Gfp.KERNEL): 320,
    ("mempool-2.5", Gfp.ATOMIC): 370,
    ("mempool", Gfp.ATOMIC): 360,
    ("mempool", Gfp.KERNEL): 320,
    ("mempool-preallocated", Gfp.KERNEL): 8,
    ("static", Gfp.ATOMIC): 18,
    ("prealloc-worker", Gfp.ATOMIC): 370,
    ("reservation", Gfp.ATOMIC): 400,
    ("dma-pool", Gfp.KERNEL): 320,
    ("dma-pool", Gfp.ATOMIC): 370,
    ("dma-pool-2002", Gfp.KERNEL): 370,
    ("coherent-pool", Gfp.ATOMIC): 16,
}


@pytest.mark.parametrize("form, gfp", REACH)
def test_a_supply_reaches_as_deep_as_its_ladder_and_class_allow(form: str, gfp: Gfp) -> None:
    life = Life(form, reclaim_per_ms=0)
    while life.take(gfp) is not None:
        pass
    assert len(life.live) == REACH[form, gfp]


WAITS = {"mempool-2.5", "mempool-2.5-d2", "mempool", "mempool-preallocated", "reservation", "dma-pool-2002"}


@pytest.mark.parametrize("form", FORMS)
def test_only_a_caller_that_may_sleep_waits_for_a_supply_and_only_where_the_system_lets_it(form: str) -> None:
    life = Life(form, reclaim_per_ms=0)
    while life.take(Gfp.MEMALLOC) is not None or life.take(Gfp.ATOMIC) is not None:
        pass
    assert life.supply.statistics.waits == 0
    assert life.take(Gfp.KERNEL) is None
    assert life.supply.statistics.waits == (form in WAITS)
    assert bool(life.supply.waits_for) == (form in WAITS)


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"reservation"}))
@quick
@given(pages=st.integers(0, 1000))
def test_a_supply_without_reservations_admits_everything(form: str, pages: int) -> None:
    life = Life(form)
    held = life.zone.held
    assert life.supply.admit(pages)
    life.supply.settle()
    assert (life.zone.held, life.zone.promised) == (held, 0)
