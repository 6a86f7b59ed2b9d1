"""One interrupt, step by step: message, interrupt remapping entry, posted interrupt descriptor.

Checks come in the order of the specification: is it an interrupt (29h); compatibility format (25h); the message (20h);
index (21h); entry readable (23h), present (22h), reserved fields (24h), source (26h); and of a posted interrupt the
descriptor readable (27h), reserved bits (28h). FPD counts as soon as the entry that has it was read, even where that
entry is not present (VT-d, "Interrupt Remapping", "Interrupt Posting").

A remapping that does not update (`update=False`) ends as the hardware's would, but writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

from pagetables.address import PAGE_SIZE, Gpa, SourceId, format_source_id
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault, FaultReason
from pagetables.interrupt_entry import (
    SPECIFIED,
    InterruptRules,
    interrupt_entry,
    interrupt_entry_error,
    serves_source,
)
from pagetables.interrupt_message import Interrupt, compatibility_interrupt
from pagetables.layouts.interrupt import (
    PostedInterruptDescriptor,
    PostedInterruptEntry,
    RemappableMsiAddress,
    RemappableMsiData,
    RemappedInterruptEntry,
)
from pagetables.layouts.registers import GlobalStatus, InterruptRemappingTableAddress
from pagetables.layouts.values import DestinationMode, TriggerMode
from pagetables.memory import Memory, WritableMemory
from pagetables.request import Access, AddressType, Request
from pagetables.step import Step, load_words

__all__ = [
    "ENTRY_SIZE",
    "EntryCache",
    "Interrupt",
    "InterruptEntry",
    "InterruptRules",
    "PostedInterrupt",
    "Remapping",
    "is_interrupt",
    "remap",
]

ENTRY_SIZE = 16
_MESSAGE_SIZE = 4
_PREFIX = 0xFEE
_REMAPPING = GlobalStatus.of(ires=1)
_CONTROL = 32  # where ON, SN, NV and NDST are, behind the 256 bits of PIR


@dataclass(frozen=True, slots=True)
class InterruptEntry:
    """An entry as an interrupt-entry cache holds it: its index (the tag), its raw word, and where it was."""

    index: int
    entry: RemappedInterruptEntry | PostedInterruptEntry
    at: Gpa


class EntryCache(Protocol):
    """What `remap` asks of an interrupt-entry cache."""

    def lookup(self, index: int) -> InterruptEntry | None:
        """The entry cached for `index`, or None."""
        ...

    def fill(self, entry: InterruptEntry) -> None:
        """Here is an entry that may be kept: present and valid, or not present where CAP.CM=1."""
        ...


@dataclass(frozen=True, slots=True)
class PostedInterrupt:
    """An interrupt that became a bit in memory: `vector` in PIR of the descriptor at `at`.

    `descriptor` is the descriptor after posting. `notification` is the interrupt that tells of it, None where the
    descriptor has one outstanding (ON) or suppresses it (SN, unless the entry is `urgent`).
    """

    source_id: SourceId
    vector: int
    urgent: bool
    at: Gpa
    descriptor: PostedInterruptDescriptor
    notification: Interrupt | None


@dataclass(frozen=True, slots=True)
class Remapping:
    """What becomes of an interrupt, and every structure that was read on the way."""

    outcome: Interrupt | PostedInterrupt | Fault
    steps: tuple[Step, ...] = ()


def is_interrupt(request: Request, data: bytes) -> bool:
    """True for an untranslated write of one aligned dword without PASID: in the interrupt range, it is an interrupt."""
    return (
        request.access is Access.WRITE
        and request.pasid is None
        and request.address_type is AddressType.UNTRANSLATED
        and len(data) == _MESSAGE_SIZE
        and request.iova % _MESSAGE_SIZE == 0
    )


def remap(
    memory: Memory,
    irta: InterruptRemappingTableAddress,
    request: Request,
    data: bytes,
    capabilities: Capabilities,
    status: GlobalStatus = _REMAPPING,
    *,
    rules: InterruptRules = SPECIFIED,
    cache: EntryCache | None = None,
    update: bool = False,
) -> Remapping:
    """What becomes of `data` that `request` writes to the interrupt range, under the table of `irta` (as latched).

    Of `status`, IRES, CFIS and TES count; without it interrupts are remapped and compatibility format is blocked. With
    `update` a posted interrupt is posted: `memory` must be writable. Entries come from `cache` where it has them.
    """
    remapper = _Remapper(memory, irta, request, data, capabilities, status, rules, cache, update)
    return Remapping(remapper.answer(), tuple(remapper.steps))


class _Remapper:
    def __init__(
        self,
        memory: Memory,
        irta: InterruptRemappingTableAddress,
        request: Request,
        data: bytes,
        capabilities: Capabilities,
        status: GlobalStatus,
        rules: InterruptRules,
        cache: EntryCache | None,
        update: bool,
    ) -> None:
        self.steps: list[Step] = []
        self._memory = memory
        self._writer = cast(WritableMemory, memory) if update else None
        self._irta = irta
        self._request = request
        self._data = data
        self._capabilities = capabilities
        self._status = status
        self._rules = rules
        self._cache = cache
        self._index = 0
        self._disabled = False

    def _fault(self, reason: FaultReason, at: int | None = None) -> Fault:
        return Fault(reason, self._request, at, disabled=self._disabled, index=self._index)

    # The message

    def answer(self) -> Interrupt | PostedInterrupt | Fault:
        if not is_interrupt(self._request, self._data):
            # A unit that remaps nothing logs nothing.
            idle = not (self._status.tes or self._status.ires)
            return Fault(FaultReason.IR_NOT_AN_INTERRUPT, self._request, silent=idle)
        if not self._status.ires:
            return compatibility_interrupt(self._request, self._data)
        if self._request.iova >> 20 != _PREFIX:
            return self._fault(FaultReason.IR_REQUEST_RESERVED)
        address = RemappableMsiAddress(self._request.iova)
        if not address.if_:
            return self._compatibility_format()
        data = RemappableMsiData.from_bytes(self._data)
        # Without SHV the data says nothing.
        misused = bool(address.shv and data & data.reserved_mask)
        if misused and not self._rules.check_subhandle_late:
            return self._fault(FaultReason.IR_REQUEST_RESERVED)
        index = address.handle15 << 15 | address.handle14_0
        return self._remapped(index + (data.subhandle if address.shv else 0), misused)

    def _compatibility_format(self) -> Interrupt | Fault:
        # x2APIC mode has no compatibility format, whatever CFIS says.
        blocked = self._irta.eime or not self._status.cfis
        if blocked and not self._rules.pass_compatibility_format:
            return self._fault(FaultReason.IR_COMPATIBILITY_BLOCKED)
        return compatibility_interrupt(self._request, self._data)

    # The entry

    def _remapped(self, index: int, misused: bool) -> Interrupt | PostedInterrupt | Fault:
        self._index = index & 0xFFFF if self._rules.wrap_interrupt_index else index
        found = self._entry()
        if isinstance(found, Fault):
            return found
        entry = found.entry
        if not serves_source(entry, self._request.source_id, self._rules):
            return self._fault(FaultReason.IR_SOURCE_INVALID, found.at)
        if misused:
            return Fault(FaultReason.IR_REQUEST_RESERVED, self._request)
        return self._posted(entry) if isinstance(entry, PostedInterruptEntry) else self._delivered(entry)

    def _entry(self) -> InterruptEntry | Fault:
        # A sum of handle and subhandle has 17 bits; the largest table 2^16 entries.
        if self._index >= 1 << self._irta.s + 1:
            return self._fault(FaultReason.IR_INDEX_BEYOND_TABLE)
        found = self._cache.lookup(self._index) if self._cache is not None else None
        if found is not None:
            return self._checked(found, "from the interrupt-entry cache")
        at = self._irta.irta * PAGE_SIZE + self._index * ENTRY_SIZE
        if at >= self._capabilities.address_limit:
            return self._fault(FaultReason.IR_INDEX_BEYOND_TABLE)
        raw = load_words(self._memory, at, RemappedInterruptEntry)
        if raw is None:
            return self._fault(FaultReason.IR_TABLE_ACCESS, at)
        return self._checked(InterruptEntry(self._index, interrupt_entry(raw, self._rules), Gpa(at)))

    def _checked(self, found: InterruptEntry, cached: str = "") -> InterruptEntry | Fault:
        entry, extended = found.entry, bool(self._irta.eime)
        self._disabled = bool(entry.fpd)
        self.steps.append(Step.of(entry, found.index, found.at, note=cached or self._note(entry)))
        error = interrupt_entry_error(entry, extended, self._capabilities, self._rules)
        absent = error is FaultReason.IR_NOT_PRESENT and self._capabilities.cap.cm
        if self._cache is not None and not cached and (error is None or absent):
            self._cache.fill(found)
        return found if error is None else self._fault(error, found.at)

    def _note(self, entry: RemappedInterruptEntry | PostedInterruptEntry) -> str:
        if not entry.p or serves_source(entry, self._request.source_id, self._rules):
            return ""
        return f"does not serve {format_source_id(self._request.source_id)}"

    def _destination(self, field: int) -> int:
        return field if self._irta.eime else field >> 8 & 0xFF  # EIME=0: the 8 bits 15:8

    def _delivered(self, entry: RemappedInterruptEntry) -> Interrupt:
        return Interrupt(
            source_id=self._request.source_id,
            vector=entry.v,
            destination=self._destination(entry.dst),
            destination_mode=DestinationMode(entry.dm),
            delivery_mode=entry.dlm,
            trigger=TriggerMode(entry.tm),
            redirection_hint=bool(entry.rh),
            x2apic=bool(self._irta.eime),
            remapped=True,
        )

    # The posted interrupt descriptor

    def _posted(self, entry: PostedInterruptEntry) -> PostedInterrupt | Fault:
        at = entry.pdah << 32 | entry.pdal << 6
        raw = load_words(self._memory, at, PostedInterruptDescriptor)
        if raw is None:
            return self._fault(FaultReason.IR_POSTED_ACCESS, at)
        descriptor = PostedInterruptDescriptor(raw)
        notify = not descriptor.on and bool(entry.urg or not descriptor.sn)
        self.steps.append(Step.of(descriptor, 0, at, note="" if notify else _silence(descriptor)))
        reserved = descriptor.reserved_mask
        if self._rules.ignore_descriptor_tail:
            reserved &= ~PostedInterruptDescriptor.rsvd_511_320.mask
        if descriptor & reserved:
            return self._fault(FaultReason.IR_POSTED_RESERVED, at)
        posted = descriptor.replace(pir=descriptor.pir | 1 << entry.vv, on=descriptor.on | notify)
        if not self._store(at, entry.vv, posted):
            return self._fault(FaultReason.IR_POSTED_ACCESS, at)
        told = self._notification(descriptor) if notify else None
        return PostedInterrupt(self._request.source_id, entry.vv, bool(entry.urg), Gpa(at), posted, told)

    def _store(self, at: int, vector: int, descriptor: PostedInterruptDescriptor) -> bool:
        # One locked update on a bus: nothing comes between reading and writing here.
        if self._writer is None:
            return True
        words = descriptor.qwords()
        return all(self._writer.store(at + offset, words[offset // 8]) for offset in (vector // 64 * 8, _CONTROL))

    def _notification(self, descriptor: PostedInterruptDescriptor) -> Interrupt:
        return Interrupt(
            source_id=self._request.source_id,
            vector=descriptor.nv,
            destination=self._destination(descriptor.ndst),
            x2apic=bool(self._irta.eime),
            remapped=True,
        )


def _silence(descriptor: PostedInterruptDescriptor) -> str:
    return "a notification is outstanding" if descriptor.on else "notifications are suppressed"
