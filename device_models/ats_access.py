"""Memory as a device with ATS and PRI reaches it: translated first, asked for where it is missing, page by page.

data = yield from access.load(Space(pasid=5), iova, 4096)      # in a process: bytes, or an AccessFailure
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from device_models.ats_port import AtsPort, NoPlace, Place
from device_models.dma import DmaError, DmaRefusal
from device_models.process import Work
from emulator.unit.page_requests import ResponseCode
from pagetables.address import PAGE_SIZE
from pagetables.fault import Fault
from pagetables.request import Access, AddressType, Request

__all__ = ["AccessFailure", "AtsAccess", "Cause", "Space"]

_ADDRESSES = 1 << 64


class Cause(enum.Enum):
    """Why an access was given up."""

    BLOCKED = "the access was refused"
    NO_TRANSLATION = "the translation request was refused"
    NO_RIGHT = "translated without the right, and the page could not be asked for"
    PAGE_REFUSED = "asked for the page: invalid request"
    PAGE_FAILED = "asked for the page: response failure"
    PAGE_TIMEOUT = "asked for the page: no response"
    STILL_NO_RIGHT = "asked for the page, with success, as often as allowed"
    NOTHING_THERE = "no memory at the address, or no bus mastering"


@dataclass(frozen=True, slots=True)
class AccessFailure:
    """Where and why an access ended; `fault` is the unit's own word, which no real device hears."""

    cause: Cause
    address: int
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """In whose name accesses are made. `translated` uses ATS if software switched it on, `asks` page requests."""

    pasid: int | None = None
    privileged: bool = False
    translated: bool = True
    asks: bool = True
    execute: bool = False


_RESPONSES = {
    None: Cause.PAGE_TIMEOUT,
    ResponseCode.INVALID_REQUEST: Cause.PAGE_REFUSED,
    ResponseCode.FAILURE: Cause.PAGE_FAILED,
}


class AtsAccess:
    """Accesses through `port`. A missing page is asked for `retries` times, together with those behind it that the
    access needs, `group` at most."""

    def __init__(self, port: AtsPort, retries: int = 3, group: int = 1) -> None:
        self.port = port
        self.retries = retries
        self.group = max(group, 1)

    def load(self, space: Space, address: int, size: int) -> Work[bytes | AccessFailure]:
        """Read `size` bytes at `address`; `execute` makes it a fetch."""
        access = Access.EXECUTE if space.execute else Access.READ
        data = bytearray()
        for at, part in _pages(address, size):
            place = yield from self._place(space, at, access, size - len(data))
            if isinstance(place, AccessFailure):
                return place
            request = self._request(space, place, access)
            if not self.port.function.is_master:
                return _failed(DmaRefusal.NOT_A_MASTER, at)
            found = self.port.function.machine.dma.read_all(request, part)
            if found.error is not None:
                return _failed(found.error, at)
            data += found.data
        return bytes(data)

    def store(self, space: Space, address: int, data: bytes) -> Work[AccessFailure | None]:
        """Write `data` at `address`. What lies before a failure is written."""
        done = 0
        for at, part in _pages(address, len(data)):
            place = yield from self._place(space, at, Access.WRITE, len(data) - done)
            if isinstance(place, AccessFailure):
                return place
            request = self._request(space, place, Access.WRITE)
            if not self.port.function.is_master:
                return _failed(DmaRefusal.NOT_A_MASTER, at)
            error = self.port.function.machine.dma.write_all(request, data[done : done + part])
            if error is not None:
                return _failed(error, at)
            done += part
        return None

    def _request(self, space: Space, place: Place, access: Access) -> Request:
        if place.address_type is AddressType.UNTRANSLATED:
            return self.port.function.request(place.address, access, space.pasid, space.privileged)
        # The rights were checked with the translation, and the address is of no process any more.
        access = Access.WRITE if access is Access.WRITE else Access.READ
        return self.port.function.request(place.address, access, address_type=AddressType.TRANSLATED)

    def _place(self, space: Space, address: int, access: Access, needed: int) -> Work[Place | AccessFailure]:
        port = self.port
        if not (space.translated and port.translating):
            return Place(address, PAGE_SIZE, AddressType.UNTRANSLATED)
        for _ in range(self.retries):
            found = self._translated(space, address, access)
            if found is None and space.asks and port.may_ask:
                pages = [at for at, _ in _pages(address, needed)][: self.group]
                code = yield port.ask_for(pages, access, space.pasid, space.privileged)
                if code is not ResponseCode.SUCCESS:
                    return AccessFailure(_RESPONSES[code], address)
            else:
                return found or AccessFailure(Cause.NO_RIGHT, address)
        found = self._translated(space, address, access)
        return found or AccessFailure(Cause.STILL_NO_RIGHT if self.retries else Cause.NO_RIGHT, address)

    def _translated(self, space: Space, address: int, access: Access) -> Place | AccessFailure | None:
        found = self.port.translate(address, access, space.pasid, space.privileged)
        if isinstance(found, Place):
            return found
        return None if found is NoPlace.NO_RIGHT else AccessFailure(Cause.NO_TRANSLATION, address)


def _pages(address: int, size: int) -> Iterator[tuple[int, int]]:
    # An access cut at page boundaries; addresses wrap.
    done = 0
    while done < size:
        at = (address + done) % _ADDRESSES
        part = min(size - done, PAGE_SIZE - at % PAGE_SIZE)
        yield at, part
        done += part


def _failed(error: DmaError, address: int) -> AccessFailure:
    if isinstance(error, Fault):
        return AccessFailure(Cause.BLOCKED, address, error)
    return AccessFailure(Cause.NOTHING_THERE, address)
