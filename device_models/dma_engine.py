"""dma-engine: copies, fills and compares memory by descriptors, with ATS, PASID and PRI; PCIe, MSI and MSI-X.

BAR 0 is 16 KiB: registers of 8 bytes (halves may be accessed alone), the MSI-X table at 1000h, its pending bits at
1800h. The words are declared in `device_models.dma_engine_words`:

    00h  Capability    version, vectors, largest ring order
    08h  Control       enable, reset
    10h  Status        running, halted, lost; outcome and reason of the last descriptor
    18h  Ring          address and order: 2**order descriptors of 64 bytes; makes head and tail 0
    20h  RingSpace     PASID and privilege in whose name the ring is read
    28h  Tail          doorbell
    30h  Head          next descriptor
    38h  FaultAddress  where the last failure was
    40h  Counters      translation requests, device-TLB hits, page requests, invalidations

A descriptor takes `latency` ns and then runs page by page, each in `page-latency` ns. With ATS on each page is
translated first, by the device-TLB or by a translation request, and accessed with a translated request; where the
right is missing and PRI is on, the page is asked for, the engine waits for the response and tries again, `retries`
times. Then the completion record is written (in the descriptor's name) and the interrupt sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from device_models.ats_access import AccessFailure, AtsAccess, Space
from device_models.ats_port import AtsPort, PortOptions, invalidations_property
from device_models.dma_engine_words import (
    REGISTERS,
    Capability,
    CompletionRecord,
    Control,
    Counters,
    Descriptor,
    FaultAddress,
    Head,
    Opcode,
    Outcome,
    Ring,
    RingSpace,
    Status,
    Tail,
    written,
)
from device_models.memory_region import MemoryRegion, Operations, Sizes
from device_models.pci.extended import ENDPOINT, ROOT_ENDPOINT, add_express_capability
from device_models.pci.function import PciFunction
from device_models.process import Process, Work, pause
from device_models.properties import Switch, Unsigned
from pagetables.address import PAGE_SIZE
from pagetables.bits import Word

__all__ = ["DmaEngine"]

VECTORS = 8
_BAR_SIZE, _MSIX_TABLE, _MSIX_PENDING = 0x4000, 0x1000, 0x1800
_ORDER = 15
_SLOT = Descriptor.width // 8
_ADDRESSES = 1 << 64


@dataclass(frozen=True, slots=True)
class _End:
    # How a descriptor ended.
    outcome: Outcome = Outcome.SUCCESS
    address: int = 0
    reason: int = 0


class DmaEngine(PciFunction):
    """1234:d3a0."""

    TYPE = "dma-engine"
    EXPLAINS = "DMA engine with ATS, PASID and page requests"
    VENDOR, DEVICE, CLASS, REVISION, EXPRESS = 0x1234, 0xD3A0, 0x0801, 1, True

    ats = Switch(True, "translation requests and a device-TLB")
    pri = Switch(True, "page requests")
    pasid_bits = Unsigned(8, 20, "0 for no PASIDs")
    device_tlb = Unsigned(16, 64, "entries of the device-TLB, 0 for none")
    pages = Unsigned(8, 1, "pages that a translation request is for")
    group = Unsigned(8, 1, "pages that are asked for at once")
    retries = Unsigned(8, 3, "how often a page is asked for")
    patience = Unsigned(64, 0, "ns to wait for a page, 0 for ever")
    latency = Unsigned(64, 1000, "ns that a descriptor takes, 1 at least")
    page_latency = Unsigned(64, 100, "ns that each page of it takes besides, 1 at least")
    answer_after = Unsigned(64, 0, "ns that an invalidation takes")
    invalidations = invalidations_property()

    def realize(self) -> None:
        """Capabilities, BAR 0, MSI and MSI-X."""
        super().realize()
        on_link = self.bus is not None and self.bus.bridge is not None
        add_express_capability(self.config, ENDPOINT if on_link else ROOT_ENDPOINT)
        self.port = AtsPort(
            self,
            PortOptions(
                ats=self.ats,
                page_requests=self.pri,
                pasid_bits=self.pasid_bits,
                capacity=self.device_tlb,
                pages=max(self.pages, 1),
                invalidations=self.invalidations,
                answer_after=self.answer_after,
                patience=self.patience,
            ),
        )
        self.access = AtsAccess(self.port, self.retries, self.group)
        self.process = Process()
        self.registers: dict[type[Word], int] = {}
        bar = MemoryRegion("dma-engine", _BAR_SIZE)
        operations = Operations(self._read, self._write, Sizes(4, 8), Sizes(4, 8))
        bar.add(MemoryRegion("dma-engine-registers", _MSIX_TABLE, operations), 0)
        self.add_bar(0, bar)
        self.add_msi(VECTORS, maskable=True)
        self.add_msix(bar, 0, VECTORS, _MSIX_TABLE, _MSIX_PENDING)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Software writes configuration space: it may have switched ATS."""
        super().config_write(offset, size, value)
        self.port.config_written()

    def reset(self) -> None:
        """No ring, nothing under way, nothing in the device-TLB."""
        super().reset()
        self.port.reset()
        self._forget()

    def unrealize(self) -> None:
        """What is under way does not happen."""
        if hasattr(self, "process"):
            self.process.abandon()
            self.port.detach()
        super().unrealize()

    def _forget(self) -> None:
        self.process.abandon()
        self.port.forget()
        self.registers = dict.fromkeys(REGISTERS.values(), 0)
        self.registers[Capability] = Capability.of(version=1, vectors=VECTORS, order=_ORDER)

    # -- registers ----------------------------------------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> int:
        kind = REGISTERS.get(offset & ~7)
        if kind is None:
            return 0
        return self._value(kind) >> 8 * (offset & 4)

    def _value(self, kind: type[Word]) -> int:
        if kind is Counters:
            port = self.port
            found = (port.translations, port.hits, port.asked, port.invalidations)
            return sum((number & 0xFFFF) << 16 * place for place, number in enumerate(found))
        if kind is Status:
            return Status(self.registers[Status]).replace(running=int(self.process.running))
        return self.registers[kind]

    def _write(self, offset: int, size: int, value: int) -> None:
        kind = REGISTERS.get(offset & ~7)
        if kind is None:
            return
        shift = 8 * (offset & 4)
        mask = (1 << 8 * size) - 1 << shift
        value = value << shift & mask
        self.registers[kind] = written(kind, self.registers[kind], value, mask)
        if kind is Control and value & Control.reset.mask:
            self._forget()
        elif kind is Ring:
            self.process.abandon()
            self.registers[Head] = self.registers[Tail] = 0
        self._go()

    def _go(self) -> None:
        status = Status(self.registers[Status])
        if self.registers[Control] & Control.enable.mask and not status.halted and self._waiting():
            self.process.start(self._serve())

    def _waiting(self) -> bool:
        return self._index(Head) != self._index(Tail)

    def _index(self, kind: type[Head | Tail]) -> int:
        return self.registers[kind] % (1 << Ring(self.registers[Ring]).order)

    # -- descriptors --------------------------------------------------------------------------------------------------

    def _serve(self) -> Work[None]:
        while self.registers[Control] & Control.enable.mask and self._waiting():
            yield pause(self.machine.clock, max(self.latency, 1))
            index = self._index(Head)
            at = Ring(self.registers[Ring]).addr * PAGE_SIZE + index * _SLOT
            raw = yield from self.access.load(self._ring_space(), at, _SLOT)
            if isinstance(raw, AccessFailure):
                self._note(_ended(raw))
                self._set(Status, halted=1)
                return
            yield from self._do(Descriptor.from_bytes(raw), index)
            self._set(Head, index=(index + 1) % (1 << Ring(self.registers[Ring]).order))

    def _ring_space(self) -> Space:
        word = RingSpace(self.registers[RingSpace])
        return Space(word.pasid if word.pp else None, bool(word.pm), not word.untranslated)

    def _do(self, job: Descriptor, index: int) -> Work[None]:
        space = Space(job.pasid if job.pp else None, bool(job.pm), not job.untranslated, not job.no_pages)
        objection = self._objection(job)
        done, end = (0, _End(objection)) if objection else (yield from self._operate(job, space))
        self._note(end)
        if job.record:
            record = CompletionRecord.of(
                outcome=end.outcome,
                reason=end.reason,
                index=index,
                done=done,
                addr=end.address,
                time=self.machine.clock.now,
            )
            lost = yield from self.access.store(space, job.completion, record.pack())
            if lost is not None:
                self._set(Status, lost=1)
        if job.notify:
            self.notify(job.vector)

    def _note(self, end: _End) -> None:
        self._set(Status, outcome=end.outcome, reason=end.reason)
        if end.outcome is not Outcome.SUCCESS:
            self._set(FaultAddress, addr=end.address)

    def _set(self, kind: type[Word], **fields: int) -> None:
        self.registers[kind] = kind(self.registers[kind]).replace(**fields)

    def _objection(self, job: Descriptor) -> Outcome | None:
        width = 0 if self.port.pasids is None else self.port.pasids.width
        nameless = job.pm and not job.pp  # privilege is said in the prefix that has the PASID
        if job.opcode > max(Opcode) or job & Descriptor.reserved_mask or nameless:
            return Outcome.BAD_DESCRIPTOR
        if not (job.pp or job.exe):
            return None
        if not self.port.may_tag(bool(job.pm), bool(job.exe)):
            return Outcome.NOT_ENABLED
        return Outcome.BAD_DESCRIPTOR if job.pasid >> width else None

    def _operate(self, job: Descriptor, space: Space) -> Work[tuple[int, _End]]:
        # In pieces that end with a page of the destination: what is done is done.
        done = 0
        while done < job.length and job.opcode != Opcode.NOTHING:
            to = (job.destination + done) % _ADDRESSES
            size = min(job.length - done, PAGE_SIZE - to % PAGE_SIZE)
            data = yield from self._source(job, space, done, size)
            if isinstance(data, AccessFailure):
                return done, _ended(data)
            compares = job.opcode == Opcode.COMPARE
            moved = yield from self.access.load(space, to, size) if compares else self.access.store(space, to, data)
            if isinstance(moved, AccessFailure):
                return done, _ended(moved)
            if moved is not None and moved != data:
                at = _difference(data, moved)
                return done + at, _End(Outcome.DIFFERENT, to + at)
            done += size
            yield pause(self.machine.clock, max(self.page_latency, 1))
        return done, _End()

    def _source(self, job: Descriptor, space: Space, done: int, size: int) -> Work[bytes | AccessFailure]:
        if job.opcode == Opcode.FILL:
            pattern = job.source.to_bytes(8, "little") * (PAGE_SIZE // 8 + 1)
            return pattern[done % 8 : done % 8 + size]
        fetching = replace(space, execute=bool(job.exe))
        found = yield from self.access.load(fetching, (job.source + done) % _ADDRESSES, size)
        return found


def _ended(failure: AccessFailure) -> _End:
    reason = 0 if failure.fault is None else int(failure.fault.reason)
    return _End(Outcome[failure.cause.name], failure.address, reason)


def _difference(one: bytes, two: bytes) -> int:
    return next(at for at, pair in enumerate(zip(one, two, strict=True)) if pair[0] != pair[1])
