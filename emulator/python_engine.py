"""The readable engine: walks and mappings are those of pagetables, caches and queue those of the unit."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.engine import EngineName, Iotlb, IotlbGeometry, QueueState
from emulator.unit.iotlb import ReadableIotlb, entry_of, permits, translation_from
from pagetables.capabilities import Capabilities
from pagetables.fault import Fault
from pagetables.mapper import Mapper, PageTable, TableAllocator, TableMapper
from pagetables.memory import PhysicalMemory
from pagetables.request import Request, Translation
from pagetables.source import Source, TranslationType
from pagetables.walk import walk

__all__ = ["PythonEngine"]


class PythonEngine:
    """Executes everything in Python, one step at a time."""

    name: EngineName = "python"

    def walk(
        self, memory: PhysicalMemory, source: Source, request: Request, capabilities: Capabilities
    ) -> Translation | Fault:
        """The tables' answer, accessed and dirty bits updated as the hardware would."""
        return walk(memory, source, request, capabilities, update=True).outcome

    def translate(
        self, iotlb: Iotlb, memory: PhysicalMemory, source: Source, request: Request, capabilities: Capabilities
    ) -> Translation | Fault:
        """The IOTLB's answer where it has one that permits the request, else the tables', which is then cached."""
        if source.translation is TranslationType.PASS_THROUGH:
            return self.walk(memory, source, request, capabilities)
        cached = iotlb.lookup(source, request)
        if cached is not None and permits(cached, source, request):
            return translation_from(cached, request)
        caches = iotlb.serving(source, request) if isinstance(iotlb, ReadableIotlb) else None
        answer = walk(memory, source, request, capabilities, update=True, caches=caches).outcome
        if isinstance(answer, Translation):
            iotlb.fill(entry_of(source, request, answer))
        return answer

    def translate_many(
        self,
        iotlb: Iotlb,
        memory: PhysicalMemory,
        source: Source,
        requests: Sequence[Request],
        capabilities: Capabilities,
    ) -> list[Translation | Fault]:
        """`translate` for each request of one source, in order."""
        return [self.translate(iotlb, memory, source, request, capabilities) for request in requests]

    def mapper(self, memory: PhysicalMemory, table: PageTable, allocator: TableAllocator) -> TableMapper:
        """The software side: maps and unmaps in `table`."""
        return Mapper(memory, table, allocator)

    def iotlb(self, geometry: IotlbGeometry) -> Iotlb:
        """An empty IOTLB."""
        return ReadableIotlb(geometry)

    def run_queue(self, queue: QueueState) -> int:
        """0: every descriptor is left to the unit, which reads as the specification does."""
        return 0
