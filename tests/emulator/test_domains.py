"""Domains: their ids, their tables, what may be mapped in them."""

from __future__ import annotations

import pytest

from emulator.mapping.domain import BeyondWidth, Domain, DomainIds, NoDomainId, TableShape
from pagetables.errors import MappingError, OutOfPages
from pagetables.mapper import Stage
from pagetables.memory import PhysicalMemory
from pagetables.request import Permissions

RW = Permissions.R | Permissions.W


class Counter:
    """A supply that hands out the next page, and may run dry."""

    def __init__(self, limit: int = 1000):
        self.taken: list[int] = []
        self.limit = limit

    def take(self):
        if len(self.taken) == self.limit:
            return None
        self.taken.append(0x10_0000 + 0x1000 * len(self.taken))
        return self.taken[-1]


def make(engine, shape: TableShape = TableShape(), supply=None, iova_limit: int = 1 << 57) -> Domain:  # noqa: B008
    memory = PhysicalMemory([(0, 64 << 20)])
    memory.write(0x10_0000, b"\xff" * 4096)
    return Domain(2, shape, memory, engine, supply or Counter(), iova_limit, 1 << 46)


def test_domain_ids_start_at_two_and_the_lowest_free_one_is_given() -> None:
    ids = DomainIds(16)
    assert [ids.take() for _ in range(4)] == [2, 3, 4, 5]
    ids.give_back(4)
    ids.give_back(3)
    assert [ids.take() for _ in range(3)] == [3, 4, 6]


def test_running_out_of_domain_ids_teaches() -> None:
    ids = DomainIds(4)
    for _ in range(14):
        ids.take()
    with pytest.raises(NoDomainId, match="all 14 domain-ids are in use"):
        ids.take()


def test_a_new_domain_has_one_zeroed_page(engine) -> None:
    supply = Counter()
    domain = make(engine, supply=supply)
    assert supply.taken == [domain.table.root]
    assert domain._memory.read(domain.table.root, 4096) == bytes(4096)


def test_a_domain_without_a_page_is_not_made(engine) -> None:
    with pytest.raises(OutOfPages, match="domain-id 2"):
        make(engine, supply=Counter(limit=0))


@pytest.mark.parametrize(
    "shape, limit",
    [
        (TableShape(levels=3), 1 << 39),
        (TableShape(levels=4), 1 << 48),
        (TableShape(levels=5), 1 << 57),
        (TableShape(Stage.FIRST, 4), 1 << 47),
        (TableShape(Stage.FIRST, 5), 1 << 56),
    ],
)
def test_tables_reach_as_far_as_their_levels(engine, shape: TableShape, limit: int) -> None:
    domain = make(engine, shape)
    domain.check(limit - 0x1000, 0, 0x1000)
    with pytest.raises(BeyondWidth, match=f"beyond the {limit.bit_length() - 1} bits of {shape.levels}-level"):
        domain.check(limit - 0x1000, 0, 0x2000)


def test_the_unit_may_reach_less_far_than_the_tables(engine) -> None:
    domain = make(engine, iova_limit=1 << 40)
    with pytest.raises(BeyondWidth, match="beyond the 40 bits"):
        domain.check(1 << 40, 0, 0x1000)


def test_an_output_beyond_the_host_address_width_is_refused(engine) -> None:
    with pytest.raises(BeyondWidth, match="host address width of 46 bits"):
        make(engine).check(0, (1 << 46) - 0x1000, 0x2000)


@pytest.mark.parametrize("iova, gpa, size", [(1, 0, 0x1000), (0, 0x800, 0x1000), (0, 0, 0x1001), (0, 0, 0)])
def test_only_whole_pages_are_mapped(engine, iova: int, gpa: int, size: int) -> None:
    with pytest.raises(MappingError, match="whole pages"):
        make(engine).check(iova, gpa, size)


def test_a_narrowed_mapper_uses_small_pages_in_the_same_tables(engine) -> None:
    supply = Counter()
    domain = make(engine, supply=supply)
    domain.mapper(frozenset({1})).map(0x20_0000, 0x40_0000, 0x20_0000, RW)
    assert len(supply.taken) == 1 + 3  # down to a table of 4 KiB leaves
    domain.mapper().map(0x40_0000, 0x80_0000, 0x20_0000, RW)
    assert len(supply.taken) == 1 + 3
    assert domain.mapper().unmap(0x20_0000, 0x40_0000).size == 0x40_0000


def test_narrowing_never_widens_what_the_shape_allows(engine) -> None:
    domain = make(engine, TableShape(leaf_levels=frozenset({1})))
    assert domain.mapper(frozenset({1, 2, 3})).table.leaf_levels == {1}
    assert domain.mapper(frozenset({1, 2})) is domain.mapper()


def test_a_wanted_domain_id_is_given_if_it_is_free_and_legal() -> None:
    ids = DomainIds(4)
    assert ids.take(wanted=9) == 9
    assert ids.take(wanted=9) == 2
    assert [ids.take(wanted=bad) for bad in (0, 1, 16)] == [3, 4, 5]
