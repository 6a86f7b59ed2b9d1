"""The cost table and the meter over it."""

from __future__ import annotations

import pytest

from emulator.mapping.costs import Costs, Meter
from pagetables.errors import InputError, VtdError


def table(tmp_path, text):
    path = tmp_path / "costs.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_step_says_where_its_number_comes_from():
    costs = Costs.load()
    assert costs.ns.keys() == costs.sources.keys()
    assert all(len(source) > 10 for source in costs.sources.values())


def test_published_numbers_of_the_page_table_code_are_reproduced():
    # generic_pt, VT-d second stage: 391 ns for a map and 210 ns for an unmap of 256 pages, one page 55 and 69 ns.
    meter = Meter()
    for first, following, whole in (("map.first", "map.next", 391), ("unmap.first", "unmap.next", 210)):
        meter.spend(first)
        meter.spend(following, 255)
        assert meter.take() == pytest.approx(whole, rel=0.3)


def test_fractions_of_a_nanosecond_add_up_before_they_are_cut():
    meter = Meter()
    for _ in range(10):
        meter.spend("map.next")
    assert meter.take() == 15


def test_take_begins_again_but_counts_go_on():
    meter = Meter()
    meter.spend("lock.global", 2)
    assert (meter.take(), meter.take()) == (200, 0)
    meter.spend("lock.global")
    assert meter.counts == {"lock.global": 3}


def test_a_step_that_the_table_lacks_is_named_with_what_is_near():
    with pytest.raises(VtdError, match=r"'lock\.globl'; did you mean lock\.global"):
        Meter().spend("lock.globl")


def test_a_users_table_replaces_what_it_names_and_leaves_the_rest(tmp_path):
    path = table(tmp_path, "lock.global: 7\nmap.first: {ns: 0.5, source: my machine}\n")
    costs = Costs.load(path)
    assert (costs.ns["lock.global"], costs.ns["map.first"]) == (7, 0.5)
    assert costs.sources["map.first"] == "my machine"
    assert costs.sources["lock.global"] == str(path)
    assert costs.ns["unmap.first"] == Costs.load().ns["unmap.first"]
    meter = Meter(costs)
    meter.spend("map.first", 3)
    assert meter.take() == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("map.frist: 5", "did you mean map.first"),
        ("map.first: soon", "'soon' is no number"),
        ("map.first: -1", "-1 is no number"),
        ("map.first: .inf", "inf is no number"),
        ("map.first: true", "True is no number"),
        ("map.first: {source: here}", "None is no number"),
        ("- map.first", "expected steps"),
        ("map.first: [", "not YAML"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        Costs.load(table(tmp_path, text))


def test_a_step_that_is_priced_twice_is_refused(tmp_path):
    path = table(tmp_path, "map.first: 10\nmap.next: 2\nmap.first: 20\n")
    with pytest.raises(InputError, match=r"costs\.yaml, line 3: map\.first stands in line 1 already"):
        Costs.load(path)
