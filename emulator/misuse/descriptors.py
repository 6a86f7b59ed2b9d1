"""Which part of which domain an invalidation descriptor covers."""

from __future__ import annotations

from emulator.misuse.invalidation_book import ALL, Invalidation
from pagetables.address import PAGE_SHIFT
from pagetables.layouts import IotlbInvalidate, PasidIotlbInvalidate

__all__ = ["coverage"]

IOTLB, PASID_IOTLB = 0x2, 0x6
GLOBAL, DOMAIN, PAGES = 1, 2, 3
ALL_OF_PASID = 2


def coverage(low: int, high: int) -> Invalidation | None:
    """What the descriptor of these two qwords covers; None if it is not about translations."""
    word = low | high << 64
    kind = low & 0xF | low >> 5 & 0x70
    if kind == IOTLB:
        return _iotlb(IotlbInvalidate(word))
    if kind == PASID_IOTLB:
        return _pasid_iotlb(PasidIotlbInvalidate(word))
    return None


def _iotlb(d: IotlbInvalidate) -> Invalidation:
    if d.g == GLOBAL:
        return Invalidation(None, *ALL)
    if d.g == DOMAIN:
        return Invalidation(d.did, *ALL)
    return Invalidation(d.did, *_range(d.addr, d.am))


def _pasid_iotlb(d: PasidIotlbInvalidate) -> Invalidation:
    if d.g == ALL_OF_PASID:
        return Invalidation(d.did, *ALL)
    return Invalidation(d.did, *_range(d.addr, d.am))


def _range(page: int, mask: int) -> tuple[int, int]:
    start = page >> mask << mask + PAGE_SHIFT
    return start, start + (1 << mask + PAGE_SHIFT)
