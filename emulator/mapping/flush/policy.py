"""What an invalidation policy is, and how one is chosen by name.

A policy hears of every unmap and decides when the unit is told. Two rules hold whatever it decides, unless it is asked
to break the first (`free_before_flush`):

    pages      a table page goes back to the supply only after an invalidation that was started after it was unlinked,
               and that covers it, has completed
    addresses  `after` runs its action only then, too: the moment at which an address may be handed out again

Policies are registered here by name; others come through the entry point group `vtd.flush`, each naming a callable
like `PolicyFactory`. Their options are what the user set as `flush.KEY`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Protocol

from emulator.clock import Clock
from emulator.mapping.costs import Meter
from emulator.mapping.domain import Domain
from emulator.mapping.driver import UnitDriver
from emulator.mapping.flush.window import StaleWindow
from emulator.mapping.options import chosen_options
from emulator.mapping.registry import Registry
from pagetables.address import Gpa
from pagetables.errors import InputError, near

__all__ = [
    "GROUP",
    "POLICIES",
    "InvalidationPolicy",
    "PageSink",
    "PolicyFactory",
    "make_policy",
    "policy_names",
    "waits_for_allocator",
]

GROUP = "vtd.flush"


class PageSink(Protocol):
    """Where table pages go back to: a page supply."""

    def give_back(self, pages: Iterable[Gpa]) -> None:
        """Pages that no table, and (but for `free_before_flush`) no cache, reaches any more."""
        ...


class InvalidationPolicy(abc.ABC):
    """What happens after an unmap.

    `released` hears of every page that went back to the supply, `flushed` of every invalidation of a whole domain
    (None: of all domains) once it has completed.
    """

    name: ClassVar[str] = ""
    on_demand: ClassVar[bool] = False  # flushes only when an address allocator asks (`demand`)
    flushes_maps: ClassVar[bool] = False  # wants `demand` before each address is handed out
    addresses_wait: ClassVar[bool] = True  # an unmapped address is not free before its invalidation
    defaults: ClassVar[Mapping[str, int | str]] = {}

    def __init_subclass__(cls) -> None:
        cls.defaults = {**cls.defaults, "free_before_flush": 0}  # an option of every policy

    def __init__(
        self, driver: UnitDriver, supply: PageSink, clock: Clock, options: Mapping[str, int | str] | None = None
    ) -> None:
        self.options: dict[str, int | str] = chosen_options("flush", self.name, options or {}, self.defaults)
        self.free_before_flush = bool(self.options["free_before_flush"])
        self.window = StaleWindow()
        self.meter = Meter()
        self.released: Callable[[int], None] = lambda pages: None
        self.flushed: Callable[[Domain | None], None] = lambda domain: None
        self._driver, self._supply, self._clock = driver, supply, clock
        self._prepare()

    @abc.abstractmethod
    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """[iova, iova + size) was removed from the domain's tables, on this CPU, and these pages with it."""

    def unmapped_at_once(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...]) -> None:
        """The same, but the range is invalidated before this returns, whatever the policy; then pages go back."""
        leaves_only = not freed
        freed = self._not_freed_early(freed)
        before = self._clock.now
        self._driver.invalidate_range(domain.domain_id, domain.table.stage, iova, size, leaves_only)
        self._submitted()
        self.window.closed(self._clock.now - before, domain.domain_id)
        self._give_back(freed)

    def mapped(self, domain: Domain, iova: int, size: int) -> None:  # noqa: B027  # most policies need not look
        """[iova, iova + size) is about to be mapped: the place to notice that a range is used again too early."""

    def after(self, domain: Domain, action: Callable[[int], None], cpu: int = 0) -> None:
        """Run `action`, with the CPU that does it, once all that was unmapped in the domain so far is released."""
        action(cpu)

    def is_stale(self, domain: Domain, iova: int) -> bool:
        """True if the page of `iova` was unmapped and the unit has not been told yet."""
        return False

    def demand(self, domain: Domain) -> None:
        """An address allocator wants nothing of the domain cached when this returns."""
        self._invalidate_domain(domain)

    def flush(self) -> None:  # noqa: B027  # nothing waits unless a policy defers
        """Everything that waits is invalidated and released."""

    def detach(self, domain: Domain) -> None:
        """Everything that waits for this domain is invalidated and released."""
        self.flush()

    def _prepare(self) -> None:  # noqa: B027  # a place to read `options`; most keep nothing of their own
        ...

    def _number(self, key: str, least: int) -> int:
        value = int(self.options[key])
        if value < least:
            raise InputError(f"flush.{key}={value}: {self.name} needs at least {least}")
        return value

    def _choice(self, key: str, *known: str) -> str:
        value = str(self.options[key])
        if value not in known:
            raise InputError(f"flush.{key}={value}: {near(value, known)}")
        return value

    def _invalidate_domain(self, domain: Domain) -> None:
        if domain.tagged:
            self._driver.invalidate_domain(domain.domain_id, domain.table.stage)
            self._submitted()
        self.flushed(domain)

    def _invalidate_all(self) -> None:
        self._driver.invalidate_global()
        self._submitted()
        self.flushed(None)

    def _submitted(self) -> None:
        self.meter.spend("invalidate.submit")
        self.meter.spend("invalidate.wait")

    def _not_freed_early(self, freed: tuple[Gpa, ...]) -> tuple[Gpa, ...]:
        # What has to wait for the invalidation; with `free_before_flush`, nothing.
        if not self.free_before_flush:
            return freed
        self.window.pages_freed_early += len(freed)
        self._give_back(freed)
        return ()

    def _give_back(self, pages: tuple[Gpa, ...]) -> None:
        if pages:
            self._supply.give_back(pages)
            self.released(len(pages))


class PolicyFactory(Protocol):
    """Makes a policy; `options` are what the user set for it (`flush.KEY`), without the prefix."""

    def __call__(
        self, driver: UnitDriver, supply: PageSink, clock: Clock, options: Mapping[str, int | str] | None = None
    ) -> InvalidationPolicy:
        """The policy, with nothing waiting."""
        ...


POLICIES: Registry[PolicyFactory] = Registry(
    GROUP,
    "invalidation policy",
    {
        "strict": "emulator.mapping.flush.strict:StrictInvalidation",
        "list": "emulator.mapping.flush.pending_list:PendingList",
        "percpu": "emulator.mapping.flush.flush_queue:FlushQueues",
        "deferred": "emulator.mapping.flush.flush_queue:FlushQueues",
        "single": "emulator.mapping.flush.flush_queue:SingleQueue",
        "lazy-on-wrap": "emulator.mapping.flush.on_demand:LazyOnWrap",
        "stale-bitmap": "emulator.mapping.flush.on_demand:StaleBitmapFlush",
        "flush-every-map": "emulator.mapping.flush.every_map:FlushEveryMap",
        "none": "emulator.mapping.flush.none:NoInvalidation",
    },
)
"""The invalidation policies."""


def policy_names() -> list[str]:
    """Every policy that can be named, plug-ins included; `deferred` is an older name of `percpu`."""
    return POLICIES.names()


def waits_for_allocator(name: str) -> bool:
    """True if the policy called `name` flushes only when an address allocator asks; InputError for an unknown name."""
    return bool(getattr(POLICIES.find(name), "on_demand", False))


def make_policy(
    name: str,
    driver: UnitDriver,
    supply: PageSink,
    clock: Clock,
    options: Mapping[str, int | str] | None = None,
) -> InvalidationPolicy:
    """The policy called `name`; InputError for a name nobody has, or an option the policy does not know."""
    return POLICIES.find(name)(driver, supply, clock, options)
