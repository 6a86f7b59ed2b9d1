"""A driver for one unit, as a kernel has it: it knows capabilities, tables in memory, a queue, and MMIO.

The order of steps follows the specification's guidance on what software has to invalidate after which change, and the
Linux driver where the specification leaves a choice.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from emulator.mapping.contexts import LegacyContexts, Pages, ScalableContexts, zeroed_page
from emulator.mapping.queue import InvalidationQueue
from emulator.mmio import Mmio
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, SourceId
from pagetables.bits import Word
from pagetables.capabilities import Capabilities
from pagetables.errors import VtdError
from pagetables.layouts.descriptors import (
    ContextCacheInvalidate,
    IotlbInvalidate,
    PasidCacheInvalidate,
    PasidIotlbInvalidate,
)
from pagetables.layouts.registers import (
    Capability,
    ExtendedCapability,
    FaultStatus,
    GlobalCommand,
    GlobalStatus,
    InvalidationQueueAddress,
    InvalidationQueueTail,
    RootTableAddress,
)
from pagetables.mapper import PageTable, Stage
from pagetables.memory import PhysicalMemory

__all__ = ["DriverError", "InvalidationCounts", "Mode", "UnitDriver", "covering_order"]

GLOBAL, DOMAIN, SELECTIVE = 1, 2, 3  # granularities of context-cache and IOTLB descriptors
PERSISTENT = (
    GlobalStatus.tes.mask | GlobalStatus.qies.mask | GlobalStatus.ires.mask | GlobalStatus.cfis.mask
)  # the commands that every write of GCMD has to repeat
POLLS = 1000
WHOLE_SPACE = 64 - PAGE_SHIFT


class DriverError(VtdError):
    """The unit cannot do what the driver needs, or did not do what it was told."""


class Mode(enum.Enum):
    """The translation table mode a driver chooses; the value is RTADDR.TTM."""

    LEGACY = 0
    SCALABLE = 1


@dataclass(slots=True)
class InvalidationCounts:
    """IOTLB invalidations by granularity, other cache invalidations, and waits, as submitted."""

    global_: int = 0
    domain: int = 0
    page: int = 0
    pasid: int = 0
    context: int = 0
    pasid_cache: int = 0
    wait: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counts by name, as a report prints them."""
        names = self.__dataclass_fields__
        return {name.rstrip("_"): getattr(self, name) for name in names}


def covering_order(iova: int, size: int) -> int:
    """The address mask of a page-selective invalidation for [iova, iova + size): log2 of pages, naturally aligned.

    The number of pages is rounded up to a power of two first, as Linux does; a start that is not aligned to it takes
    the mask up to the highest bit in which first and last page differ.
    """
    first = iova >> PAGE_SHIFT
    pages = (iova + size + PAGE_SIZE - 1 >> PAGE_SHIFT) - first
    order = (pages - 1).bit_length()
    if first & (1 << order) - 1:
        order = (first ^ first + (1 << order) - 1).bit_length()
    return order


@dataclass(slots=True)
class _Attached:
    domain_id: int
    table: PageTable = field(repr=False)


class UnitDriver:
    """Works one unit through `mmio`, with structures in `memory` whose pages come from `pages`.

    `idle` runs between two polls of a unit that takes virtual time. `by_domain` counts what `submit` was given for the
    IOTLB entries of one domain, by its id.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        mmio: Mmio,
        pages: Pages,
        mode: Mode = Mode.LEGACY,
        idle: Callable[[], object] | None = None,
    ) -> None:
        self.mode = mode
        self.capabilities = Capabilities(
            Capability(mmio.read64(Capability.mmio_offset)),
            ExtendedCapability(mmio.read64(ExtendedCapability.mmio_offset)),
        )
        self.attached: dict[SourceId, _Attached] = {}
        self.counts = InvalidationCounts()
        self.by_domain: dict[int, InvalidationCounts] = {}
        self._memory, self._mmio, self._pages = memory, mmio, pages
        self._idle = idle or (lambda: None)
        self._selective = int(self._iotlb(g=SELECTIVE))
        self._check()
        self.contexts = self._make_contexts()
        slot = 32 if mode is Mode.SCALABLE else 16
        queue_page, status_page = zeroed_page(memory, pages), zeroed_page(memory, pages)
        self.queue = InvalidationQueue(memory, mmio, queue_page, status_page, slot, idle)

    def _check(self) -> None:
        if not self.capabilities.ecap.qi:
            raise DriverError("the unit has no queued invalidation (ECAP.QI=0), which this driver needs")
        if self.mode is Mode.SCALABLE and not self.capabilities.ecap.smts:
            raise DriverError("the unit has no scalable mode (ECAP.SMTS=0); use mode=legacy or another profile")

    def _make_contexts(self) -> LegacyContexts | ScalableContexts:
        if self.mode is Mode.LEGACY:
            return LegacyContexts(self._memory, self._pages)
        return ScalableContexts(self._memory, self._pages, bool(self.capabilities.ecap.smpwcs))

    def enable(self) -> None:
        """Bring the unit up: queue on, root table set, caches empty, translation on."""
        write64 = self._mmio.write64
        write64(InvalidationQueueTail.mmio_offset, 0)
        write64(InvalidationQueueAddress.mmio_offset, self.queue.address)
        self._command(GlobalCommand.qie.mask, GlobalStatus.qies.mask)
        root = RootTableAddress.of(rta=self.contexts.root >> PAGE_SHIFT, ttm=self.mode.value)
        write64(RootTableAddress.mmio_offset, root)
        self._command(GlobalCommand.srtp.mask, GlobalStatus.rtps.mask)
        if not self.capabilities.cap.esrtps:
            self._invalidate_everything()
        self._command(GlobalCommand.te.mask, GlobalStatus.tes.mask)

    def disable(self) -> None:
        """Translation off, then the queue: requests pass untranslated afterwards."""
        self._command(0, GlobalStatus.tes.mask, clear=GlobalCommand.te.mask)
        self._command(0, GlobalStatus.qies.mask, clear=GlobalCommand.qie.mask)
        self.queue.tail = 0

    def attach(self, source_id: SourceId, domain_id: int, table: PageTable) -> None:
        """Requests of `source_id` go through `table` from now on; DriverError if it is attached already."""
        if source_id in self.attached:
            raise DriverError(
                f"source-id {source_id:#06x} is attached to domain-id {self.attached[source_id].domain_id}"
            )
        self.contexts.install(source_id, domain_id, table)
        self.attached[source_id] = _Attached(domain_id, table)
        if self.capabilities.cap.cm:
            self._invalidate_not_present(source_id, domain_id)
        else:
            self.flush_write_buffer()

    def detach(self, source_id: SourceId) -> None:
        """Requests of `source_id` find no entry from now on."""
        gone = self.attached.pop(source_id, None)
        if gone is None:
            raise DriverError(f"source-id {source_id:#06x} is not attached")
        self.contexts.clear_present(source_id)
        if isinstance(self.contexts, ScalableContexts):
            self._take_down_pasid(self.contexts, source_id, gone)
        else:
            self.submit(
                self._context_descriptor(SELECTIVE, gone.domain_id, source_id), self._domain_descriptor(gone.domain_id)
            )
            self.contexts.erase(source_id)

    def _take_down_pasid(self, contexts: ScalableContexts, source_id: SourceId, gone: _Attached) -> None:
        first_stage = gone.table.stage is Stage.FIRST
        whole = self._pasid_descriptor if first_stage else self._domain_descriptor
        self.submit(self._pasid_cache_descriptor(1, gone.domain_id), whole(gone.domain_id))
        contexts.erase(source_id)
        freed = contexts.clear_context(source_id)
        self.submit(self._context_descriptor(SELECTIVE, 0, source_id))
        contexts.erase_context(source_id)
        self._pages.give_back(freed)

    def submit(self, *descriptors: Word) -> None:
        """Have these descriptors executed, in order; returns when they are."""
        for descriptor in descriptors:
            self._count(descriptor)
        self.counts.wait += 1
        self.queue.submit(descriptors)

    def invalidate_range(self, domain_id: int, stage: Stage, iova: int, size: int, leaves_only: bool) -> None:
        """What was cached of [iova, iova + size) is gone when this returns; `leaves_only` if no table went with it."""
        order = covering_order(iova, size)
        if stage is Stage.FIRST:
            self.submit(self._pasid_range(domain_id, iova, order, leaves_only))
        elif not self.capabilities.cap.psi or order > self.capabilities.cap.mamv:
            self.submit(self._domain_descriptor(domain_id))
        else:
            self.submit(self._range_descriptor(domain_id, iova, order, leaves_only))

    def invalidate_domain(self, domain_id: int, stage: Stage = Stage.SECOND) -> None:
        """Nothing of the domain's tables is cached when this returns."""
        first = stage is Stage.FIRST
        self.submit(self._pasid_descriptor(domain_id) if first else self._domain_descriptor(domain_id))

    def invalidate_global(self) -> None:
        """Nothing of any domain's tables is cached when this returns, whatever the stage."""
        self.submit(self._iotlb(g=GLOBAL))

    def mapped(self, domain_id: int, stage: Stage, iova: int, size: int) -> None:
        """What a unit needs to hear of a new mapping: nothing, unless it caches absent entries or buffers writes."""
        if self.capabilities.cap.cm and stage is Stage.SECOND:
            self.invalidate_range(domain_id, stage, iova, size, leaves_only=False)
        else:
            self.flush_write_buffer()

    def flush_write_buffer(self) -> None:
        """Table writes are visible to the unit; only units with CAP.RWBF need it."""
        if self.capabilities.cap.rwbf:
            self._command(GlobalCommand.wbf.mask, GlobalStatus.wbfs.mask, until=0)

    def clear_faults(self) -> None:
        """Every fault record is free again, as after an interrupt handler has read them."""
        cap = self.capabilities.cap
        for index in range(cap.nfr + 1):
            upper = 16 * (cap.fro + index) + 8
            if self._mmio.read64(upper) >> 63:
                self._mmio.write64(upper, 1 << 63)
        self._mmio.write32(FaultStatus.mmio_offset, FaultStatus.pfo.mask)

    def _invalidate_everything(self) -> None:
        # Without ESRTPS a new root pointer leaves all caches alone: context, then PASID, then IOTLB.
        self.submit(self._context_descriptor(GLOBAL))
        if self.mode is Mode.SCALABLE:
            self.submit(self._pasid_cache_descriptor(SELECTIVE))
        self.submit(self._iotlb(g=GLOBAL))

    def _invalidate_not_present(self, source_id: SourceId, domain_id: int) -> None:
        # A unit in caching mode keeps an absent context entry under domain-id 0.
        if self.mode is Mode.LEGACY:
            self.submit(self._context_descriptor(SELECTIVE, 0, source_id), self._domain_descriptor(domain_id))
            return
        self.submit(self._pasid_cache_descriptor(1, domain_id), self._pasid_descriptor(domain_id))
        self.submit(self._context_descriptor(SELECTIVE, 0, source_id), self._domain_descriptor(0))

    def _command(self, command: int, status: int, clear: int = 0, until: int | None = None) -> None:
        present = self._mmio.read32(GlobalStatus.mmio_offset) & PERSISTENT & ~clear
        self._mmio.write32(GlobalCommand.mmio_offset, present | command)
        wanted = until if until is not None else (0 if clear else status)
        for _ in range(POLLS):
            if self._mmio.read32(GlobalStatus.mmio_offset) & status == wanted:
                return
            self._idle()
        raise DriverError(f"GSTS never became {wanted:#x} in the bits {status:#x} after GCMD={present | command:#x}")

    def _count(self, descriptor: Word) -> None:
        match descriptor:
            case ContextCacheInvalidate():
                self.counts.context += 1
            case PasidCacheInvalidate():
                self.counts.pasid_cache += 1
            case IotlbInvalidate(g=g) | PasidIotlbInvalidate(g=g):
                self._count_iotlb(descriptor, g)

    def _count_iotlb(self, descriptor: Word, g: int) -> None:
        if g == GLOBAL:
            self.counts.global_ += 1
            return
        did = descriptor >> IotlbInvalidate.did.lo & 0xFFFF  # it lies there in both kinds
        own = self.by_domain.get(did) or self.by_domain.setdefault(did, InvalidationCounts())
        for counts in (self.counts, own):
            if g == SELECTIVE:
                counts.page += 1
            elif isinstance(descriptor, PasidIotlbInvalidate):
                counts.pasid += 1
            else:
                counts.domain += 1

    def _context_descriptor(self, g: int, domain_id: int = 0, source_id: int = 0) -> Word:
        return ContextCacheInvalidate.of(type_lo=1, g=g, did=domain_id, sid=source_id)

    def _pasid_cache_descriptor(self, g: int, domain_id: int = 0) -> Word:
        return PasidCacheInvalidate.of(type_lo=7, g=g, did=domain_id)

    def _iotlb(self, **fields: int) -> Word:
        cap = self.capabilities.cap
        return IotlbInvalidate.of(type_lo=2, dr=cap.drd, dw=cap.dwd, **fields)

    def _domain_descriptor(self, domain_id: int) -> Word:
        return self._iotlb(g=DOMAIN, did=domain_id)

    def _pasid_descriptor(self, domain_id: int) -> Word:
        return PasidIotlbInvalidate.of(type_lo=6, g=DOMAIN, did=domain_id)

    def _range_descriptor(self, domain_id: int, iova: int, order: int, leaves_only: bool) -> Word:
        # The commonest descriptor by far: put together by shifts, which is what `of` does field by field.
        page = iova >> PAGE_SHIFT + order << order
        return IotlbInvalidate(
            self._selective
            | domain_id << IotlbInvalidate.did.lo
            | order << IotlbInvalidate.am.lo
            | page << IotlbInvalidate.addr.lo
            | leaves_only << IotlbInvalidate.ih.lo
        )

    def _pasid_range(self, domain_id: int, iova: int, order: int, leaves_only: bool) -> Word:
        if order >= WHOLE_SPACE:
            return self._pasid_descriptor(domain_id)
        page = iova >> PAGE_SHIFT + order << order
        return PasidIotlbInvalidate.of(type_lo=6, g=SELECTIVE, did=domain_id, am=order, addr=page, ih=int(leaves_only))
