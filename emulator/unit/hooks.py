"""Hooks for tests: what becomes of chosen descriptors and page requests instead of what should.

    unit.hooks.on_descriptor(IotlbInvalidate, Drop())
    unit.hooks.on_descriptor(lambda d: isinstance(d, InvalidationWait) and d.sw, Delay(5 * MICROSECOND), times=1)
    unit.hooks.on_page_request(lambda request: request.source_id == NIC, ResponseCode.INVALID_REQUEST)

Rules are asked in the order in which they were set; the first that matches decides. A unit with rules leaves no
descriptor to native code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from emulator.unit.page_requests import PageRequest, ResponseCode
from emulator.unit.queue_errors import QueueError
from pagetables.bits import Word
from pagetables.errors import VtdError

__all__ = ["Action", "Delay", "Drop", "Fail", "Hooks", "NoAnswer", "Reorder", "Rule"]

T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Drop:
    """The descriptor is taken from the queue and nothing is done."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The descriptor takes `nanoseconds` more on the unit's clock; those behind it wait."""

    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Reorder:
    """The descriptor is done only after `past` descriptors behind it, though the head moves past it at once."""

    past: int = 1

    def __post_init__(self) -> None:
        if self.past < 1:
            raise VtdError(f"Reorder(past={self.past}): a descriptor is reordered past at least 1 other")


@dataclass(frozen=True, slots=True)
class Fail:
    """The queue stops on the descriptor with IQE and this reason."""

    reason: QueueError = QueueError.BAD_DESCRIPTOR


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A device-TLB invalidation gets lost on its way: the device neither obeys nor answers. Others are done."""


Action = Drop | Delay | Reorder | Fail | NoAnswer


@dataclass(slots=True, eq=False)
class Rule(Generic[T, A]):
    """One rule: `hits` counts what it decided; it is spent after `times` of them (None: never)."""

    match: Callable[[T], bool]
    action: A
    times: int | None = None
    hits: int = 0

    @property
    def spent(self) -> bool:
        """True if the rule decides nothing any more."""
        return self.times is not None and self.hits >= self.times

    def cancel(self) -> None:
        """Decide nothing from now on."""
        self.times = self.hits


class Hooks:
    """The rules of one unit. None to begin with."""

    def __init__(self) -> None:
        self._descriptors: list[Rule[Word, Action]] = []
        self._page_requests: list[Rule[PageRequest, ResponseCode]] = []

    @property
    def on_queue(self) -> bool:
        """True if a rule about descriptors may still decide something."""
        return any(not rule.spent for rule in self._descriptors)

    def on_descriptor(
        self, match: type[Word] | Callable[[Word], bool], action: Action, times: int | None = None
    ) -> Rule[Word, Action]:
        """From now on `action` becomes of descriptors of that layout, or that `match` is true of."""
        rule = Rule[Word, Action](_matching(match), action, times)
        self._descriptors.append(rule)
        return rule

    def on_page_request(
        self, match: Callable[[PageRequest], bool], code: ResponseCode, times: int | None = None
    ) -> Rule[PageRequest, ResponseCode]:
        """From now on page requests that `match` is true of are not queued; if they want a response it is `code`."""
        rule = Rule[PageRequest, ResponseCode](match, code, times)
        self._page_requests.append(rule)
        return rule

    def clear(self) -> None:
        """No rules."""
        self._descriptors.clear()
        self._page_requests.clear()

    def descriptor_action(self, word: Word) -> Action | None:
        """What is to become of a descriptor, None where it is to be done as it should."""
        return _decide(self._descriptors, word)

    def page_response(self, request: PageRequest) -> ResponseCode | None:
        """The response that refuses a page request, None where it is not refused."""
        return _decide(self._page_requests, request)


def _matching(match: type[Word] | Callable[[Word], bool]) -> Callable[[Word], bool]:
    if isinstance(match, type):
        return lambda word: isinstance(word, match)
    return match


def _decide(rules: list[Rule[T, A]], subject: T) -> A | None:
    for rule in rules:
        if not rule.spent and rule.match(subject):
            rule.hits += 1
            return rule.action
    return None
