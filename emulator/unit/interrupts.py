"""Interrupt remapping of a unit: the latched table, the interrupt-entry cache, and what becomes of a message.

The cache keeps entries as they were when they were read, until software invalidates them (VT-d, "Interrupt Entry
Cache"). Only valid entries are kept and, with CAP.CM=1 and the behaviour `cache_not_present`, those that are not
present. The posted interrupt descriptor is never cached: hardware and software share it.
"""

from __future__ import annotations

import dataclasses

from emulator.profile import Profile
from emulator.unit.performance import Event
from emulator.unit.registers import UnitRegisters
from pagetables.interrupt import InterruptEntry, Remapping, remap
from pagetables.interrupt_entry import InterruptRules
from pagetables.layouts.interrupt import PostedInterruptEntry
from pagetables.layouts.registers import GlobalCommand, InterruptRemappingTableAddress
from pagetables.memory import PhysicalMemory
from pagetables.request import Request

__all__ = ["InterruptEntryCache", "InterruptRemapper"]


class InterruptEntryCache:
    """Entries of the interrupt remapping table by index, at most `capacity`. A full cache drops its oldest entry.

    Those that are not present are kept only if `keeps_absent`. `events` is what the last interrupt had it do.
    """

    def __init__(self, capacity: int, keeps_absent: bool = False) -> None:
        self.capacity = capacity
        self._keeps_absent = keeps_absent
        self.events: list[Event] = []
        self._entries: dict[int, InterruptEntry] = {}

    def lookup(self, index: int) -> InterruptEntry | None:
        """The entry cached for `index`, or None."""
        found = self._entries.get(index)
        self.events.append(Event.INTERRUPT_LOOKUP)
        if found is not None:
            posted = isinstance(found.entry, PostedInterruptEntry)
            self.events.append(Event.INTERRUPT_HIT_POSTED if posted else Event.INTERRUPT_HIT)
        return found

    def fill(self, entry: InterruptEntry) -> None:
        """Keep `entry`, if entries like it are kept; a cache of no capacity keeps nothing."""
        if not self.capacity or not (entry.entry.p or self._keeps_absent):
            return
        if len(self._entries) >= self.capacity:
            del self._entries[next(iter(self._entries))]
        self._entries[entry.index] = entry

    def invalidate_all(self) -> None:
        """Remove everything."""
        self._entries.clear()

    def invalidate(self, index: int, mask: int) -> None:
        """Remove the 2**mask entries around `index`, whose lower `mask` bits count for nothing."""
        doomed = [known for known in self._entries if known >> mask == index >> mask]
        for known in doomed:
            del self._entries[known]

    def entries(self) -> list[InterruptEntry]:
        """What is cached, by index."""
        return [self._entries[index] for index in sorted(self._entries)]


class InterruptRemapper:
    """What a unit does with interrupts. `table` is IRTA as SIRTP latched it."""

    def __init__(self, registers: UnitRegisters, memory: PhysicalMemory) -> None:
        profile = registers.profile
        self.table = InterruptRemappingTableAddress(0)
        self.cache = InterruptEntryCache(profile.interrupt_cache, profile.behaves("cache_not_present"))
        self._registers = registers
        self._memory = memory
        self._rules = _rules(profile)

    def power_on(self) -> None:
        """No table, nothing cached."""
        self.table = InterruptRemappingTableAddress(0)
        self.cache.invalidate_all()

    def commanded(self, command: GlobalCommand) -> None:
        """SIRTP, IRE and CFI of a write to GCMD. Without ESIRTPS the cache is software's to invalidate."""
        registers = self._registers
        disabled = registers.gsts.ires and not command.ire
        if command.sirtp:
            self.table = InterruptRemappingTableAddress(registers.irta & registers.capabilities.address_limit - 1)
            registers.gsts = registers.gsts.replace(irtps=1)
        if registers.cap.esirtps and (command.sirtp or disabled):
            self.cache.invalidate_all()
        cfi = 0 if self._rules.pass_compatibility_format else command.cfi
        registers.gsts = registers.gsts.replace(ires=command.ire & registers.ecap.ir, cfis=cfi)

    def invalidate(self, selective: int, index: int, mask: int) -> bool:
        """Descriptor 4: everything, or 2**mask entries around `index`; False for a mask beyond ECAP.MHMV."""
        if not selective:
            self.cache.invalidate_all()
        elif mask <= self._registers.ecap.mhmv or self._registers.profile.behaves("ignore_mask_limit"):
            self.cache.invalidate(index, mask)
        else:
            return False
        return True

    def remap(self, request: Request, data: bytes) -> Remapping:
        """What becomes of `data` that `request` writes to the interrupt range. A posted one is in memory then."""
        self.cache.events.clear()
        return remap(
            self._memory,
            self.table,
            request,
            data,
            self._registers.capabilities,
            self._registers.gsts,
            rules=self._rules,
            cache=self.cache,
            update=True,
        )


def _rules(profile: Profile) -> InterruptRules:
    return InterruptRules(**{rule.name: profile.behaves(rule.name) for rule in dataclasses.fields(InterruptRules)})
