"""Driver reactions: what each decides, for whom, and what it refuses to be told."""

from __future__ import annotations

import pytest

from emulator.mapping.pressure import Gfp
from emulator.mapping.reactions import Action, Attempt, ReactionStatistics, make_reaction, reaction_names
from pagetables.errors import InputError


def attempt(gfp: Gfp = Gfp.ATOMIC, tries: int = 1, cause: str = "page") -> Attempt:
    return Attempt(cause, gfp, tries, 0)


def test_every_reaction_of_the_kernels_and_the_wake_up_on_free_are_registered():
    assert {"fail", "drop", "requeue", "poll", "sleep", "wake-on-free"} <= set(reaction_names())


@pytest.mark.parametrize(("name", "action"), [("fail", Action.FAIL), ("drop", Action.DROP)])
def test_giving_up_never_waits_whoever_asks(name, action):
    reaction = make_reaction(name)
    for gfp in Gfp:
        decision = reaction.failed(attempt(gfp, tries=9))
        assert (decision.action, decision.delay_ns) == (action, None)


def test_requeue_comes_again_after_the_three_milliseconds_of_block_layer_and_scsi():
    assert make_reaction("requeue").failed(attempt()) == (Action.AGAIN, 3_000_000)


def test_requeue_gives_up_after_as_many_tries_as_it_was_given():
    reaction = make_reaction("requeue", {"tries": 2, "delay_us": 7})
    assert reaction.failed(attempt(tries=1)) == (Action.AGAIN, 7_000)
    assert reaction.failed(attempt(tries=2)).action is Action.FAIL


def test_poll_never_tires_by_default():
    assert make_reaction("poll", {"interval_us": 5}).failed(attempt(tries=10**9)) == (Action.AGAIN, 5_000)


def test_sleep_is_for_callers_that_may_sleep():
    reaction = make_reaction("sleep")
    assert reaction.failed(attempt(Gfp.KERNEL)) == (Action.WAIT, 5_000_000_000)
    for gfp in (Gfp.ATOMIC, Gfp.NOWAIT, Gfp.MEMALLOC):
        assert reaction.failed(attempt(gfp)).action is Action.FAIL
    assert reaction.wakes == 1


def test_sleep_without_a_time_out_waits_for_ever():
    assert make_reaction("sleep", {"timeout_ms": 0}).failed(attempt(Gfp.KERNEL)) == (Action.WAIT, None)


def test_wake_on_free_is_for_everybody_and_wakes_them_all():
    reaction = make_reaction("wake-on-free")
    assert {reaction.failed(attempt(gfp)) for gfp in Gfp} == {(Action.WAIT, None)}
    assert reaction.wakes == 0


def test_statistics_add_up_what_late_successes_and_herds_cost():
    statistics = ReactionStatistics()
    statistics.succeeded(3, 500)
    statistics.succeeded(2, 900)
    statistics.herd(5, 4)
    statistics.herd(2, 0)
    told = statistics.as_dict()
    assert (told["late_successes"], told["retries_of_successes"], told["added_ns"], told["longest_ns"]) == (
        2,
        3,
        1400,
        900,
    )
    assert (told["wakeups"], told["woken"], told["woken_in_vain"], told["largest_herd"]) == (2, 7, 4, 5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sleeep", {}, "did you mean sleep"),
        ("fail", {"tries": 1}, "it has none"),
        ("requeue", {"delay_ms": 3}, "did you mean delay_us"),
        ("requeue", {"delay_us": 0}, "1 or more"),
        ("poll", {"interval_us": "often"}, "wants a number"),
        ("sleep", {"wakes": -1}, "0 or more"),
    ],
)
def test_what_a_reaction_does_not_know_is_told_with_what_it_does(name, options, message):
    with pytest.raises(InputError, match=message):
        make_reaction(name, options)
