"""The disk that swapping writes to, in runs under memory pressure: its writes are mapped like anybody's.

Under pressure, pages are freed by writing them out; for the write they must be mapped, which may need a table page,
which only the write would free. The disk has a domain of its own (or shares the one window), and its maps are made
with GFP_ATOMIC, as storage drivers make them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from emulator.machine import Machine
from emulator.mapping.addresses import AddressSpace
from emulator.mapping.domain import Domain
from emulator.mapping.pressure import Gfp
from emulator.what_if.spaces import Spaces
from pagetables.address import PAGE_SHIFT, Gpa, Iova
from pagetables.errors import MappingError
from pagetables.request import Permissions

__all__ = ["SwapDisk"]

_PAGES = 1 << 18  # addresses of a disk in a run that keeps recorded ones: 1 GiB, used round and round
_FIRST = 1 << 20  # from 4 GiB on


class SwapDisk:
    """Maps what is written out. `failed` counts writes that could not be mapped."""

    def __init__(self, machine: Machine, spaces: Spaces) -> None:
        self.failed = 0
        self._machine, self._spaces = machine, spaces
        self._next = 0

    def map(self, pages: int) -> Callable[[], None] | None:
        """Map `pages` pages to be read by the disk: what unmaps them, or None if something is missing."""
        supply = self._machine.supply
        before, supply.gfp = supply.gfp, Gfp.ATOMIC
        try:
            return self._map(pages)
        except MappingError:
            self.failed += 1
            return None
        finally:
            supply.gfp = before

    def _map(self, pages: int) -> Callable[[], None] | None:
        domain, window = self._spaces.own("swap disk")
        address = self._address(pages, window)
        if address is None:
            self.failed += 1
            return None
        size = pages << PAGE_SHIFT
        try:
            self._machine.layer.map(domain, address, Gpa(0), size, Permissions.R, frozenset({1}))
        except MappingError:
            if window is not None:
                window.take_back(address, pages)
            raise
        return partial(self._unmap, domain, window, address, pages)

    def _address(self, pages: int, window: AddressSpace | None) -> Iova | None:
        if window is not None:
            return window.allocate(pages)
        if self._next + pages > _PAGES:
            self._next = 0
        self._next += pages
        return Iova(_FIRST + self._next - pages << PAGE_SHIFT)

    def _unmap(self, domain: Domain, window: AddressSpace | None, address: Iova, pages: int) -> None:
        self._machine.layer.unmap(domain, address, pages << PAGE_SHIFT)
        if window is not None:
            window.free(address, pages)
