"""The native engine: walks, mappings, the IOTLB and the common queue descriptors in C (emulator/core)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from emulator.engine import EngineName, Iotlb, IotlbGeometry, QueueState
from emulator.native_iotlb import NativeIotlb
from emulator.native_mapper import NativeMapper
from emulator.native_memory import bind, load_core
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.capabilities import Capabilities
from pagetables.errors import VtdError
from pagetables.fault import Fault, FaultReason
from pagetables.formats import rules
from pagetables.mapper import PageTable, TableAllocator
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, Permissions, Request, Translation
from pagetables.source import Source, TranslationType

if TYPE_CHECKING:
    from emulator._core import Lib

__all__ = ["NativeEngine"]

SPACES = 1024  # prepared spaces kept; then all are dropped
PERMISSIONS = tuple(Permissions(bits) for bits in range(16))
REASONS = {int(reason): reason for reason in FaultReason}
NO_PASID = 1 << 20
ACCESS = {Access.READ: 1, Access.WRITE: 2, Access.ATOMIC: 3, Access.EXECUTE: 4}
FLAGS = (
    ("CORE_LEGACY", "legacy"),
    ("CORE_SS_ACCESSED_DIRTY", "ss_accessed_dirty"),
    ("CORE_SS_EXECUTE", "ss_execute"),
    ("CORE_WRITE_PROTECT", "write_protect"),
    ("CORE_NO_EXECUTE", "no_execute"),
    ("CORE_SMEP", "supervisor_execute_prevention"),
    ("CORE_EXTENDED_ACCESSED", "extended_accessed"),
    ("CORE_PRIVILEGED", "privileged"),
)


class NativeEngine:
    """Executes in C. MissingCore or StaleCore, and what to do, if the core cannot be used."""

    name: EngineName = "native"

    def __init__(self) -> None:
        self.ffi: Any
        self.lib: Lib
        self.ffi, self.lib = load_core()
        self._spaces: dict[tuple[Source, Capabilities], Any] = {}
        self._last: tuple[Source, Capabilities, Any] | None = None
        self._unit: tuple[QueueState, Any, Any] | None = None

    def walk(
        self, memory: PhysicalMemory, source: Source, request: Request, capabilities: Capabilities
    ) -> Translation | Fault:
        """The tables' answer, accessed and dirty bits updated as the hardware would."""
        answer = self.ffi.new("struct core_answer *")
        self.lib.core_walk(
            bind(self.ffi, memory).struct, self.space(source, capabilities), self.request(request), answer
        )
        return _outcome(answer, source, request)

    def translate(
        self, iotlb: Iotlb, memory: PhysicalMemory, source: Source, request: Request, capabilities: Capabilities
    ) -> Translation | Fault:
        """The IOTLB's answer where it has one that permits the request, else the tables', which is then cached."""
        answer = self.ffi.new("struct core_answer *")
        self.lib.core_translate(
            _native(iotlb).struct,
            bind(self.ffi, memory).struct,
            self.space(source, capabilities),
            self.request(request),
            answer,
        )
        return _outcome(answer, source, request)

    def translate_many(
        self,
        iotlb: Iotlb,
        memory: PhysicalMemory,
        source: Source,
        requests: Sequence[Request],
        capabilities: Capabilities,
    ) -> list[Translation | Fault]:
        """`translate` for each request of one source, in order."""
        outcomes: list[Translation | Fault] = []
        space, where = self.space(source, capabilities), bind(self.ffi, memory).struct
        for _, group in groupby(requests, key=_all_but_address):
            run = list(group)
            first = self.request(run[0])
            iovas = self.ffi.new("uint64_t[]", [request.iova for request in run])
            answers = self.ffi.new("struct core_answer[]", len(run))
            self.lib.core_translate_many(_native(iotlb).struct, where, space, first, iovas, len(run), answers)
            outcomes += (_outcome(answer, source, request) for answer, request in zip(answers, run, strict=True))
        return outcomes

    def mapper(self, memory: PhysicalMemory, table: PageTable, allocator: TableAllocator) -> NativeMapper:
        """The software side: maps and unmaps in `table`."""
        return NativeMapper(self.ffi, self.lib, bind(self.ffi, memory), table, allocator)

    def iotlb(self, geometry: IotlbGeometry) -> NativeIotlb:
        """An empty IOTLB that this engine can use."""
        return NativeIotlb(self.ffi, self.lib, geometry)

    def run_queue(self, queue: QueueState) -> int:
        """Execute common descriptors from IQH on; the number executed. What is rare is left to the unit."""
        return self.lib.core_queue_run(self.unit(queue))

    # -- structures of the core, for callers that work on arrays ------------------------------------------------------

    def request(self, request: Request) -> Any:
        """A `struct core_request`."""
        if request.iova >> 64:
            raise VtdError(f"iova {request.iova:#x} does not fit 64 bits")
        pasid = NO_PASID if request.pasid is None else request.pasid
        fields = (request.iova, ACCESS[request.access], pasid, request.source_id, request.privileged)
        return self.ffi.new("struct core_request *", fields)

    def space(self, source: Source, capabilities: Capabilities) -> Any:
        """The `struct core_space` of a source; the same one for equal arguments."""
        last = self._last
        if last is not None and last[0] is source and last[1] is capabilities:
            return last[2]
        space = self._spaces.get((source, capabilities))
        if space is None:
            if len(self._spaces) >= SPACES:
                self._spaces.clear()
            space = self._spaces[source, capabilities] = self._make_space(source, capabilities)
        self._last = (source, capabilities, space)
        return space

    def _make_space(self, source: Source, capabilities: Capabilities) -> Any:
        _check_tables(source)
        rule = rules(capabilities, source)
        space = self.ffi.new("struct core_space *")
        space.second = (
            source.ss_table,
            rule.ss_reserved_table,
            rule.ss_reserved_leaf,
            rule.ss_large,
            source.ss_levels,
        )
        space.first = (source.fs_table, rule.fs_reserved_table, rule.fs_reserved_leaf, rule.fs_large, source.fs_levels)
        space.input_limit, space.address_limit = rule.ss_input_limit, rule.address_limit
        space.flags = sum(getattr(self.lib, flag) for flag, name in FLAGS if getattr(source, name))
        if source.walk_snoop and capabilities.ecap.smpwcs:
            space.flags |= self.lib.CORE_UPDATE_SNOOPED
        space.translation, space.domain_id = source.translation, source.domain_id
        space.rid_pasid = source.rid_pasid
        return space

    def unit(self, queue: QueueState) -> Any:
        """A `struct core_unit` that works on the queue's registers and memory."""
        if self._unit is None or self._unit[0] is not queue:
            registers = self.ffi.from_buffer("uint8_t[]", queue.registers, require_writable=True)
            self._unit = (queue, self.ffi.new("struct core_unit *"), registers)
        unit: Any = self._unit[1]
        mask = queue.capabilities.largest_address_mask
        unit.memory, unit.iotlb = bind(self.ffi, queue.memory).struct, _native(queue.iotlb).struct
        unit.registers = self._unit[2]
        unit.queue_base, unit.queue_size, unit.slot = queue.base, queue.size, queue.slot
        unit.address_limit, unit.mask_limit = queue.capabilities.address_limit, 0 if mask is None else mask + 1
        return unit


def _check_tables(source: Source) -> None:
    stages = {
        TranslationType.FIRST_STAGE: ((source.fs_levels, source.fs_table),),
        TranslationType.SECOND_STAGE: ((source.ss_levels, source.ss_table),),
        TranslationType.NESTED: ((source.fs_levels, source.fs_table), (source.ss_levels, source.ss_table)),
    }
    for levels, table in stages.get(source.translation, ()):
        if not 1 <= levels <= 5 or table % PAGE_SIZE:
            raise VtdError(f"{levels} levels of tables from {table:#x} on: expected 1 to 5, and a page-aligned root")


def _native(iotlb: Iotlb) -> NativeIotlb:
    if not isinstance(iotlb, NativeIotlb):
        raise VtdError(f"the native engine cannot use a {type(iotlb).__name__}; make one with engine.iotlb()")
    return iotlb


def _all_but_address(request: Request) -> tuple[object, ...]:
    return (request.access, request.pasid, request.source_id, request.privileged)


def _outcome(answer: Any, source: Source, request: Request) -> Translation | Fault:
    if not answer.reason:
        return Translation(Gpa(answer.address), answer.page_shift, PERMISSIONS[answer.permissions])
    at = answer.address if answer.level else None
    disabled = source.fault_processing_disabled
    return Fault(REASONS[answer.reason], request, at, answer.level, disabled=disabled)
