"""What an invalidation's fields cover: functions of a device, and pages."""

from __future__ import annotations

from pagetables.address import PAGE_SHIFT

__all__ = ["FUNCTION_BITS_IGNORED", "meets"]

FUNCTION_BITS_IGNORED = (0b000, 0b100, 0b110, 0b111)
"""By function mask, the source-id bits that are not compared."""


def meets(start: int, page_shift: int, address: int, mask: int) -> bool:
    """True if the page at `start` meets the 2**mask pages of 4 KiB that hold `address`."""
    first = address >> PAGE_SHIFT + mask << PAGE_SHIFT + mask
    return start < first + (1 << PAGE_SHIFT + mask) and first < start + (1 << page_shift)
