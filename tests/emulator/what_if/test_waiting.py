"""The wait list: who is woken when, who waits in vain, and which wait is a deadlock."""

from __future__ import annotations

from emulator.clock import MILLISECOND, Clock
from emulator.mapping.pressure import Gfp
from emulator.mapping.reactions import Action, make_reaction
from emulator.what_if.waiting import HORIZON, Refusal, WaitList

NO_PAGE = Refusal("page", "pages")


class Bench:
    """A wait list for maps that succeed while there are pages; each takes one."""

    def __init__(self, name: str, **options: int) -> None:
        self.clock = Clock()
        self.reaction = make_reaction(name, options)
        self.pages = 0
        self.tried: list[tuple[int, int]] = []
        self.got: list[tuple[int, int]] = []
        self.given_up: list[tuple[int, str, Action]] = []
        self.list = WaitList(self.clock, self.reaction, self._retry, self._give_up)

    def _retry(self, waiter):
        self.tried.append((self.clock.now, waiter.op))
        if not self.pages:
            return NO_PAGE
        self.pages -= 1
        self.got.append((self.clock.now, waiter.op))
        return None

    def _give_up(self, op, cause, action):
        self.given_up.append((op, cause, action))

    def fail(self, *ops: int, gfp: Gfp = Gfp.KERNEL) -> None:
        for op in ops:
            self.list.failed(op, "nic", gfp, NO_PAGE)

    def give(self, pages: int) -> None:
        self.pages += pages
        self.list.news()

    def give_at(self, when: int, pages: int) -> None:
        self.clock.after(when - self.clock.now, lambda: self.give(pages))


def test_a_driver_that_fails_or_drops_gives_up_on_the_spot():
    for name, action in (("fail", Action.FAIL), ("drop", Action.DROP)):
        bench = Bench(name)
        bench.fail(1)
        assert bench.given_up == [(1, "page", action)]
        assert not bench.list.waiters
    assert bench.reaction.statistics.dropped == 1


def test_sleepers_are_woken_one_at_a_time_in_the_order_in_which_they_came():
    bench = Bench("sleep")
    bench.fail(1, 2, 3)
    bench.give_at(700, 2)
    bench.clock.advance_to(1000)
    assert bench.got == [(700, 1), (700, 2)]
    assert bench.tried == [(700, 1), (700, 2), (700, 3)]
    statistics = bench.reaction.statistics
    assert (statistics.late_successes, statistics.longest_ns, statistics.largest_herd) == (2, 700, 1)
    assert list(bench.list.waiters) == [3]


def test_a_wake_up_of_all_is_a_herd_of_which_most_come_in_vain():
    bench = Bench("wake-on-free")
    bench.fail(*range(10), gfp=Gfp.ATOMIC)
    bench.give(1)
    bench.clock.advance_to(0)
    statistics = bench.reaction.statistics
    assert (statistics.largest_herd, statistics.woken, statistics.woken_in_vain) == (10, 10, 9)
    assert len(bench.list.waiters) == 9


def test_only_who_lacks_what_came_back_is_woken():
    bench = Bench("wake-on-free")
    bench.fail(1)
    bench.list.failed(2, "nic", Gfp.KERNEL, Refusal("address", "addresses"))
    bench.clock.after(10, lambda: bench.list.news("address", "bounce"))
    bench.clock.advance_to(20)
    assert bench.tried == [(10, 2)]
    bench.clock.after(10, lambda: bench.list.news("page"))
    bench.clock.advance_to(40)
    assert bench.tried[1:] == [(30, 1), (30, 2)], "the second lacked a page by then"


def test_a_driver_that_asks_at_intervals_asks_after_news_of_any_kind():
    bench = Bench("poll", interval_us=1)
    bench.fail(1)
    bench.clock.after(10, lambda: bench.list.news("address"))
    bench.clock.advance_to(2000)
    assert bench.tried == [(1000, 1)]


def test_a_sleeper_looks_again_after_its_time_out_without_any_news():
    bench = Bench("sleep", timeout_ms=5)
    bench.fail(1)
    bench.clock.advance_to(4 * MILLISECOND)
    assert not bench.tried
    bench.pages = 1  # nobody says so
    bench.clock.advance_to(5 * MILLISECOND)
    assert bench.got == [(5 * MILLISECOND, 1)]
    assert bench.reaction.statistics.timeouts == 1


def test_a_queued_request_comes_at_its_turn_and_turns_in_vain_are_counted_not_acted_out():
    bench = Bench("requeue")
    bench.fail(1)
    bench.give_at(10 * MILLISECOND, 1)
    bench.clock.advance_to(20 * MILLISECOND)
    assert bench.tried == [(12 * MILLISECOND, 1)]  # turns at 3, 6 and 9 ms found nothing new
    statistics = bench.reaction.statistics
    assert (statistics.retries, statistics.retries_of_successes) == (4, 4)
    assert statistics.longest_ns == 12 * MILLISECOND


def test_a_queued_request_with_few_tries_gives_up():
    bench = Bench("requeue", tries=2)
    bench.fail(1)
    bench.give(0)
    bench.clock.advance_to(3 * MILLISECOND)
    assert bench.given_up == [(1, "page", Action.FAIL)]
    assert not bench.list.waiters


def test_news_while_a_wake_up_is_due_is_one_wake_up():
    bench = Bench("wake-on-free")
    bench.fail(1)
    bench.give(0)
    bench.give(0)
    bench.clock.advance_to(0)
    assert len(bench.tried) == 1


def test_news_for_nobody_sets_no_timer():
    bench = Bench("sleep")
    bench.give(1)
    assert bench.clock.next_due is None


def test_waiting_for_what_nobody_will_bring_is_a_deadlock_that_is_named():
    bench = Bench("sleep")
    bench.fail(1, 2)
    bench.list.finish()
    assert bench.list.deadlocks == [
        "2 maps for ever waiting for pages, which nothing that is under way gives back: nic (2)"
    ]
    assert [op for op, _, _ in bench.given_up] == [1, 2]
    assert bench.reaction.statistics.starved == 2


def test_waiting_for_what_comes_too_late_is_starving_and_no_deadlock():
    bench = Bench("wake-on-free")
    bench.fail(1)
    bench.give_at(HORIZON + 1, 1)
    bench.list.finish()
    assert not bench.list.deadlocks
    assert bench.reaction.statistics.starved == 1


def test_who_gets_it_after_the_trace_has_neither_starved_nor_failed():
    bench = Bench("sleep")
    bench.fail(1)
    bench.give_at(HORIZON, 1)
    bench.list.finish()
    assert bench.got == [(HORIZON, 1)]
    assert not bench.given_up
    assert not bench.list.deadlocks
