"""The device's side: ports through which devices read and write memory, remapped by a unit.

A device sees a memory. It cannot ask for a translation, a page size or a domain: splitting at page boundaries is the
port's work, and translation and access are one step. Where a translation leads to no memory the bus decides, as a bus
does: reads yield all ones, writes are lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from emulator.unit.unit import RemappingUnit, in_interrupt_range
from pagetables.address import Iova, Pasid, SourceId
from pagetables.errors import NoMemory
from pagetables.fault import Fault
from pagetables.request import Access, Request, Translation

__all__ = ["Bus", "Carrier", "DmaPort"]

_ADDRESSES = 1 << 64


class Carrier:
    """Takes requests of devices apart at page boundaries. What answers and where bytes lie is a subclass's to say."""

    def port(self, source_id: SourceId, pasid: Pasid | None = None, privileged: bool = False) -> DmaPort:
        """The port of one device; a port with a PASID sends it with every request."""
        return DmaPort(self, source_id, pasid, privileged)

    def read(
        self, source_id: SourceId, iova: int, size: int, pasid: Pasid | None = None, privileged: bool = False
    ) -> bytes | Fault:
        """`size` bytes at `iova` as the device sees them, or the fault that ended the read."""
        return self.load(Request(source_id, Iova(iova), Access.READ, pasid, privileged), size)

    def write(
        self, source_id: SourceId, iova: int, data: bytes, pasid: Pasid | None = None, privileged: bool = False
    ) -> Fault | None:
        """None when `data` is written, or the fault that ended the write; what lies before it is written."""
        return self.store(Request(source_id, Iova(iova), Access.WRITE, pasid, privileged), data)

    def load(self, request: Request, size: int) -> bytes | Fault:
        """`read` of a whole request: whatever privilege, access or address type it has."""
        data = bytearray()
        for part, at, answer in self._parts(request, size):
            if isinstance(answer, Fault):
                return answer
            data += bytes(part) if in_interrupt_range(at) else self._load(answer, part)
        return bytes(data)

    def store(self, request: Request, data: bytes) -> Fault | None:
        """`write` of a whole request."""
        done = 0
        for part, at, answer in self._parts(request, len(data)):
            if isinstance(answer, Fault):
                return answer
            chunk, done = data[done : done + part], done + part
            if not in_interrupt_range(at):
                self._store(answer, chunk)
            elif (fault := self._interrupt(at, chunk)) is not None:
                return fault
        return None

    def _parts(self, request: Request, size: int) -> Iterator[tuple[int, Request, Translation | Fault]]:
        # Each piece that one translation covers: its size, its request, and the answer. Addresses wrap at 64 bits.
        done = 0
        while done < size:
            iova = Iova((request.iova + done) % _ADDRESSES)
            piece = replace(request, iova=iova)
            answer = self._answer(piece)
            page = 1 << (12 if isinstance(answer, Fault) else answer.page_shift)
            part = min(size - done, page - iova % page)
            yield part, piece, answer
            done += part

    def _answer(self, request: Request) -> Translation | Fault:
        raise NotImplementedError

    def _interrupt(self, request: Request, data: bytes) -> Fault | None:
        raise NotImplementedError

    def _load(self, where: Translation, size: int) -> bytes:
        raise NotImplementedError

    def _store(self, where: Translation, data: bytes) -> None:
        raise NotImplementedError


class Bus(Carrier):
    """Carries the requests of devices through `unit` to its memory."""

    def __init__(self, unit: RemappingUnit) -> None:
        self.unit = unit

    def _answer(self, request: Request) -> Translation | Fault:
        return self.unit.translate(request)

    def _interrupt(self, request: Request, data: bytes) -> Fault | None:
        return self.unit.interrupt(request, data)

    def _load(self, where: Translation, size: int) -> bytes:
        try:
            return self.unit.memory.read(where.gpa, size)
        except NoMemory:
            return b"\xff" * size

    def _store(self, where: Translation, data: bytes) -> None:
        try:
            self.unit.memory.write(where.gpa, data)
        except NoMemory:
            return


@dataclass(frozen=True, slots=True)
class DmaPort:
    """What a device has of the machine: a memory to read and write, under its own source-id."""

    bus: Carrier
    source_id: SourceId
    pasid: Pasid | None = None
    privileged: bool = False

    def read(self, iova: int, size: int) -> bytes | Fault:
        """`size` bytes at `iova`, or the fault that ended the read."""
        return self.bus.read(self.source_id, iova, size, self.pasid, self.privileged)

    def write(self, iova: int, data: bytes) -> Fault | None:
        """None when `data` is written, or the fault that ended the write."""
        return self.bus.write(self.source_id, iova, data, self.pasid, self.privileged)
