"""Address spaces: an allocator, the domain its addresses are mapped in, and the policy that says when one is free.

A space for each key (a device, a group), each with tables and a tag of its own (Raj, 2007: 3 levels give each 39 bits,
4 give 48), or one window for all, as with a GART or a sparc bus: one table, which every device shares.

When an address that was unmapped is free depends on the policy:

    it waits          `strict`, `list`, flush queues: free once the invalidation that covers it has completed
    it does not       `lazy-on-wrap`, `stale-bitmap`: free at once, as stale. The allocator asks for a flush before it
                      hands out what it should not; what it hands out all the same is in its books

A flush for somebody else's reason is told to every allocator whose addresses it covers (`flushed`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial

from emulator.clock import Clock
from emulator.mapping.dma import MappingLayer
from emulator.mapping.domain import Domain
from emulator.mapping.flush.policy import InvalidationPolicy
from emulator.mapping.iova.allocator import AddressAllocator, Window, make_allocator
from emulator.mapping.iova.low_first import LowFirst
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Iova
from pagetables.errors import InputError

__all__ = ["MSI_WINDOW", "AddressPlan", "AddressSpace", "AddressSpaces"]

MSI_WINDOW = (0xFEE0_0000, 0x10_0000)  # start and size: a write there is an interrupt, whatever the tables say
WIDEST = 1 << 48  # bytes: with 5-level tables Linux still stays below, unless a device asks
_STEPS = {  # of an allocator: what one operation costs, what looking at `how many` nodes or entries costs
    "rbtree": ("iova.tree", "iova.node", 1),
    "rbtree+rcache": ("iova.tree", "iova.node", 1),
    "static-aperture": ("iova.slot", "iova.word", 64),
}
_BITMAP = ("iova.bitmap", "iova.word", 64)


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """How addresses are to be allocated: the allocator and its options; `window`, the bytes [start, end) it has (those
    the tables reach if None); `reserved`, ranges (start, size) it never hands out; 32-bit addresses first or not."""

    allocator: str = "rbtree+rcache"
    options: Mapping[str, int | str] = field(default_factory=dict)
    window: tuple[int, int] | None = None
    reserved: tuple[tuple[int, int], ...] = (MSI_WINDOW,)
    one_window: bool = False
    low_first: bool = True


class AddressSpace:
    """The addresses of one domain. What the allocator does is paid for on the policy's meter."""

    def __init__(
        self, domain: Domain, allocator: AddressAllocator, policy: InvalidationPolicy, low_first: bool = True
    ) -> None:
        if policy.on_demand and not allocator.flushes_itself:
            raise InputError(
                f"flush={policy.name} waits until the allocator asks for a flush, which {allocator.name} never does; "
                "use gart-lazy, sparc-generic or stale-bitmap, or another policy"
            )
        self.domain, self.allocator, self.policy = domain, allocator, policy
        self._low = LowFirst(allocator, forcedac=not low_first)
        self._operation, self._look, self._looks = _STEPS.get(allocator.name, _BITMAP)
        self._locks: dict[str, int] = {}
        self._visited = self._hits = 0
        allocator.flush = partial(policy.demand, domain)

    @property
    def notes(self) -> list[str]:
        """What Linux would have logged about the addresses it hands out."""
        return self._low.notes

    def allocate(
        self, pages: int, limit: int | None = None, cpu: int = 0, align: int = 1, after: Iova | None = None
    ) -> Iova | None:
        """The address of `pages` free pages that end below `limit` (bytes), at a multiple of `align` pages, or None.

        `after` is where the caller's last run ended (scatter lists).
        """
        if self.policy.flushes_maps:
            self.policy.demand(self.domain)
        end = None if limit is None else limit >> PAGE_SHIFT
        first = self._low.allocate(pages, end, cpu, align, None if after is None else after >> PAGE_SHIFT)
        self._pay()
        return None if first is None else Iova(first << PAGE_SHIFT)

    def free(self, iova: Iova, pages: int, cpu: int = 0) -> None:
        """The run was unmapped: it is free when the policy says so. NotAllocated if it was not handed out like that."""
        stale = not self.policy.addresses_wait and self.domain.tagged
        self.policy.after(self.domain, partial(self._free, iova >> PAGE_SHIFT, pages, stale), cpu)

    def take_back(self, iova: Iova, pages: int, cpu: int = 0) -> None:
        """The run was never mapped, or is invalidated already: it is free at once."""
        self._free(iova >> PAGE_SHIFT, pages, False, cpu)

    def _free(self, first: int, pages: int, stale: bool, cpu: int) -> None:
        self.allocator.free(first, pages, cpu, stale)
        self._pay()

    def _pay(self) -> None:
        # One operation: what changed in the allocator's books since the last one is what it did.
        statistics, spend = self.allocator.statistics, self.policy.meter.spend
        taken = set()
        for kind, count in statistics.locks.items():
            if count != (before := self._locks.get(kind, 0)):
                self._locks[kind] = count
                taken.add(kind)
                spend(f"lock.{kind}", count - before)
        if visited := statistics.visited - self._visited:
            spend(self._look, -(-visited // self._looks))
            self._visited = statistics.visited
        cached = statistics.cache_hits != self._hits or (bool(taken) and "global" not in taken and "cpu" in taken)
        spend("iova.cache_hit" if cached else self._operation)
        self._hits = statistics.cache_hits


class AddressSpaces:
    """A space for each key, made when it is first needed; with `one_window`, one for them all."""

    def __init__(self, layer: MappingLayer, clock: Clock, plan: AddressPlan) -> None:
        self.plan = plan
        self.spaces: dict[Hashable, AddressSpace] = {}
        self._layer, self._clock = layer, clock
        layer.policy.flushed = self._flushed

    @property
    def reused_before_flush(self) -> int:
        """Addresses that were used again before the flush that covers them: from the allocators' books if addresses do
        not wait for the flush, else from the policy's window."""
        policy = self._layer.policy
        if not policy.on_demand:
            return policy.window.reused_before_flush
        return sum(space.allocator.statistics.reused_before_flush for space in self.spaces.values())

    def space(self, key: Hashable, domain_id: int | None = None) -> AddressSpace:
        """The space of a key. A new one gets a domain, with the id `domain_id` if that is free; NoDomainId or
        OutOfPages if it can have none."""
        key = None if self.plan.one_window else key
        space = self.spaces.get(key)
        if space is None:
            domain = self._layer.create_domain(domain_id)
            space = self.spaces[key] = AddressSpace(
                domain, self._allocator(domain), self._layer.policy, self.plan.low_first
            )
        return space

    def allocate(
        self, key: Hashable, pages: int, limit: int | None = None, cpu: int = 0, align: int = 1
    ) -> Iova | None:
        """An address in the space of a key, as `AddressSpace.allocate`."""
        return self.space(key).allocate(pages, limit, cpu, align)

    def free(self, key: Hashable, iova: Iova, pages: int, cpu: int = 0) -> None:
        """An unmapped run of the space of a key, as `AddressSpace.free`."""
        self.space(key).free(iova, pages, cpu)

    def close(self) -> None:
        """Stop what allocators run in the background."""
        for space in self.spaces.values():
            space.allocator.close()

    def _allocator(self, domain: Domain) -> AddressAllocator:
        allocator = make_allocator(self.plan.allocator, self._window(domain), self._clock, self.plan.options)
        for start, size in self.plan.reserved:
            first, end = start >> PAGE_SHIFT, -(-(start + size) // PAGE_SIZE)
            allocator.reserve(first, end - first)
        return allocator

    def _window(self, domain: Domain) -> Window:
        start, end = self.plan.window or (0, WIDEST)
        reach = min(end, domain.iova_limit)
        if start % PAGE_SIZE or end % PAGE_SIZE or max(start, PAGE_SIZE) >= reach:
            raise InputError(
                f"a window {start:#x}-{end:#x} has no whole page that tables of {domain.iova_limit:#x} bytes reach"
            )
        # Page 0 is never handed out: a DMA address of 0 looks like an error to old drivers.
        return Window(max(start >> PAGE_SHIFT, 1), reach >> PAGE_SHIFT)

    def _flushed(self, domain: Domain | None) -> None:
        for space in self.spaces.values():
            if domain is None or space.domain is domain:
                space.allocator.flushed()
