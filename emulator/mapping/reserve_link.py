"""Reserve first, link later (Linux since 6.16: dma_iova_try_alloc, link, sync, unlink, free, destroy).

    reserve    one range of addresses for a transfer whose size is known before its pieces are
    link       a piece of memory into the range, at an offset; the unit is not told
    sync       once at the end: a unit that has to hear of new mappings (caching mode, write buffer) does now
    unlink     a part of the range; it is invalidated before this returns, whatever the policy; the range stays reserved
    free       the range, of which nothing is linked any more, is free at once
    destroy    unlink and free in one: the policy decides when the range is free, as for any unmap

Only the first piece may begin inside a page, and only the last may end inside one: the device sees no seam.

Invariant: what is linked is a prefix of what was reserved plus the rest of its last page; nothing else of the range
leads anywhere. The range starts with the same offset into its page as the memory it was reserved for.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from emulator.mapping.addresses import AddressSpaces
from emulator.mapping.dma import MappingLayer
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa, Iova
from pagetables.errors import InputError, MappingError
from pagetables.request import Permissions

__all__ = ["Reservation", "ReservedRanges", "UnalignedPiece"]


class UnalignedPiece(MappingError):
    """A piece that is not the first begins inside a page (Linux: -EIO)."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A range of `size` bytes at `address`, as the device sees it, in the space of `key`."""

    key: Hashable
    address: int
    size: int

    @property
    def iova(self) -> Iova:
        """Its first page."""
        return Iova(self.address & -PAGE_SIZE)

    @property
    def pages(self) -> int:
        """How many pages it touches."""
        return (self.address % PAGE_SIZE + self.size + PAGE_SIZE - 1) >> PAGE_SHIFT


class ReservedRanges:
    """Reserves, links and unlinks in the spaces of a layer. `exposed`: bytes mapped beyond what was linked."""

    def __init__(self, layer: MappingLayer, spaces: AddressSpaces) -> None:
        self.exposed = 0
        self._layer, self._spaces = layer, spaces

    def try_reserve(
        self, key: Hashable, gpa: int, size: int, cpu: int = 0, limit: int | None = None
    ) -> Reservation | None:
        """A range for `size` bytes that will begin at an address like `gpa` within its page; None if none is free."""
        if size <= 0:
            raise InputError(f"{size} bytes cannot be reserved")
        offset = gpa % PAGE_SIZE
        pages = (offset + size + PAGE_SIZE - 1) >> PAGE_SHIFT
        iova = self._spaces.allocate(key, pages, limit, cpu)
        return None if iova is None else Reservation(key, iova + offset, size)

    def link(self, reserved: Reservation, gpa: int, offset: int, size: int, permissions: Permissions) -> None:
        """[offset, offset + size) of the range leads to `gpa` from now on, once it is synced.

        UnalignedPiece if it begins inside a page and is not the first; another MappingError as for any map. What was
        linked before stays.
        """
        start = gpa % PAGE_SIZE
        if start and offset:
            raise UnalignedPiece(
                f"a piece at {gpa:#x} begins inside a page, at offset {offset:#x} of its range", offset
            )
        self._check(reserved, offset, size)
        whole = (start + size + PAGE_SIZE - 1) & -PAGE_SIZE
        domain = self._spaces.space(reserved.key).domain
        at = Iova(reserved.address + offset - start)
        self._layer.map(domain, at, Gpa(gpa - start), whole, permissions, notify=False)
        self.exposed += whole - size

    def sync(self, reserved: Reservation, offset: int, size: int) -> None:
        """What was linked in [offset, offset + size) is seen by the unit."""
        iova, whole = self._pages(reserved, offset, size)
        self._layer.notify(self._spaces.space(reserved.key).domain, iova, whole)

    def unlink(self, reserved: Reservation, offset: int, size: int) -> None:
        """[offset, offset + size) leads nowhere, and no cache says otherwise; the range stays reserved."""
        iova, whole = self._pages(reserved, offset, size)
        self._layer.unmap(self._spaces.space(reserved.key).domain, iova, whole, at_once=True)

    def free(self, reserved: Reservation, cpu: int = 0) -> None:
        """The range, of which nothing is linked, may be handed out again at once."""
        self._spaces.space(reserved.key).take_back(reserved.iova, reserved.pages, cpu)

    def destroy(self, reserved: Reservation, linked: int, cpu: int = 0) -> None:
        """Unlink the first `linked` bytes (0 if the first link failed) and give the range back."""
        if not linked:
            self.free(reserved, cpu)
            return
        space = self._spaces.space(reserved.key)
        iova, whole = self._pages(reserved, 0, linked)
        self._layer.unmap(space.domain, iova, whole, cpu)
        space.free(reserved.iova, reserved.pages, cpu)

    def _pages(self, reserved: Reservation, offset: int, size: int) -> tuple[Iova, int]:
        # The whole pages of a part of the range.
        self._check(reserved, offset, size)
        start = (reserved.address + offset) & -PAGE_SIZE
        end = (reserved.address + offset + size + PAGE_SIZE - 1) & -PAGE_SIZE
        return Iova(start), end - start

    def _check(self, reserved: Reservation, offset: int, size: int) -> None:
        if offset < 0 or size <= 0 or offset + size > reserved.size:
            raise InputError(f"[{offset:#x}, {offset + size:#x}) is not part of a range of {reserved.size:#x} bytes")
