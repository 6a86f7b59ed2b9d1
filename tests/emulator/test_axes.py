"""The five axes: their choices, the options of each, and that every option listed is one that is taken."""

from __future__ import annotations

import pytest

from emulator.axes import RECORDED, choices, choose, effective, group, options
from emulator.clock import Clock
from emulator.mapping.bounce.bouncer import make_bouncer
from emulator.mapping.iova.allocator import Window, make_allocator
from emulator.mapping.options import takes
from emulator.mapping.pressure import Zone
from emulator.mapping.reactions import make_reaction
from emulator.mapping.supply import make_supply
from emulator.presets import AXES, find_preset, load_presets
from emulator.settings import Settings
from pagetables.errors import InputError

EVERY = [(axis, name) for axis in AXES for name in choices(axis)]


def make(axis, name, values):
    clock = Clock()
    zone = Zone(clock, 4 << 30, 256 << 20)
    match axis:
        case "pool":
            return make_supply(name, zone, clock, values)
        case "iova":
            return make_allocator(name, Window(1, 1 << 36), clock, values)
        case "bounce":
            return make_bouncer(name, zone, clock, values)
        case "reaction":
            return make_reaction(name, values)
        case _:
            return Settings.of({"iova": "gart-lazy", axis: name, **{f"{axis}.{key}": values[key] for key in values}})


@pytest.mark.parametrize(("axis", "name"), EVERY)
def test_every_option_that_is_listed_is_taken_with_its_default(axis, name):
    if name != RECORDED:
        make(axis, name, options(axis, name))


@pytest.mark.parametrize(("axis", "name"), [one for one in EVERY if one[0] in ("pool", "iova", "reaction")])
def test_no_option_is_taken_that_is_not_listed(axis, name):
    if name == RECORDED:
        return
    with pytest.raises(InputError) as refused:
        make(axis, name, {"no-such-option": 1})
    known = str(refused.value).partition("known: ")[2].split(", ")
    assert sorted(filter(None, known)) == sorted(options(axis, name))


def test_an_axis_has_the_choice_of_having_none_where_there_is_one():
    assert (choices("iova")[0], choices("bounce")[0]) == ("recorded", "none")
    assert choose("iova", "recorded") == "recorded"
    assert options("iova", "recorded") == {}
    assert options("flush", "none") == {"granularity": "domain", "free_before_flush": 0}


def test_a_name_nobody_has_is_told_with_its_neighbours():
    with pytest.raises(InputError, match="no driver reaction is called 'slep'; did you mean sleep"):
        choose("reaction", "slep")
    with pytest.raises(InputError, match="no axis is called 'pol'; did you mean pool"):
        choices("pol")


def test_other_distributions_add_to_an_axis_by_its_group():
    assert [group(axis) for axis in AXES] == ["vtd.pools", "vtd.iova", "vtd.bounce", "vtd.flush", "vtd.reactions"]


def test_a_factory_that_does_not_tell_its_options_has_none_listed():
    @takes({"depth": 3})
    def telling(given):
        return given

    assert telling.defaults == {"depth": 3}
    assert telling("x") == "x"


def test_the_options_in_effect_are_the_presets_over_the_defaults():
    shown = effective(find_preset("linux-4.7"))
    assert shown["iova"] == options("iova", "rbtree+rcache") | {"magazine": 128, "depot": 32, "trim_ms": 0}
    assert shown["flush"]["per_cpu"] == 1
    assert shown["bounce"] == {}


@pytest.mark.parametrize("preset", load_presets(), ids=lambda preset: preset.name)
def test_a_preset_sets_no_option_that_its_choice_lacks(preset):
    shown = effective(preset)
    for key in preset.settings:
        axis, _, option = key.partition(".")
        assert not option or option in shown[axis], key
