"""A part of a memory: the bytes that were asked for, and nothing else of their pages."""

from __future__ import annotations

from collections.abc import Iterator

from pagetables.address import PAGE_SIZE
from pagetables.errors import NoMemory
from pagetables.images.acpi import find_dmar
from pagetables.images.inspection import inspect_unit
from pagetables.images.registers import RegisterPage
from pagetables.layouts.registers import PageRequestQueueAddress
from pagetables.memory import Memory

__all__ = ["Excerpt", "KeptPages", "tables_of"]

_Parts = set[tuple[int, int]]  # offset and size


class Excerpt:
    """What is read through it is what it holds; a `Memory` to read, then a `Sparse` to write.

    A page of which only some bytes were read is zero elsewhere.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._pages: dict[int, _Parts] = {}

    def load(self, address: int) -> int | None:
        """The little-endian qword at `address`, which is kept; None where there is no memory."""
        value = self._memory.load(address)
        if value is not None:
            self._keep(address, 8)
        return value

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`, which are kept; NoMemory if any of them is outside memory."""
        data = self._memory.read(address, size)
        self._keep(address, size)
        return data

    def keep(self, address: int, size: int) -> None:
        """Keep what there is of the `size` bytes at `address`."""
        for start, end in _by_page(address, size):
            if self._has(start, end - start):
                self._keep(start, end - start)

    def _has(self, address: int, size: int) -> bool:
        try:
            self._memory.read(address, size)
        except NoMemory:
            return False
        return True

    def _keep(self, address: int, size: int) -> None:
        for start, end in _by_page(address, size):
            page = start // PAGE_SIZE * PAGE_SIZE
            self._pages.setdefault(page, set()).add((start - page, end - start))

    def kept(self) -> KeptPages:
        """What was kept until now."""
        return KeptPages(self._memory, self._pages)


class KeptPages:
    """The pages of an excerpt, to be written to a file."""

    def __init__(self, memory: Memory, pages: dict[int, _Parts]) -> None:
        self._memory = memory
        self._parts = {page: _whole(parts) for page, parts in sorted(pages.items())}
        self.regions = tuple(_runs(self._parts))
        self._filled = tuple(_runs(page for page in self._parts if any(self.page(page))))

    def __len__(self) -> int:
        return len(self._parts)

    def touched(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each run of pages that are not all zero, ascending."""
        return iter(self._filled)

    def page(self, address: int) -> bytes:
        """The page at `address`: what was kept of it, and zeros."""
        page = bytearray(PAGE_SIZE)
        for offset, size in self._parts[address]:
            page[offset : offset + size] = self._memory.read(address + offset, size)
        return bytes(page)

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`; NoMemory if any of them is in no page that was kept."""
        pieces = []
        for start, end in _by_page(address, size):
            page = start // PAGE_SIZE * PAGE_SIZE
            if page not in self._parts:
                raise NoMemory(address, size)
            pieces.append(self.page(page)[start - page : end - page])
        return b"".join(pieces)


def tables_of(memory: Memory, units: tuple[RegisterPage, ...]) -> KeptPages:
    """What `units` look at, and nothing else of `memory`.

    That is root, context, PASID and paging tables, interrupt remapping tables with the descriptors of posted
    interrupts, both queues, and the DMAR table with what leads to it.
    """
    excerpt = Excerpt(memory)
    for unit in units:
        inspect_unit(excerpt, unit)  # keeps whatever it reads
        queue, requests = unit.queue, unit.read(PageRequestQueueAddress)
        if queue.iqa:
            excerpt.keep(queue.iqa * PAGE_SIZE, PAGE_SIZE << queue.qs)
        if requests.pqa:
            excerpt.keep(requests.pqa * PAGE_SIZE, PAGE_SIZE << requests.pqs)
    dmar = find_dmar(memory)
    for start, size in dmar.parts if dmar else ():
        excerpt.keep(start, size)
    return excerpt.kept()


def _by_page(address: int, size: int) -> Iterator[tuple[int, int]]:
    end = address + size
    while address < end:
        stop = min((address // PAGE_SIZE + 1) * PAGE_SIZE, end)
        yield address, stop
        address = stop


def _whole(parts: _Parts) -> list[tuple[int, int]]:
    return [(0, PAGE_SIZE)] if (0, PAGE_SIZE) in parts else sorted(parts)


def _runs(pages: Iterator[int] | dict[int, list[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    start = end = -1
    for page in pages:
        if page != end:
            if start >= 0:
                yield start, end - start
            start = page
        end = page + PAGE_SIZE
    if start >= 0:
        yield start, end - start
