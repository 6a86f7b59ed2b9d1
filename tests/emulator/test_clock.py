"""Virtual time."""

from __future__ import annotations

from emulator.clock import MILLISECOND, Clock


def test_an_action_runs_when_it_is_due_and_sees_its_own_time() -> None:
    clock, seen = Clock(), []
    clock.after(500, lambda: seen.append(clock.now))
    clock.advance_to(499)
    assert seen == []
    clock.advance_to(10_000)
    assert seen == [500]
    assert clock.now == 10_000


def test_actions_run_in_the_order_they_are_due_then_in_the_order_they_were_set() -> None:
    clock, seen = Clock(), []
    for name, delay in (("late", 20), ("first", 10), ("second", 10)):
        clock.after(delay, lambda name=name: seen.append(name))
    clock.advance(30)
    assert seen == ["first", "second", "late"]


def test_an_action_may_set_another_that_is_due_at_once() -> None:
    clock, seen = Clock(), []

    def again() -> None:
        seen.append(clock.now)
        if len(seen) < 3:
            clock.after(5, again)

    clock.after(5, again)
    clock.advance_to(12)
    assert seen == [5, 10]
    clock.advance_to(15)
    assert seen == [5, 10, 15]


def test_a_cancelled_timer_does_not_run_and_is_not_due() -> None:
    clock, seen = Clock(), []
    timer = clock.after(5, lambda: seen.append(1))
    timer.cancel()
    timer.cancel()
    assert clock.next_due is None
    clock.advance(MILLISECOND)
    assert seen == []


def test_time_never_steps_back() -> None:
    clock = Clock(now=100)
    clock.advance_to(40)
    assert clock.now == 100
    seen = []
    clock.after(0, lambda: seen.append(clock.now))
    clock.advance_to(50)
    assert seen == [100]


def test_an_action_that_moves_time_itself_is_not_taken_back() -> None:
    clock = Clock()
    clock.after(5, lambda: clock.advance(100))
    clock.advance_to(10)
    assert clock.now == 105


def test_waiting_moves_time_to_what_is_due_next() -> None:
    clock, seen = Clock(), []
    clock.after(7, lambda: seen.append(clock.now))
    clock.after(9, lambda: seen.append(clock.now))
    assert clock.wait()
    assert (clock.now, seen) == (7, [7])
    assert clock.wait()
    assert not clock.wait()
    assert (clock.now, seen) == (9, [7, 9])
