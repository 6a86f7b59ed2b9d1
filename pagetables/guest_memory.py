"""Memory as the second stage of a nested space shows it: what its first-stage tables lie in."""

from __future__ import annotations

from pagetables.address import PAGE_SIZE, DomainId, Gpa, Iova, SourceId
from pagetables.capabilities import Capabilities
from pagetables.errors import NoMemory
from pagetables.memory import Memory
from pagetables.request import Access, Request, Translation
from pagetables.source import Source, TranslationType
from pagetables.walk import walk

__all__ = ["GuestMemory"]


class GuestMemory:
    """A `Memory` of guest addresses, behind the second-stage tables of `levels` at `table`; what they do not map is
    not there."""

    def __init__(self, memory: Memory, table: Gpa, levels: int, capabilities: Capabilities) -> None:
        self._memory = memory
        self._is_readable = levels in (3, 4, 5)  # any other AW is an error of its PASID entry
        self._source = Source(TranslationType.SECOND_STAGE, DomainId(0), False, table, levels)
        self._capabilities = capabilities

    def translate(self, address: int) -> Gpa | None:
        """Where the byte at the guest's `address` lies, or None."""
        if not self._is_readable:
            return None
        request = Request(SourceId(0), Iova(address), Access.READ)
        outcome = walk(self._memory, self._source, request, self._capabilities).outcome
        return outcome.gpa if isinstance(outcome, Translation) else None

    def load(self, address: int) -> int | None:
        """The little-endian qword at `address`, or None where there is no memory."""
        gpa = self.translate(address)
        return None if gpa is None else self._memory.load(gpa)

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`; NoMemory if any of them is not there."""
        pieces = []
        end = address + size
        while address < end:
            length = min(end, (address // PAGE_SIZE + 1) * PAGE_SIZE) - address
            gpa = self.translate(address)
            if gpa is None:
                raise NoMemory(address, length)
            pieces.append(self._memory.read(gpa, length))
            address += length
        return b"".join(pieces)
