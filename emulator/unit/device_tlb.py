"""Device-TLBs: what an ATS device keeps of translation completions, and how software has it forgotten (PCIe ATS).

A device-TLB is the device's. The unit knows it only as an `AtsDevice`, to which it sends invalidation requests; a
device is free to keep its translations in any other way. `DeviceTlb` is one to use.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Gpa, Iova, Pasid, SourceId
from pagetables.layouts.page_request import AtsTranslationCompletion
from pagetables.request import Access

__all__ = [
    "AtsDevice",
    "DeviceTlb",
    "DeviceTlbEntry",
    "DeviceTlbInvalidation",
    "encode_range",
    "page_of",
    "range_of",
]

_ADDRESSES = 1 << 64


@dataclass(frozen=True, slots=True)
class DeviceTlbInvalidation:
    """An invalidation request as a device gets it: `size` bytes from `start`, both natural.

    Without a PASID it is about translations requested without one; `all_pasids` is the G bit of descriptor 8.
    """

    source_id: SourceId
    start: Iova
    size: int
    pasid: Pasid | None = None
    all_pasids: bool = False


class AtsDevice(Protocol):
    """What a unit sends invalidation requests to."""

    def invalidate(self, invalidation: DeviceTlbInvalidation) -> bool:
        """Forget the translations. True when that is done and the completion is sent; False if it will be sent later
        (`RemappingUnit.invalidation_completed`) or never."""
        ...


def encode_range(page: int, shift: int) -> tuple[int, int]:
    """(address bits 63:12 as a number, S) for the naturally aligned range of 2**shift bytes that holds `page` (a byte
    address): S=0 is 4 KiB; with S=1 the lowest zero bit at 12+k means 2**(k+1) pages, and the bits below it are ones.
    """
    number = page >> shift << shift - PAGE_SHIFT
    if shift == PAGE_SHIFT:
        return number, 0
    return number | (1 << shift - PAGE_SHIFT - 1) - 1, 1


def range_of(number: int, s: int) -> tuple[Iova, int]:
    """(start, size in bytes) that a page number with the size encoding of S names; all ones mean everything."""
    if not s:
        return Iova(number << PAGE_SHIFT), PAGE_SIZE
    ones = ~number & number + 1  # the lowest zero bit
    size = min(ones << PAGE_SHIFT + 1, _ADDRESSES)
    return Iova(number << PAGE_SHIFT & ~(size - 1)), size


def page_of(word: AtsTranslationCompletion) -> tuple[Gpa, int]:
    """(start, size in bytes) of what a translation completion entry translates to."""
    start, size = range_of(word.addr, word.s)
    return Gpa(start), size


@dataclass(frozen=True, slots=True)
class DeviceTlbEntry:
    """A translation that a device keeps: `size` bytes from `iova` lie at `gpa`. Sizes are powers of two, natural."""

    iova: Iova
    size: int
    gpa: Gpa
    pasid: Pasid | None
    privileged: bool
    word: AtsTranslationCompletion

    def permits(self, access: Access) -> bool:
        """True if the completion granted what this access needs."""
        if access is Access.EXECUTE:
            return bool(self.word.exe)
        return (not access.reads or bool(self.word.r)) and (not access.writes or bool(self.word.w))


class DeviceTlb:
    """A device-TLB of `capacity` entries; a full one drops the entry that was used longest ago.

    Tags are PASID, privilege and address range. A global entry (the completion's Global bit) answers for every PASID;
    VT-d grants none, other translation agents do.
    """

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.answers = True
        self._entries: OrderedDict[tuple[object, ...], DeviceTlbEntry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def fill(
        self, iova: int, word: AtsTranslationCompletion, pasid: Pasid | None = None, privileged: bool = False
    ) -> DeviceTlbEntry | None:
        """Keep what a completion said of `iova`; None where it gave no right, or leave for untranslated access only.

        A device-TLB of no capacity keeps nothing.
        """
        if word.u or not (word.r or word.w) or not self.capacity:
            return None
        gpa, size = page_of(word)
        entry = DeviceTlbEntry(Iova(iova & ~(size - 1)), size, gpa, pasid, privileged, word)
        key = _key(entry.iova, size, None if word.global_ else pasid, bool(word.global_), privileged)
        self._entries.pop(key, None)
        if len(self._entries) >= self.capacity:
            self._entries.popitem(last=False)
        self._entries[key] = entry
        return entry

    def lookup(
        self, iova: int, access: Access, pasid: Pasid | None = None, privileged: bool = False
    ) -> tuple[Gpa, DeviceTlbEntry] | None:
        """Where `iova` lies and the entry that says so; None if no entry knows it or the entry withholds the right."""
        for size in {entry.size for entry in self._entries.values()}:
            start = iova & ~(size - 1)
            for global_ in (False, True):
                key = _key(start, size, None if global_ else pasid, global_, privileged)
                entry = self._entries.get(key)
                if entry is not None and entry.permits(access):
                    self._entries.move_to_end(key)
                    return Gpa(entry.gpa + iova - entry.iova), entry
        return None

    def invalidate(self, invalidation: DeviceTlbInvalidation) -> bool:
        """Forget every entry that meets the range and the PASID; `answers` (True to begin with) is the answer."""
        end = invalidation.start + invalidation.size
        for key, entry in list(self._entries.items()):
            if entry.iova < end and invalidation.start < entry.iova + entry.size and _named(entry, invalidation):
                del self._entries[key]
        return self.answers

    def clear(self) -> None:
        """Forget everything: ATS was disabled, or the function was reset."""
        self._entries.clear()

    def entries(self) -> list[DeviceTlbEntry]:
        """What is kept, by PASID and address."""
        return sorted(
            self._entries.values(),
            key=lambda entry: (-1 if entry.pasid is None else entry.pasid, entry.iova, entry.size, entry.privileged),
        )


def _key(start: int, size: int, pasid: int | None, global_: bool, privileged: bool) -> tuple[object, ...]:
    return start, size, pasid, global_, privileged


def _named(entry: DeviceTlbEntry, invalidation: DeviceTlbInvalidation) -> bool:
    if invalidation.pasid is None:
        return entry.pasid is None
    if invalidation.all_pasids:
        return entry.pasid is not None
    return entry.pasid == invalidation.pasid and not entry.word.global_
