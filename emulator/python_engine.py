"""The readable engine: walks and mappings are those of pagetables, caches and queue those of the unit."""

from __future__ import annotations

from pagetables.mapper import Mapper, PageTable, TableAllocator, TableMapper
from pagetables.memory import PhysicalMemory

__all__ = ["PythonEngine"]


class PythonEngine:
    """Executes everything in Python, one step at a time."""

    name = "python"

    def mapper(self, memory: PhysicalMemory, table: PageTable, allocator: TableAllocator) -> TableMapper:
        """The software side: maps and unmaps in `table`."""
        return Mapper(memory, table, allocator)
