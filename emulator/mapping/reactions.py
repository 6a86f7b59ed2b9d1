"""What a driver does when a map fails, chosen by name. The DMA API never says that there is space again: drivers guess.

    fail          the error goes up: nothing is tried again
    drop          the packet is dropped and counted (mlx5, TX paths): the driver goes on
    requeue       the request is queued again after a delay (blk-mq 3 ms, SCSI 3 ms)
    poll          tried again at once, each turn at a price (ice and i40e, whose NAPI poll reports its budget as used)
    sleep         a caller that may sleep waits for pages to come back, one sleeper woken at a time; it looks again
                  after 5 s in any case (mempool). A caller that may not sleep fails
    wake-on-free  whoever failed is called when something comes back: what none of the kernels has

Others come through the entry point group `vtd.reactions`, each naming a callable like `ReactionFactory`. A reaction
only decides; who waits, and what wakes them, is the runner's business.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

from emulator.clock import MICROSECOND, MILLISECOND
from emulator.mapping.options import number_options, takes
from emulator.mapping.pressure import Gfp
from emulator.mapping.registry import Registry
from pagetables.errors import InputError

__all__ = [
    "GROUP",
    "REACTIONS",
    "Action",
    "Attempt",
    "Decision",
    "Reaction",
    "ReactionFactory",
    "ReactionStatistics",
    "make_drop",
    "make_fail",
    "make_poll",
    "make_reaction",
    "make_requeue",
    "make_sleep",
    "make_wake_on_free",
    "reaction_names",
]

GROUP = "vtd.reactions"
REQUEUE = {"delay_us": 3000, "tries": 0}
POLL = {"interval_us": 20, "tries": 0}
SLEEP = {"timeout_ms": 5000, "wakes": 1}
WAKE_ON_FREE = {"wakes": 0}


class Action(enum.Enum):
    """What becomes of a map that failed."""

    FAIL = "fail"
    DROP = "drop"
    AGAIN = "again"  # after a time, whatever has happened
    WAIT = "wait"  # when something comes back, or after a time


class Attempt(NamedTuple):
    """A map that failed: why (page, address, bounce), what its caller may do, how often it was tried, for how long."""

    cause: str
    gfp: Gfp
    tries: int
    waited_ns: int


class Decision(NamedTuple):
    """What to do, and after how many nanoseconds to try again in any case; None: never by the clock."""

    action: Action
    delay_ns: int | None = None


@dataclass(slots=True)
class ReactionStatistics:
    """What waiting and trying again came to."""

    retries: int = 0  # attempts after the first
    late_successes: int = 0  # maps that succeeded, but not at once
    retries_of_successes: int = 0  # attempts those needed after their first
    added_ns: int = 0  # time those waited
    longest_ns: int = 0
    dropped: int = 0
    wakeups: int = 0  # times waiters were woken because something came back
    woken: int = 0
    woken_in_vain: int = 0  # woken, tried, failed again
    largest_herd: int = 0  # most waiters woken at once
    timeouts: int = 0  # retries because the clock said so
    waiting_highest: int = 0
    starved: int = 0  # still waiting when nothing was left that could have helped in time

    def succeeded(self, tries: int, waited_ns: int) -> None:
        """A map that had to be tried `tries` times has its place after `waited_ns`."""
        self.late_successes += 1
        self.retries_of_successes += tries - 1
        self.added_ns += waited_ns
        self.longest_ns = max(self.longest_ns, waited_ns)

    def herd(self, woken: int, in_vain: int) -> None:
        """So many were woken at once, and so many of them failed again."""
        self.wakeups += 1
        self.woken += woken
        self.woken_in_vain += in_vain
        self.largest_herd = max(self.largest_herd, woken)

    def as_dict(self) -> dict[str, int]:
        """The numbers by name, as a report prints them."""
        return asdict(self)


class Reaction(Protocol):
    """One way of a driver. `turn` is the step of the cost table that a retry spends; `wakes` how many are woken at once
    when something comes back, 0 for all."""

    name: str
    turn: str
    wakes: int
    statistics: ReactionStatistics

    def failed(self, attempt: Attempt) -> Decision:
        """What to do about a map that failed."""
        ...


class ReactionFactory(Protocol):
    """Makes a reaction; `options` are what the user set for it (`reaction.KEY`), without the prefix."""

    def __call__(self, options: Mapping[str, int | str]) -> Reaction:
        """The reaction; InputError for an option it does not know."""
        ...


REACTIONS: Registry[ReactionFactory] = Registry(
    GROUP,
    "driver reaction",
    {
        name: f"emulator.mapping.reactions:make_{name.replace('-', '_')}"
        for name in ("fail", "drop", "requeue", "poll", "sleep", "wake-on-free")
    },
)
"""The driver reactions."""


def reaction_names() -> list[str]:
    """Every reaction that can be named, plug-ins included."""
    return REACTIONS.names()


def make_reaction(name: str, options: Mapping[str, int | str] | None = None) -> Reaction:
    """The reaction called `name`; InputError for a name nobody has, or an option the reaction does not know."""
    return REACTIONS.find(name)(options or {})


class _GivesUp:
    turn, wakes = "wait.poll", 0

    def __init__(self, name: str, action: Action) -> None:
        self.name = name
        self.statistics = ReactionStatistics()
        self._decision = Decision(action)

    def failed(self, attempt: Attempt) -> Decision:
        return self._decision


class _TriesAgain:
    wakes = 0

    def __init__(self, name: str, turn: str, delay_ns: int, tries: int) -> None:
        self.name, self.turn = name, turn
        self.statistics = ReactionStatistics()
        self._again, self._tries = Decision(Action.AGAIN, delay_ns), tries

    def failed(self, attempt: Attempt) -> Decision:
        return Decision(Action.FAIL) if self._tries and attempt.tries >= self._tries else self._again


class _Waits:
    def __init__(self, name: str, turn: str, wakes: int, timeout_ns: int | None, sleepers_only: bool) -> None:
        self.name, self.turn, self.wakes = name, turn, wakes
        self.statistics = ReactionStatistics()
        self._wait, self._sleepers_only = Decision(Action.WAIT, timeout_ns), sleepers_only

    def failed(self, attempt: Attempt) -> Decision:
        may_not = self._sleepers_only and not attempt.gfp.may_sleep
        return Decision(Action.FAIL) if may_not else self._wait


@takes({})
def make_fail(options: Mapping[str, int | str]) -> Reaction:
    """`fail`; it has no options."""
    _options("fail", options, {})
    return _GivesUp("fail", Action.FAIL)


@takes({})
def make_drop(options: Mapping[str, int | str]) -> Reaction:
    """`drop`; it has no options."""
    _options("drop", options, {})
    return _GivesUp("drop", Action.DROP)


@takes(REQUEUE)
def make_requeue(options: Mapping[str, int | str]) -> Reaction:
    """`requeue`; options `delay_us` and `tries` (0: for ever)."""
    chosen = _options("requeue", options, REQUEUE, at_least={"delay_us": 1})
    return _TriesAgain("requeue", "wait.poll", chosen["delay_us"] * MICROSECOND, chosen["tries"])


@takes(POLL)
def make_poll(options: Mapping[str, int | str]) -> Reaction:
    """`poll`; options `interval_us` (one turn of the poll loop) and `tries` (0: for ever)."""
    chosen = _options("poll", options, POLL, at_least={"interval_us": 1})
    return _TriesAgain("poll", "wait.poll", chosen["interval_us"] * MICROSECOND, chosen["tries"])


@takes(SLEEP)
def make_sleep(options: Mapping[str, int | str]) -> Reaction:
    """`sleep`; options `timeout_ms` (0: none) and `wakes` (how many are woken at once, 0 for all)."""
    chosen = _options("sleep", options, SLEEP)
    return _Waits("sleep", "wait.sleep", chosen["wakes"], chosen["timeout_ms"] * MILLISECOND or None, True)


@takes(WAKE_ON_FREE)
def make_wake_on_free(options: Mapping[str, int | str]) -> Reaction:
    """`wake-on-free`; option `wakes` (how many are called at once, 0 for all)."""
    chosen = _options("wake-on-free", options, WAKE_ON_FREE)
    return _Waits("wake-on-free", "wait.poll", chosen["wakes"], None, False)


def _options(
    name: str, given: Mapping[str, int | str], defaults: Mapping[str, int], at_least: Mapping[str, int] | None = None
) -> dict[str, int]:
    chosen = number_options("reaction", name, given, defaults)
    for key, value in chosen.items():
        least = (at_least or {}).get(key, 0)
        if value < least:
            raise InputError(f"reaction.{key}={value}: {name} wants a number, {least} or more")
    return chosen
