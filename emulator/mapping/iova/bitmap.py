"""A bitmap of entries and the two searches Linux does on it (lib/bitmap.c, lib/iommu-helper.c), in own words.

One byte stands for an entry: the interpreter's search for a run of zero bytes is what makes a map of a million entries
quick. `scanned` counts the entries a search passed.
"""

from __future__ import annotations

__all__ = ["NO_BOUNDARY", "Bitmap"]

NO_BOUNDARY = 1 << 64


class Bitmap:
    """`entries` entries, all free. Entry i is page `base` + i: alignment and boundaries count in pages."""

    def __init__(self, entries: int, base: int = 0) -> None:
        self.entries = entries
        self.base = base
        self.used = 0
        self.scanned = 0
        self._bytes = bytearray(entries)

    def find(self, start: int, limit: int, pages: int, align: int = 1) -> int | None:
        """The lowest aligned run of free entries inside [start, limit), or None."""
        run, index = bytes(pages), start
        while True:
            index = self._bytes.find(run, index, max(limit, 0))
            if index < 0:
                self.scanned += max(limit - start, 0)
                return None
            aligned = -(-(self.base + index) // align) * align - self.base
            if aligned == index:
                self.scanned += index + pages - start
                return index
            index = aligned

    def find_area(self, start: int, limit: int, pages: int, align: int = 1, boundary: int = NO_BOUNDARY) -> int | None:
        """As `find`, but a run crosses no multiple of `boundary` pages, and the last entry below `limit` is not used:
        Linux's helper gives it away on purpose, whatever limit its callers pass."""
        while True:
            index = self.find(start, limit - 1, pages, align)
            if index is None or (self.base + index) % boundary + pages <= boundary:
                return index
            start = (self.base + index) // boundary * boundary + boundary - self.base

    def take(self, index: int, pages: int) -> None:
        """These entries are used; some may have been so before."""
        self.used += self._bytes.count(0, index, index + pages)
        self._bytes[index : index + pages] = b"\1" * pages

    def give_back(self, index: int, pages: int) -> None:
        """These entries are free; some may have been so before."""
        self.used -= self._bytes.count(1, index, index + pages)
        self._bytes[index : index + pages] = bytes(pages)

    def is_free(self, index: int) -> bool:
        """True if entry `index` is free."""
        return not self._bytes[index]

    def longest_free_run(self) -> int:
        """The length of the longest run of free entries."""
        return max(len(run) for run in self._bytes.split(b"\1"))
