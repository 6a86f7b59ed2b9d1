"""What each descriptor of the invalidation queue is: how it is checked, and what it does (VT-d, "Queue Descriptors").

Types 1 to 5 have 16 bytes, and in a wide slot the rest of it is reserved; types 6 to 9 exist only with 32 bytes. A
descriptor is checked whole before anything of it is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from emulator.unit.device_invalidations import DeviceInvalidations
from emulator.unit.events import EventInterrupt
from emulator.unit.interrupts import InterruptRemapper
from emulator.unit.invalidation import Invalidator
from emulator.unit.page_requests import PageRequestQueue, response_of
from emulator.unit.queue_errors import QueueError
from emulator.unit.registers import UnitRegisters
from pagetables.address import PAGE_SIZE
from pagetables.bits import Bits, Word
from pagetables.errors import NoMemory
from pagetables.layouts import (
    ContextCacheInvalidate,
    DeviceTlbInvalidate,
    InterruptEntryInvalidate,
    InvalidationWait,
    IotlbInvalidate,
    PageGroupResponse,
    PasidCacheInvalidate,
    PasidDeviceTlbInvalidate,
    PasidIotlbInvalidate,
)
from pagetables.memory import PhysicalMemory

__all__ = ["Descriptors"]

_PASID_CACHE = 0x7
_PASID_TYPES = (0x6, _PASID_CACHE)
_TYPE = 0xE0F  # bits 11:9 and 3:0
_LOWER_HALF = (1 << 128) - 1
_INTERRUPT_ENTRY = 0x4
_INTERRUPT_ENTRY_FIELDS = sum(InterruptEntryInvalidate.field(name).mask for name in ("type_lo", "g", "im", "iidx"))


class _Passed(Word, name="passed_descriptor", width=128):
    # A descriptor of which nothing is looked at but its type.
    type_lo = Bits(3, 0, "type bits 3:0")
    ignored = Bits(127, 4, "not looked at")


class _Type(NamedTuple):
    layout: type[Word]
    execute: Callable[[Any], bool]
    known: bool = True


class Descriptors:
    """Checks and executes descriptors. `scalable` is whether the latched root table is a scalable-mode one, `plain`
    whether invalidations of translations are those of any unit, so that native code may do them."""

    def __init__(
        self,
        registers: UnitRegisters,
        memory: PhysicalMemory,
        invalidator: Invalidator,
        completion: EventInterrupt,
        devices: DeviceInvalidations,
        page_requests: PageRequestQueue,
        interrupts: InterruptRemapper,
    ) -> None:
        self.scalable = False
        self._registers = registers
        self._memory = memory
        self._invalidator = invalidator
        self.plain = invalidator.plain
        self._completion = completion
        self._devices = devices
        self._page_requests = page_requests
        self._interrupts = interrupts
        self._behaves = registers.profile.behaves
        self._types = self._make_types()

    def _make_types(self) -> dict[int, _Type]:
        registers = self._registers
        ecap = registers.ecap
        behaves = registers.profile.behaves
        device_tlb = bool(ecap.dt) or behaves("device_tlb_without_dt")
        return {
            0x1: _Type(ContextCacheInvalidate, self._contexts),
            0x2: _Type(IotlbInvalidate, self._translations),
            0x3: _Type(DeviceTlbInvalidate, self._device_tlb, device_tlb),
            0x4: _Type(InterruptEntryInvalidate, self._interrupt_entries),
            0x5: _Type(InvalidationWait, self._wait),
            0x6: _Type(PasidIotlbInvalidate, self._pasid_translations),
            0x7: _Type(PasidCacheInvalidate, self._pasid_entries),
            0x8: _Type(PasidDeviceTlbInvalidate, self._device_tlb, device_tlb and not behaves("no_pasid_device_tlb")),
            0x9: _Type(PageGroupResponse, self._response, bool(ecap.prs)),
        }

    def check(self, raw: int, slot: int) -> Word | QueueError:
        """The descriptor in a slot of `slot` bytes, or why it is none: its type, or a reserved bit."""
        if self._is_passed(raw):
            return _Passed(raw & 0xF)
        if raw & 0xF == _INTERRUPT_ENTRY and self._behaves("ignore_interrupt_entry_fields"):
            raw &= _INTERRUPT_ENTRY_FIELDS
        if self._behaves("ignore_upper_half"):
            raw &= _LOWER_HALF
        known = self._types.get(raw & 0xF | raw >> 5 & 0x70)
        if known is None or not known.known or known.layout.width > slot * 8:
            return QueueError.UNKNOWN_TYPE
        if raw >> known.layout.width or raw & known.layout.reserved_mask:
            return QueueError.BAD_DESCRIPTOR
        return known.layout(raw)

    def _is_passed(self, raw: int) -> bool:
        if raw & 0xF in _PASID_TYPES and self._behaves("pass_pasid_descriptors"):
            return True
        scalable = bool(self._registers.ecap.smts)
        return scalable and raw & _TYPE == _PASID_CACHE and self._behaves("pass_pasid_cache")

    def execute(self, word: Word) -> bool:
        """Do what a checked descriptor says; False for a value in it that means nothing."""
        if isinstance(word, _Passed):
            return True
        return self._types[int(word) & 0xF | int(word) >> 5 & 0x70].execute(word)

    def finish_wait(self, d: InvalidationWait) -> None:
        """Everything before a wait is done: write its status, then raise its event."""
        if d.sw:
            with contextlib.suppress(NoMemory):  # a posted write to where nothing is gets lost, as on a bus
                self._memory.write(d.staddr << 2, d.stdata.to_bytes(4, "little"))
        if d.if_ and not self._registers.ics.iwc:
            self._registers.ics = self._registers.ics.replace(iwc=1)
            self._completion.happened()

    def _contexts(self, d: ContextCacheInvalidate) -> bool:
        return bool(self._invalidator.contexts(d.g, d.did, d.sid, d.fm, self.scalable))

    def _translations(self, d: IotlbInvalidate) -> bool:
        return bool(self._invalidator.iotlb(d.g, d.did, d.addr * PAGE_SIZE, d.am, bool(d.ih)))

    def _pasid_translations(self, d: PasidIotlbInvalidate) -> bool:
        return self._invalidator.pasid_iotlb(d.g, d.did, d.pasid, d.addr * PAGE_SIZE, d.am, bool(d.ih))

    def _pasid_entries(self, d: PasidCacheInvalidate) -> bool:
        return self._invalidator.pasid_cache(d.g, d.did, d.pasid)

    def _interrupt_entries(self, d: InterruptEntryInvalidate) -> bool:
        return self._interrupts.invalidate(d.g, d.iidx, d.im)

    def _device_tlb(self, d: DeviceTlbInvalidate | PasidDeviceTlbInvalidate) -> bool:
        # PFSID is reserved where the physical function does not count.
        if not self._registers.ecap.dit and (d.pfsid_lo or d.pfsid_hi):
            return False
        if self._registers.ecap.dt:
            self._devices.send(d)
        return True

    def _response(self, d: PageGroupResponse) -> bool:
        self._page_requests.respond(response_of(d))
        return True

    def _wait(self, d: InvalidationWait) -> bool:
        # What a wait waits for is the queue's business, and so is when it finishes.
        registers, behaves = self._registers, self._behaves
        if d.pd and not registers.ecap.pds:
            return False
        if d.sw and d.staddr << 2 >= registers.capabilities.address_limit:
            return False
        if d.sw and not self._memory.contains(d.staddr << 2, 4) and behaves("lost_status_is_an_error"):
            return False
        if not (d.sw or d.if_) and behaves("fence_wait_is_an_error"):
            return False
        return bool(d.if_ or d.sw or d.fn or d.pd) or not behaves("bare_wait_is_an_error")
